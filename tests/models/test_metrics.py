"""The evaluation against scikit-survival, lifelines, brute force and theory."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from sksurv.metrics import (
    brier_score,
    concordance_index_censored,
    concordance_index_ipcw,
    cumulative_dynamic_auc,
    integrated_brier_score,
)
from sksurv.util import Surv

from models.survival.metrics import (
    Prediction,
    TestSet,
    calibration_curve,
    concordance_counts,
    evaluate,
    evaluate_by_center,
)
from models.survival.resampling import (
    Estimate,
    bootstrap_weights,
    paired_difference,
    percentile_interval,
)

HORIZONS = (1.0, 2.0, 4.0)
GRID = np.linspace(0.05, 4.5, 40)
IBS = GRID[GRID <= 4.0]


def cohort(seed, n=160, n_centers=4, n_folds=1, ties=True, effect=1.0):
    """Outcomes with ties in time and risk, censoring, and a prediction that is some way off."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    death = rng.exponential(4 * np.exp(-effect * x))
    censoring = np.minimum(rng.exponential(8, n), 9.0)
    time, event = np.minimum(death, censoring), death <= censoring
    if ties:
        time = np.ceil(time * 12) / 12  # months
        x = np.round(x, 1)
    fold = rng.permutation(np.arange(n) % n_folds)
    center = rng.choice([f"center{i}" for i in range(n_centers)], n)
    training = {}
    for f in range(n_folds):
        t, c = rng.exponential(4, 300), np.minimum(rng.exponential(8, 300), 12.0)
        if ties:
            t, c = np.ceil(t * 12) / 12, np.ceil(c * 12) / 12
        t, c = np.append(t, 30.0), np.append(c, 20.0)  # followed longer than any test patient
        training[f] = (np.minimum(t, c), t <= c)
    risk = x + 0.5 * np.round(rng.normal(size=n), 1)
    survival = np.exp(-np.exp(risk)[:, None] * GRID / 4)
    return TestSet(time, event, fold, center, training), Prediction(risk, survival, GRID)


def take(test, prediction, rows):
    """The same test set with other patients: reordered, left out, or repeated."""
    survival = None if prediction.survival is None else prediction.survival[rows]
    return (
        TestSet(test.time[rows], test.event[rows], test.fold[rows], test.center[rows], test.training),
        Prediction(prediction.risk[rows], survival, prediction.times),
    )


def scikit_survival(test, prediction):
    """Every metric it has, on a test set of one fold."""
    train = Surv.from_arrays(*reversed(test.training[int(test.fold[0])]))
    own = Surv.from_arrays(test.event, test.time)
    at = prediction.survival_at(np.array(HORIZONS))
    auc = cumulative_dynamic_auc(train, own, prediction.risk, HORIZONS)[0]
    brier = brier_score(train, own, at, HORIZONS)[1]
    in_range = IBS[(own["time"].min() <= IBS)]
    return {
        "harrell_c": concordance_index_censored(test.event, test.time, prediction.risk)[0],
        "uno_c": concordance_index_ipcw(train, own, prediction.risk, tau=HORIZONS[-1])[0],
        "ibs": integrated_brier_score(train, own, prediction.survival_at(in_range), in_range),
        **{f"auc_{h:g}y": a for h, a in zip(HORIZONS, auc, strict=True)},
        **{f"brier_{h:g}y": b for h, b in zip(HORIZONS, brier, strict=True)},
    }, in_range


def no_draws(test):
    return np.empty((0, test.time.size))


# Against scikit-survival and lifelines ---------------------------------------------------------------


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_one_fold_equals_scikit_survival(seed, ties):
    test, prediction = cohort(seed, ties=ties)
    expected, ibs_times = scikit_survival(test, prediction)
    result = evaluate([test], [prediction], no_draws(test), HORIZONS, ibs_times=ibs_times)
    for name, value in expected.items():
        assert result[name].mean == pytest.approx(value, abs=1e-10), name
        assert result[name].n == 160
        assert result[name].events == test.event.sum()


