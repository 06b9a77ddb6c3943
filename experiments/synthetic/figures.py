"""The pictures of a comparison of generators: synthetic patients beside real ones whom no generator saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sksurv.nonparametric import kaplan_meier_estimator

from experiments.drawing import COLOURS, MARKERS, STYLE, WIDTH
from experiments.synthetic.arms import CENTRALIZED, FEDERATED, ISOLATED
from harmonization import Cohort, Feature

Floats = NDArray[np.float64]

MOST_GENES, MOST_NUMBERS, MOST_CURVES = 18, 12, 12
"""That fit a picture."""

REAL = "#1a1a1a"
MODEL_COLOURS = {
    "bayesian_network": "#0072b2",
    "vae_bgm": "#d98200",
    "ctgan": "#009e73",
    "gaussian_copula": "#c05c97",
    "tvae": "#56b4e9",
    "independent_marginals": "#8a8a8a",
    "real": REAL,
}
NAMES = {
    "bayesian_network": "Bayesian network",
    "vae_bgm": "VAE-BGM",
    "ctgan": "CTGAN",
    "gaussian_copula": "Gaussian copula (sdv)",
    "tvae": "TVAE (sdv)",
    "independent_marginals": "independent marginals",
    "real": "training patients",
}
METRICS = {
    "csf": "clinical fidelity (CSF)",
    "gsf": "genomic fidelity (GSF)",
    "sdv_quality": "SDMetrics quality",
    "discriminator_accuracy": "told from real (accuracy)",
    "tstr_c": "C-index, trained on synthetic",
    "tstr_deepsurv_c": "C-index of DeepSurv",
    "subgroup_accuracy": "subgroup classifier",
    "km_distance": "Kaplan–Meier distance",
    "hazard_ratio_coverage": "hazard ratios recovered",
    "cluster_ari": "clusters recovered (ARI)",
    "membership_auc": "membership inference (AUC)",
    "dcr_share": "nearer to training (share)",
}
"""Metrics that the overview shows, where they were measured."""


def draw_all(results: Mapping[str, Any], shown: Mapping[str, Cohort]) -> dict[str, Figure]:
    """Every figure that results and patients allow, by name; `shown` is of `experiments.synthetic.run`."""
    real = shown["held-out"]
    sets = _compared(results, shown)
    drawn = {
        "metrics": metrics_figure(results),
        "marginals": marginals_figure(real, sets),
        "frequencies": frequencies_figure(real, sets),
        "correlations": correlations_figure(real, sets),
        "comutations": comutations_figure(real, sets),
        "kaplan_meier": kaplan_meier_figure(results, shown),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _compared(results: Mapping[str, Any], shown: Mapping[str, Cohort]) -> dict[str, Cohort]:
    """One set of patients per model: of the federated arm, or else the centralized one."""
    found = {}
    for model, arms in results["models"].items():
        arm = next((a for a in (FEDERATED, CENTRALIZED, *arms) if a in arms), None)
        if arm is not None and f"{model}/{arm}" in shown:
            found[model] = shown[f"{model}/{arm}"]
    return found


@rc_context(STYLE)
def metrics_figure(results: Mapping[str, Any]) -> Figure | None:
    """Every model in every arm, by metric: means, and the spread over seeds and samples."""
    models = results["models"]
    known = [m for m in METRICS if any(m in found for arms in models.values() for found in arms.values())]
    if not known:
        return None
    rows = (len(known) + 3) // 4
    figure = Figure(figsize=(WIDTH, 0.9 + rows * (0.7 + 0.24 * len(models))))
    axes = figure.subplots(rows, 4, squeeze=False, sharey=True)
    for ax in axes.flat[len(known) :]:
        ax.set_visible(False)
    for ax, metric in zip(axes.flat, known, strict=False):
        for row, arms in enumerate(models.values()):
            alone = 0
            for arm, found in arms.items():
                kind = "local" if arm.startswith(ISOLATED) else arm
                value = found.get(metric)
                if value is None or value["mean"] is None:
                    continue
                shift = {FEDERATED: -0.22, CENTRALIZED: 0.0}.get(arm, 0.22)
                ax.hlines(row + shift, value["low"], value["high"], color=COLOURS[kind], linewidth=1.2)
                size = 5.0 if kind != "local" else 3.6
                ax.plot(value["mean"], row + shift, MARKERS[kind], color=COLOURS[kind], markersize=size)
                alone += kind == "local"
        reference = _reference(models, metric)
        if reference is not None:
            ax.axvline(reference, color="0.6", linewidth=0.9, linestyle="--", zorder=0)
        ax.set_title(METRICS[metric], fontsize=8.5)
        ax.tick_params(labelsize=7.5)
        ax.grid(axis="x")
        ax.locator_params(axis="x", nbins=4)
        ax.set_ylim(len(models) - 0.5, -0.5)
    for ax in axes[:, 0]:
        ax.set_yticks(range(len(models)), [NAMES[name] for name in models], fontsize=8)
    kinds = {FEDERATED: FEDERATED, CENTRALIZED: CENTRALIZED, "local": "a center alone"}
    present = {"local" if arm.startswith(ISOLATED) else arm for arms in models.values() for arm in arms}
    handles = [
        axes[0, 0].plot([], [], MARKERS[kind], color=COLOURS[kind], label=words)[0]
        for kind, words in kinds.items()
        if kind in present
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8.5)
    _title(figure, "How close, how useful, how private")
    return figure


def _reference(models: Mapping[str, Any], metric: str) -> float | None:
    """What real patients reach."""
    fixed = {"discriminator_accuracy": 0.5, "membership_auc": 0.5, "dcr_share": 0.5}
    if metric in fixed:
        return fixed[metric]
    names = {"tstr_c": "trtr_c", "tstr_deepsurv_c": "trtr_deepsurv_c", "subgroup_accuracy": "subgroup_accuracy_real"}
    names["cluster_ari"] = "cluster_ari_real"
    if metric in names:
        found = [f[names[metric]]["mean"] for arms in models.values() for f in arms.values() if names[metric] in f]
        return next((value for value in found if value is not None), None)
    value = models.get("real", {}).get(CENTRALIZED, {}).get(metric)
    return None if value is None else value["mean"]


@rc_context(STYLE)
def marginals_figure(real: Cohort, sets: Mapping[str, Cohort]) -> Figure | None:
    """Numeric features and time: histograms of real patients, outlines of synthetic ones, and the share missing."""
    numeric = [f for f in real.schema.features if f.numeric]
    columns: list[tuple[str, str, Floats, Feature | None]]
    columns = [(f.name, _axis_name(f), real.column(f.name), f) for f in numeric]
    columns.append(("time", f"time, {real.schema.time_unit}", real.time, None))
    rows = (len(columns) + 2) // 3
    figure = Figure(figsize=(WIDTH, 0.7 + 2.0 * rows))
    axes = figure.subplots(rows, 3, squeeze=False)
    shown = {model: cohort for model, cohort in sets.items() if model not in ("real", "independent_marginals")}
    for ax, (name, words, values, feature) in zip(axes.flat, columns, strict=False):
        known = values[np.isfinite(values)]
        if not len(known):
            ax.set_visible(False)
            continue
        edges = _edges(known, feature)
        ax.hist(np.clip(known, edges[0], edges[-1]), edges, density=True, color="#d5d5d5", label="held-out patients")
        for model, cohort in shown.items():
            own = cohort.time if feature is None else cohort.column(name)
            own = own[np.isfinite(own)]
            if len(own):
                heights, _ = np.histogram(np.clip(own, edges[0], edges[-1]), edges, density=True)
                ax.stairs(heights, edges, color=MODEL_COLOURS[model], linewidth=1.2, label=NAMES[model])
        if feature is not None and feature.kind == "count" and len(edges) <= 12:
            ax.set_xticks(edges[:-1] + 0.5)
        ax.set_xlabel(words, fontsize=8)
        ax.set_yticks([])
        ax.tick_params(labelsize=7.5)
        ax.spines["left"].set_visible(False)
    for ax in axes.flat[len(columns) :]:
        ax.set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    lines = -(-len(handles) // 5)
    figure.legend(handles, labels, loc="outside lower center", ncols=-(-len(handles) // lines), fontsize=8.5)
    _title(figure, "Distributions of numbers")
    return figure


def _edges(known: Floats, feature: Feature | None) -> Floats:
    """Bins of a histogram: whole numbers for few counts; else 18 between quantiles, what lies outside at the ends."""
    if feature is not None and feature.kind == "count" and np.ptp(known) <= 24:
        return np.arange(known.min() - 0.5, known.max() + 1.0)
    low, high = np.quantile(known, (0.0, 0.97))
    return np.linspace(low, high if high > low else low + 1, 19)


@rc_context(STYLE)
def frequencies_figure(real: Cohort, sets: Mapping[str, Cohort]) -> Figure | None:
    """Frequencies of yes, of each category and of missing values: real along x, synthetic along y."""
    panels = dict(sets)
    if not panels:
        return None
    columns = min(len(panels), 4)
    rows = (len(panels) + columns - 1) // columns
    figure = Figure(figsize=(WIDTH, 0.9 + 2.7 * rows))
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    x, missing = _rates(real)
    for ax, (model, cohort) in zip(axes.flat, panels.items(), strict=False):
        y, own = _rates(cohort)
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=0.9, zorder=0)
        ax.plot(missing, own, "x", color="#c05c97", markersize=4, markeredgewidth=1.0, label="missing")
        ax.plot(x, y, "o", color=MODEL_COLOURS[model], markersize=3.2, alpha=0.75, label="yes, or a category")
        ax.set_title(f"{NAMES[model]}\nmean error {np.nanmean(np.abs(x - y)):.3f}", fontsize=8.5)
        ax.set_xscale("symlog", linthresh=0.01, linscale=0.4)
        ax.set_yscale("symlog", linthresh=0.01, linscale=0.4)
        ax.set_xticks([0, 0.01, 0.1, 1], ["0", ".01", ".1", "1"], fontsize=7.5)
        ax.set_yticks([0, 0.01, 0.1, 1], ["0", ".01", ".1", "1"], fontsize=7.5)
        ax.minorticks_off()
        ax.set_xlim(-0.001, 1.1)
        ax.set_ylim(-0.001, 1.1)
        ax.set_aspect("equal")
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax in axes.flat[: len(panels)][-columns:]:  # the last ones of their columns
        ax.tick_params(labelbottom=True)
        ax.set_xlabel("held-out patients", fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel("synthetic", fontsize=8)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8.5)
    _title(figure, "Frequencies of lesions, categories and missing values")
    return figure


def _rates(cohort: Cohort) -> tuple[Floats, Floats]:
    """Share of 1 of each binary feature and of each category, among the known ones; share missing of each feature."""
    rates = []
    for j, feature in enumerate(cohort.schema.features):
        column = cohort.values[:, j]
        known = column[np.isfinite(column)]
        for value in {"binary": [1], "categorical": range(len(feature.categories))}.get(feature.kind, []):
            rates.append(float((known == value).mean()) if len(known) else np.nan)
    return np.array(rates), np.isnan(cohort.values).mean(axis=0)


@rc_context(STYLE)
def correlations_figure(real: Cohort, sets: Mapping[str, Cohort]) -> Figure | None:
    """Differences of correlations, synthetic minus real, of numbers and of the most frequent lesions."""
    chosen = _chosen(real)
    if len(chosen) < 2:
        return None
    names = [real.schema.features[j].name for j in chosen]
    expected = _correlations(real, chosen)
    return _maps(
        {model: _correlations(cohort, chosen) - expected for model, cohort in sets.items()},
        names,
        0.5,
        "correlation, synthetic − held-out",
        "Differences of correlations",
        lambda error: f"mean {np.nanmean(np.abs(error[np.triu_indices(len(error), 1)])):.3f}",
    )


def _chosen(real: Cohort) -> NDArray[np.intp]:
    """Numbers, and lesions by frequency."""
    features = real.schema.features
    numeric = [j for j, f in enumerate(features) if f.numeric][:MOST_NUMBERS]
    return np.array([*numeric, *_lesions(real, MOST_GENES)], dtype=np.intp)


def _lesions(real: Cohort, most: int) -> list[int]:
    genomic = [j for j, f in enumerate(real.schema.features) if f.kind == "binary" and f.modality == "genomic"]
    genomic = genomic or [j for j, f in enumerate(real.schema.features) if f.kind == "binary"]
    rate = np.array([np.nan_to_num(np.nanmean(real.values[:, j])) if _any(real, j) else 0.0 for j in genomic])
    return [genomic[i] for i in np.argsort(-rate, kind="stable")[:most]]


def _any(cohort: Cohort, j: int) -> bool:
    return bool(np.isfinite(cohort.values[:, j]).any())


def _correlations(cohort: Cohort, chosen: NDArray[np.intp]) -> Floats:
    """Spearman's, of pairs of known values; NaN where a column does not vary."""
    import pandas as pd

    found: Floats = pd.DataFrame(cohort.values[:, chosen]).corr("spearman", min_periods=10).to_numpy()
    return found


