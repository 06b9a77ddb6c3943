"""Fidelity against sdmetrics, scipy, closed forms, and what identical, disjoint and permuted patients must give."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import contingency, ks_2samp, spearmanr

from experiments.synthetic import telling_apart
from experiments.synthetic.associations import Pairs, correlation_similarities, correlations, scales
from experiments.synthetic.clinical import clinical_fidelity, multivariate_similarity
from experiments.synthetic.columns import Columns, all_columns, clinical_columns, lesions
from experiments.synthetic.fidelity import fidelity
from experiments.synthetic.genomic import burden, comutation_similarities, genomic_fidelity
from experiments.synthetic.marginals import marginal_similarities
from experiments.synthetic.quality import column_pair_trends, column_shapes, sdv_quality
from experiments.synthetic.telling_apart import discriminator_accuracy, propensity
from harmonization import Cohort, Feature, SchemaError

Draw = Callable[[int, int], Cohort]
SCORES = (
    "csf",
    "csf_marginals",
    "csf_correlations",
    "csf_multivariate",
    "gsf",
    "gsf_mutation_rates",
    "gsf_comutations",
    "gsf_burden",
    "sdv_quality",
)
_cells = st.sampled_from([0.0, 1.0, 2.0, 5.0, np.nan])


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling_apart, "TREES", 30)


def permuted(cohort: Cohort, seed: int) -> Cohort:
    """Every column shuffled on its own; time and event together."""
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.tile(np.arange(len(cohort)), (cohort.values.shape[1], 1)), axis=1).T
    values = np.take_along_axis(cohort.values, order, axis=0)
    k = rng.permutation(len(cohort))
    return replace(cohort, values=values, time=cohort.time[k], event=cohort.event[k])


def columns(numeric: bool, *values: list[float]) -> Columns:
    x = np.array(values, dtype=float).T
    return Columns(tuple(f"x{j}" for j in range(x.shape[1])), np.full(x.shape[1], numeric), x)


# All together --------------------------------------------------------------------------------------------------------


def test_identical_patients_have_fidelity_one_and_cannot_be_told_apart(draw_patients: Draw) -> None:
    cohort = draw_patients(150, 1)
    found = fidelity(cohort, cohort, seed=0)
    assert set(found) == {*SCORES, "discriminator_accuracy", "pmse", "pmse_ratio"}
    np.testing.assert_allclose([found[name] for name in SCORES], 1)
    assert found["discriminator_accuracy"] <= 0.5
    assert found["pmse_ratio"] < 0.5


def test_disjoint_patients_are_alike_in_no_column_and_nowhere(draw_patients: Draw) -> None:
    real = draw_patients(100, 1)
    on, off = np.array([20, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0.0]), np.array([80, 90, 4, 1, 1, 1, 1, 1, 1, 1, 1.0])
    # Real: all columns rise and fall together. Synthetic: none varies, and no value is one of those.
    half = np.arange(100) % 2
    values = np.where(half[:, None], on + np.array([1, 1, 1, 0, 2, 0, 0, 0, 0, 0, 0]), on)
    a = replace(real, values=values, time=np.where(half, 1.0, 2.0), event=np.zeros(100, dtype=bool))
    b = replace(real, values=np.tile(off, (100, 1)), time=np.full(100, 9.0), event=np.ones(100, dtype=bool))
    b.values[:, 5:] = 1.0
    found = fidelity(a, b, seed=0)
    for name in ("csf_marginals", "csf_multivariate", "gsf_mutation_rates", "gsf_burden"):
        assert found[name] == pytest.approx(0, abs=1e-12), name
    assert found["discriminator_accuracy"] == 1
    assert found["pmse"] == pytest.approx(0.25)  # c · (1 − c), the most there is


def test_what_goes_together_may_be_alike_without_a_common_value(draw_patients: Draw) -> None:
    """Numbers out of each other's reach, lesions independent in both: correlations and odds ratios are the same."""
    a = draw_patients(120, 1)
    numbers = np.array([1, 0.5, 0.25]) * np.arange(120)[:, None]
    values, moved = a.values.copy(), a.values.copy()
    values[:, :3], moved[:, :3] = numbers, 1000 + numbers
    values[:, 5:], moved[:, 5:] = 0.0, 1.0
    real, synthetic = replace(a, values=values), replace(a, values=moved)
    clinical = clinical_columns(real), clinical_columns(synthetic)
    np.testing.assert_array_equal(marginal_similarities(*clinical)[:3], 0)
    np.testing.assert_allclose(correlation_similarities(*clinical)[:3, :3][np.triu_indices(3, 1)], 1)
    genes = lesions(real), lesions(synthetic)
    np.testing.assert_array_equal(marginal_similarities(*genes), 0)
    np.testing.assert_array_equal(comutation_similarities(*genes)[0], 1)
    three = [Columns(c.names[:3], c.numeric[:3], c.values[:, :3]) for c in clinical]
    np.testing.assert_allclose(column_shapes(*three), 0, atol=1e-12)
    np.testing.assert_allclose(column_pair_trends(*three), 1)