def test_nearly_tied_risks_are_ties_as_in_scikit_survival():
    test, _ = cohort(3, n=60)
    steps = np.random.default_rng(0).integers(0, 12, 60)
    prediction = Prediction(steps * 0.6e-8)  # chains: each tied with its neighbour, not with the next
    train = Surv.from_arrays(*reversed(test.training[0]))
    own = Surv.from_arrays(test.event, test.time)
    result = evaluate([test], [prediction], no_draws(test), HORIZONS)
    harrell = concordance_index_censored(test.event, test.time, prediction.risk)[0]
    assert result["harrell_c"].mean == pytest.approx(harrell, abs=1e-12)
    auc = cumulative_dynamic_auc(train, own, prediction.risk, HORIZONS)[0]
    assert [result[f"auc_{h:g}y"].mean for h in HORIZONS] == pytest.approx(auc, abs=1e-12)


def test_replicates_equal_scikit_survival_on_duplicated_patients():
    test, prediction = cohort(5, n=90)
    weights = bootstrap_weights(test.center, 6, seed=1)
    _, ibs_times = scikit_survival(test, prediction)
    result = evaluate([test], [prediction], weights, HORIZONS, ibs_times=ibs_times)
    for r, row in enumerate(weights):
        again = take(test, prediction, np.repeat(np.arange(90), row.astype(int)))
        expected, _ = scikit_survival(*again)
        train = Surv.from_arrays(*reversed(test.training[0]))
        own = Surv.from_arrays(again[0].event, again[0].time)
        if own["time"].min() <= ibs_times[0]:
            curves = again[1].survival_at(ibs_times)
            expected["ibs"] = integrated_brier_score(train, own, curves, ibs_times)
        else:
            del expected["ibs"]
        for name, value in expected.items():
            assert result[name].replicates[r] == pytest.approx(value, abs=1e-10), name


def test_calibration_equals_lifelines():
    test, prediction = cohort(7, n=300)
    weights = bootstrap_weights(test.center, 3, seed=0)
    result = evaluate([test], [prediction], weights, HORIZONS)

    def observed(rows, h, w=None):
        fitted = KaplanMeierFitter().fit(test.time[rows], test.event[rows], weights=None if w is None else w[rows])
        return 1 - fitted.predict(h)

    for h in HORIZONS:
        predicted = 1 - prediction.survival_at(np.array([h]))[:, 0]
        everyone = np.ones(300, dtype=bool)
        ratio = result[f"calibration_ratio_{h:g}y"]
        assert ratio.mean == pytest.approx(observed(everyone, h) / predicted.mean(), abs=1e-10)
        for r, w in enumerate(weights):
            drawn = w > 0
            value = observed(drawn, h, w) / np.average(predicted, weights=w)
            assert ratio.replicates[r] == pytest.approx(value, abs=1e-10)

        fifth = np.searchsorted(np.quantile(predicted, [0.2, 0.4, 0.6, 0.8]), predicted)
        error = sum((fifth == q).mean() * abs(observed(fifth == q, h) - predicted[fifth == q].mean()) for q in range(5))
        assert result[f"calibration_error_{h:g}y"].mean == pytest.approx(error, abs=1e-10)


def test_calibration_curve_equals_lifelines():
    test, prediction = cohort(8, n=300)
    curve = calibration_curve(test, prediction, 2.0, groups=4)
    predicted = 1 - prediction.survival_at(np.array([2.0]))[:, 0]
    quarter = np.searchsorted(np.quantile(predicted, [0.25, 0.5, 0.75]), predicted)
    assert curve.n.sum() == 300
    for q in range(4):
        here = quarter == q
        fitted = KaplanMeierFitter().fit(test.time[here], test.event[here])
        bounds = fitted.confidence_interval_.loc[:2.0].iloc[-1]
        assert curve.predicted[q] == pytest.approx(predicted[here].mean())
        assert curve.observed[q] == pytest.approx(1 - fitted.predict(2.0), abs=1e-10)
        assert curve.low[q] == pytest.approx(1 - bounds.iloc[1], abs=1e-6)
        assert curve.high[q] == pytest.approx(1 - bounds.iloc[0], abs=1e-6)
        assert curve.events[q] == (test.event[here] & (test.time[here] <= 2.0)).sum()


