"""Central models beside each other by nested validation: every seed counts, and nothing is chosen on test patients.

    python -m experiments.nested whas500 gbsg2 --models cox savae --directory runs/nested

For each data set, seed and outer fold, a model's settings (a small grid, stated in `CONTENDERS`) are compared by inner
folds of the training patients; the best is fitted to all of them and predicts the test patients once. A seed draws the
folds and seeds the model. Each piece is a file that keeps the score of every setting, so that nothing is computed
again, neither after an interruption nor when settings are added.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sksurv.util import Surv

from actors.cluster import ray_session
from actors.parallel import parallel_map
from experiments.commands.console import progress_bars
from experiments.datasets import DatasetError, available_datasets, load_dataset, resolve_data_dir
from experiments.files import write_json
from federation.checkpoint import load_state, save_state
from federation.splits import Split
from federation.state import State
from harmonization import Cohort
from models.preprocessing import PreprocessingOptions, Preprocessor, feature_sums
from models.survival.estimators import DeepSurv, LinearCox
from models.survival.metrics import Prediction, TestSet, evaluate
from models.survival.resampling import Estimate, bootstrap_weights, paired_difference
from models.survival.vae_estimators import SAVAE

Floats = NDArray[np.float64]

HORIZONS = (1.0, 3.0, 5.0)
"""Years."""

TIMES = np.linspace(0, HORIZONS[-1], 61)[1:]

METRICS = ("harrell_c", "uno_c", "ibs")


@dataclass(frozen=True)
class Contender:
    """A model with the settings to choose from.

    Parameters
    ----------
    build
        Makes an estimator from a setting and a seed.
    settings
        Keyword arguments of the estimator.
    missing
        What the preprocessor does with missing values.
    """

    build: Callable[[Mapping[str, Any], int], Any]
    settings: tuple[Mapping[str, Any], ...]
    missing: Literal["impute", "keep"] = "impute"


def grid(**values: Sequence[Any]) -> tuple[dict[str, Any], ...]:
    """Every combination of some values."""
    return tuple(dict(zip(values, row, strict=True)) for row in itertools.product(*values.values()))


CONTENDERS: dict[str, Contender] = {
    "cox": Contender(lambda setting, _: LinearCox(**setting), grid(alpha=(1.0, 10.0, 50.0, 200.0))),
    "deepsurv": Contender(
        lambda setting, seed: DeepSurv(**setting, random_state=seed),
        grid(hidden=((16,), (32, 32)), epochs=(60, 200), weight_decay=(0.01, 0.1)),
    ),
    "savae": Contender(
        lambda setting, seed: SAVAE(**setting, random_state=seed),
        grid(epochs=(20, 40), weight_decay=(1e-3, 1e-2), reconstruction_weight=(0.1, 0.3))
        + grid(epochs=(20, 40), weight_decay=(1e-2,), reconstruction_weight=(0.1,), head=("piecewise",)),
        missing="keep",
    ),
}
"""The models by name."""


@dataclass(frozen=True)
class Piece:
    """One model on one outer fold of one seed."""

    dataset: str
    data_dir: Path | None
    model: str
    seed: int
    fold: int
    folds: int
    inner_folds: int
    directory: Path

    @property
    def path(self) -> Path:
        """Where its result is."""
        name = f"{self.folds}-{self.inner_folds}-{self.seed}-{self.fold}.safetensors"
        return self.directory / self.dataset / self.model / name

    @property
    def label(self) -> str:
        """In words."""
        return f"{self.dataset}, {self.model}, seed {self.seed}, fold {self.fold}"

    @property
    def settings(self) -> list[str]:
        """What is compared, as text."""
        return [json.dumps(setting, sort_keys=True) for setting in CONTENDERS[self.model].settings]

    def kept(self) -> State:
        """What is in the file, if there is one."""
        return load_state(self.path) if self.path.exists() else {}

    @property
    def done(self) -> bool:
        """Whether the file is there and compares just these settings."""
        kept = self.kept()
        return bool(kept) and kept["settings"].tolist() == self.settings


def outer_folds(cohort: Cohort, seed: int, folds: int) -> NDArray[np.int64]:
    """The fold in which each patient is tested, shape (n,)."""
    return Split(seed=0, repeat=seed, n_folds=folds).folds(cohort.ids, cohort.event, "all")


def compute(piece: Piece) -> float:
    """Choose a setting, fit, predict, save; returns seconds. Runs in another process."""
    began = time.perf_counter()
    cohort, contender = _cohort(piece.dataset, piece.data_dir), CONTENDERS[piece.model]
    tested = outer_folds(cohort, piece.seed, piece.folds) == piece.fold
    train, test = cohort[~tested], cohort[tested]
    inner = Split(seed=1, repeat=1000 * piece.seed + piece.fold, n_folds=piece.inner_folds)
    inner_fold = inner.folds(train.ids, train.event, "all")
    kept = piece.kept()
    score_of = dict(zip(kept["settings"].tolist(), kept["scores"].tolist(), strict=True)) if kept else {}
    for text, setting in zip(piece.settings, contender.settings, strict=True):
        if text not in score_of:
            score_of[text] = inner_score(contender, setting, train, inner_fold, piece.seed)
    scores = [score_of[text] for text in piece.settings]
    chosen = int(np.nanargmax(scores))
    if kept and kept["settings"][kept["chosen"]] == piece.settings[chosen]:
        risk, survival = kept["risk"], kept["survival"]
    else:
        risk, survival = fit_predict(contender, contender.settings[chosen], train, test, piece.seed)
    seconds = time.perf_counter() - began + float(kept.get("seconds", 0.0))
    state = {"risk": risk, "survival": survival, "settings": piece.settings, "scores": scores, "chosen": chosen}
    save_state(piece.path, {name: np.asarray(value) for name, value in (state | {"seconds": seconds}).items()})
    return seconds


def inner_score(
    contender: Contender, setting: Mapping[str, Any], cohort: Cohort, fold: NDArray[np.int64], seed: int
) -> float:
    """Harrell's C less the integrated Brier score over inner folds: ranks and probabilities both count."""
    risk, survival = np.empty(len(cohort)), np.empty((len(cohort), len(TIMES)))
    for k in np.unique(fold):
        risk[fold == k], survival[fold == k] = fit_predict(
            contender, setting, cohort[fold != k], cohort[fold == k], seed
        )
    found = evaluate([test_set(cohort, fold)], [Prediction(risk, survival, TIMES)], np.ones((1, len(cohort))), HORIZONS)
    brier = found["ibs"].mean
    return found["harrell_c"].mean - (0.0 if np.isnan(brier) else brier)