def test_permuted_columns_keep_marginals_and_lose_what_goes_together(draw_patients: Draw) -> None:
    real, train = draw_patients(300, 1), draw_patients(300, 2)
    same, broken = fidelity(real, train, seed=0), fidelity(real, permuted(train, 3), seed=0)
    for name in ("csf_marginals", "gsf_mutation_rates"):
        assert broken[name] == pytest.approx(same[name], abs=1e-12)
        assert same[name] > 0.93
    for name, least in (("csf_correlations", 0.04), ("csf_multivariate", 0.1), ("gsf_comutations", 0.1)):
        assert broken[name] < same[name] - least, name
    assert broken["csf"] < same["csf"] - 0.05
    assert broken["gsf"] < same["gsf"] - 0.05
    assert same["discriminator_accuracy"] < 0.6 < 0.7 < broken["discriminator_accuracy"]
    assert 0.7 < same["pmse_ratio"] < 1.4 < broken["pmse_ratio"]


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_csf_and_gsf_lie_between_0_and_1_whatever_the_patients(data: st.DataObject, draw_patients: Draw) -> None:
    base = draw_patients(8, 1)
    cohorts = []
    for _ in range(2):
        n = data.draw(st.integers(2, 8))
        values = data.draw(arrays(float, (n, 11), elements=_cells))
        values[:, 3:] = np.minimum(values[:, 3:], [1, 2, 1, 1, 1, 1, 1, 1])
        event = data.draw(arrays(bool, n))
        cohorts.append(replace(base[np.arange(n)], values=values, event=event))
    for found in (
        clinical_fidelity(*cohorts, np.random.default_rng(0)),
        genomic_fidelity(*cohorts),
        {"sdv": sdv_quality(*cohorts)},
    ):
        for name, value in found.items():
            assert np.isnan(value) or -1e-12 <= value <= 1 + 1e-12, name


def test_the_same_seed_gives_the_same_numbers(draw_patients: Draw) -> None:
    real, synthetic = draw_patients(60, 1), draw_patients(150, 2)
    assert fidelity(real, synthetic, seed=4) == fidelity(real, synthetic, seed=4)


def test_patients_of_another_schema_are_refused(draw_patients: Draw) -> None:
    real = draw_patients(20, 1)
    other = replace(real.schema, features=(*real.schema.features[:-1], Feature("WT1", "binary", "genomic")))
    with pytest.raises(SchemaError, match="WT1"):
        fidelity(real, replace(real, schema=other), seed=0)
    with pytest.raises(ValueError, match="1 synthetic patients"):
        fidelity(real, real[np.array([3])], seed=0)


def test_without_lesions_there_is_no_genomic_fidelity(draw_patients: Draw) -> None:
    cohort = draw_patients(40, 1).select(["clinical"])
    assert all(np.isnan(value) for value in genomic_fidelity(cohort, cohort).values())


# Marginals -----------------------------------------------------------------------------------------------------------


def test_marginals_are_those_of_sdmetrics_without_missing_values(draw_patients: Draw) -> None:
    metrics = pytest.importorskip("sdmetrics.single_column")
    real, synthetic = (all_columns(draw_patients(n, n)) for n in (90, 130))
    real, synthetic = (replace(c, values=np.nan_to_num(c.values, nan=1.0)) for c in (real, synthetic))
    expected = [
        (metrics.KSComplement if numeric else metrics.TVComplement).compute(
            pd.Series(real.values[:, j]), pd.Series(synthetic.values[:, j])
        )
        for j, numeric in enumerate(real.numeric)
    ]
    np.testing.assert_allclose(marginal_similarities(real, synthetic), expected, atol=1e-6)  # its regularization


