"""How alike real patients and synthetic ones are (docs/synthetic.md, Evaluation)."""

from __future__ import annotations

import numpy as np

from experiments.synthetic.clinical import clinical_fidelity
from experiments.synthetic.columns import require_comparable
from experiments.synthetic.genomic import genomic_fidelity
from experiments.synthetic.quality import sdv_quality
from experiments.synthetic.telling_apart import discriminator_accuracy, propensity
from harmonization import Cohort


def fidelity(real: Cohort, synthetic: Cohort, seed: int) -> dict[str, float]:
    """Every measure of fidelity.

    Parameters
    ----------
    real
        Patients that the generator has not seen.
    synthetic
        Of the same schema; as many or more.
    seed
        Of folds, subsets and permutations.

    Returns
    -------
    dict
        ``csf`` and ``gsf`` with three components each (``csf_marginals``, ``csf_correlations``, ``csf_multivariate``,
        ``gsf_mutation_rates``, ``gsf_comutations``, ``gsf_burden``), ``sdv_quality``: 1 for equal laws; 0 for disjoint
        ones, but for what goes together, which may be alike without a common value (correlations, co-mutations).
        ``discriminator_accuracy``: .5 is chance. ``pmse``, ``pmse_ratio``: 0 and 1. NaN where the schema has nothing
        to compare.

    Raises
    ------
    SchemaError
        If the schemas differ.
    ValueError
        If a cohort has fewer than two patients.
    """
    require_comparable(real, synthetic)
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(3)]
    return {
        **clinical_fidelity(real, synthetic, streams[0]),
        **genomic_fidelity(real, synthetic),
        "sdv_quality": sdv_quality(real, synthetic),
        "discriminator_accuracy": discriminator_accuracy(real, synthetic, streams[1]),
        **propensity(real, synthetic, streams[2]),
    }