@rc_context(STYLE)
def comutations_figure(real: Cohort, sets: Mapping[str, Cohort]) -> Figure | None:
    """Log odds ratios of pairs of lesions: above the diagonal in real patients, below in synthetic ones."""
    chosen = np.array(_lesions(real, MOST_GENES), dtype=np.intp)
    if len(chosen) < 2:
        return None
    names = [real.schema.features[j].name for j in chosen]
    expected = _log_odds(real.values[:, chosen])
    lower = np.tril_indices(len(chosen), -1)
    maps, words = {}, {}
    for model, cohort in sets.items():
        own = _log_odds(cohort.values[:, chosen])
        both = expected.copy()
        both[lower] = own[lower]
        np.fill_diagonal(both, np.nan)
        known = np.isfinite(own[lower]) & np.isfinite(expected[lower])
        r = np.corrcoef(own[lower][known], expected[lower][known])[0, 1] if known.sum() > 2 else np.nan
        maps[model], words[model] = both, f"r = {r:.2f}"
    return _maps(
        maps,
        names,
        3.0,
        "log odds ratio (lower triangle synthetic, upper held-out)",
        "Which lesions come together",
        words,
    )


def _log_odds(lesions: Floats) -> Floats:
    """Of every two lesions, half a patient added to each cell (Haldane), shape (g, g)."""
    yes, no = (lesions == 1).astype(float), (lesions == 0).astype(float)
    both, neither, first = yes.T @ yes + 0.5, no.T @ no + 0.5, yes.T @ no + 0.5
    return np.asarray(np.log(both * neither / (first * first.T)))