def test_missing_is_a_value_of_a_marginal() -> None:
    nan = np.nan
    a, b = [1.0, 2.0, nan, nan], [1.0, 2.0, 2.0, 1.0]
    for numeric in (True, False):
        assert marginal_similarities(columns(numeric, a), columns(numeric, b))[0] == pytest.approx(0.5)
        assert marginal_similarities(columns(numeric, a), columns(numeric, [nan] * 3))[0] == pytest.approx(0.5)
        assert marginal_similarities(columns(numeric, [nan] * 2), columns(numeric, [nan] * 3))[0] == 1
    # Lower half against missing: with missing as less than any number alone the distance would be 0.5 only by chance.
    assert marginal_similarities(columns(True, [1.0, 9.0]), columns(True, [nan, 9.0]))[0] == pytest.approx(0.5)
    assert marginal_similarities(columns(True, [1.0, 9.0]), columns(True, [1.0, nan]))[0] == pytest.approx(0.5)


@given(arrays(float, st.integers(1, 8), elements=_cells), arrays(float, st.integers(1, 8), elements=_cells))
def test_the_distance_of_numbers_is_the_largest_over_half_lines(x: np.ndarray, y: np.ndarray) -> None:
    def chance(z: np.ndarray, t: float, missing: bool) -> float:
        return float(np.mean((z <= t) | (missing & np.isnan(z))))

    sets = [(t, missing) for t in (-1.0, 0.0, 1.0, 2.0, 5.0) for missing in (False, True)]
    expected = max(abs(chance(x, *s) - chance(y, *s)) for s in sets)
    found = marginal_similarities(columns(True, list(x)), columns(True, list(y)))[0]
    assert found == pytest.approx(1 - expected)


# Correlations --------------------------------------------------------------------------------------------------------