def test_calibration_curve_with_equal_risks_and_no_events():
    n = 12
    test = TestSet(np.full(n, 5.0), np.zeros(n, bool), np.zeros(n, int), np.zeros(n, int), {0: ([1.0, 6.0], [1, 0])})
    curve = calibration_curve(test, Prediction(np.zeros(n), np.full((n, 2), 0.9), np.array([1.0, 5.0])), 4.0)
    assert curve.n.tolist() == [n]
    assert curve.observed.tolist() == [0.0]
    assert np.isnan(curve.low).all()


# Folds, repeats, centers -----------------------------------------------------------------------------


def brute_force(test, prediction, w, tau, allowed=None):
    """Harrell's and Uno's C and AUC(tau) by two loops: the definitions, read aloud."""
    top, bottom = np.zeros(3), np.zeros(3)
    n = test.time.size
    free = np.empty(n)
    for i in range(n):
        time, event = test.training[int(test.fold[i])]
        free[i] = KaplanMeierFitter().fit(time, ~np.asarray(event)).predict(test.time[i])
    for i in range(n):
        for j in range(n):
            if i == j or test.fold[i] != test.fold[j] or not test.event[i]:
                continue
            if np.isnan(prediction.risk[[i, j]]).any() or (allowed is not None and not allowed[i, j]):
                continue
            gap = prediction.risk[i] - prediction.risk[j]
            agree = 1.0 if gap > 1e-8 else 0.5 if gap >= -1e-8 else 0.0
            follows = test.time[j] > test.time[i] or (test.time[j] == test.time[i] and not test.event[j])
            control = test.time[i] <= tau < test.time[j]
            factors = (follows, follows * (test.time[i] < tau) / free[i] ** 2, control / free[i])
            for k, factor in enumerate(factors):
                top[k] += w[i] * w[j] * factor * agree
                bottom[k] += w[i] * w[j] * factor
    return top / bottom


def test_pairs_never_cross_folds_and_patients_without_prediction_do_not_count():
    test, prediction = cohort(11, n=70, n_folds=3, ties=False)
    risk = prediction.risk.copy()
    risk[::9] = np.nan
    prediction = Prediction(risk)
    weights = bootstrap_weights(test.center, 2, seed=4)
    result = evaluate([test], [prediction], weights, HORIZONS)
    names = ["harrell_c", "uno_c", "auc_4y"]
    assert [result[k].mean for k in names] == pytest.approx(brute_force(test, prediction, np.ones(70), 4.0))
    for r in range(2):
        values = [result[k].replicates[r] for k in names]
        assert values == pytest.approx(brute_force(test, prediction, weights[r], 4.0), abs=1e-10)
    assert result["harrell_c"].n == np.isfinite(risk).sum()
    assert "ibs" not in result

    center = evaluate_by_center([test], [prediction], weights, HORIZONS)
    assert list(center) == [f"center{i}" for i in range(4)]
    both_there = np.logical_and.outer(*[test.center == "center2"] * 2)
    expected = brute_force(test, prediction, weights[0], 4.0, both_there)
    assert [center["center2"][k].replicates[0] for k in names] == pytest.approx(expected, abs=1e-10)


def test_each_center_equals_the_subset_of_its_patients():
    rng = np.random.default_rng(0)
    test, prediction = cohort(12, n=400, n_centers=30, n_folds=4)
    weights = bootstrap_weights(test.center, 40, seed=0)
    subset = rng.random(400) < 0.9
    by_center = evaluate_by_center([test], [prediction], weights, HORIZONS, subset=subset)
    assert len(by_center) == 30
    for center in ("center0", "center7", "center29"):
        alone = evaluate([test], [prediction], weights, HORIZONS, subset=subset & (test.center == center))
        for name, estimate in by_center[center].items():
            np.testing.assert_allclose(estimate.replicates, alone[name].replicates, atol=1e-10, err_msg=name)
            np.testing.assert_allclose(estimate.fold_values, alone[name].fold_values, atol=1e-10)
            plain, other = estimate.to_dict(), alone[name].to_dict()
            assert plain.keys() == other.keys()
            for key, value in plain.items():
                assert (value is None and other[key] is None) or value == pytest.approx(other[key], abs=1e-10)


