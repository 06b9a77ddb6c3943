"""What synthetic patients are good for: models of them judged on real patients (docs/synthetic.md, Evaluation)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from experiments.synthetic.columns import require_comparable
from experiments.synthetic.subgroups import agreement, clustered_lesions, clusters, subgroup_accuracy, subgroup_feature
from experiments.synthetic.survival_utility import HazardRatios, compared_curves, trained_concordance
from harmonization import Cohort


@dataclass(frozen=True, eq=False)
class RealModels:
    """What models of the real training patients say of the held-out ones: computed once for all generators.

    Parameters
    ----------
    cox, deepsurv
        Harrell's C.
    target
        The feature that defines a subgroup, if there is one.
    subgroup
        Balanced accuracy of finding it.
    hazard_ratios
        Of the training patients.
    lesions
        Which are clustered, shape (g,).
    clusters, again
        The held-out patients' clusters, by two fits of different seed.
    """

    cox: float
    deepsurv: float
    target: str | None
    subgroup: float
    hazard_ratios: HazardRatios | None
    lesions: NDArray[np.bool_]
    clusters: NDArray[np.int64] | None
    again: NDArray[np.int64] | None

    @classmethod
    def fit(cls, train: Cohort, heldout: Cohort, seed: int) -> RealModels:
        """Fit all of them."""
        require_comparable(train, heldout)
        cox, deepsurv = trained_concordance(train, heldout, seed)
        target, keep = subgroup_feature(train), clustered_lesions(train)
        return cls(
            cox,
            deepsurv,
            target,
            float("nan") if target is None else subgroup_accuracy(train, heldout, target, seed),
            HazardRatios.fit(train),
            keep,
            clusters(train, heldout, keep, seed),
            clusters(train, heldout, keep, seed + 1),
        )


def utility(
    train: Cohort, heldout: Cohort, synthetic: Cohort, seed: int, real: RealModels | None = None
) -> dict[str, float]:
    """Every measure of utility.

    Parameters
    ----------
    train
        What the generator learned from: models of these patients are what synthetic ones are to replace.
    heldout
        Real patients that the generator has not seen, on which all models are judged.
    synthetic
        As many as `train`, for a fair comparison.
    seed
        Of networks, forests and chains.
    real
        ``RealModels.fit(train, heldout, seed)``, for who evaluates many generators.

    Returns
    -------
    dict
        ``tstr_c``, ``trtr_c``: Harrell's C of a Cox model trained on synthetic, on real patients; ``tstr_deepsurv_c``,
        ``trtr_deepsurv_c``. ``subgroup_accuracy``, ``subgroup_accuracy_real``. ``km_distance``, ``logrank_p``:
        synthetic against held-out. ``hazard_ratio_coverage``, ``hazard_ratio_overlap``: against training.
        ``cluster_ari``, and ``cluster_ari_real``, what two fits to the real patients reach. NaN where there is nothing
        to compare.

    Raises
    ------
    SchemaError
        If the schemas differ.
    ValueError
        If a cohort has fewer than two patients.
    """
    require_comparable(heldout, synthetic)
    real = real or RealModels.fit(train, heldout, seed)
    cox, deepsurv = trained_concordance(synthetic, heldout, seed)
    nothing = {"hazard_ratio_coverage": float("nan"), "hazard_ratio_overlap": float("nan")}
    own = clusters(synthetic, heldout, real.lesions, seed)
    return {
        "tstr_c": cox,
        "trtr_c": real.cox,
        "tstr_deepsurv_c": deepsurv,
        "trtr_deepsurv_c": real.deepsurv,
        "subgroup_accuracy": (
            float("nan") if real.target is None else subgroup_accuracy(synthetic, heldout, real.target, seed)
        ),
        "subgroup_accuracy_real": real.subgroup,
        **compared_curves(heldout, synthetic),
        **(nothing if real.hazard_ratios is None else real.hazard_ratios.recovered(synthetic)),
        "cluster_ari": agreement(own, real.clusters),
        "cluster_ari_real": agreement(real.clusters, real.again),
    }