def _maps(
    maps: Mapping[str, Floats], names: Sequence[str], limit: float, words: str, title: str, says: Any
) -> Figure | None:
    if not maps:
        return None
    columns = min(len(maps), 3)
    rows = (len(maps) + columns - 1) // columns
    figure = Figure(figsize=(WIDTH, 1.2 + rows * 3.1))
    axes = figure.subplots(rows, columns, squeeze=False)
    image: Any = None
    for i, (ax, (model, values)) in enumerate(zip(axes.flat, maps.items(), strict=False)):
        image = ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="none")
        said = says[model] if isinstance(says, Mapping) else says(values)
        ax.set_title(f"{NAMES[model]}: {said}", fontsize=8.5)
        size = 5.5 if len(names) > 20 else 6.5
        labels = [_short(name, 12) for name in names]
        ax.set_xticks(range(len(names)), labels if i + columns >= len(maps) else [], rotation=90, fontsize=size)
        ax.set_yticks(range(len(names)), labels if i % columns == 0 else [], fontsize=size)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_facecolor("#eeeeee")
    for ax in axes.flat[len(maps) :]:
        ax.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, pad=0.01, aspect=30)
    bar.set_label(words, fontsize=8.5)
    bar.ax.tick_params(labelsize=7.5)
    _title(figure, title)
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(0, 0.015, 1, 0.97))  # the title stays clear of those of the panels
    return figure