def test_spread_is_the_standard_deviation_over_test_sets():
    test, prediction = cohort(13, n=300, n_folds=3)
    other, again = cohort(13, n=300, n_folds=2)
    result = evaluate([test, other], [prediction, again], no_draws(test), HORIZONS)
    folds = []
    for t, p in ((test, prediction), (other, again)):
        for f in t.folds:
            one = evaluate([t], [p], no_draws(t), HORIZONS, subset=t.fold == f)
            folds.append({name: e.mean for name, e in one.items()})
            assert math.isnan(one["uno_c"].spread)
    for name, estimate in result.items():
        assert estimate.spread == pytest.approx(np.std([f[name] for f in folds], ddof=1)), name


def test_repeats_are_averaged_with_the_same_weights():
    first, a = cohort(14, n_folds=2)
    rng = np.random.default_rng(0)
    second = TestSet(first.time, first.event, rng.permutation(first.fold), first.center, first.training)
    b = Prediction(a.risk + rng.normal(size=160), a.survival, a.times)
    weights = bootstrap_weights(first.center, 20, seed=0)
    both = evaluate([first, second], [a, b], weights, HORIZONS)
    one, two = (evaluate([t], [p], weights, HORIZONS) for t, p in ((first, a), (second, b)))
    for name in both:
        assert both[name].mean == pytest.approx((one[name].mean + two[name].mean) / 2)
        np.testing.assert_allclose(both[name].replicates, (one[name].replicates + two[name].replicates) / 2)


def test_counts_add_up_to_the_stratified_concordance():
    test, prediction = cohort(15, n=500)
    counts = []
    for center in np.unique(test.center):
        here = test.center == center
        concordant, comparable = concordance_counts(test.time[here], test.event[here], prediction.risk[here])
        sksurv = concordance_index_censored(test.event[here], test.time[here], prediction.risk[here])
        assert concordant == sksurv[1] + 0.5 * sksurv[3]
        assert comparable == sum(sksurv[1:4])
        counts.append((concordant, comparable))
    concordant, comparable = np.sum(counts, axis=0)
    in_center = evaluate_by_center([test], [prediction], no_draws(test), HORIZONS)
    means = [in_center[c]["harrell_c"].mean for c in np.unique(test.center)]
    assert concordant / comparable == pytest.approx(np.average(means, weights=[c[1] for c in counts]))


