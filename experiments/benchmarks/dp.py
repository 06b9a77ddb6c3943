"""Concordance under differential privacy: AML and MDS, patients or whole hospitals protected, from ε = 1 to 16.

Every piece (cohort, who is protected, ε, seed of the noise, fold) is a federation in one process, trained as a run
trains it, and a file: the benchmark goes on where it was stopped. Noise follows from seeds, so that figures can be
repeated.

``python -m experiments.benchmarks.dp --out runs/dp --workers 2``, or ``haemfed bench dp --json``
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from experiments.config import Config, parse_config
from experiments.datasets import DatasetError, resolve_data_dir
from experiments.fitting import fit_model
from experiments.private_fitting import rounds_of
from experiments.settings import set_key
from experiments.study import Study
from federation.algorithm import Algorithm, run
from federation.center import Center, Question
from federation.contribution import Contribution
from federation.in_process import InProcessFederation
from federation.privacy.aggregator import sum_of
from federation.privacy.secure import FixedPointSum, with_rows
from federation.quorum import QuorumError
from federation.randomness import generator
from federation.splits import TEST
from federation.state import State, file_name
from harmonization import Cohort
from models.survival.concordance import concordance_counts

logger = logging.getLogger("haemfed")

CONFIGS = {"AML": "dp_aml.yaml", "MDS": "dp_mds.yaml"}

EPSILONS = (1.0, 2.0, 4.0, 8.0, 16.0, 1000.0)
"""The last is as good as no noise: what clipping and constants alone cost."""

SEEDS = 2

Pieces = Callable[[int], "Iterator[Piece]"]

PRIVACY = "federation.differential_privacy"

OWN = {f"{PRIVACY}.noise": "center", "federation.secure_aggregation": None}

CENTER = {
    f"{PRIVACY}.unit": "center",
    f"{PRIVACY}.delta": 1e-3,  # there are 45 of them
    f"{PRIVACY}.clip": 0.5,
    f"{PRIVACY}.largest": 20,
    "training": {"steps": 3, "learning_rate": 1},
    "rounds": 10,
}

OF_THREE = {
    f"{PRIVACY}.clip": 1.0,
    f"{PRIVACY}.largest": 300,
    "training": {"steps": 5, "learning_rate": 3},
    "rounds": 3,
}

LEVELS: dict[str, dict[str, Mapping[str, Any]]] = {
    "AML": {"patient": {}, "patient, own noise": {**OWN, "rounds": 15}, "center": CENTER},
    "MDS": {"patient": {}, "patient, own noise": OWN, "center": CENTER | OF_THREE},
}
"""Cohort -> who is protected -> changes to the configuration; all chosen on validation patients (RESULTS.md)."""

VARIANTS: dict[str, Mapping[str, Any]] = {
    "patient, noisy sums": {f"{PRIVACY}.statistics": "noisy"},
    "patient, half of them in a step": {f"{PRIVACY}.sampling": 0.5},
    "patient, SAVAE": {
        "model": {"name": "savae"},
        "training": {"steps": 1, "learning_rate": 0.3},
        "rounds": 100,
    },
    "center, adaptive bound": {**CENTER, f"{PRIVACY}.adaptive": {"quantile": 0.5}},
}
"""Of AML at one ε (`VARIED`): what else there is, with the settings above as they are, SAVAE's not tuned at all."""

VARIED = 8.0


@dataclass(frozen=True)
class Piece:
    """One fit."""

    cohort: str
    level: str
    epsilon: float
    seed: int
    fold: int

    def path(self, out: Path) -> Path:
        """Its file."""
        words = (self.cohort, self.level, f"{self.epsilon:g}", str(self.seed), str(self.fold))
        return out / f"{file_name(*words)}.json"

    def config(self) -> Config:
        """Of the fit."""
        path = Path(__file__).parent.parent / "configs" / CONFIGS[self.cohort]
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key, value in {
            **{**LEVELS[self.cohort], **VARIANTS}[self.level],
            f"{PRIVACY}.epsilon": self.epsilon,
            "federation.policy": {"secure_noise": False, "simulation": True},
        }.items():
            set_key(data, key, value)
        return parse_config(data, str(path))


def pieces(seeds: int = SEEDS) -> Iterator[Piece]:
    """All of them, seed by seed, so that a stopped benchmark has something of everything."""
    for seed in range(seeds):
        for cohort, levels in LEVELS.items():
            for level in levels:
                for epsilon in EPSILONS:
                    for fold in range(5):
                        yield Piece(cohort, level, epsilon, seed, fold)


def variants(seeds: int = SEEDS) -> Iterator[Piece]:
    """`VARIANTS`, and the levels that they vary, in the first fold; noisy sums in all."""
    for level in ("patient", "center", *VARIANTS):
        for seed in range(seeds):
            for fold in range(5 if "sums" in level else 1):
                yield Piece("AML", level, VARIED, seed, fold)


def dp_benchmark(
    out: Path = Path("runs/dp"), workers: int = 2, seeds: int = SEEDS, chosen: Pieces = pieces
) -> dict[str, Any]:
    """Fit what is missing; per cohort and level, Harrell's C by ε (see `table`)."""
    out.mkdir(parents=True, exist_ok=True)
    todo = [piece for piece in chosen(seeds) if not piece.path(out).exists()]
    with ProcessPoolExecutor(workers) as pool:
        for done, piece in enumerate(pool.map(partial(fit_piece, out=out), todo), start=1):
            logger.info("%d of %d: %s", done, len(todo), piece)
    return table(out, seeds, chosen)


