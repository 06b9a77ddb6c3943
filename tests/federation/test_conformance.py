"""The comparison of centers: its sums are the pooled table's, small counts stay, and it accuses the right center."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from federation import Center, DisclosurePolicy, InProcessFederation, run
from federation.algorithm import build
from federation.conformance import ALTERED, CALLS, LEAST, PRESENT, VALUES, Bins, CompareCenters, Family
from federation.deviations import Deviation, deviations, median, rank_sum
from federation.state import State
from harmonization import Cohort, Dictionary
from harmonization.dictionary_file import available

AML = Dictionary.read("aml")
COMPARE = CompareCenters.of(AML)


def hospital(n: int, seed: int, **off: float) -> Cohort:
    """n patients alike in all hospitals; `off` multiplies a feature."""
    rng = np.random.default_rng(seed)
    schema = AML.schema()
    values = np.zeros((n, len(schema.features)))
    for j, feature in enumerate(schema.features):
        if feature.kind == "continuous":
            spread = 0.08 if feature.name in ("age", "hemoglobin") else 0.3
            drawn = feature.reference * 10 ** rng.normal(0, spread, n) * off.get(feature.name, 1.0)
            assert feature.high is not None
            values[:, j] = np.where((drawn >= (feature.low or 0)) & (drawn <= feature.high), drawn, np.nan)
        elif feature.kind == "binary":
            values[:, j] = rng.random(n) < (0.4 if feature.name in ("NPM1", "DNMT3A") else 0.03)
    values[rng.random(values.shape) < 0.05] = np.nan
    ids = np.array([f"{seed}-{i}" for i in range(n)])
    return Cohort(schema, ids, values, np.ones(n), np.zeros(n, bool), np.full((n, 1), np.nan))


def without(cohort: Cohort, names: tuple[str, ...], value: float) -> Cohort:
    values = cohort.values.copy()
    values[:, [cohort.schema.index(name) for name in names]] = value
    return Cohort(cohort.schema, cohort.ids, values, cohort.time, cohort.event, cohort.scores)


def ask(cohorts: Mapping[str, Cohort], least: int = 3) -> State:
    policy = DisclosurePolicy(min_patients=least)
    centers = [Center(name, lambda c=c: c, i, policy=policy) for i, (name, c) in enumerate(cohorts.items())]
    return run(COMPARE, InProcessFederation(centers))


def compare(cohorts: Mapping[str, Cohort]) -> list[Deviation]:
    return deviations(COMPARE, ask(cohorts), tuple(cohorts))


@pytest.fixture(scope="module")
def alike() -> dict[str, Cohort]:
    return {f"C{i:02}": hospital(n, i) for i, n in enumerate([120, 60, 60, 40, 40, 30, 20, 12, 5, 2])}


# -- the counts


def test_sums_are_those_of_the_pooled_table(alike: dict[str, Cohort]) -> None:
    state = ask(alike, least=1)
    pooled = Cohort.concatenate(list(alike.values()))
    for bins in COMPARE.measured:
        values = pooled.column(bins.feature)
        expected = np.histogram(values[~np.isnan(values)], np.r_[-1.0, bins.edges])[0]
        assert state[VALUES + bins.feature].sum(axis=0).tolist() == expected.tolist()
    for i, bins in enumerate(COMPARE.measured):
        missing = np.isnan(pooled.column(bins.feature)).sum()
        assert state[PRESENT][:, i].sum(axis=0).tolist() == [len(pooled) - missing, missing]
    for i, name in enumerate(COMPARE.alterations):
        column = pooled.column(name)
        assert state[ALTERED][:, i].sum(axis=0).tolist() == [np.nansum(column), (column == 0).sum()]
    genes = np.nansum([pooled.column(name) for name in COMPARE.families[0].features])
    assert state[CALLS].sum(axis=0)[0] == genes
    assert state[CALLS].sum() == state[ALTERED][:, :, 0].sum()


@pytest.mark.parametrize("least", [3, 10])
def test_no_small_count_leaves(alike: dict[str, Cohort], least: int) -> None:
    state, all_ = ask(alike, least), ask(alike, 1)
    for name in (PRESENT, ALTERED, CALLS, *(VALUES + bins.feature for bins in COMPARE.measured)):
        sent, true = state[name], all_[name]
        answered = state[LEAST] > 0
        assert set(np.unique(sent[sent > 0])).isdisjoint(range(1, least))
        if name != CALLS:
            assert (sent[answered] == 0)[true[answered] < least].all()
            assert ((sent == true) | (sent == 0))[answered].all()
        assert not sent[~answered].any()
    assert answered.tolist() == [len(c) >= least for c in alike.values()]


@pytest.mark.parametrize("least", [3, 10])
def test_no_small_count_follows_from_those_that_leave(alike: dict[str, Cohort], least: int) -> None:
    """The number of patients is known, and what is missing from a sum is what was hidden."""
    state = ask(alike, least)
    for c, cohort in enumerate(alike.values()):
        if len(cohort) < least:
            continue
        values = np.array([state[VALUES + bins.feature][c].sum() for bins in COMPARE.measured])
        known, missing = state[PRESENT][c].T
        start, found = 0, state[ALTERED][c, :, 0]
        hidden_calls = []
        for calls, family in zip(state[CALLS][c], COMPARE.families, strict=True):
            hidden_calls.append(calls - found[start : start + len(family.features)].sum())
            start += len(family.features)
        tested = state[ALTERED][c].sum(axis=1)
        for hidden in (len(cohort) - values - missing, (known - values)[known > 0], len(cohort) - tested, hidden_calls):
            assert set(np.unique(hidden)).isdisjoint(range(1, least))


@given(st.sampled_from([name for name in available() if name != "core"]))
@settings(max_examples=10, deadline=None)
def test_bins_follow_from_the_dictionary(name: str) -> None:
    algorithm = CompareCenters.of(Dictionary.read(name))
    assert algorithm.measured
    for bins in algorithm.measured:
        edges, steps = bins.edges, np.diff(np.log10(bins.edges))
        assert edges[0] <= bins.first * (1 + 1e-9)
        assert edges[-1] == bins.last
        np.testing.assert_allclose(steps, bins.width)
        ratios = np.abs(np.log10(algorithm.ratios[bins.feature]))
        assert bins.width <= ratios.min() / 2 * (1 + 1e-9)  # two units are at least two bins apart
    built = build(algorithm.declare())
    assert isinstance(built, CompareCenters)
    assert built.measured == algorithm.measured  # what centers need travels, and what they do not need stays
    assert built.families == algorithm.families
    assert built.ratios == {}


@pytest.mark.parametrize(
    ("dictionary", "feature", "ratio"),
    [
        ("aml", "hemoglobin", 10), ("aml", "hemoglobin", 1.611), ("aml", "hemoglobin", 16.11), ("aml", "ldh", 1 / 60),
        ("mm", "creatinine", 88.4), ("mm", "creatinine", 1 / 88.4), ("mm", "calcium", 4.008), ("mds", "wbc", 1000),
        ("mm", "kappa_light_chains", 10), ("aml", "bone_marrow_blasts", 100),
    ],
)  # fmt: skip
def test_ratios_of_units_are_the_dictionarys(dictionary: str, feature: str, ratio: float) -> None:
    ratios = np.array(CompareCenters.of(Dictionary.read(dictionary)).ratios[feature])
    assert np.abs(np.log(ratios / ratio)).min() < 0.003
    assert np.abs(np.log(ratios)).min() > 0.1


# -- what is concluded


def test_centers_alike_are_not_accused(alike: dict[str, Cohort]) -> None:
    assert compare(alike) == []


@pytest.mark.parametrize(
    ("feature", "ratio"), [("hemoglobin", 1 / 1.611), ("wbc", 10), ("platelets", 0.001), ("ldh", 0.06)]
)
@pytest.mark.parametrize("center", ["C00", "C05"])  # of the largest the others would look wrong
def test_another_unit_is_found(alike: dict[str, Cohort], center: str, feature: str, ratio: float) -> None:
    wrong = hospital(len(alike[center]), 77, **{feature: ratio})
    (found,) = compare({**alike, center: wrong})
    assert (found.center, found.feature, found.kind) == (center, feature, "unit")
    assert found.ratio == pytest.approx(ratio, rel=0.02)
    assert found.here / found.elsewhere == pytest.approx(ratio, rel=0.7)  # bins of a small center are hidden
    assert "looks like another unit" in found.words


def test_three_wrong_centers_do_not_hide_each_other(alike: dict[str, Cohort]) -> None:
    wrong = {
        name: hospital(len(alike[name]), 50 + i, hemoglobin=1 / 1.611) for i, name in enumerate(("C01", "C03", "C05"))
    }
    found = compare({**alike, **wrong})
    assert [(one.center, one.kind) for one in found] == [("C01", "unit"), ("C03", "unit"), ("C05", "unit")]


def test_a_feature_that_was_set_aside_is_missed(alike: dict[str, Cohort]) -> None:
    (found,) = compare({**alike, "C04": without(alike["C04"], ("hemoglobin",), np.nan)})
    assert (found.center, found.feature, found.kind) == ("C04", "hemoglobin", "nothing")
    assert "set aside" in found.words


def test_a_panel_that_finds_nothing(alike: dict[str, Cohort]) -> None:
    (found,) = compare({**alike, "C02": without(alike["C02"], ("NPM1",), 0.0)})
    assert (found.center, found.feature, found.kind) == ("C02", "NPM1", "alterations")
    assert "panel" in found.words
    assert compare({**alike, "C02": without(alike["C02"], ("NPM1",), np.nan)}) == []  # not tested is no accusation
    said = compare({**alike, "C06": without(alike["C06"], COMPARE.families[0].features, 0.0)})
    assert ("C06", "mutations", "alterations") in {(one.center, one.feature, one.kind) for one in said}
    assert {one.center for one in said} == {"C06"}  # 20 patients


def test_one_center_alone_has_nothing_to_be_compared_with(alike: dict[str, Cohort]) -> None:
    assert compare({"C00": alike["C00"], "C09": alike["C09"]}) == []


def test_false_alarms_are_as_rare_as_declared() -> None:
    """Federations of centers alike: alarms in no more than alpha of them (binomial test of the simulation)."""
    rng = np.random.default_rng(5)
    bins = next(bins for bins in COMPARE.measured if bins.feature == "hemoglobin")
    algorithm = CompareCenters(
        (bins,), (Family("genes", ("a", "b")),), {"hemoglobin": COMPARE.ratios["hemoglobin"]}, 0.01
    )
    names = tuple(f"C{i}" for i in range(30))
    alarms, federations = 0, 200
    for _ in range(federations):
        sizes = np.maximum(rng.lognormal(3, 1, 30).astype(int), 3)
        histograms = np.array([np.histogram(9 * 10 ** rng.normal(0, 0.1, n), np.r_[0, bins.edges])[0] for n in sizes])
        altered = rng.binomial(sizes[:, None], (0.3, 0.02))
        pairs = np.stack([altered, sizes[:, None] - altered], axis=2)
        counts = {
            VALUES + "hemoglobin": histograms,
            PRESENT: np.stack([histograms.sum(axis=1), sizes - histograms.sum(axis=1)], axis=1)[:, None],
            ALTERED: pairs,
            CALLS: altered.sum(axis=1, keepdims=True),
        }
        state = {name: np.where(c < 3, 0, c).astype(float) for name, c in counts.items()} | {LEAST: np.full(30, 3.0)}
        alarms += bool(deviations(algorithm, state, names))
    assert stats.binomtest(alarms, federations, 0.01, alternative="greater").pvalue > 0.01, alarms


# -- the statistics


@given(st.integers(0, 10**6), st.integers(2, 60), st.integers(2, 60), st.floats(-1, 1))
@settings(max_examples=50, deadline=None)
def test_rank_sum_is_mann_and_whitneys(seed: int, n: int, m: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(shift, 1, n).round(), rng.normal(0, 1, m).round()
    edges = np.arange(-9.5, 10)
    z = rank_sum(*(np.histogram(x, edges)[0].astype(float) for x in (a, b)))
    expected = stats.mannwhitneyu(a, b, use_continuity=False, method="asymptotic").pvalue
    if len(np.unique(np.r_[a, b])) > 1:
        assert 2 * stats.norm.sf(abs(z)) == pytest.approx(expected, rel=1e-9)
        assert np.sign(z) == np.sign(sum(np.sign(x - b).sum() for x in a))


@given(st.integers(0, 10**6), st.integers(1, 200))
@settings(max_examples=50, deadline=None)
def test_median_is_within_a_bin(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    bins = Bins("x", 0.01, 100, 0.1)
    values = np.clip(10 ** rng.normal(0, 0.5, n), 0.02, 90)
    counts = np.histogram(values, bins.edges)[0].astype(float)
    low, high = np.quantile(values, 0.5, method="lower"), np.quantile(values, 0.5, method="higher")
    assert low / 10**0.1 <= median(counts, bins.edges) <= high * 10**0.1
