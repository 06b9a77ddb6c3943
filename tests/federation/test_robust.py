"""Robust aggregators against their definitions, and against centers that lie."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from federation.robust import (
    AGGREGATORS,
    bounded_mean,
    check_options,
    detection,
    geometric_median,
    krum,
    mean,
    median,
    trimmed_mean,
)

RNG = np.random.default_rng(0)
UPDATES = RNG.normal(size=(11, 4)) + 1
EQUAL = np.ones(11)
WEIGHTS = RNG.integers(1, 5, 11).astype(float)


def test_with_equal_weights_they_are_what_the_libraries_compute() -> None:
    np.testing.assert_array_equal(median(UPDATES, EQUAL), np.median(UPDATES, axis=0))
    expected = stats.trim_mean(UPDATES[:10], 0.2, axis=0)
    np.testing.assert_allclose(trimmed_mean(UPDATES[:10], EQUAL[:10], trim=0.2), expected)
    np.testing.assert_allclose(mean(UPDATES, EQUAL), UPDATES.mean(axis=0))


@pytest.mark.parametrize("name", sorted(AGGREGATORS.keys() - {"krum", "bounded-mean"}))
def test_a_weight_of_three_is_three_centers(name: str) -> None:
    repeated = np.repeat(UPDATES, WEIGHTS.astype(int), axis=0)
    found = AGGREGATORS[name](repeated, np.ones(len(repeated)))
    np.testing.assert_allclose(AGGREGATORS[name](UPDATES, WEIGHTS), found, rtol=1e-7)


def test_the_geometric_median_has_the_least_sum_of_distances() -> None:
    def distances(point: np.ndarray) -> float:
        return float(WEIGHTS @ np.linalg.norm(UPDATES - point, axis=1))

    found = geometric_median(UPDATES, WEIGHTS)
    best = optimize.minimize(distances, UPDATES.mean(axis=0), method="Nelder-Mead", options={"xatol": 1e-9})
    assert distances(found) <= best.fun * (1 + 1e-9)


def test_krum_is_the_update_with_the_nearest_neighbours() -> None:
    near = 11 - 3 - 2
    scores = [np.sort(((UPDATES - u) ** 2).sum(axis=1))[1 : near + 1].sum() for u in UPDATES]
    np.testing.assert_array_equal(krum(UPDATES, EQUAL, bad=0.2), UPDATES[np.argmin(scores)])


def test_no_update_is_longer_than_the_norm() -> None:
    found = bounded_mean(np.array([[3.0, 4.0], [0.3, 0.4]]), np.ones(2), norm=1.0)
    np.testing.assert_allclose(found, [(0.6 + 0.3) / 2, (0.8 + 0.4) / 2])


@pytest.mark.parametrize("lie", ["sign", "scale", "noise", "nan", "infinite"])
def test_a_fifth_that_lies_moves_the_mean_and_not_the_others(lie: str) -> None:
    truth = np.linspace(-1, 1, 30)
    updates = truth + 0.1 * RNG.normal(size=(20, 30))
    factor = {"sign": -20.0, "scale": 1e6, "nan": np.nan, "infinite": np.inf}
    updates[:4] = 1e3 * RNG.normal(size=(4, 30)) if lie == "noise" else updates[:4] * factor[lie]
    errors = {n: np.linalg.norm(aggregate(updates, np.ones(20)) - truth) for n, aggregate in AGGREGATORS.items()}
    limit = 2.0 if lie in ("sign", "scale", "noise") else 0.7
    assert all(error < limit for name, error in errors.items() if name != "mean"), errors
    if lie in ("sign", "scale", "noise"):
        assert errors["mean"] > 10


@pytest.mark.parametrize("name", AGGREGATORS)
def test_without_any_update_there_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="none of 2 updates is finite and has a weight"):
        AGGREGATORS[name](np.full((2, 3), np.nan), np.ones(2))
    with pytest.raises(ValueError, match=r"trim is 0\.5"):
        trimmed_mean(UPDATES, EQUAL, trim=0.5)


def test_detection_tells_a_reversed_and_a_long_update_from_the_others() -> None:
    rng, truth = np.random.default_rng(1), np.linspace(-1, 1, 30)
    weights = rng.integers(5, 100, 20).astype(float)
    updates = truth + rng.normal(size=(20, 30)) / np.sqrt(weights)[:, None]
    updates[3], updates[7], weights[11] = -updates[3], 50 * updates[7], 0.0
    updates[13] = np.nan
    norm, cosine, distance = detection(updates, weights).T
    honest = np.setdiff1d(np.arange(20), [3, 7, 11, 13])
    assert cosine[3] < -0.5 < 0.5 < cosine[honest].min()
    assert norm[7] > 20 > 3 > norm[honest].max()
    assert min(distance[3], distance[7]) > 3 > distance[honest].max()
    assert np.isnan(norm[11])
    assert np.isinf(distance[13])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("krum", {"bat": 0.1}), "aggregator 'krum' has no option 'bat'; it has bad"),
        (("median", {"trim": 0.1}), "it has none"),
        (("trimmed-mean", {"trim": 0.5}), r"trim is 0\.5; it is a fraction"),
        (("bounded-mean", {"norm": 0.0}), r"norm is 0\.0; it must be positive"),
        (("best", {}), "no aggregator 'best'"),
    ],
)
def test_wrong_options_are_named(options: tuple[str, dict[str, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_options(*options)