def test_counts_of_ten_thousand_patients_fit_in_memory():
    import tracemalloc

    rng = np.random.default_rng(0)
    time, event, risk = rng.random(10_000), rng.random(10_000) < 0.4, rng.random(10_000)
    tracemalloc.start()
    concordant, comparable = concordance_counts(time, event, risk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20  # all pairs at once would take 400 MiB per array
    assert concordant / comparable == pytest.approx(0.5, abs=0.02)


def test_counts_of_patients_without_pairs():
    assert concordance_counts([], [], []) == (0.0, 0.0)
    assert concordance_counts([1.0, 2.0], [False, True], [1.0, 2.0]) == (0.0, 0.0)
    assert concordance_counts([1.0, 2.0], [True, False], [np.nan, 2.0]) == (0.0, 0.0)


# What cannot be computed -----------------------------------------------------------------------------


def test_without_events_discrimination_and_calibration_are_unknown():
    test, prediction = cohort(20)
    weights = bootstrap_weights(test.center, 10, seed=0)
    result = evaluate([test], [prediction], weights, HORIZONS, subset=~test.event)
    for name, estimate in result.items():
        assert estimate.n == (~test.event).sum()
        assert estimate.events == 0
        if not name.startswith(("brier", "ibs")):
            assert all(math.isnan(v) for v in (estimate.mean, estimate.low, estimate.high)), name
    plain = result["harrell_c"].to_dict()
    assert plain["mean"] is None
    assert plain["spread"] is None
    assert json.loads(json.dumps(plain, allow_nan=False))["n"] == (~test.event).sum()


def test_empty_subset():
    test, prediction = cohort(21)
    nobody = np.zeros(160, dtype=bool)
    result = evaluate([test], [prediction], no_draws(test), HORIZONS, subset=nobody)
    assert all(math.isnan(e.mean) and e.n == 0 for e in result.values())
    assert evaluate_by_center([test], [prediction], no_draws(test), HORIZONS, subset=nobody) == {}


def test_a_center_whose_patients_all_left_early_is_not_called_perfect():
    n = 6
    test = TestSet(np.full(n, 0.5), np.zeros(n, bool), np.zeros(n, int), np.zeros(n, int), {0: ([1.0, 6.0], [1, 0])})
    result = evaluate([test], [Prediction(np.zeros(n), np.ones((n, 1)), np.array([5.0]))], np.ones((2, n)), HORIZONS)
    assert math.isnan(result["brier_1y"].mean)
    assert math.isnan(result["ibs"].mean)


def test_beyond_the_training_follow_up_only_what_needs_it_is_unknown():
    test, prediction = cohort(22, ties=False)
    time, event = np.array([0.5, 1.0, 2.5, 3.0]), np.array([True, False, True, True])  # ends at 3, with G > 0
    short = TestSet(test.time, test.event, test.fold, test.center, {0: (time, event)})
    late = evaluate([short], [prediction], no_draws(test), HORIZONS)
    for name in ("uno_c", "auc_4y", "brier_4y", "ibs"):
        assert math.isnan(late[name].mean), name
    for name in ("harrell_c", "auc_2y", "brier_2y", "calibration_ratio_4y"):
        assert math.isfinite(late[name].mean), name
    early = evaluate([short], [prediction], no_draws(test), HORIZONS[:2])
    assert all(math.isfinite(e.mean) for e in early.values())

    # With G = 0 from 3 years on, scikit-survival ignores such patients in the Brier score.
    zero = TestSet(test.time, test.event, test.fold, test.center, {0: (time, np.array([True, True, True, False]))})
    result = evaluate([zero], [prediction], no_draws(test), HORIZONS)
    assert math.isnan(result["uno_c"].mean)
    train, own = Surv.from_arrays(*reversed(zero.training[0])), Surv.from_arrays(test.event, test.time)
    expected = brier_score(train, own, prediction.survival_at(np.array([4.0])), [4.0])[1][0]
    assert result["brier_4y"].mean == pytest.approx(expected, abs=1e-12)


def test_curves_that_end_before_a_horizon():
    test, prediction = cohort(23)
    short = Prediction(prediction.risk, prediction.survival[:, GRID < 3], GRID[GRID < 3])
    result = evaluate([test], [short], no_draws(test), HORIZONS)
    assert math.isnan(result["brier_4y"].mean)
    assert math.isnan(result["calibration_error_4y"].mean)
    assert math.isnan(result["calibration_ratio_4y"].mean)
    assert math.isfinite(result["brier_2y"].mean)


def test_curves_are_read_by_linear_interpolation():
    prediction = Prediction(np.zeros(1), np.array([[0.8, 0.4]]), np.array([1.0, 3.0]))
    values = prediction.survival_at(np.array([0.0, 0.5, 1.0, 2.0, 3.0, 3.1]))
    np.testing.assert_allclose(values, [[1.0, 0.9, 0.8, 0.6, 0.4, np.nan]])


def test_interval_of_rows_with_gaps():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(3, 101))
    rows[1, :30] = np.nan
    rows[2, :60] = np.nan
    low, high = percentile_interval(rows)
    np.testing.assert_allclose(low[:2], np.nanpercentile(rows[:2], 2.5, axis=1))
    np.testing.assert_allclose(high[:2], np.nanpercentile(rows[:2], 97.5, axis=1))
    assert np.isnan(low[2])
    assert np.isnan(high[2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.ones((3, 5))}, "weights must be"),
        ({"weights": -np.ones((3, 160))}, "weights must be"),
        ({"horizons": [2.0, 1.0]}, "horizons must be"),
        ({"subset": np.ones(160)}, "subset must be a mask"),
        ({"predictions": []}, "one entry per repeat"),
        ({"predictions": [Prediction(np.zeros(3))]}, r"predictions\[0\].risk"),
        ({"ibs_times": [1.0]}, "ibs_times"),
    ],
)
def test_errors_name_the_argument(change, message):
    test, prediction = cohort(24)
    arguments = {"tests": [test], "predictions": [prediction], "weights": no_draws(test), "horizons": HORIZONS}
    with pytest.raises(ValueError, match=message):
        evaluate(**(arguments | change))