def test_correlations_are_spearmans_and_phi(draw_patients: Draw) -> None:
    cohort = draw_patients(200, 3)
    part = clinical_columns(cohort)
    found = scales([part])
    r = correlations(found.values[0])
    at = {name: j for j, name in enumerate(found.names)}
    assert {"age", "blasts", "blasts missing", "male=1", "type=0", "type=2", "time", "event=1"} <= set(at)
    age, time = cohort.column("age"), cohort.time
    assert r[at["age"], at["time"]] == pytest.approx(spearmanr(age, time).statistic)
    table = contingency.crosstab(cohort.column("male"), cohort.event).count
    phi = np.sqrt(contingency.chi2_contingency(table, correction=False).statistic / len(cohort))
    assert abs(r[at["male=1"], at["event=1"]]) == pytest.approx(phi)
    frame = pd.DataFrame(found.values[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of a value and its own missing indicator
        expected = frame.corr().fillna(0).to_numpy()
    np.testing.assert_allclose(r, expected, atol=1e-10)


def test_dependence_against_none_is_zero_similarity() -> None:
    x = np.arange(100.0)
    real, synthetic = columns(True, list(x), list(x)), columns(True, list(x), list(np.full(100, 3.0)))
    part = Columns(("a", "b"), np.array([True, True]), real.values)
    assert correlation_similarities(part, synthetic)[0, 1] == pytest.approx(0)
    assert correlation_similarities(part, part)[0, 1] == pytest.approx(1)


# All clinical columns together ---------------------------------------------------------------------------------------


def test_neighbours_estimate_the_harmonic_affinity_of_two_laws() -> None:
    """Two uniform laws that share half their range: ∫ 2pq / (p + q) is 1/2."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(4):
        a, b = rng.random(1000), rng.random(1000) + 0.5
        found.append(multivariate_similarity(columns(True, list(a)), columns(True, list(b)), rng))
    assert np.mean(found) == pytest.approx(0.5, abs=0.03)


def test_cohorts_of_unequal_size_and_one_law_are_similar(draw_patients: Draw) -> None:
    a, b = (clinical_columns(draw_patients(n, n)) for n in (100, 430))
    rng = np.random.default_rng(0)
    assert multivariate_similarity(a, b, rng) > 0.93
    assert multivariate_similarity(b, a, rng) > 0.93


# Lesions -------------------------------------------------------------------------------------------------------------


def test_log_odds_ratios_are_petos_where_the_prior_is_flat() -> None:
    a, b, c, d = 20, 30, 10, 140
    lesion = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [a, b, c, d], axis=0).astype(float)
    n = a + b + c + d
    expected = (a + b) * (a + c) / n
    variance = (a + b) * (c + d) * (a + c) * (b + d) / (n**2 * (n - 1))
    pairs = Pairs.of(lesion)
    assert pairs.information()[0, 1] == pytest.approx(variance)
    assert pairs.log_odds(1e6, n)[0, 1] == pytest.approx((a - expected) / variance)
    assert pairs.log_odds(0.5, n)[0, 1] == pytest.approx((a - expected) / (variance + 4))
    twice = Pairs.of(np.concatenate([lesion, lesion]))  # shrunk as half of it would be, but for the n − 1
    assert twice.log_odds(0.5, n)[0, 1] == pytest.approx(pairs.log_odds(0.5, n)[0, 1], rel=0.01)


def test_untested_patients_are_in_no_pair() -> None:
    rng = np.random.default_rng(0)
    lesion = (rng.random((50, 3)) < 0.5).astype(float)
    lesion[rng.random((50, 3)) < 0.3] = np.nan
    pairs = Pairs.of(lesion)
    both = ~np.isnan(lesion[:, 0]) & ~np.isnan(lesion[:, 2])
    table = contingency.crosstab(lesion[both, 0], lesion[both, 2]).count
    found = [[pairs.neither[0, 2], pairs.second_only[0, 2]], [pairs.first_only[0, 2], pairs.both[0, 2]]]
    np.testing.assert_array_equal(found, table)
    assert pairs.tested[0, 2] == both.sum()


def test_a_lesion_that_is_never_generated_goes_with_nothing(draw_patients: Draw) -> None:
    real, synthetic = draw_patients(200, 1), draw_patients(200, 2)
    synthetic.values[:, 7] = 0.0  # NPM1
    a, b = lesions(real), lesions(synthetic)
    similar, weight = comutation_similarities(a, b)
    expected = 1 - np.abs(np.tanh(Pairs.of(a.values).log_odds(0.5, 200)[2] / 2))
    np.testing.assert_allclose(np.delete(similar[2], 2), np.delete(expected, 2))
    assert ((weight >= 0) & (weight <= 1)).all()
    assert similar[2, 0] < 0.6  # TP53 and NPM1 exclude each other in the real


def test_burden_is_the_number_of_lesions_found(draw_patients: Draw) -> None:
    a, b = draw_patients(120, 1), draw_patients(240, 2)
    counts = [np.nansum(c.select(["genomic"]).values, axis=1) for c in (a, b)]
    np.testing.assert_array_equal(burden(lesions(a)), counts[0])
    assert genomic_fidelity(a, b)["gsf_burden"] == pytest.approx(1 - ks_2samp(*counts).statistic)


# SDMetrics' score ----------------------------------------------------------------------------------------------------


def test_quality_is_that_of_sdmetrics(draw_patients: Draw) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # its name will change
        reports = pytest.importorskip("sdmetrics.reports.single_table")
    real, synthetic = draw_patients(80, 1), permuted(draw_patients(140, 2), 3)
    synthetic.values[:, 2] = 1.0  # constant: no correlation
    synthetic.values[:, 10] = np.nan  # unknown of all
    kinds = {f.name: "numerical" if f.numeric else "categorical" for f in real.schema.features}
    kinds |= {"time": "numerical", "event": "categorical"}
    report = reports.QualityReport()
    report.real_correlation_threshold = report.real_association_threshold = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report.generate(
            *(c.to_frame().drop(columns="patient_id") for c in (real, synthetic)),
            {"columns": {name: {"sdtype": kind} for name, kind in kinds.items()}},
            verbose=False,
        )
    assert sdv_quality(real, synthetic) == pytest.approx(report.get_score(), abs=1e-6)


# Told apart ----------------------------------------------------------------------------------------------------------


def test_missing_values_alone_tell_apart(draw_patients: Draw) -> None:
    real, synthetic = draw_patients(150, 1), draw_patients(150, 2)
    synthetic.values[np.isnan(synthetic.values)] = 40.0
    known = replace(synthetic, values=synthetic.values.clip(0, 100))
    known.values[:, 6] = np.where(known.values[:, 6] > 1, 0.0, known.values[:, 6])
    same = discriminator_accuracy(real, draw_patients(150, 2), np.random.default_rng(0))
    assert discriminator_accuracy(real, known, np.random.default_rng(0)) > same + 0.05


def test_propensity_of_labels_at_random_is_the_null(draw_patients: Draw) -> None:
    ratios = [
        propensity(draw_patients(100, s), draw_patients(300, s + 50), np.random.default_rng(s))["pmse_ratio"]
        for s in range(4)
    ]
    assert np.mean(ratios) == pytest.approx(1, abs=0.15)
