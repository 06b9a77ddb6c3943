"""The mixture under differential privacy: the bounds hold, the noise is there, and clusters are found all the same."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import adjusted_rand_score

from federation.algorithm import Roster, build, run
from federation.memory import Memory
from federation.patients import Patients
from federation.policy import DisclosurePolicy
from federation.privacy.dp.accounting import Spending, noise_for, spent_epsilon
from federation.privacy.dp.consistency import on_simplex
from federation.privacy.dp.statistics import Noisy
from federation.privacy.secure import SecureAggregation
from federation.quorum import QuorumError
from federation.splits import TRAIN
from federation.stratification import FederatedMixture, PrivateMixture
from federation.stratification.private_mixture import consistent
from harmonization import Cohort
from tests.federation.hospitals import federation_of
from tests.federation.test_stratification import GENES, cohort_of, planted

SIMULATED = DisclosurePolicy(secure_noise=False, simulation=True)


def answer(algorithm: PrivateMixture, state: Any, cohort: Cohort) -> Any:
    seen = Patients(cohort, np.full(len(cohort), TRAIN), 0, 1, 0)
    return algorithm.client_update(algorithm.broadcast(state), seen, np.random.default_rng(0), Memory(None))


@cache
def asked() -> tuple[Any, Any]:
    """A state of each kind of question."""
    algorithm = PrivateMixture(genes=GENES, noise=2.0, rounds=2, most=4, components=5)
    found: list[Any] = [algorithm.start(Roster(("a",), 3))]
    run(algorithm, federation_of({"a": planted(300)[0]}, policy=SIMULATED), after_round=[found.append])
    return found[0], found[1]


def test_no_patient_changes_an_answer_by_more_than_the_bound() -> None:
    events = planted(60, 4)[0].values[:, 1:]
    events[0], events[1], events[2] = 1.0, [1] * 4 + [0] * 8, [1] * 5 + [0] * 7  # all lesions; at the most; one more
    cohort = cohort_of(np.where(np.isnan(events), -1, events))
    algorithm = PrivateMixture(genes=GENES, most=4)
    for state in asked():
        bounds, everybody = algorithm.bounds(state, cohort.schema), answer(algorithm, state, cohort)
        largest = 0.0
        for i in range(len(cohort)):
            others = answer(algorithm, state, cohort[np.arange(len(cohort)) != i])
            assert bounds.keys() == dict(others).keys()
            moved = [float(np.linalg.norm(everybody[name] - others[name])) / bounds[name] for name in bounds]
            assert max(moved) <= 1 + 1e-12
            largest = max(largest, min(moved))
        assert largest == pytest.approx(1)  # by who has the most lesions: no bound is larger than it need be


def test_who_takes_part_does_not_show() -> None:
    """A center of whom nobody takes part answers as others do, with noise alone."""
    nobody = cohort_of(np.where(np.arange(12) < 3, -1, np.eye(12, dtype=int)[np.arange(8) % 12]))
    algorithm = PrivateMixture(genes=GENES, noise=1.0)
    for state in asked():
        found, some = answer(algorithm, state, nobody), answer(algorithm, state, planted(8)[0])
        assert found.patients == some.patients == 8
        assert {n: a.shape for n, a in found.items()} == {n: a.shape for n, a in some.items()}
        assert not any(a.any() for a in found.values())
        assert all(
            a.any() for a in algorithm.mechanism(state, nobody.schema).release(found, lambda n: words(n)).values()
        )


def words(n: int) -> Any:
    return np.random.default_rng(n).integers(0, 2**64, n, dtype=np.uint64)


def test_noise_is_what_the_bounds_ask_for() -> None:
    cohort, algorithm = planted(300)[0], PrivateMixture(genes=GENES, noise=3.0, most=4)
    for state in asked():
        federation = federation_of({"a": cohort}, policy=SIMULATED)
        bounds, plain = algorithm.bounds(state, cohort.schema), answer(algorithm, state, cohort)
        found = []
        for r in range(6):
            federation.task = f"ask {r}"
            noisy = federation.ask(algorithm, state)
            found += [(noisy[n] - plain[n]).ravel() / (3 * np.sqrt(2) * bound) for n, bound in bounds.items()]
        noise = np.concatenate(found)
        assert abs(noise.std() - 1) < norm.isf(5e-5) / np.sqrt(2 * len(noise))
        assert abs(noise.mean()) < norm.isf(5e-5) / np.sqrt(len(noise))


def test_clusters_are_found_within_a_budget_that_the_ledger_knows() -> None:
    cohort, truth = planted(1500)
    cohorts = {f"c{j}": cohort[np.arange(j, len(cohort), 3)] for j in range(3)}
    noise = noise_for(8.0, 1e-5, (Spending("patient", 1.0, 1.0, 16),))

    def agreement(multiplier: float, **options: Any) -> float:
        algorithm = PrivateMixture(genes=GENES, noise=multiplier, rounds=15, components=8, **options)
        secure = SecureAggregation(threshold=1.0, colluding=0.0) if algorithm.distributed else None
        federation = federation_of(cohorts, policy=SIMULATED, secure_aggregation=secure)
        state = run(algorithm, federation)
        for center in federation.centers:
            entries = center.privacy_ledger.entries()
            assert [entry.spending.count for entry in entries] == [16]
            if multiplier == noise:
                assert 7.9 < spent_epsilon([entry.spending for entry in entries], 1e-5) <= 8
        found = algorithm.memberships(state, cohort).probabilities.argmax(axis=1)
        seen = np.nansum(cohort.values[:, 1:], axis=1) > 0
        return float(adjusted_rand_score(truth[seen], found[seen]))

    assert agreement(noise) > 0.75
    assert agreement(noise, distributed=True) > 0.75
    assert agreement(300.0) < 0.55  # components drawn from noise are right about some, by chance


def test_a_budget_ends_it(tmp_path: Path) -> None:
    algorithm = PrivateMixture(genes=GENES, noise=2.0, rounds=20)
    policy = DisclosurePolicy(secure_noise=False, max_epsilon=4.0)
    federation = federation_of({"a": planted(100)[0]}, policy=policy, directory=tmp_path)
    with pytest.raises(QuorumError, match="privacy budget: epsilon 4"):
        run(algorithm, federation)
    (entry,) = federation.centers[0].privacy_ledger.entries()
    assert 1 <= entry.spending.count < 21


def test_births_and_deaths_have_no_bound_and_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing bounds how much one patient changes the likelihood"):
        PrivateMixture(genes=GENES, proposals=1)
    with pytest.raises(ValueError, match="most from 1 to the 12 genes"):
        PrivateMixture(genes=GENES, most=13)
    with pytest.raises(QuorumError, match=r"'federated-mixture' states no bounds.*'private-mixture'"):
        run(Noisy.of(FederatedMixture(genes=GENES), 1.0), federation_of({"a": planted(50)[0]}))


def test_it_travels_as_a_declaration() -> None:
    there = build(PrivateMixture(genes=GENES, noise=3.0, distributed=True, most=5).declare())
    assert isinstance(there, PrivateMixture)
    assert (there.noise, there.distributed, there.most) == (3.0, True, 5)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 80.0))
def test_counts_made_of_noise_could_be_of_patients(seed: int, deviation: float) -> None:
    rng = np.random.default_rng(seed)
    events, components = rng.random((40, 6)) < 0.4, rng.integers(3, size=40)
    events[:, 0] |= ~events.any(axis=1)
    member = np.eye(3)[components]
    true, histogram = member.T @ events, member.T @ np.eye(7)[events.sum(axis=1)]
    kept, whole = consistent(
        true + deviation * rng.normal(size=true.shape), histogram + deviation * rng.normal(size=histogram.shape)
    )
    assert (kept >= 0).all()
    assert (whole >= 0).all()
    np.testing.assert_array_equal(kept, np.rint(kept))
    np.testing.assert_array_equal(whole, np.rint(whole))
    np.testing.assert_array_equal(kept.sum(axis=1), whole @ np.arange(7))
    assert (kept <= whole.sum(axis=1, keepdims=True)).all()
    assert whole.sum() >= 1
    if deviation == 0:
        np.testing.assert_array_equal(kept, true)
        np.testing.assert_array_equal(whole, histogram)


def test_the_nearest_point_of_a_simplex() -> None:
    values = np.array([3.0, 1.0, -2.0, 0.5])
    found = on_simplex(values, 3.0)
    np.testing.assert_allclose(found, [2.5, 0.5, 0.0, 0.0])
    rng = np.random.default_rng(0)
    others = 3 * rng.dirichlet(np.ones(4), 2000)
    assert (((others - values) ** 2).sum(axis=1) >= ((found - values) ** 2).sum() - 1e-9).all()
