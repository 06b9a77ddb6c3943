"""Membership inference: who was in the training set of a released model, or behind federated sums.

Against models: the likelihood ratio of Carlini et al. (2022, LiRA). Shadow models are trained on random parts of every
center's patients; of each patient the log-likelihoods under models that had and had not seen the patient are two
normal laws, and a model under attack is judged by the ratio of the two. Each shadow is the target once, with all others
as its shadows: an attacker who knows everybody's data but who took part. Against sums: the product of a patient's
standardized row with the mean of a center or of the federation (Homer 2008; Dwork 2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from experiments.attacks.config import AttackConfig
from experiments.attacks.federations import answered, centers_of, interval, question_of, runner
from experiments.config import Config
from experiments.fitting import Fit, fit_model
from experiments.study import Study
from federation.center import Center
from federation.contribution import Contribution
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.preprocessing import FitPreprocessor
from federation.privacy.dp.accounting import Spending, noise_for
from federation.privacy.dp.statistics import FitScale, Noisy, ranges_of, zero_one
from federation.randomness import generator
from federation.splits import Split
from harmonization import Cohort, Schema
from models.preprocessing import encode
from models.survival.concordance import concordance_counts

Floats = NDArray[np.float64]
Row = dict[str, Any]

CHUNK = 8
"""Shadow models in a piece."""


def pieces(config: AttackConfig, study: Study) -> list[str]:
    """Shadow models of each model in chunks, and the sums."""
    section = config.membership
    chunks = range(0, section.shadows, CHUNK)
    of_families = [f"choice/{model}" for members in section.families.values() for model in members]
    return [f"{model}/{k}" for model in section.models for k in chunks] + ["sums/0", *dict.fromkeys(of_families)]


def measure(config: AttackConfig, study: Study, piece: str) -> list[Row]:
    """Of each shadow model: who was in, and everybody's log-likelihood."""
    model, first = piece.rsplit("/", 1)
    if model == "sums":
        return _sums(config, study)
    if piece.startswith("choice/"):
        return concordances(config, study, piece.partition("/")[2])
    target = config.target(config.membership.models[model])
    rows = []
    for k in range(int(first), min(int(first) + CHUNK, config.membership.shadows)):
        inside = part_of(study, config, 0, k)
        federation = InProcessFederation(_centers(study, target, inside), k, Split(), f"shadow {k}")
        fit = fit_model(target, target.strategies[0], study.schema, runner(federation))
        values = log_likelihood(fit, target.model.name, study.cohort)
        others = study.cohort[np.flatnonzero(~inside)]
        concordant, comparable = concordance_counts(others.time, others.event, fit.risk(target, others))
        row: Row = {"model": model, "shadow": k, "c": concordant / comparable}
        rows.append({**row, "in": _contributing(study, target, inside).tolist(), "value": values.tolist()})
    return rows


def part_of(study: Study, config: AttackConfig, stream: int, k: int) -> NDArray[np.bool_]:
    """Random patients of every center, shape (n,)."""
    rng = generator(config.seed + stream, "shadow", k)
    found = np.zeros(len(study.cohort), dtype=bool)
    for name in study.cohorts:
        mine = np.flatnonzero(study.center == name)
        found[rng.permutation(mine)[: int(len(mine) * config.membership.fraction + rng.random())]] = True
    return found


def _centers(study: Study, target: Config, inside: NDArray[np.bool_]) -> list[Center]:
    """Under differential privacy one center of all: it releases what noise that is shared under masks releases."""
    if target.federation.differential_privacy is not None:
        parts = {"all": np.where(inside, 0, -1).astype(np.int64)}
        return centers_of({"all": study.cohort}, target.federation.policy, parts)
    parts = {name: np.where(inside[study.center == name], 0, -1).astype(np.int64) for name in study.cohorts}
    return centers_of(study.cohorts, target.federation.policy, parts)


