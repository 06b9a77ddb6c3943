"""Explanation as a part of an experiment: the same questions about the federated model and about the centralized one.

Each fold's model is explained on its own fold: importance on test patients, partial dependence on training patients.
Every answer is a file, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from actors.coordinator import Coordinator, Task
from experiments.arms import Fits, folds_of
from experiments.config import Config
from experiments.fitting import Fit
from experiments.running import Listener
from experiments.settings import ConfigError
from experiments.study import Study
from federation.algorithm import Algorithm, run
from federation.center import Center
from federation.checkpoint import load_state, save_state
from federation.explanation import Grid, PartialDependence, PermutationImportance, columns_of, grid_of
from federation.in_process import InProcessFederation
from federation.state import State
from harmonization import Schema

Floats = NDArray[np.float64]
Ask = Callable[[Algorithm, int, int], State]
"""Asks a question about the patients of one (repeat, fold): (algorithm, repeat, fold) -> final state."""

CENTRALIZED = "centralized"


def explained_arms(config: Config) -> tuple[str, ...]:
    """The first federated arm, and the centralized one if there is one."""
    if config.explanation is None:
        return ()
    return (config.strategies[0].arm, *((CENTRALIZED,) if config.arms.centralized else ()))


def require_known_features(config: Config, schema: Schema) -> None:
    """Raise ConfigError for a feature to be explained that the data do not have."""
    named = config.explanation.partial_dependence if config.explanation else ()
    for name in () if isinstance(named, int) else named:
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"explanation.partial_dependence: {schema.name} has no feature {name!r}{hint}")


def unexplained(study: Study, fits: Fits, arm: str) -> bool:
    """Whether an answer about an arm is not on disk."""
    if arm not in explained_arms(study.config):
        return False
    return not all(_path(fits, what, arm, *at).exists() for what in _KINDS for at in folds_of(study.config))


def explain_federated(study: Study, coordinator: Coordinator, fits: Fits, listen: Listener) -> None:
    """Ask the centers about the first federated arm."""

    def ask(algorithm: Algorithm, repeat: int, fold: int) -> State:
        task = Task(_task(repeat, fold), algorithm, study.split(repeat, fold), study.seed(repeat))
        *_, last = coordinator.run(task)
        assert last.final is not None
        return last.final

    _explain(study, fits, study.config.strategies[0].arm, ask, listen)


def explain_centralized(study: Study, fits: Fits, listen: Listener) -> None:
    """Ask the same of the pooled patients about the centralized arm, with the same shuffles inside the same centers."""
    policy = study.config.federation.policy

    def ask(algorithm: Algorithm, repeat: int, fold: int) -> State:
        centers = [
            Center(name, partial(study.cohorts.__getitem__, name), j, policy=policy)
            for j, name in enumerate(study.cohorts)
        ]
        split, seed = study.split(repeat, fold), study.seed(repeat)
        return run(algorithm, InProcessFederation(centers, seed, split, _task(repeat, fold)))

    _explain(study, fits, CENTRALIZED, ask, listen)


_KINDS = ("importance", "dependence")


def _task(repeat: int, fold: int) -> str:
    return f"explanation/{repeat}-{fold}"  # no arm in it: the shuffles are the same for all


def _path(fits: Fits, what: str, arm: str, repeat: int, fold: int) -> Path:
    return fits.path(f"explanation/{what}/{arm}", repeat, fold)


def _explain(study: Study, fits: Fits, arm: str, ask: Ask, listen: Listener) -> None:
    if not unexplained(study, fits, arm):
        return
    config, folds = study.config, folds_of(study.config)
    for done, at in enumerate(folds):
        listen("explanation", done / len(folds) / 2, f"importance, {arm}")
        path, fit = _path(fits, "importance", arm, *at), fits.get(arm, *at)
        if not path.exists() and fit is not None:
            question = importance_question(study, fit)
            save_state(path, {**ask(question, *at), "features": np.array(question.features)})
    chosen = shown_features(study, fits)
    for done, at in enumerate(folds):
        listen("explanation", (1 + done / len(folds)) / 2, f"partial dependence, {arm}")
        path, fit = _path(fits, "dependence", arm, *at), fits.get(arm, *at)
        if path.exists() or fit is None:
            continue
        assert config.explanation is not None
        grid = grid_of(fit.preprocessor, study.schema, chosen, config.explanation.points)
        answer = ask(dependence_question(study, fit, grid), *at) if len(grid.values) else {}
        save_state(path, {**answer, **_labels(grid)})
    listen("explanation", 1.0, "")


def importance_question(study: Study, fit: Fit) -> PermutationImportance:
    """How much each feature matters to a fit."""
    config = study.config
    assert config.explanation is not None
    return PermutationImportance(
        config.model.name,
        fit.parameters,
        repeats=config.explanation.repeats,
        weights=fit.weights,
        preprocessor=fit.preprocessor,
        source=columns_of(fit.preprocessor, study.schema),
    )


def dependence_question(study: Study, fit: Fit, grid: Grid) -> PartialDependence:
    """What a fit predicts at the values of a grid."""
    config = study.config
    return PartialDependence(
        config.model.name,
        fit.parameters,
        "train",
        weights=fit.weights,
        preprocessor=fit.preprocessor,
        times=config.evaluation.horizons,
        values=grid.values,
        baseline=fit.baseline,
    )


def shown_features(study: Study, fits: Fits) -> tuple[str, ...]:
    """Whose partial dependence is shown: named ones, or the most important to the federated model."""
    section = study.config.explanation
    assert section is not None
    if not isinstance(section.partial_dependence, int):
        return section.partial_dependence
    drops = _drops(study, fits, study.config.strategies[0].arm)
    ordered = sorted(drops, key=lambda name: -float(np.mean(drops[name][0])))
    return tuple([name for name in ordered if name in study.schema.names][: section.partial_dependence])


def _labels(grid: Grid) -> dict[str, NDArray[Any]]:
    return {f"label/{j}/{name}": np.array(values) for j, (name, values) in enumerate(grid.labels.items())}


# From answers to results.json ----------------------------------------------------------------------------------------


def explanation(study: Study, fits: Fits) -> dict[str, Any] | None:
    """The part ``explanation`` of results.json; None without the section, or where no model could be explained."""
    found: dict[str, Any] = {"importance": {}, "partial_dependence": {}}
    for arm in explained_arms(study.config):
        if rows := importance_rows(study, fits, arm):
            found["importance"][arm] = rows
        if curves := _curves(study, fits, arm):
            found["partial_dependence"][arm] = curves
    return found if found["importance"] else None


def importance_rows(study: Study, fits: Fits, arm: str) -> list[dict[str, Any]]:
    """Drop in concordance and rise of the loss of each feature, with intervals over folds; the largest drop first."""
    folds = study.config.split.folds
    rows = [
        {"feature": name, "drop": over_folds(drop, folds), "loss": over_folds(loss, folds)}
        for name, (drop, loss) in _drops(study, fits, arm).items()
    ]
    return sorted(rows, key=lambda row: -row["drop"]["mean"])


def over_folds(values: Floats, folds: int) -> dict[str, float]:
    """Mean over (repeat, fold) and its 95% interval.

    Folds share training patients, so that the variance of their mean is larger than that of independent values; the
    corrected resampled t interval of Nadeau and Bengio (2003), Machine Learning 52:239, allows for it.
    """
    k, mean = len(values), float(np.mean(values))
    error = float(np.std(values, ddof=1)) * np.sqrt(1 / k + 1 / (folds - 1)) if k > 1 else 0.0
    margin = float(student.ppf(0.975, k - 1)) * error if k > 1 else 0.0
    return {"mean": mean, "low": mean - margin, "high": mean + margin}


def _drops(study: Study, fits: Fits, arm: str) -> Mapping[str, tuple[Floats, Floats]]:
    """Drop in concordance and rise of the loss of each feature per (repeat, fold); 0 where a model lacks it."""
    answers = list(_answers(study, fits, "importance", arm))
    names = dict.fromkeys(str(name) for _, answer in answers for name in answer["features"])
    found = {name: (np.zeros(len(answers)), np.zeros(len(answers))) for name in names}
    for i, (_, answer) in enumerate(answers):
        drop = float(answer["concordance"]) - answer["shuffled_concordance"].mean(axis=1)
        loss = answer["shuffled_loss"].mean(axis=1) - float(answer["loss"])
        for j, name in enumerate(answer["features"]):
            found[str(name)][0][i], found[str(name)][1][i] = drop[j], loss[j]
    return found


def _answers(study: Study, fits: Fits, what: str, arm: str) -> Iterator[tuple[tuple[int, int], State]]:
    for at in folds_of(study.config):
        path = _path(fits, what, arm, *at)
        if path.exists():
            yield at, load_state(path)


def _curves(study: Study, fits: Fits, arm: str) -> dict[str, Any]:
    """Feature -> mean over folds of the average risk and survival, with their range.

    A fold's values of a numeric feature follow its own training patients, so curves are read off at common values.
    """
    horizons = [f"{h:g}" for h in study.config.evaluation.horizons]
    per_feature: dict[str, list[tuple[NDArray[Any], Floats]]] = {}
    for _, answer in _answers(study, fits, "dependence", arm):
        labels = sorted((key for key in answer if key.startswith("label/")), key=lambda key: int(key.split("/")[1]))
        first = 0
        for key in labels:
            values, here = answer[key], slice(first, first + len(answer[key]))
            first += len(values)
            outcome = np.column_stack([answer["risk"][here], answer["survival"][here]])
            per_feature.setdefault(key.split("/", 2)[2], []).append((values, outcome))
    found = {}
    for name, curves in per_feature.items():
        values, tables = _at_common_values(curves)
        bands = [
            {"mean": _list(t.mean(axis=0)), "low": _list(t.min(axis=0)), "high": _list(t.max(axis=0))}
            for t in np.moveaxis(tables, 2, 0)
        ]
        unit = study.schema.features[study.schema.index(name)].unit
        found[name] = {
            "unit": unit,
            "values": values.tolist(),
            "risk": bands[0],
            "survival": dict(zip(horizons, bands[1:], strict=True)),
        }
    return found


def _at_common_values(curves: Sequence[tuple[NDArray[Any], Floats]]) -> tuple[NDArray[Any], Floats]:
    """Values that all folds cover, and the outcomes there, shape (folds, values, outcomes)."""
    first = curves[0][0]
    if first.dtype.kind not in "fi":
        return first, np.array([outcome for _, outcome in curves])
    low, high = max(v[0] for v, _ in curves), min(v[-1] for v, _ in curves)
    values = np.linspace(low, high, len(first)) if high > low else first
    tables = [np.column_stack([np.interp(values, v, column) for column in outcome.T]) for v, outcome in curves]
    return values, np.array(tables)


def _list(values: Floats) -> list[float]:
    return [float(v) for v in values]
