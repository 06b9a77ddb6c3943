"""Genomic synthetic fidelity (GSF): mutation rates, which lesions go together, and how many a patient has."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from experiments.synthetic.associations import Pairs
from experiments.synthetic.columns import Columns, genomic_columns, lesions
from experiments.synthetic.marginals import marginal_similarities
from harmonization import Cohort

Floats = NDArray[np.float64]

SPREAD = 0.5
"""τ, the standard deviation that log odds ratios are thought to have: 95% of odds ratios within 0.37 and 2.7."""

NOT_A_NUMBER = {name: float("nan") for name in ("gsf", "gsf_mutation_rates", "gsf_comutations", "gsf_burden")}


def genomic_fidelity(real: Cohort, synthetic: Cohort) -> dict[str, float]:
    """``gsf`` and the three numbers it is the mean of (docs/synthetic.md, Evaluation).

    NaN without two lesions in the schema.
    """
    a, b = lesions(real), lesions(synthetic)
    if len(a.names) < 2:
        return NOT_A_NUMBER
    similar, weight = comutation_similarities(a, b)
    parts = {
        "gsf_mutation_rates": float(marginal_similarities(genomic_columns(real), genomic_columns(synthetic)).mean()),
        "gsf_comutations": mean_of_pairs(similar, weight),
        "gsf_burden": 1 - float(ks_2samp(burden(a), burden(b), method="asymp").statistic),
    }
    return {"gsf": float(np.nanmean(list(parts.values()))), **parts}


def mean_of_pairs(similar: Floats, weight: Floats) -> float:
    """Weighted, of every two lesions; NaN where nothing has weight, as among patients without lesions."""
    above = np.triu_indices(len(similar), 1)
    values, weights = similar[above], weight[above]
    return float(np.average(values, weights=weights)) if weights.any() else float("nan")


def burden(lesions: Columns) -> Floats:
    """Number of lesions found in each patient, shape (n,)."""
    result: Floats = (lesions.values == 1).sum(axis=1).astype(np.float64)
    return result


def comutation_similarities(real: Columns, synthetic: Columns) -> tuple[Floats, Floats]:
    """Of every two lesions, 1 − \\|difference of Yule's Q\\|, at least 0, and its weight; each of shape (g, g).

    Q = (OR − 1) / (OR + 1), OR the odds ratio, whose logarithm is shrunk (`Pairs.log_odds`, both cohorts' as those of
    the smaller one). The weight is the square of the factor v / (v + 1/τ²) by which the real patients' is shrunk, v
    their information: pairs too rare to say anything count little.
    """
    return similarities_of_pairs(Pairs.of(real.values), Pairs.of(synthetic.values), min(len(real), len(synthetic)))


def similarities_of_pairs(real: Pairs, synthetic: Pairs, small: int) -> tuple[Floats, Floats]:
    """The same from counts, and the number of patients of the smaller cohort."""
    pairs = real, synthetic
    q = [np.tanh(p.log_odds(SPREAD, small) / 2) for p in pairs]
    v = pairs[0].information()
    return np.maximum(0, 1 - np.abs(q[0] - q[1])), (v / (v + 1 / SPREAD**2)) ** 2
