"""Augmentation: what small centers gain when they train on their own patients and on the federation's synthetic ones.

A center that shares nothing but receives synthetic patients is compared with one that has its own patients alone, with
federated averaging, and with all patients in one table. All predict the same held-out patients, whom neither these
models nor the generator saw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sksurv.util import Surv

from experiments.config import Config, DatasetSection, SplitSection, StrategySection
from experiments.fitting import fit_model
from federation.algorithm import Algorithm, run
from federation.center import Center
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.state import State
from harmonization import Cohort
from models.preprocessing import PreprocessingOptions, Preprocessor, feature_sums
from models.survival.estimators import LinearCox
from models.survival.resampling import bootstrap_weights, percentile_interval
from models.survival.statistics import concordance
from models.training import TrainingOptions

Floats = NDArray[np.float64]

RIDGE = 200.0
"""Penalty of every linear Cox model, on the total likelihood: chosen for AML on validation patients (RESULTS.md)."""
SMALL = 100
"""Centers with fewer training patients are small."""
LEAST_PATIENTS, LEAST_EVENTS = 10, 3
"""What a center needs to train a model alone."""
REPLICATES = 500

_IMPUTED = PreprocessingOptions(missing="impute")


@dataclass(frozen=True, eq=False)
class RealArms:
    """What models of real patients say of the held-out ones; the same whatever the generator.

    Parameters
    ----------
    small
        The centers that are judged: their training patients.
    heldout
        Whom all arms predict.
    isolated
        Risk by the model of each small center alone, shape (number of small centers, n).
    fedavg, pooled
        Risk by the model averaged over all centers, and by that of all patients together, shape (n,).
    """

    small: Mapping[str, Cohort]
    heldout: Cohort
    isolated: Floats
    fedavg: Floats
    pooled: Floats

    @classmethod
    def fit(cls, centers: Mapping[str, Cohort], heldout: Cohort, seed: int) -> RealArms:
        """Fit to the training patients of each center.

        Raises
        ------
        ValueError
            If no center is small, and large enough to train a model.
        """
        centers, heldout = {name: _plain(cohort) for name, cohort in centers.items()}, _plain(heldout)
        small, isolated = {}, []
        for name, cohort in centers.items():
            if not LEAST_PATIENTS <= len(cohort) < SMALL or cohort.event.sum() < LEAST_EVENTS:
                continue
            try:
                isolated.append(risk_of(cohort, heldout))
            except ValueError:  # no feature varies
                continue
            small[name] = cohort
        if not small:
            raise ValueError(
                f"none of {len(centers)} centers has {LEAST_PATIENTS} to {SMALL - 1} training patients and "
                f"{LEAST_EVENTS} events; augmentation is for such centers"
            )
        pooled = risk_of(Cohort.concatenate(list(centers.values())), heldout)
        return cls(small, heldout, np.stack(isolated), averaged_risk(centers, heldout, seed), pooled)


def augmentation(
    centers: Mapping[str, Cohort], synthetic: Cohort, heldout: Cohort, seed: int, real: RealArms | None = None
) -> dict[str, float]:
    """Harrell's C on held-out patients of linear Cox models of small centers, with and without synthetic patients.

    Parameters
    ----------
    centers
        Training patients of each center.
    synthetic
        Drawn by a generator of the same training patients, which never saw a held-out one. Each small center trains
        on all of them and on its own.
    heldout
        Real patients of all centers.
    seed
        Of averaging and of the bootstrap over held-out patients.
    real
        `RealArms.fit` of the same centers and held-out patients, if it is there already.

    Returns
    -------
    dict
        ``augmented_c`` and ``isolated_c``, means over small centers; ``fedavg_c``, ``pooled_c``; ``synthetic_c`` of a
        model of synthetic patients alone. ``augmented_gain``, ``augmented_minus_fedavg``, ``augmented_minus_pooled``
        and ``augmented_minus_synthetic``: differences on the same patients. ``_low`` and ``_high``: ends of 95%
        percentile intervals over held-out patients. ``augmented_better``: share of small centers that gain;
        ``small_centers``: how many there are.
    """
    real = real or RealArms.fit(centers, heldout, seed)
    heldout, synthetic = real.heldout, _plain(synthetic)
    augmented = [risk_of(Cohort.concatenate([own, synthetic]), heldout) for own in real.small.values()]
    weights = np.ones((REPLICATES + 1, len(heldout)))
    weights[1:] = bootstrap_weights(np.zeros(len(heldout)), REPLICATES, seed, patient=heldout.ids)
    values = {
        "augmented_c": _concordances(heldout, np.stack(augmented), weights),
        "isolated_c": _concordances(heldout, real.isolated, weights),
        "fedavg_c": _concordances(heldout, real.fedavg[None], weights),
        "pooled_c": _concordances(heldout, real.pooled[None], weights),
        "synthetic_c": _concordances(heldout, risk_of(synthetic, heldout)[None], weights),
    }
    better = (values["augmented_c"][:, 0] > values["isolated_c"][:, 0]).mean()
    arms = {name: c.mean(axis=0) for name, c in values.items()}
    arms["augmented_gain"] = arms["augmented_c"] - arms["isolated_c"]
    for other in ("fedavg", "pooled", "synthetic"):
        arms[f"augmented_minus_{other}"] = arms["augmented_c"] - arms[f"{other}_c"]
    found = {"augmented_better": float(better), "small_centers": float(len(real.small))}
    for name, c in arms.items():
        low, high = percentile_interval(c[None, 1:])
        found |= {name: float(c[0]), f"{name}_low": float(low[0]), f"{name}_high": float(high[0])}
    return found


def risk_of(train: Cohort, test: Cohort) -> Floats:
    """Log relative hazard of test patients by a ridge Cox model of others, preprocessed by these, shape (n,)."""
    preprocessor = Preprocessor.fit(feature_sums(train), train.schema, _IMPUTED)
    model = LinearCox(alpha=RIDGE).fit(preprocessor.transform(train), Surv.from_arrays(train.event, train.time))
    risk: Floats = model.predict(preprocessor.transform(test))
    return risk


def averaged_risk(centers: Mapping[str, Cohort], test: Cohort, seed: int) -> Floats:
    """The same by federated averaging of full-batch steps (the first arm of ``experiments/configs/aml.yaml``)."""
    config = Config(
        name="augmentation",
        seed=seed,
        dataset=DatasetSection(name="table"),
        split=SplitSection(folds=2, validation=0),
        ridge=RIDGE,
        training=TrainingOptions(steps=1, learning_rate=0.3),
        rounds=60,
    )
    walls = [_wall(name, cohort, i) for i, (name, cohort) in enumerate(centers.items())]

    def run_task(step: str, algorithm: Algorithm) -> State:
        return run(algorithm, InProcessFederation(walls, seed, task=f"augmentation/{step}"))

    return fit_model(config, StrategySection(name="fedavg"), test.schema, run_task).risk(config, test)


def _wall(name: str, cohort: Cohort, index: int) -> Center:
    return Center(name, lambda: cohort, index, policy=DisclosurePolicy(min_patients=1))


def _plain(cohort: Cohort) -> Cohort:
    """Without causes and scores, which generated patients lack."""
    schema = replace(cohort.schema, causes=(), scores=())
    return replace(cohort, schema=schema, cause=None, scores=np.empty((len(cohort), 0)))


def _concordances(test: Cohort, risk: Floats, weights: Floats) -> Floats:
    """Harrell's C of each model (m, n) in each replicate (r, n), shape (m, r)."""
    order = np.lexsort((~test.event, test.time))
    unit = np.zeros(len(test), dtype=np.intp)
    found = []
    for model in risk:
        [(concordant, comparable)] = concordance(
            unit, test.time[order], test.event[order], model[order], weights.T[order], [np.ones(len(test))]
        )
        found.append(concordant[0] / comparable[0])
    return np.stack(found)
