"""Held-out patients who stay in their centers say of synthetic ones what the pooled measures say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from experiments.synthetic.associations import correlation_similarities
from experiments.synthetic.columns import Columns, clinical_columns
from experiments.synthetic.genomic import genomic_fidelity
from experiments.synthetic.heldout import heldout_measures, sums_of
from experiments.synthetic.marginals import marginal_similarities
from experiments.synthetic.survival_utility import compared_curves, trained_cox
from federation.algorithm import run
from federation.center import Center
from federation.generative import JudgeHeldout, SumHeldout
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.privacy.secure import SecureAggregation
from federation.splits import TEST, Split
from federation.state import State
from harmonization import Cohort, Feature
from models.generative.cells import cell_of
from models.survival.concordance import concordance_counts

SPLIT = Split(seed=3, n_folds=4)
BY_DAY = SumHeldout()
MASKED = SecureAggregation()
Draw = Callable[[int, int], Cohort]


def federation(cohorts: dict[str, Cohort], policy: DisclosurePolicy | None = None, **options: object):  # type: ignore[no-untyped-def]
    policy = policy or DisclosurePolicy(min_patients=1)
    centers = [Center(name, lambda c=c: c, i, policy=policy) for i, (name, c) in enumerate(cohorts.items())]
    return InProcessFederation(centers, split=SPLIT, **options)  # type: ignore[arg-type]


def heldout_of(cohorts: dict[str, Cohort], least: int = 1) -> dict[str, Cohort]:
    parts = {name: c[SPLIT.parts(c.ids, c.event, name) == TEST] for name, c in cohorts.items()}
    return {name: part for name, part in parts.items() if len(part) >= least}


@pytest.fixture(scope="module")
def cohorts(draw_patients: Draw) -> dict[str, Cohort]:
    """A further number among the genomic features, and times to the day."""
    return {name: to_the_day(draw_patients(n, seed)) for name, n, seed in (("A", 120, 1), ("B", 60, 2), ("C", 9, 3))}


@pytest.fixture(scope="module")
def synthetic(draw_patients: Draw) -> Cohort:
    cohort = to_the_day(draw_patients(150, 9))
    values = cohort.values.copy()
    values[:, 0] = np.minimum(values[:, 0] + 7, 120)
    values[:, 4] = np.where(values[:, 4] == 2, 0, values[:, 4])
    return replace(cohort, values=values)


def to_the_day(cohort: Cohort) -> Cohort:
    schema = replace(cohort.schema, features=(*cohort.schema.features, Feature("vaf", "continuous", "genomic")))
    rng = np.random.default_rng(len(cohort))
    values = np.column_stack([cohort.values, np.round(rng.beta(2, 4, len(cohort)), 3)])
    time = np.rint(cohort.time * 365.25) / 365.25
    return replace(cohort, schema=schema, values=values, time=time)


def found(state: State, synthetic: Cohort, algorithm: SumHeldout = BY_DAY) -> dict[str, float]:
    return heldout_measures(state, sums_of(synthetic, algorithm), synthetic.schema, algorithm)


def in_cells(cohort: Cohort) -> Columns:
    """Numbers as the number of their cell: what the federated measures are of."""
    columns = clinical_columns(cohort)
    values = columns.values.copy()
    for j in np.flatnonzero(columns.numeric):
        known = ~np.isnan(values[:, j])
        values[known, j] = cell_of(values[known, j])
    return replace(columns, values=values)


def test_the_measures_are_those_of_the_pooled_patients(cohorts: dict[str, Cohort], synthetic: Cohort) -> None:
    measured = found(run(SumHeldout(), federation(cohorts)), synthetic)
    pooled = Cohort.concatenate(list(heldout_of(cohorts).values()))
    a, b = in_cells(pooled), in_cells(synthetic)
    exact = clinical_columns(pooled), clinical_columns(synthetic)
    expected = {
        "csf_marginals": marginal_similarities(a, b).mean(),
        "csf_correlations": np.nanmean(correlation_similarities(a, b)),
        **compared_curves(pooled, synthetic),
        "patients": len(pooled),
    }
    genomic = genomic_fidelity(pooled, synthetic)
    expected |= {name: genomic[name] for name in ("gsf_comutations", "gsf_burden")}
    for name, value in expected.items():
        assert measured[f"federated_{name}"] == pytest.approx(value, abs=1e-9), name
    csf = (expected["csf_marginals"] + expected["csf_correlations"]) / 2
    assert measured["federated_csf"] == pytest.approx(csf, abs=1e-9)
    # What cells take away: of numbers alone, and little.
    assert 0 <= measured["federated_csf_marginals"] - marginal_similarities(*exact).mean() < 0.005
    assert measured["federated_csf_correlations"] == pytest.approx(
        np.nanmean(correlation_similarities(*exact)), abs=0.005
    )
    assert 0 <= measured["federated_gsf_mutation_rates"] - genomic["gsf_mutation_rates"] < 0.01
    assert 0.5 < measured["federated_csf"] < 0.95  # the synthetic patients are others


def test_lesions_alone_give_the_pooled_genomic_fidelity(draw_patients: Draw) -> None:
    cohorts, synthetic = {"A": draw_patients(80, 1), "B": draw_patients(30, 2)}, draw_patients(60, 5)
    measured = found(run(SumHeldout(), federation(cohorts)), synthetic)
    pooled = Cohort.concatenate(list(heldout_of(cohorts).values()))
    for name, value in genomic_fidelity(pooled, synthetic).items():
        assert measured[f"federated_{name}"] == pytest.approx(value, abs=1e-9)


def test_pairs_are_compared_within_centers(cohorts: dict[str, Cohort], synthetic: Cohort) -> None:
    models = tuple(cox for seed in (1, 2) if (cox := trained_cox(synthetic[seed::2])) is not None)
    state = run(JudgeHeldout(models), federation(cohorts))
    assert len(models) == 2
    for i, (preprocessor, coefficients) in enumerate(models):
        pairs = [
            concordance_counts(test.time, test.event, preprocessor.transform(test) @ coefficients)
            for test in heldout_of(cohorts).values()
        ]
        np.testing.assert_allclose([state["concordant"][i], state["comparable"][i]], np.sum(pairs, axis=0))


def test_a_center_with_few_test_patients_answers_with_nothing(cohorts: dict[str, Cohort], synthetic: Cohort) -> None:
    counted = heldout_of(cohorts, 3)
    assert set(counted) == {"A", "B"}
    measured = found(run(SumHeldout(), federation(cohorts, DisclosurePolicy(min_patients=3))), synthetic)
    pooled = Cohort.concatenate(list(counted.values()))
    assert measured["federated_patients"] == len(pooled)
    assert measured["federated_km_distance"] == pytest.approx(compared_curves(pooled, synthetic)["km_distance"])


def test_masked_sums_give_the_same_numbers(cohorts: dict[str, Cohort], synthetic: Cohort) -> None:
    by_month = SumHeldout(resolution=30)
    plain, masked = (run(by_month, federation(cohorts, **way)) for way in ({}, {"secure_aggregation": MASKED}))
    assert found(masked, synthetic, by_month) == pytest.approx(found(plain, synthetic, by_month), abs=1e-6)


def test_rules_of_a_center_hold(cohorts: dict[str, Cohort], synthetic: Cohort) -> None:
    """All that leaves is a declared count or sum; of two columns with few patients in a cell, nothing leaves."""
    least = 4
    strict = DisclosurePolicy(min_patients=3, min_cell=least, declared_only=True)
    (test,) = heldout_of({"A": cohorts["A"]}).values()
    state = run(SumHeldout(), federation({"A": cohorts["A"]}, strict))
    for name in ("cells", "states", "burden", "leaving", "fewest", "fewest_lesions"):
        assert not ((state[name] > 0) & (state[name] < least)).any(), name
    lesions = test.values[:, [test.schema.index(name) for name in ("TP53", "complex", "NPM1", "FLT3", "DNMT3A", "KIT")]]
    hidden = 0
    for i, x in enumerate(lesions.T):
        for j, y in enumerate(lesions.T):
            cells = [((x == a) & (y == b)).sum() for a in (0, 1) for b in (0, 1)]
            cells.append(len(test) - sum(cells))
            if any(0 < cell < least for cell in cells):
                hidden += 1
                assert not any(state[name][i, j] for name in ("both", "first_only", "neither"))
    assert 0 < hidden < 36
    assert state["both"].any()
    assert not state["products"][state["fewest"] == 0].any()
    measured = found(state, synthetic)
    assert 0.5 < measured["federated_csf_correlations"] < 1  # of what is shown