def _contributing(study: Study, target: Config, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Those in centers with enough patients to answer: of the others the model knows nothing."""
    found = inside.copy()
    if target.federation.differential_privacy is not None:
        return found
    for name in study.cohorts:
        mine = study.center == name
        if inside[mine].sum() < target.federation.policy.min_patients:
            found[mine] = False
    return found


def log_likelihood(fit: Fit, model: str, cohort: Cohort) -> Floats:
    """Of each patient's outcome under a released model, shape (n,): what an attacker looks at.

    With a baseline hazard, the event's log hazard ratio less the cumulative hazard; else the log of the probability of
    an event within a quarter of the time scale after its time, or of surviving it.
    """
    if fit.baseline is not None:
        risk, _ = fit.predict(model, cohort, np.array([1.0]))
        cumulative = fit.baseline.at(cohort.time) * np.exp(risk)
        found: Floats = np.where(cohort.event, risk, 0.0) - cumulative
        return found
    times = np.unique(np.concatenate([cohort.time, cohort.time + 0.25]))
    found = np.empty(len(cohort))
    for start in range(0, len(cohort), 200):
        rows = slice(start, start + 200)
        _, survival = fit.predict(model, cohort[np.arange(len(cohort))[rows]], times)
        here = np.arange(survival.shape[0])
        at = survival[here, np.searchsorted(times, cohort.time[rows])]
        later = survival[here, np.searchsorted(times, cohort.time[rows] + 0.25)]
        found[rows] = np.log(np.maximum(np.where(cohort.event[rows], at - later, at), 1e-6))
    return found


def likelihood_ratios(values: Floats, inside: NDArray[np.bool_]) -> Floats:
    """LiRA's score of each patient for each target, shape (targets, n); NaN where a patient was always in or out.

    Parameters
    ----------
    values, inside
        Log-likelihoods and membership, shape (shadows, n). Variances are shared by all patients (Carlini 2022, VI-C).
    """
    ratios = np.full(values.shape, np.nan)
    for k in range(len(values)):
        others = np.arange(len(values)) != k
        v, m = values[others], inside[others]
        laws = []
        for chosen in (m, ~m):
            count = chosen.sum(axis=0)
            mean = np.where(count > 1, np.where(chosen, v, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
            residual = np.where(chosen, v - mean, 0.0)
            variance = np.nansum(residual**2) / max(1, np.nansum(np.maximum(count - 1, 0)))
            laws.append((mean, max(float(variance), 1e-12)))
        (mean_in, var_in), (mean_out, var_out) = laws
        x = values[k]
        ratios[k] = 0.5 * ((x - mean_out) ** 2 / var_out - (x - mean_in) ** 2 / var_in) + 0.5 * np.log(var_out / var_in)
    return ratios


def mean_auc(scores: Floats, inside: NDArray[np.bool_], weights: Floats | None = None) -> float:
    """Area under the curve, averaged over targets; arguments of shape (targets, n), weights (n,) of a bootstrap."""
    found = []
    for s, m in zip(scores, inside, strict=True):
        known = ~np.isnan(s)
        if weights is None:
            ranks, count = rankdata(s[known]), int(m[known].sum())
            others = int(known.sum()) - count
            if count and others:
                found.append((ranks[m[known]].sum() - count * (count + 1) / 2) / (count * others))
            continue
        order = np.argsort(s[known], kind="stable")
        w, inner = weights[known][order], m[known][order]
        below = np.cumsum(w * ~inner)
        whole = (w * inner).sum() * (w * ~inner).sum()
        if whole > 0:
            found.append(float((w * inner * below).sum() / whole))
    return float(np.mean(found)) if found else float("nan")


def auc_interval(
    scores: Floats, inside: NDArray[np.bool_], rng: np.random.Generator, draws: int = 200
) -> dict[str, float]:
    """Mean AUC over targets with its 95% bootstrap interval over patients."""
    n = scores.shape[1]
    replicates = [
        mean_auc(scores, inside, np.bincount(rng.integers(n, size=n), minlength=n).astype(float)) for _ in range(draws)
    ]
    return interval(np.array([mean_auc(scores, inside), *replicates]))


# -- which model to release ------------------------------------------------------------------------------------------


def concordances(config: AttackConfig, study: Study, model: str) -> list[Row]:
    """Harrell's C by nested validation: of each outer fold, on the folds of its training patients and on its test
    patients; and on the folds of all patients (``outer`` null), by which the model to release is chosen."""
    target = config.target(config.membership.models[model])
    folds, everybody = study.config.split.folds, np.ones(len(study.cohort), dtype=bool)
    outer_fold, rows = _folds(study, study.split(0, 0)), []
    for outer in (*range(folds), None):
        training = everybody if outer is None else outer_fold != outer
        inner_fold = _folds(study, Split(study.seed(0), 1 if outer is None else 2 + outer, 0, folds))
        row: Row = {"model": model, "outer": outer, "shadow": -1, "in": [], "value": []}
        parts = [(training & (inner_fold != k), training & (inner_fold == k)) for k in range(folds)]
        row["inner"] = [_tested(study, target, *part, f"{outer} {k}") for k, part in enumerate(parts)]
        if outer is not None:
            row["test"] = _tested(study, target, training, ~training, f"{outer} test")
        rows.append(row)
    return rows


def _folds(study: Study, split: Split) -> NDArray[np.int64]:
    """The fold of each patient, shape (n,)."""
    found = np.empty(len(study.cohort), dtype=np.int64)
    for name, cohort in study.cohorts.items():
        found[study.center == name] = split.folds(cohort.ids, cohort.event, name)
    return found


def _tested(study: Study, target: Config, inside: NDArray[np.bool_], tested: NDArray[np.bool_], task: str) -> float:
    federation = InProcessFederation(_centers(study, target, inside), study.seed(0), Split(), task)
    fit = fit_model(target, target.strategies[0], study.schema, runner(federation))
    others = study.cohort[np.flatnonzero(tested)]
    concordant, comparable = concordance_counts(others.time, others.event, fit.risk(target, others))
    return float(concordant / comparable)


def chosen(inner: Floats) -> int:
    """Of models in order, the last within one standard error of the best (Breiman et al. 1984, section 3.4.3).

    Parameters
    ----------
    inner
        Concordance by model and fold, shape (models, folds).
    """
    mean, error = inner.mean(axis=1), inner.std(axis=1, ddof=1) / np.sqrt(inner.shape[1])
    best = int(mean.argmax())
    return int(np.flatnonzero(mean >= mean[best] - error[best]).max())


def choices(config: AttackConfig, rows: Sequence[Row]) -> list[Row]:
    """Of each family: every model, which was chosen on all patients, and what choosing so costs on test patients."""
    table: list[Row] = []
    for family, members in config.membership.families.items():
        found = {m: {r["outer"]: r for r in rows if r["model"] == m} for m in members}
        inner = {o: np.array([found[m][o]["inner"] for m in members]) for o in found[members[0]]}
        last = chosen(inner[None])
        for i, m in enumerate(members):
            test = np.array([r["test"] for o, r in found[m].items() if o is not None])
            row: Row = {"name": f"{family}: {m}", "inner C": float(inner[None][i].mean())}
            row["standard error"] = float(inner[None][i].std(ddof=1) / np.sqrt(inner[None].shape[1]))
            row |= {"test C": float(test.mean()), "SD over folds": float(test.std(ddof=1)), "released": i == last}
            table.append(row)
        nested = np.array([found[members[chosen(of)]][o]["test"] for o, of in inner.items() if o is not None])
        row = {"name": f"{family}: chosen in each fold", "test C": float(nested.mean())}
        table.append({**row, "SD over folds": float(nested.std(ddof=1))})
    return table


# -- sums ------------------------------------------------------------------------------------------------------------


MASKED, NOISY, RULES = "secure aggregation", "differential privacy", "disclosure rules"
CHANNELS = ("bare", RULES, NOISY, MASKED, f"{MASKED}, {NOISY}")
"""What stands before the sums."""


def _sums(config: AttackConfig, study: Study) -> list[Row]:
    """Scores against the means that follow from the sums of each center, or of all under masks."""
    section, schema = config.membership, study.schema
    known = encode(study.cohort)
    mean, scale = np.nanmean(known, axis=0), np.maximum(np.nanstd(known, axis=0), 1e-9)
    x = np.nan_to_num((known - mean) / scale)
    exact = FitPreprocessor(schema)
    noise = noise_for(section.privacy.epsilon, section.privacy.delta, (Spending("patient", 1.0),))
    noisy = Noisy.of(FitScale(ranges_of(schema, section.privacy.ranges), schema), noise)
    rows = []
    for k in range(section.draws):
        drawn, rng = part_of(study, config, 1, k), generator(config.seed, "guesses", k)
        for channel in CHANNELS:
            algorithm = noisy if channel.endswith(NOISY) else exact
            policy = section.policy if channel == RULES else DisclosurePolicy(secure_noise=False)
            cohorts = {"all": study.cohort} if channel.startswith(MASKED) else study.cohorts
            score, inside, first = np.full(len(x), np.nan), drawn.copy(), 0
            for name, cohort in cohorts.items():
                mine = slice(first, first := first + len(cohort))
                n = int(drawn[mine].sum())
                if n < DisclosurePolicy().min_patients:  # answers nowhere
                    inside[mine] = False
                    continue
                parts = {name: np.where(drawn[mine], 0, -1).astype(np.int64)}
                (center,) = centers_of({name: cohort}, policy, parts)
                federation = InProcessFederation([center], config.seed, Split(), f"sums {k}")
                answer = answered(center, question_of(federation, algorithm, algorithm.start(federation.roster)))
                if answer is None:
                    score[mine] = 1e-9 * rng.standard_normal(len(cohort))  # nothing is left but to guess
                    continue
                means, variance = _noisy_means(noisy, answer, schema) if algorithm is noisy else _means(answer)
                weight = 1 / (1 + n * variance / scale**2)  # the less, the more is noise
                score[mine] = x[mine] @ np.nan_to_num(weight * (means - mean) / scale)
            rows.append({"model": f"sums, {channel}", "shadow": k, "in": inside.tolist(), "value": score.tolist()})
    return rows


def _means(answer: Contribution) -> tuple[Floats, Floats]:
    """Of each encoded column the mean, NaN where suppressed, and the variance of its noise."""
    seen = answer["seen"]
    return np.where(seen > 0, answer["total"] / np.maximum(seen, 1), np.nan), np.zeros(len(seen))


def _noisy_means(noisy: Noisy, answer: Contribution, schema: Schema) -> tuple[Floats, Floats]:
    """As `_means`, from sums of values cut to their ranges."""
    algorithm, columns = noisy.algorithm, zero_one(schema)
    assert isinstance(algorithm, FitScale)
    state = algorithm.server_update({}, answer)
    covered = noisy.mechanism(state, schema).arrays
    deviation = {name: c.bound * c.noise / answer.patients for name, c in covered.items()}
    means, variance = np.empty(len(columns)), np.empty(len(columns))
    if columns.any():
        means[columns], variance[columns] = state["frequency"], deviation["ones"] ** 2
    if not columns.all():
        half = np.array([high - low for low, high in algorithm.ranges.values()]) / 2
        means[~columns] = state["mean"] - [f.reference for f in schema.features if f.numeric]
        variance[~columns] = (deviation["moments"] * half) ** 2
    return means, variance


def summarize(config: AttackConfig, study: Study, rows: Sequence[Row]) -> dict[str, Any]:
    """AUC of each attack, and the true positive rate at few false ones."""
    rng = np.random.default_rng(config.seed)
    table: list[Row] = []
    curves: dict[str, Any] = {}
    nested = [row for row in rows if "inner" in row]
    rows = [row for row in rows if "inner" not in row]
    names = list(dict.fromkeys(row["model"] for row in rows))
    for name in names:
        mine = sorted((r for r in rows if r["model"] == name), key=lambda r: r["shadow"])
        values = np.array([[np.nan if v is None else v for v in r["value"]] for r in mine], dtype=float)
        inside = np.array([r["in"] for r in mine], dtype=bool)
        sums = name.startswith("sums")
        attacks = (
            {name: values}
            if sums
            else {f"{name}, LiRA": likelihood_ratios(values, inside), f"{name}, loss alone": values}
        )
        for label, scores in attacks.items():
            false, true = _curve(scores, inside)
            entry: Row = {"name": label, "auc": auc_interval(scores, inside, rng)}
            entry["true positives at 1% false"] = float(np.interp(0.01, false, true))
            entry["targets"] = len(scores)
            if not sums:
                entry["C of others"] = float(np.mean([r["c"] for r in mine]))
            table.append(entry)
            if not label.endswith("alone"):
                thin = np.unique(np.geomspace(1, len(false), 200).astype(int)) - 1
                curves[label] = {"false_positive": false[thin].tolist(), "true_positive": true[thin].tolist()}
            if sums and MASKED not in name:
                table += _by_size(study, name, scores, inside, rng)
    return {"table": table, "choices": choices(config, nested), "curves": curves, "findings": findings(table)}


def _by_size(
    study: Study, channel: str, scores: Floats, inside: NDArray[np.bool_], rng: np.random.Generator
) -> list[Row]:
    sizes = np.array([len(study.cohorts[name]) for name in study.center])
    found = []
    for low, high in ((1, 19), (20, 49), (50, 10**9)):
        some = (sizes >= low) & (sizes <= high)
        if not some.any():
            continue
        words = f"{low} to {high} patients" if high < 10**9 else f"{low} patients and more"
        auc = auc_interval(scores[:, some], inside[:, some], rng)
        false, true = _curve(scores[:, some], inside[:, some])
        entry: Row = {"name": f"{channel}, centers of {words}", "auc": auc}
        found.append(
            {**entry, "true positives at 1% false": float(np.interp(0.01, false, true)), "targets": len(scores)}
        )
    return found


def _curve(scores: Floats, inside: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """False and true positive rates of all targets together."""
    known = ~np.isnan(scores)
    order = np.argsort(-scores[known], kind="stable")
    member = inside[known][order]
    return np.cumsum(~member) / max(1, (~member).sum()), np.cumsum(member) / max(1, member.sum())


def findings(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """In words."""
    return [
        f"{row['name']}: AUC {row['auc']['mean']:.3f} ({row['auc']['low']:.3f} to {row['auc']['high']:.3f})."
        for row in table
        if not row["name"].endswith("alone")
    ]