def test_errors_of_inputs():
    test, prediction = cohort(25)
    other, _ = cohort(26)
    with pytest.raises(ValueError, match=r"tests\[1\].time differs"):
        evaluate([test, other], [prediction] * 2, no_draws(test), HORIZONS)
    with pytest.raises(ValueError, match="in all repeats or in none"):
        evaluate([test, test], [prediction, Prediction(prediction.risk)], no_draws(test), HORIZONS)
    with pytest.raises(ValueError, match="no patients for fold 7"):
        TestSet(test.time, test.event, np.full(160, 7), test.center, test.training)
    with pytest.raises(ValueError, match="event must be boolean"):
        TestSet(test.time, test.event + 1, test.fold, test.center, test.training)
    with pytest.raises(ValueError, match="infinite"):
        Prediction(np.array([np.inf]))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        Prediction(np.zeros(1), np.array([[1.5]]), np.array([1.0]))
    with pytest.raises(ValueError, match="go together"):
        Prediction(np.zeros(1), np.array([[0.5]]))


# Resampling ------------------------------------------------------------------------------------------


def test_weights_keep_the_centers_sizes_and_follow_the_patient():
    test, _ = cohort(30)
    ids = np.array([f"p{i}" for i in range(160)])
    weights = bootstrap_weights(test.center, 50, seed=3, patient=ids)
    for center in np.unique(test.center):
        here = test.center == center
        assert (weights[:, here].sum(axis=1) == here.sum()).all()
    order = np.random.default_rng(0).permutation(160)
    shuffled = bootstrap_weights(test.center[order], 50, seed=3, patient=ids[order])
    np.testing.assert_array_equal(shuffled, weights[:, order])
    here = test.center == "center1"
    alone = bootstrap_weights(test.center[here], 50, seed=3, patient=ids[here])
    np.testing.assert_array_equal(alone, weights[:, here])
    assert not np.array_equal(weights, bootstrap_weights(test.center, 50, seed=4, patient=ids))
    # A multinomial count of n draws has variance 1 - 1/n.
    assert bootstrap_weights(np.zeros(50), 4000, seed=0).var() == pytest.approx(1 - 1 / 50, rel=0.03)


def test_weights_refuse_repeated_ids():
    with pytest.raises(ValueError, match="repeated ids in center 1"):
        bootstrap_weights([1, 1, 2], 5, seed=0, patient=["a", "a", "a"])


def test_paired_difference():
    test, good = cohort(31, n=400, n_folds=2)
    rng = np.random.default_rng(0)
    worse = Prediction(good.risk + 0.5 * rng.normal(size=400), good.survival, good.times)
    weights = bootstrap_weights(test.center, 200, seed=0)
    a, b = (evaluate([test], [p], weights, HORIZONS)["harrell_c"] for p in (good, worse))
    difference = paired_difference(a, b)
    assert difference.mean == pytest.approx(a.mean - b.mean)
    np.testing.assert_array_equal(difference.replicates, a.replicates - b.replicates)
    assert difference.low < difference.mean < difference.high
    unpaired = math.hypot(a.high - a.low, b.high - b.low)
    assert difference.high - difference.low < 0.8 * unpaired
    assert difference.spread == pytest.approx(np.std(a.fold_values - b.fold_values, ddof=1))
    nothing = paired_difference(a, a)
    assert (nothing.mean, nothing.low, nothing.high) == (0.0, 0.0, 0.0)
    fewer = evaluate([test], [good], weights[:9], HORIZONS)["harrell_c"]
    with pytest.raises(ValueError, match="same weights"):
        paired_difference(a, fewer)


def test_interval_covers_the_truth():
    """Nominal 95%, about 94% with 200 patients: 141 of 150 samples, and 132 is three deviations below."""
    horizons = (2.0,)
    large, prediction = cohort(0, n=20_000, ties=False)
    truth = evaluate([large], [prediction], no_draws(large), horizons, ibs_times=[0.5, 1, 2])
    hits = dict.fromkeys(("harrell_c", "auc_2y", "brier_2y", "calibration_ratio_2y"), 0)
    for seed in range(150):
        test, prediction = cohort(1000 + seed, n=200, ties=False)
        weights = bootstrap_weights(test.center, 150, seed=seed)
        result = evaluate([test], [prediction], weights, horizons, ibs_times=[0.5, 1, 2])
        for name in hits:
            hits[name] += result[name].low <= truth[name].mean <= result[name].high
    assert all(h >= 132 for h in hits.values()), hits