def fit_predict(
    contender: Contender, setting: Mapping[str, Any], train: Cohort, test: Cohort, seed: int
) -> tuple[Floats, Floats]:
    """Risk, shape (n,), and survival at `TIMES`, shape (n, times), of test patients; all else is from the others."""
    options = PreprocessingOptions(missing=contender.missing)
    preprocessor = Preprocessor.fit(feature_sums(train), train.schema, options)
    model = contender.build(setting, seed)
    model.fit(preprocessor.transform(train), Surv.from_arrays(train.event, train.time))
    design = preprocessor.transform(test)
    return model.predict(design), model.predict_survival(design, TIMES)


def test_set(cohort: Cohort, fold: NDArray[np.int64]) -> TestSet:
    """All patients, each tested in its fold by a model of the others."""
    others = {int(k): (cohort.time[fold != k], cohort.event[fold != k]) for k in np.unique(fold)}
    return TestSet(cohort.time, cohort.event, fold, np.zeros(len(cohort), dtype=int), others)


def compare(
    cohort: Cohort, pieces: Mapping[str, Mapping[tuple[int, int], Mapping[str, NDArray[Any]]]], folds: int
) -> dict[str, Any]:
    """Metrics of each model over all seeds, and how far each is from the better of the others.

    Parameters
    ----------
    pieces
        Model -> (seed, fold) -> what `compute` saved; the same seeds for all models.
    """
    seeds = sorted({seed for seed, _ in next(iter(pieces.values()))})
    fold_of = {seed: outer_folds(cohort, seed, folds) for seed in seeds}
    tests = [test_set(cohort, fold_of[seed]) for seed in seeds]
    weights = bootstrap_weights(np.zeros(len(cohort), dtype=int), 500, 0)
    estimates: dict[str, dict[str, Estimate]] = {}
    result: dict[str, Any] = {"patients": len(cohort), "events": int(cohort.event.sum()), "seeds": seeds, "models": {}}
    for model, of_model in pieces.items():
        predictions = []
        for seed in seeds:
            risk, survival = np.empty(len(cohort)), np.empty((len(cohort), len(TIMES)))
            for k in range(folds):
                rows = fold_of[seed] == k
                risk[rows], survival[rows] = of_model[seed, k]["risk"], of_model[seed, k]["survival"]
            predictions.append(Prediction(risk, survival, TIMES))
        estimates[model] = found = evaluate(tests, predictions, weights, HORIZONS)
        alone = [evaluate([t], [p], weights[:1], HORIZONS) for t, p in zip(tests, predictions, strict=True)]
        chosen = np.bincount([int(s["chosen"]) for s in of_model.values()], minlength=len(CONTENDERS[model].settings))
        result["models"][model] = {
            **{name: found[name].to_dict() for name in METRICS},
            "by_seed": {name: [one[name].mean for one in alone] for name in METRICS},
            "chosen": [
                {"setting": dict(setting), "times": int(times)}
                for setting, times in zip(CONTENDERS[model].settings, chosen, strict=True)
            ],
            "seconds": float(sum(s["seconds"] for s in of_model.values())),
        }
    for model in estimates:
        others = [name for name in estimates if name != model]
        if not others:
            continue
        against = result["models"][model]["against_best_other"] = {}
        for metric in METRICS:
            best = (min if metric == "ibs" else max)(others, key=lambda name: estimates[name][metric].mean)
            difference = paired_difference(estimates[model][metric], estimates[best][metric])
            against[metric] = {"other": best, **difference.to_dict()}
    return result


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| data | model | Harrell C | Uno C | IBS | C − best other | IBS − best other |",
        "|---|---|---|---|---|---|---|",
    ]
    for dataset, result in results.items():
        for model, row in result["models"].items():
            cells = [f"{row[m]['mean']:.3f} ({row[m]['low']:.3f}–{row[m]['high']:.3f})" for m in METRICS]
            for metric in ("harrell_c", "ibs"):
                gap = row.get("against_best_other", {}).get(metric)
                cells.append(f"{gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})" if gap else "")
            lines.append(f"| {dataset} | {model} | {' | '.join(cells)} |")
    return "\n".join(lines)


