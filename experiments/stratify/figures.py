"""The pictures of a stratification, each a function of what a method found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure
from sksurv.nonparametric import kaplan_meier_estimator

from clustering.events import MISSING, EventTable
from clustering.similarity import posterior_similarity
from experiments.drawing import STYLE, WIDTH
from experiments.stratify.patients import Patients

if TYPE_CHECKING:
    from experiments.stratify.run import Found

MOST_CLUSTERS, MOST_GENES, MOST_PATIENTS, MOST_CURVES, MOST_GROUPS, MOST_SHARES = 40, 48, 2000, 8, 30, 14
"""That fit a picture: of each, the largest or most frequent are shown, and the title says so."""

CHAIN_COLOURS = ("#0072b2", "#d98200", "#009e73", "#c05c97", "#1a1a1a", "#56b4e9", "#8a8a8a", "#e0c000")


def draw_all(found: Found, patients: Patients) -> dict[str, Figure]:
    """Every figure that the data allow, by name."""
    drawn = {
        "components": components_figure(found, patients.table),
        "co_clustering": co_clustering_figure(found),
        "traces": traces_figure(found),
        "kaplan_meier": kaplan_meier_figure(found, patients),
        "comparison": comparison_figure(found),
        "shares": shares_figure(found),
        "stability": stability_figure(found),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


@rc_context(STYLE)
def components_figure(found: Found, table: EventTable) -> Figure:
    """Frequency of each lesion in each cluster, lesions in the order of the clusters that have them most."""
    labels = found.classification.labels
    names, sizes = np.unique(labels, return_counts=True)
    order = np.argsort(-sizes, kind="stable")[:MOST_CLUSTERS]
    names, sizes = names[order], sizes[order]
    tested, mutated = table.events != MISSING, table.events == 1
    inside = labels == names[:, None]
    frequency = (inside @ mutated.astype(float)) / np.maximum(inside @ tested.astype(float), 1)
    shown = np.sort(np.argsort(-mutated.sum(0), kind="stable")[:MOST_GENES])
    top = frequency[:, shown].argmax(0)
    shown = shown[np.lexsort((-frequency[top, shown], top))]
    figure = Figure(figsize=(WIDTH, 1.9 + 0.24 * len(names)))
    ax = figure.subplots()
    image = ax.imshow(frequency[:, shown], aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="none")
    ax.set_xticks(range(len(shown)), [_text(table.genes[g]) for g in shown], rotation=90, fontsize=7.5)
    words = dict(zip(found.summary.clusters["cluster"], found.summary.clusters["defining"], strict=True))
    rows = [_named(int(k), words[int(k)], int(n)) for k, n in zip(names, sizes, strict=True)]
    ax.set_yticks(range(len(names)), rows, fontsize=7.5)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    figure.colorbar(image, ax=ax, label="share of tested patients", shrink=0.8, pad=0.01)
    left_out = len(np.unique(labels)) - len(names)
    smaller = f"; {left_out} smaller ones left out" if left_out else ""
    _title(figure, f"Lesions of the clusters ({found.method}){smaller}")
    return figure


@rc_context(STYLE)
def co_clustering_figure(found: Found) -> Figure:
    """Posterior probability that two patients share a cluster, patients in the order of the clusters."""
    labels = found.classification.labels
    chosen = np.arange(len(labels))
    if len(labels) > MOST_PATIENTS:
        chosen = np.sort(np.random.default_rng(0).choice(len(labels), MOST_PATIENTS, replace=False))
    similarity = posterior_similarity(np.concatenate(found.labels)[:, chosen])
    own = labels[chosen]
    order = np.lexsort((-(similarity * (own[:, None] == own)).sum(1), own))
    figure = Figure(figsize=(WIDTH * 0.78, WIDTH * 0.62))
    ax = figure.subplots()
    image = ax.imshow(similarity[np.ix_(order, order)], cmap="magma_r", vmin=0, vmax=1, interpolation="antialiased")
    ends = np.flatnonzero(np.diff(own[order])) + 1
    middles = (np.concatenate([[0], ends]) + np.concatenate([ends, [len(own)]])) / 2
    wide = np.diff(np.concatenate([[0], ends, [len(own)]])) >= 0.02 * len(own)
    for end in ends:
        ax.axhline(end - 0.5, color="#666666", linewidth=0.35)
        ax.axvline(end - 0.5, color="#666666", linewidth=0.35)
    ax.set_xticks([])
    ax.set_yticks(middles[wide], [str(k) for k in np.unique(own)[wide]], fontsize=8)
    ax.set_ylabel("cluster")
    ax.set_xlabel("patients, in the same order along both axes")
    figure.colorbar(image, ax=ax, label="probability of sharing a cluster", shrink=0.8)
    some = f", {MOST_PATIENTS} patients drawn at random" if len(labels) > MOST_PATIENTS else ""
    _title(figure, f"Who belongs together ({found.method}{some})")
    return figure


@rc_context(STYLE)
def traces_figure(found: Found) -> Figure:
    """Log likelihood and number of clusters of every chain, and the posterior of the latter by chain."""
    chains = found.chains
    figure = Figure(figsize=(WIDTH, 4.6))
    axes = figure.subplots(2, 2, width_ratios=(3.2, 1), sharey="row")
    steps = np.arange(1, chains.shape[1] + 1)
    every = max(1, len(steps) // 1500)
    for row, (name, words) in enumerate((("log_likelihood", "log likelihood"), ("clusters", "clusters"))):
        values = chains.scalars[name]
        kept = values[:, chains.first :]
        bins = _bins(kept, discrete=name == "clusters")
        for c, trace in enumerate(values):
            colour = CHAIN_COLOURS[c % len(CHAIN_COLOURS)]
            axes[row, 0].plot(steps[::every], trace[::every], color=colour, linewidth=0.7, alpha=0.8)
            axes[row, 1].hist(
                kept[c], bins=bins, orientation="horizontal", histtype="step", color=colour, linewidth=1.3, density=True
            )
        axes[row, 0].axvspan(0, chains.first, color="#000000", alpha=0.06, linewidth=0)
        axes[row, 0].set_ylabel(words)
        axes[row, 0].set_xlim(0, len(steps))
        low, high = np.quantile(values[:, chains.first // 4 :], (0.001, 0.999))
        room = 0.08 * max(high - low, 1)
        axes[row, 0].set_ylim(low - room, high + room)
        axes[row, 1].set_xticks([])
        axes[row, 1].spines["bottom"].set_visible(False)
    axes[1, 0].set_xlabel("step (grey: burn-in)")
    axes[0, 1].set_title("after burn-in", fontweight="normal")
    r_hat = f"R-hat at most {chains.r_hat:.3f}, ESS at least {chains.ess:.0f}" if np.isfinite(chains.r_hat) else ""
    _title(figure, f"Chains ({found.method}): {r_hat or 'one chain, or too short to say'}")
    return figure


@rc_context(STYLE)
def kaplan_meier_figure(found: Found, patients: Patients) -> Figure | None:
    """Observed survival in the largest clusters, from best to worst."""
    if patients.years is None or patients.event is None:
        return None
    known, labels = np.isfinite(patients.years), found.classification.labels
    names, sizes = np.unique(labels[known], return_counts=True)
    names = names[np.argsort(-sizes, kind="stable")][:MOST_CURVES]
    words = dict(zip(found.summary.clusters["cluster"], found.summary.clusters["defining"], strict=True))
    curves = []
    for k in names:
        inside = known & (labels == k)
        if inside.sum() >= 10:
            time, survival = kaplan_meier_estimator(patients.event[inside] == 1, patients.years[inside])
            curves.append((float(np.interp(3.0, time, survival)), int(k), int(inside.sum()), time, survival))
    if not curves:
        return None
    figure = Figure(figsize=(WIDTH, 4.8))
    ax = figure.subplots()
    colours = colormaps["viridis"](np.linspace(0.0, 0.92, len(curves)))
    for (_, k, n, time, survival), colour in zip(sorted(curves, key=lambda c: -c[0]), colours, strict=True):
        time, survival = np.insert(time, 0, 0.0), np.insert(survival, 0, 1.0)
        ax.step(time, survival, where="post", color=colour, label=_named(k, words[k], n))
    ax.set_ylim(0, 1.02)
    ax.set_xlim(0, float(np.nanquantile(patients.years, 0.98)))
    ax.grid(axis="y")
    ax.set_xlabel("Time (years)")
    ax.set_ylabel("Survival (Kaplan–Meier)")
    ax.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, title="best to worst at 3 years", title_fontsize=8
    )
    if found.log_rank is None:
        _title(figure, f"Survival by cluster ({found.method})")
    else:
        chi_square, df, p = found.log_rank
        _title(figure, f"Survival by cluster ({found.method}); log-rank χ² {chi_square:.0f}, {df} df, {_p(p)}")
    return figure


@rc_context(STYLE)
def comparison_figure(found: Found) -> Figure | None:
    """Where the patients of each given class are: shares of the class by cluster, with their number."""
    if found.comparison is None:
        return None
    table = found.comparison.table.iloc[:MOST_CLUSTERS]
    counts = table.to_numpy(float)
    order = np.lexsort((-counts.max(0), counts.argmax(0)))
    counts, classes = counts[:, order], table.columns[order]
    share = counts / found.comparison.table.to_numpy(float).sum(0)[order]
    figure = Figure(figsize=(min(WIDTH, 3.2 + 0.62 * len(classes)), 1.9 + 0.24 * len(table)))
    ax = figure.subplots()
    image = ax.imshow(share, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="none")
    for (i, j), count in np.ndenumerate(counts):
        if count:
            ax.text(
                j, i, f"{count:.0f}", ha="center", va="center", fontsize=7, color="w" if share[i, j] > 0.55 else "k"
            )
    words = dict(zip(found.summary.clusters["cluster"], found.summary.clusters["defining"], strict=True))
    ax.set_yticks(range(len(table)), [_named(int(k), words[int(k)]) for k in table.index], fontsize=7.5)
    ax.set_xticks(range(len(classes)), [_text(c) for c in classes], rotation=45, ha="right", fontsize=8)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    figure.colorbar(image, ax=ax, label="share of the given class", shrink=0.8, pad=0.02)
    low, high = found.comparison.bootstrap
    _title(figure, f"Against the given classes ({found.method}): ARI {found.comparison.ari:.3f} ({low:.3f}–{high:.3f})")
    return figure


@rc_context(STYLE)
def shares_figure(found: Found) -> Figure | None:
    """Shares of the largest clusters in the largest groups of patients, with their 90% intervals in words."""
    if found.shares is None:
        return None
    table = found.shares
    sizes = table.groupby("group")["patients"].first().sort_values(ascending=False)[:MOST_GROUPS]
    clusters = np.unique(table["cluster"])[:MOST_SHARES]
    words = dict(zip(found.summary.clusters["cluster"], found.summary.clusters["defining"], strict=True))
    grid = table.pivot(index="group", columns="cluster", values="share").loc[sizes.index, clusters].to_numpy(float)
    figure = Figure(figsize=(WIDTH, 2.4 + 0.24 * len(sizes)))
    ax = figure.subplots()
    image = ax.imshow(grid, aspect="auto", cmap="Blues", vmin=0, vmax=max(0.3, grid.max()), interpolation="none")
    ax.set_xticks(range(len(clusters)), [_named(int(k), words[int(k)]) for k in clusters], rotation=40, ha="right")
    ax.tick_params(axis="x", labelsize=7.5)
    ax.set_yticks(range(len(sizes)), [f"{_text(g)} ({n})" for g, n in sizes.items()], fontsize=7.5)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    figure.colorbar(image, ax=ax, label="share of the group's patients", shrink=0.8, pad=0.01)
    left_out = table["group"].nunique() - len(sizes)
    smaller = f"; {left_out} smaller groups left out" if left_out else ""
    _title(figure, f"Clusters by group ({found.method}){smaller}")
    return figure


@rc_context(STYLE)
def stability_figure(found: Found) -> Figure | None:
    """Jaccard index of each cluster with its nearest in refits to resamples: mean and 95% of the resamples."""
    if found.bootstrap is None:
        return None
    table = found.bootstrap.clusters.sort_values("patients", ascending=False, kind="stable")[:MOST_CLUSTERS]
    words = dict(zip(found.summary.clusters["cluster"], found.summary.clusters["defining"], strict=True))
    rows = np.arange(len(table))
    mean, low, high = (table[name].to_numpy(float) for name in ("jaccard", "jaccard_low", "jaccard_high"))
    figure = Figure(figsize=(WIDTH * 0.78, 1.5 + 0.24 * len(table)))
    ax = figure.subplots()
    for threshold, word in ((0.5, "dissolved"), (0.75, "recovered")):
        ax.axvline(threshold, color="0.7", linewidth=0.9, linestyle="--", zorder=0)
        side = "right" if threshold == 0.5 else "left"
        ax.text(threshold, 1.0, f" {word} ", transform=ax.get_xaxis_transform(), va="bottom", ha=side, fontsize=7.5)
    ax.hlines(rows, low, high, color=CHAIN_COLOURS[0], linewidth=1.4)
    ax.plot(mean, rows, "o", color=CHAIN_COLOURS[0], markersize=4.5)
    names = [_named(int(k), words[int(k)], int(n)) for k, n in zip(table["cluster"], table["patients"], strict=True)]
    ax.set_yticks(rows, names, fontsize=7.5)
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlim(0, 1.02)
    ax.set_xlabel("Jaccard index with the nearest cluster of a refit")
    ends = found.bootstrap.ari_interval
    _title(
        figure,
        f"Clusters in {len(found.bootstrap.ari)} resamples of the patients ({found.method}): ARI "
        f"{found.bootstrap.ari.mean():.3f} ({ends[0]:.3f}–{ends[1]:.3f})",
    )
    return figure


def _bins(values: np.ndarray, discrete: bool) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return np.arange(low - 0.5, high + 1.0) if discrete else np.linspace(low - 1e-9, high + 1e-9, 41)


def _named(k: int, lesions: tuple[str, ...], patients: int | None = None) -> str:
    """``3: NPM1 DNMT3A (312)``; the catch-all has no number."""
    size = "" if patients is None else f" ({patients})"
    return f"{k or 'rest'}: {_text(' '.join(lesions[:3])) or '–'}{' …' if len(lesions) > 3 else ''}{size}"


def _text(name: object) -> str:
    text = str(name)
    return (text if len(text) <= 34 else text[:33] + "…").replace("$", r"\$")


def _p(p: float) -> str:
    return "p < 1e-16" if p < 1e-16 else f"p = {p:.2g}"


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.008, ha="left")