# Properties ------------------------------------------------------------------------------------------

outcomes = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(1, 12), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n),
        st.permutations(range(n)),
        st.lists(st.integers(0, 2), min_size=n, max_size=n),
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
    )
)
PAIRS = ("harrell_c", "uno_c", "auc_2y", "auc_4y")


def small(outcome):
    time, event, risk, fold, weight = (np.array(x) for x in outcome)
    everyone = (np.append(np.arange(1, 13) / 2.0, 30.0), np.append(np.tile([True, False, True], 4), False))
    test = TestSet(time / 2.0, event, fold, fold % 2, dict.fromkeys(range(3), everyone))
    return test, np.asarray(risk, dtype=float), weight[None, :].astype(float)


def same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or a == pytest.approx(b, abs=1e-10)


@settings(max_examples=60, deadline=None)
@given(outcomes)
def test_reversed_risk_gives_the_complement(outcome):
    test, risk, w = small(outcome)  # risks are a permutation: no ties
    up, down = (evaluate([test], [Prediction(r)], w, (2.0, 4.0)) for r in (risk, -risk))
    for name in PAIRS:
        assert same(up[name].mean, 1 - down[name].mean)
        assert same(up[name].replicates[0], 1 - down[name].replicates[0])


@settings(max_examples=60, deadline=None)
@given(outcomes)
def test_monotone_transforms_change_nothing(outcome):
    test, risk, w = small(outcome)
    plain, bent = (evaluate([test], [Prediction(r)], w, (2.0, 4.0)) for r in (risk, np.expm1(risk / 5) - 3))
    for name in PAIRS:
        assert same(plain[name].mean, bent[name].mean)


@settings(max_examples=60, deadline=None)
@given(outcomes, st.randoms(use_true_random=False))
def test_weights_of_ones_equal_the_estimate_in_any_order_of_patients(outcome, random):
    test, risk, _ = small(outcome)
    risk = risk // 2  # with ties
    survival = np.exp(-np.exp(risk / 10)[:, None] * GRID / 4)
    prediction = Prediction(risk, survival, GRID)
    order = random.sample(range(risk.size), risk.size)
    result = evaluate([test], [prediction], np.ones((1, risk.size)), (2.0, 4.0))
    again, shuffled = take(test, prediction, order)
    other = evaluate([again], [shuffled], no_draws(again), (2.0, 4.0))
    for name, estimate in result.items():
        assert same(estimate.replicates[0], estimate.mean)
        assert same(other[name].mean, estimate.mean)
        assert same(other[name].spread, estimate.spread)
        assert (other[name].n, other[name].events) == (estimate.n, estimate.events)


@settings(max_examples=60, deadline=None)
@given(outcomes)
def test_multiplicities_equal_duplicated_patients(outcome):
    test, risk, w = small(outcome)
    survival = np.exp(-np.exp(risk / 10)[:, None] * GRID / 4)
    prediction = Prediction(risk // 2, survival, GRID)
    weighted = evaluate([test], [prediction], w, (2.0, 4.0))
    rows = np.repeat(np.arange(risk.size), w[0].astype(int))
    again, repeated = take(test, prediction, rows)
    duplicated = evaluate([again], [repeated], no_draws(again), (2.0, 4.0))
    for name, estimate in weighted.items():
        # A replicate keeps the risk groups of the patients counted once; and where the estimate or
        # the duplicated one is unknown by a rule about counts, the other need not be.
        if name.startswith("calibration_error") or math.isnan(estimate.mean) or math.isnan(duplicated[name].mean):
            continue
        assert same(estimate.replicates[0], duplicated[name].mean), name


def test_estimate_shows_no_arrays():
    estimate = Estimate(0.5, 0.4, 0.6, math.nan, 10, 5, np.zeros(100), np.zeros(5))
    assert "array" not in repr(estimate)
    assert estimate.to_dict() == {"mean": 0.5, "low": 0.4, "high": 0.6, "spread": None, "n": 10, "events": 5}
