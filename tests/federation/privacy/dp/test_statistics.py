"""Noisy counts and sums: the bounds hold, and the noise is what they ask for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from federation.algorithm import Algorithm, build, run
from federation.generative import FitBayesianNetwork, FitColumnMixtures, FitMixture, mixture_of
from federation.generative.variational_mixture import possible
from federation.memory import Memory
from federation.patients import Patients
from federation.policy import DisclosurePolicy
from federation.preprocessing import FitPreprocessor, FitTimeGrid, time_scale_of
from federation.privacy.dp.accounting import Spending, noise_for
from federation.privacy.dp.consistency import counts_of
from federation.privacy.dp.statistics import FitScale, Noisy, constants, ranges_of
from federation.quorum import QuorumError
from federation.splits import TRAIN
from federation.survival import FitCurves, curves_of
from harmonization import Cohort
from models.generative.variational_mixture import MixtureOptions
from models.preprocessing import Preprocessor, feature_sums
from models.survival.time_scale import TimeScale
from tests.federation.hospitals import SCHEMA, federation_of, hospitals, patients, pooled, preprocessor

MIXTURE = MixtureOptions(components=3, max_iter=3, lloyd_rounds=2)
RANGES = {"age": (20.0, 100.0), "blasts": (0.0, 40.0)}
SIMULATED = DisclosurePolicy(secure_noise=False)


def answer(algorithm: Algorithm, state: Any, cohort: Cohort) -> dict[str, Any]:
    seen = Patients(cohort, np.full(len(cohort), TRAIN), 0, 1, 0)
    return dict(algorithm.client_update(state, seen, np.random.default_rng(0), Memory(None)))


def states(algorithm: Algorithm) -> list[Any]:
    """All states that centers are asked about."""
    federation = federation_of()
    found = [algorithm.start(federation.roster)]
    run(algorithm, federation, after_round=[lambda state: found.append(state)])
    return [algorithm.broadcast(state) for state in found if not algorithm.done(state)]


@pytest.mark.parametrize(
    "algorithm",
    [
        FitTimeGrid(),
        FitScale(RANGES, SCHEMA),
        FitScale({}, SCHEMA, most=1),
        FitBayesianNetwork(SCHEMA),
        FitCurves.of(SCHEMA, "mutated", resolution=300.0),
        FitMixture(MIXTURE, radius=2.0, preprocessor=preprocessor()),
        FitColumnMixtures(MIXTURE, radius=30.0),
    ],
    ids=lambda a: a.name,
)
def test_no_patient_changes_an_answer_by_more_than_the_bound(algorithm: Algorithm) -> None:
    cohort = patients(40, 11)
    cohort.values[0, :2] = 1e6, -1e6  # nobody's range
    for state in states(algorithm):
        bounds = algorithm.bounds(state, SCHEMA)
        everybody = answer(algorithm, state, cohort)
        assert bounds.keys() == everybody.keys()
        largest = dict.fromkeys(bounds, 0.0)
        for i in range(len(cohort)):
            others = answer(algorithm, state, cohort[np.arange(len(cohort)) != i])
            for name, bound in bounds.items():
                moved = float(np.linalg.norm(everybody[name] - others[name]))
                assert moved <= bound * (1 + 1e-12), name
                largest[name] = max(largest[name], moved / bound)
        assert max(largest.values()) > 0.5  # and the bound is no larger than it need be


def test_noise_on_counts_is_what_the_bound_asks_for() -> None:
    plain = run(FitTimeGrid(cells=2000), federation_of())["events"]
    one = Noisy.of(FitTimeGrid(cells=2000), 50.0)
    seen: list[Any] = []

    class Watch(type(one)):  # type: ignore[misc]
        def server_update(self, state: Any, total: Any) -> Any:
            seen.append(total["events"])
            return super().server_update(state, total)

    watched = Watch(one.inner, one.noise, one.distributed, one.algorithm)
    found = run(watched, federation_of(policy=SIMULATED))["events"]
    noise = (seen[0] - plain) / 50 / np.sqrt(3)  # three hospitals, each with its own
    assert abs(noise.std() - 1) < norm.isf(5e-5) / np.sqrt(2 * len(noise))
    assert abs(noise.mean()) < norm.isf(5e-5) / np.sqrt(len(noise))
    assert (found >= 0).all()  # the grid sees counts, no more than there are patients
    patients_seen = sum(len(cohort) for cohort in hospitals().values())
    assert found.sum() == pytest.approx(np.clip(np.rint(seen[0].sum()), 1, patients_seen))


def test_counts_are_whole_and_keep_their_sum() -> None:
    rng = np.random.default_rng(2)
    true = np.zeros((20, 30))
    true[:3] = rng.integers(0, 40, (3, 30))
    found = counts_of(true + rng.normal(0, 3, true.shape))
    assert (found >= 0).all()
    np.testing.assert_array_equal(found, np.rint(found))
    assert abs(found.sum() - true.sum()) < 5 * 3 * np.sqrt(true.size)
    clipped = np.maximum(np.rint(true + rng.normal(0, 3, true.shape)), 0)
    assert np.abs(found - true).sum() < 0.8 * np.abs(clipped - true).sum()  # noise is not turned into patients
    np.testing.assert_array_equal(counts_of(true), true)
    assert counts_of(np.full(4, -3.0)).sum() == 1


def test_a_time_scale_from_noise_alone_is_one() -> None:
    state = run(Noisy.of(FitTimeGrid(cells=520), 500.0), federation_of(policy=SIMULATED))
    times = time_scale_of(state, 5.0)
    assert times.events.sum() <= times.patients * (1 + 1e-12)
    assert (np.diff(times.cuts(6)) > 0).all()


def test_a_network_is_found_from_noisy_counts() -> None:
    state = run(Noisy.of(FitBayesianNetwork(SCHEMA), 0.02), federation_of(policy=SIMULATED))
    assert int(state["moves"]) >= 0
    loud = run(Noisy.of(FitBayesianNetwork(SCHEMA), 5.0), federation_of(policy=SIMULATED))
    assert np.isfinite(loud["score"]).all()


def test_moments_are_those_of_the_pooled_patients_with_little_noise() -> None:
    state = run(Noisy.of(FitScale(RANGES, SCHEMA), 1e-3), federation_of(policy=SIMULATED))
    cohort = pooled(hospitals())[0]
    for j, (low, high) in enumerate(RANGES.values()):
        x = np.clip(cohort.values[:, j][~np.isnan(cohort.values[:, j])], low, high)
        assert state["mean"][j] == pytest.approx(x.mean(), rel=1e-3)
        assert state["scale"][j] == pytest.approx(x.std(), rel=1e-2)
    sums = feature_sums(cohort)
    np.testing.assert_allclose(state["frequency"], sums["total"][2:] / len(cohort), atol=1e-3)
    loud = run(Noisy.of(FitScale(RANGES, SCHEMA), 1e4), federation_of(policy=SIMULATED))
    assert ((loud["frequency"] >= 0) & (loud["frequency"] <= 1) & (loud["deviation"] > 0.2)).all()
    low, high = np.array(list(RANGES.values())).T
    assert ((low <= loud["mean"]) & (loud["mean"] <= high) & (loud["scale"] > 0)).all()


def test_a_gaussian_mixture_is_found_from_noisy_sums() -> None:
    rng, n = np.random.default_rng(4), 6000
    component = rng.random(n) < 0.4
    values = np.column_stack(
        [np.where(component, 75.0, 45.0), np.where(component, 25.0, 8.0), np.zeros(n), np.zeros(n)]
    )
    values[:, :2] += rng.normal(0, 2.5, (n, 2))
    cohort = replace(patients(n), values=values)
    cohorts = {f"c{j}": cohort[np.arange(j, n, 3)] for j in range(3)}
    options = MixtureOptions(components=2, max_iter=4, lloyd_rounds=4)
    noise = noise_for(8.0, 1e-5, (Spending("patient", 1.0, 1.0, 2 + 4 + 4),))
    scaled = Preprocessor.declared(SCHEMA, *constants(RANGES), modalities=["clinical"])
    algorithm = FitMixture(options, scaled, radius=3.0)

    def means(multiplier: float) -> Any:
        federation = federation_of(cohorts, policy=SIMULATED, seed=1)
        found = mixture_of(run(Noisy.of(algorithm, multiplier), federation), algorithm)
        assert np.isfinite(found.covariances).all()
        assert (np.linalg.eigvalsh(found.covariances) > 0).all()
        (entry,) = federation.centers[0].privacy_ledger.entries()
        assert entry.spending.count <= 10
        order = found.means[0, :, 0].argsort()
        return found.means[0, order, :2] * [20, 10] + [60, 20]

    np.testing.assert_allclose(means(noise), [[45, 8], [75, 25]], atol=1.0)
    assert np.abs(means(300.0) - [[45, 8], [75, 25]]).max() > 5


def test_exact_sums_are_possible_and_left_as_they_are() -> None:
    rng = np.random.default_rng(0)
    u = rng.normal(size=(2, 50, 3))
    sums = {"number": np.full(2, 50.0), "sum": u.sum(1), "outer": np.einsum("bni,bnj->bij", u, u)}
    for name, array in possible(sums, 10.0).items():
        np.testing.assert_allclose(array, sums[name], atol=1e-9)
    diagonal = {**sums, "outer": (u**2).sum(1)}
    np.testing.assert_allclose(possible(diagonal, 10.0)["outer"], diagonal["outer"], atol=1e-9)
    noise = {name: array + 100 * rng.normal(size=array.shape) for name, array in sums.items()}
    found = possible(noise, 10.0)
    assert (found["number"] >= 0).all()
    mean = found["sum"] / np.maximum(found["number"], 1)[:, None]
    around = found["outer"] - found["number"][:, None, None] * mean[:, :, None] * mean[:, None, :]
    assert (np.linalg.eigvalsh(around) > -1e-6).all()


def test_curves_from_noisy_counts_are_curves() -> None:
    algorithm = FitCurves.of(SCHEMA, "mutated", resolution=365.25, horizon=3652.5)
    exact = curves_of(run(algorithm, federation_of()), algorithm, SCHEMA)
    quiet, loud = (
        curves_of(run(Noisy.of(algorithm, noise), federation_of(policy=SIMULATED)), algorithm, SCHEMA)
        for noise in (0.05, 20.0)
    )
    for name, curve in exact.items():
        np.testing.assert_allclose(quiet[name].survival, curve.survival, atol=0.02)
        assert ((loud[name].survival >= 0) & (loud[name].survival <= 1)).all()
    within = FitCurves.of(SCHEMA, "mutated", strata="center")
    with pytest.raises(QuorumError, match="'survival-curves' states no bounds"):
        run(Noisy.of(within, 1.0), federation_of())


def test_what_states_no_bounds_is_refused() -> None:
    with pytest.raises(QuorumError, match="'mixture' states no bounds"):
        run(Noisy.of(FitMixture(MIXTURE, preprocessor()), 1.0), federation_of())
    with pytest.raises(QuorumError, match="'preprocessor' states no bounds on what one patient can change"):
        run(Noisy.of(FitPreprocessor(SCHEMA), 1.0), federation_of())


def test_it_travels_as_a_declaration() -> None:
    there = build(Noisy.of(FitTimeGrid(cells=40), 3.0, True).declare())
    assert isinstance(there, Noisy)
    assert there.kinds == FitTimeGrid.kinds


def test_ranges_come_from_the_schema_unless_they_are_given() -> None:
    with pytest.raises(ValueError, match="'age' has no range in the schema; give one"):
        ranges_of(SCHEMA, {})
    with pytest.raises(ValueError, match="'mutated' is no numeric feature"):
        ranges_of(SCHEMA, {"mutated": (0, 1)})
    assert ranges_of(SCHEMA, RANGES) == RANGES


def test_constants_make_a_preprocessor_of_no_patient() -> None:
    mean, scale = constants(RANGES)
    made = Preprocessor.declared(SCHEMA, mean, scale)
    cohort = hospitals()["North"]
    design = made.transform(cohort)
    names = made.names(SCHEMA)
    assert names == ["age", "blasts", "mutated", "grade=mid", "grade=high"]
    known = ~np.isnan(cohort.values[:, 0])
    np.testing.assert_allclose(design[known, 0], (cohort.values[known, 0] - 60) / 20)
    assert set(np.unique(design[:, 2:])) == {0.0, 1.0}
    assert not np.isnan(design).any()
    centred = Preprocessor.declared(SCHEMA, mean, scale, zero_one=(np.full(3, 0.25), np.full(3, 0.5)))
    known = ~np.isnan(cohort.values[:, 2])
    np.testing.assert_allclose(centred.transform(cohort)[known, 2], 2 * cohort.values[known, 2] - 0.5)
    kept = Preprocessor.declared(SCHEMA, mean, scale, ["clinical"], keep=True)
    assert kept.names(SCHEMA) == ["age", "blasts", "grade=mid", "grade=high"]
    assert np.isnan(kept.transform(cohort)).any()


def test_a_time_scale_of_a_median() -> None:
    times = TimeScale.declared(5.0, 10.0, 1000, 2.0)
    assert times.cuts(4)[:-1] == pytest.approx(
        np.interp([0.25, 0.5, 0.75], np.cumsum(times.events) / times.events.sum(), times.edges), abs=0.02
    )
    assert times.events[times.edges <= 2].sum() / times.patients == pytest.approx(0.5, abs=1e-3)
