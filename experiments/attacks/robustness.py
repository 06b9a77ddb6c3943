"""What bad centers cost under each aggregator: concordance on the test patients of all centers.

Preprocessing is honest, so that all fits of a fold see the same design; the harm is done in training. Who is bad is
drawn anew for each fold, the same for all harms and aggregators, and a larger share holds the smaller one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t
from sklearn.metrics import roc_auc_score

from experiments.arms import folds_of
from experiments.attacks.config import AttackConfig
from experiments.attacks.federations import centers_of, prepared, preprocessor_of
from experiments.config import Config, StrategySection
from experiments.fitting import averaging
from experiments.study import Study
from federation.algorithm import run
from federation.averaging import ParameterAveraging, result
from federation.bad_centers import bad_center
from federation.in_process import InProcessFederation
from federation.privacy.secure import SecureAggregation
from federation.quorum import QuorumError
from federation.randomness import generator
from federation.splits import TEST, TRAIN
from harmonization import Cohort
from models.survival.concordance import concordance_counts
from models.survival.network import SurvivalNetwork, build_network
from models.training import predict

Floats = NDArray[np.float64]
Row = dict[str, Any]
NOBODY, PRIVATE = "none", "differential privacy"


def pieces(config: AttackConfig, study: Study) -> list[str]:
    """A piece for each (repeat, fold)."""
    return [f"{repeat}-{fold}" for repeat, fold in folds_of(study.config)]


@contextmanager
def _quietly() -> Iterator[None]:
    """Without warnings: who sends NaN is named anew in every fit."""
    logger = logging.getLogger("haemfed")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@dataclass(frozen=True)
class _Arm:
    """A way of training that is attacked: the algorithm, and how to test what comes out on the fold's test patients.

    Parameters
    ----------
    x, with_feature, without_feature
        Design matrices of the test patients as they are, and all with or without the attacked feature.
    """

    name: str
    algorithm: ParameterAveraging
    network: SurvivalNetwork
    x: Floats
    with_feature: Floats
    without_feature: Floats
    secure_aggregation: SecureAggregation | None = None

    @classmethod
    def of(cls, name: str, config: Config, algorithm: ParameterAveraging, test: Cohort, feature: str) -> _Arm:
        preprocessor = preprocessor_of(algorithm)
        network = build_network(config.model.name, preprocessor.n_features, algorithm.model_parameters)
        x, on, off = (preprocessor.transform(c) for c in (test, _with(test, feature, 1.0), _with(test, feature, 0.0)))
        return cls(name, algorithm, network, x, on, off, config.federation.secure_aggregation)


def _arms(config: AttackConfig, study: Study, test: Cohort, honest: InProcessFederation, patients: int) -> list[_Arm]:
    """Every aggregator on the same design, and training under differential privacy, whose design is of constants."""
    section, target = config.robustness, study.config
    algorithm = prepared(target, study, honest)
    strategy, found = target.strategies[0], []
    for aggregator in section.aggregators:
        chosen = None if aggregator.name == "mean" else aggregator  # plain averaging, which sees sums alone
        arm = averaging(
            target,
            StrategySection.model_validate(strategy.model_copy(update={"aggregator": chosen})),
            preprocessor_of(algorithm),
            patients,
            algorithm.model_parameters,
        )
        found.append(_Arm.of(aggregator.name, target, arm, test, section.feature))
    if section.private is not None:
        private = config.target(section.private)
        found.append(_Arm.of(PRIVATE, private, prepared(private, study, honest), test, section.feature))
    return found


@_quietly()
def measure(config: AttackConfig, study: Study, piece: str) -> list[Row]:
    """Every harm, aggregator and share on one fold."""
    section, target = config.robustness, study.config
    repeat, fold = map(int, piece.split("-"))
    split, seed = study.split(repeat, fold), study.seed(repeat)
    quorum = target.federation.quorum
    policy = replace(target.federation.policy, secure_noise=False, simulation=True)
    honest = centers_of(study.cohorts, policy)
    parts = study.parts(split)
    test = study.cohort[parts == TEST]
    sizes = {name: int((parts[study.center == name] == TRAIN).sum()) for name in study.cohorts}
    able = [j for j, name in enumerate(study.cohorts) if sizes[name] >= policy.min_patients]
    patients = sum(sizes[honest[j].name] for j in able)
    preparation = InProcessFederation(honest, seed, split, "preparation", quorum)
    arms = _arms(config, study, test, preparation, patients)
    order = generator(config.seed, "bad centers", piece).permutation(able)
    rows = []
    todo = [(NOBODY, 0.0)] + [(harm, share) for harm in section.harms for share in section.shares]
    for harm, share in todo:
        bad = set(order[: round(share * len(able))].tolist())
        centers = [
            bad_center(harm, c.name, c._source, j, c._schema, policy, feature=section.feature) if j in bad else c
            for j, c in enumerate(honest)
        ]
        for arm in arms:
            row: Row = {
                "harm": harm,
                "share": share,
                "aggregator": arm.name,
                "piece": piece,
                "bad_patients": sum(sizes[honest[j].name] for j in bad) / patients,
            }
            federation = InProcessFederation(
                centers, seed, split, "training", quorum, secure_aggregation=arm.secure_aggregation
            )
            try:
                state = run(arm.algorithm, federation)
            except QuorumError as error:
                rows.append({**row, "c": None, "why": str(error)})
                continue
            weights = result(state)
            concordant, comparable = concordance_counts(test.time, test.event, predict(arm.network, weights, arm.x))
            effect = predict(arm.network, weights, arm.with_feature) - predict(
                arm.network, weights, arm.without_feature
            )
            rows.append({**row, "c": concordant / comparable, "gene": float(effect.mean())})
            if "detection" in state and bad:
                known = [j for j in able if np.isfinite(state["detection"][:, j, 1]).any()]
                odd = np.array([_oddness(np.nanmedian(state["detection"][:, j], axis=0)) for j in known])
                rows[-1]["detected"] = _auc(odd, np.array([j in bad for j in known]))
    return rows


def _with(cohort: Cohort, feature: str, value: float) -> Cohort:
    values = cohort.values.copy()
    values[:, cohort.schema.index(feature)] = value
    return replace(cohort, values=values)


def _oddness(statistics: Floats) -> float:
    """One number per center from `federation.robust.detection`: far off, and pointing away."""
    _, cosine, distance = statistics
    return float(distance - cosine if np.isfinite(distance) else np.inf)


def _auc(score: Floats, member: NDArray[np.bool_]) -> float | None:
    if member.all() or not member.any():
        return None
    return float(roc_auc_score(member, np.nan_to_num(score, posinf=1e9)))


def summarize(config: AttackConfig, study: Study, rows: Sequence[Row]) -> dict[str, Any]:
    """Mean C, its spread over folds, and the loss against honest plain averaging on the same folds."""
    cells: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        cells.setdefault((row["harm"], row["aggregator"], row["share"]), []).append(row)
    honest = {row["piece"]: row["c"] for row in rows if row["harm"] == NOBODY and row["aggregator"] == "mean"}
    table = []
    for (harm, aggregator, share), here in cells.items():
        known = [row for row in here if row["c"] is not None]
        entry: Row = {
            "harm": harm,
            "aggregator": aggregator,
            "share": share,
            "fits": len(here),
            "failed": len(here) - len(known),
        }
        if known:
            c = np.array([row["c"] for row in known])
            loss = np.array([honest[row["piece"]] - row["c"] for row in known])
            entry |= {
                "c": float(c.mean()),
                "spread": float(c.std(ddof=1)) if len(c) > 1 else None,
                "loss": _interval(loss, study.config.split.folds),
                "gene": float(np.mean([row["gene"] for row in known])),
                "bad_patients": float(np.mean([row["bad_patients"] for row in known])),
            }
            found = [row["detected"] for row in known if row.get("detected") is not None]
            entry["detected"] = _interval(np.array(found), study.config.split.folds) if found else None
        table.append(entry)
    return {"table": table, "findings": findings(table)}


def _interval(values: Floats, folds: int) -> dict[str, float]:
    """A mean over overlapping folds with its 95% interval (Nadeau & Bengio 2003)."""
    n, mean = len(values), float(values.mean())
    margin = float(t.ppf(0.975, n - 1) * np.sqrt((1 / n + 1 / (folds - 1)) * values.var(ddof=1))) if n > 1 else 0.0
    return {"mean": mean, "low": mean - margin, "high": mean + margin}


def findings(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """In words: of each harm at the share nearest to a fifth, plain averaging and the best robust aggregator."""
    said: list[str] = []
    shares = sorted({row["share"] for row in table if row["share"] > 0})
    if not shares:
        return said
    share = min(shares, key=lambda s: abs(s - 0.2))
    for harm in dict.fromkeys(row["harm"] for row in table if row["harm"] != NOBODY):
        here = {
            row["aggregator"]: row for row in table if row["harm"] == harm and row["share"] == share and "loss" in row
        }
        robust = [row for name, row in here.items() if name not in ("mean", PRIVATE)]
        if not robust:
            continue
        best = min(robust, key=lambda row: row["loss"]["mean"])
        plain = (
            f"plain averaging loses {here['mean']['loss']['mean']:.3f}" if "mean" in here else "plain averaging fails"
        )
        said.append(
            f"{harm}, {share:.0%} of the centers: {plain}, {best['aggregator']} {best['loss']['mean']:.3f} "
            f"({best['loss']['low']:.3f} to {best['loss']['high']:.3f})."
        )
    return said