def run(pieces: Sequence[Piece]) -> None:
    """Compute the pieces that are missing, in parallel on Ray, with progress."""
    missing = [piece for piece in pieces if not piece.done]
    with ray_session(), progress_bars() as listen:
        for done, (piece, _) in enumerate(parallel_map(compute, missing), start=1):
            listen("pieces", done / len(missing), piece.label)


@lru_cache(maxsize=1)
def _cohort(dataset: str, data_dir: Path | None) -> Cohort:
    return load_dataset(dataset, data_dir).cohort


def main(arguments: Iterable[str] | None = None) -> int:
    """Compare models on data sets."""
    parser = argparse.ArgumentParser(prog="python -m experiments.nested", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("datasets", nargs="+", help=f"of: {', '.join(available_datasets())}")
    parser.add_argument("--models", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS), metavar="MODEL")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0, 1, ...; all of them are reported")
    parser.add_argument("--folds", type=int, default=5, help="outer folds")
    parser.add_argument("--inner-folds", type=int, default=3)
    parser.add_argument("--data-dir", type=Path, help="where downloaded data sets are")
    parser.add_argument("--directory", type=Path, default=Path("runs/nested"), help="results; pieces there are kept")
    options = parser.parse_args(None if arguments is None else list(arguments))
    if options.seeds < 1 or min(options.folds, options.inner_folds) < 2:
        parser.error("at least 1 seed, 2 folds and 2 inner folds are needed")
    data_dir = resolve_data_dir(options.data_dir)
    try:
        cohorts = {name: load_dataset(name, data_dir).cohort for name in options.datasets}
    except DatasetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    pieces = [
        Piece(dataset, data_dir, model, seed, fold, options.folds, options.inner_folds, options.directory.absolute())
        for dataset in options.datasets
        for seed in range(options.seeds)
        for model in options.models
        for fold in range(options.folds)
    ]
    run(pieces)
    results = {}
    for name, cohort in cohorts.items():
        by_model: dict[str, dict[tuple[int, int], Mapping[str, NDArray[Any]]]] = {m: {} for m in options.models}
        for piece in pieces:
            if piece.dataset == name:
                by_model[piece.model][piece.seed, piece.fold] = load_state(piece.path)
        results[name] = compare(cohort, by_model, options.folds)
        write_json(results[name], options.directory / f"{name}.json")
    print(table(results))
    return 0


if __name__ == "__main__":
    from experiments import nested  # by its name, not as __main__: workers import what they compute

    raise SystemExit(nested.main())