@rc_context(STYLE)
def kaplan_meier_figure(results: Mapping[str, Any], shown: Mapping[str, Cohort]) -> Figure:
    """Survival of real and of synthetic patients; the panel of a model has a curve of each of its arms."""
    real = shown["held-out"]
    models = {m: [a for a in arms if f"{m}/{a}" in shown] for m, arms in results["models"].items()}
    columns = min(len(models), 4)
    rows = (len(models) + columns - 1) // columns
    figure = Figure(figsize=(WIDTH, 0.9 + 2.3 * rows))
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    horizon = float(np.quantile(real.time, 0.95))
    time, survival, band = kaplan_meier_estimator(real.event, real.time, conf_type="log-log")
    for ax, (model, arms) in zip(axes.flat, models.items(), strict=False):
        ax.fill_between(time, *band, step="post", color="#d5d5d5", linewidth=0)
        _step(ax, time, survival, color=REAL, linewidth=1.4)
        for arm in sorted(arms, key=lambda arm: not arm.startswith(ISOLATED))[-MOST_CURVES:]:
            cohort = shown[f"{model}/{arm}"]
            kind = "local" if arm.startswith(ISOLATED) else arm
            colour = COLOURS[kind] if kind != CENTRALIZED else "#009e73"
            if cohort.event.any():
                own = kaplan_meier_estimator(cohort.event, cohort.time)
                _step(ax, *own, color=colour, linewidth=0.8 if kind == "local" else 1.5, linestyle=_LINES[kind])
        ax.set_title(NAMES[model], fontsize=8.5)
        ax.set_xlim(0, horizon)
        ax.set_ylim(0, 1)
        ax.tick_params(labelsize=7.5)
    for ax in axes.flat[len(models) :]:
        ax.set_visible(False)
    for ax in axes.flat[: len(models)][-columns:]:  # the last ones of their columns
        ax.tick_params(labelbottom=True)
        ax.set_xlabel(real.schema.time_unit, fontsize=8)
    for ax in axes[:, 0]:
        ax.set_ylabel(real.schema.endpoint, fontsize=8)
    words = {FEDERATED: FEDERATED, CENTRALIZED: CENTRALIZED, "local": "a center alone"}
    present = {"local" if a.startswith(ISOLATED) else a for arms in models.values() for a in arms}
    handles = axes[0, 0].plot([], [], color=REAL, label="held-out patients (95%)")
    for kind, said in words.items():
        if kind in present:
            colour = COLOURS[kind] if kind != CENTRALIZED else "#009e73"
            handles += axes[0, 0].plot([], [], color=colour, linestyle=_LINES[kind], label=said)
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8.5)
    _title(figure, "Survival")
    return figure


_LINES = {FEDERATED: "-", CENTRALIZED: "--", "local": ":"}


def _step(ax: Axes, time: Floats, survival: Floats, **style: Any) -> None:
    ax.step(np.append(0.0, time), np.append(1.0, survival), where="post", **style)


def _axis_name(feature: Feature) -> str:
    return f"{_short(feature.name, 28)}{', ' + feature.unit if feature.unit else ''}".replace("10^9", "10⁹")


def _short(name: str, longest: int = 16) -> str:
    text = name.replace("_", " ")
    return (text if len(text) <= longest else text[: longest - 1] + "…").replace("$", r"\$")


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.008, ha="left")