def fit_piece(piece: Piece, out: Path) -> Piece:
    """Fit, test and write; a cohort that is not there is left out."""
    import torch

    torch.set_num_threads(1)
    config = piece.config()
    try:
        study = Study.load(config, resolve_data_dir(None))
    except DatasetError as error:
        logger.warning("without %s: %s", piece.cohort, error)
        return piece
    section, split = config.federation, study.split(0, piece.fold)
    privacy = section.differential_privacy
    assert privacy is not None
    centers = [
        Center(name, partial(_same, cohort), position, study.schema, section.policy)
        for position, (name, cohort) in enumerate(study.cohorts.items())
    ]
    seed = int(generator(piece.seed, "differential privacy").integers(2**31))
    federation = Unmasked(centers, seed, split, secure_aggregation=section.secure_aggregation)

    def run_task(step: str, algorithm: Algorithm) -> State:
        federation.task = f"{piece} {step}"
        return run(algorithm, federation)

    fit = fit_model(config, config.strategies[0], study.schema, run_task)
    tested = study.cohort[study.parts(split) == TEST]
    concordant, comparable = concordance_counts(tested.time, tested.event, fit.risk(config, tested))
    spent = privacy.summary(rounds_of(config, config.strategies[0]), 1)
    found = {**vars(piece), "c": concordant / comparable, "seconds": fit.seconds, "privacy": spent}
    new = piece.path(out).with_suffix(".new")
    new.write_text(json.dumps(found), encoding="utf-8")
    new.replace(piece.path(out))
    return piece


class Unmasked(InProcessFederation):
    """Sums in the fixed point of secure aggregation, each center with its share of the noise, but without the masks,
    which take half the time and change no bit (tests/federation/privacy/dp/test_training.py)."""

    def _ask_securely(self, algorithm: Algorithm, question: Question) -> Contribution:
        settings = self.secure_aggregation
        assert settings is not None
        asked = replace(question, masked="none, in simulation")
        silent = [center.name for center in self.centers if center.withholds(center.patients(asked))]
        n = len(self.centers) - len(silent)
        total, failed = self._group.add_up(
            replace(asked, sharers=settings.sharers(n)),
            silent,
            lambda: FixedPointSum(settings.fixed_point, n, algorithm.rows_of_centers),
        )
        if failed or total.words is None or total.layout is None:
            raise QuorumError(f"no sum: {failed}")
        found = sum_of(settings.fixed_point.decode(total.words), total.layout)
        return with_rows(found, algorithm.rows_of_centers, question.centers)


def _same(cohort: Cohort) -> Cohort:
    return cohort


def table(out: Path, seeds: int = SEEDS, chosen: Pieces = pieces) -> dict[str, Any]:
    """Figures of what is there.

    Returns
    -------
    dict
        Cohort and level -> for each ε ``c``, the mean over folds and seeds, ``c sd`` over folds and seeds, ``c sd of
        seeds`` of the mean over folds (two or more seeds), ``fits``, and the noise multiplier.
    """
    found: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for piece in chosen(seeds):
        if piece.path(out).exists():
            values = json.loads(piece.path(out).read_text(encoding="utf-8"))
            found.setdefault((piece.cohort, piece.level, piece.epsilon), []).append(values)
    figures: dict[str, Any] = {}
    for (cohort, level, epsilon), values in found.items():
        c = np.array([value["c"] for value in values])
        seed = np.array([value["seed"] for value in values])
        means = [c[seed == s].mean() for s in np.unique(seed) if (seed == s).sum() == 5]
        row = figures.setdefault(f"{cohort}, {level}", {})
        row[f"{epsilon:g}: c"] = float(c.mean())
        row[f"{epsilon:g}: sd"] = float(c.std(ddof=1)) if len(c) > 1 else float("nan")
        row[f"{epsilon:g}: sd of seeds"] = float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")
        row[f"{epsilon:g}: fits"] = len(c)
        row[f"{epsilon:g}: noise"] = values[0]["privacy"]["noise_multiplier"]
        row["delta"] = values[0]["privacy"]["delta"]
    return figures


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """A figure of the curves, with the standard deviation over folds and seeds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    shown = [e for e in EPSILONS if e < 100]
    for axis, cohort in zip(axes, CONFIGS, strict=True):
        for name, row in figures.items():
            there = [e for e in shown if f"{e:g}: c" in row]
            if name.startswith(f"{cohort}, ") and there:
                c, sd = (np.array([row[f"{e:g}: {key}"] for e in there]) for key in ("c", "sd"))
                axis.errorbar(there, c, sd, marker="o", capsize=3, label=name.partition(", ")[2])
        axis.set(xscale="log", xlabel="ε", title=cohort)
        axis.set_xticks(shown, [f"{e:g}" for e in shown])
        axis.axhline(0.5, color="grey", linewidth=0.5)
        axis.legend()
    axes[0].set_ylabel("Harrell's C")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/dp"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--variants", action="store_true", help="other settings at one epsilon of AML")
    arguments = parser.parse_args()
    chosen = variants if arguments.variants else pieces
    figures = dp_benchmark(arguments.out, arguments.workers, arguments.seeds, chosen)
    if not arguments.variants:
        draw(figures, arguments.out / "curves.png")
    print(json.dumps({"dp": figures}))


if __name__ == "__main__":
    main()
