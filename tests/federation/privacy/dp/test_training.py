"""Private training: what leaves, how it adds up, and what it comes to without noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from federation.algorithm import build, run
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.privacy.dp.settings import DifferentialPrivacy
from federation.privacy.dp.training import AdaptiveClipping, PrivateAveraging, PrivateGradients
from federation.privacy.secure import SecureAggregation
from federation.quorum import QuorumError
from federation.strategies import FedAvg, Scaffold
from models.per_patient import clipped_gradients
from models.steps import TrainingOptions
from models.survival.network import build_network
from tests.federation.hospitals import averaging, design, federation_of, hospitals, pooled, preprocessor

MODEL = {"cuts": [0.5, 1.0, 2.0, 4.0]}
SIMULATED = DisclosurePolicy(secure_noise=False, simulation=True)
QUIET = 1e-7
"""A noise multiplier without consequence."""


def private(kind: type[Any] = PrivateGradients, **changes: Any) -> Any:
    settings: dict[str, Any] = {
        "model": "discrete_hazard",
        "model_parameters": MODEL,
        "training": TrainingOptions(steps=1, learning_rate=0.5),
        "rounds": 3,
        "preprocessor": preprocessor(),
        "noise": QUIET,
    }
    return kind.create(FedAvg(), **settings | changes)


def test_without_noise_it_is_gradient_descent_on_the_pooled_patients() -> None:
    for clip in (1e3, 0.3):
        state = run(private(clip=clip, average=0.01), federation_of(policy=SIMULATED))
        data = design(pooled(hospitals())[0])
        network = build_network("discrete_hazard", data.x.shape[1], MODEL)
        weights, rng = np.zeros(len(state["weights"])), np.random.default_rng(0)
        for _ in range(3):
            weights = weights - 0.5 * clipped_gradients(network, weights, data, clip, rng) / len(data)
        np.testing.assert_allclose(state["weights"], weights, atol=2e-5)
        np.testing.assert_array_equal(state["best_weights"], state["weights"])


def test_the_last_weights_are_averaged() -> None:
    seen: list[Any] = []
    algorithm = private(rounds=6, average=0.5, noise=1.0)
    run(algorithm, federation_of(policy=SIMULATED), after_round=[lambda state: seen.append(state)])
    np.testing.assert_allclose(seen[-1]["best_weights"], np.mean([s["weights"] for s in seen[3:]], axis=0), atol=1e-5)


def test_shared_noise_under_masks_is_less_than_each_centers_own() -> None:
    """And both are what the mechanism says: deviation of the mean gradient over many coordinates and rounds."""
    centers = {f"center {i}": cohort for i, cohort in enumerate([*hospitals().values()] * 2)}
    n = sum(len(c) for c in centers.values())

    def noise(distributed: bool, secure: SecureAggregation | None) -> Any:
        def weights(multiplier: float) -> Any:
            found: list[Any] = []
            algorithm = private(rounds=25, noise=multiplier, distributed=distributed, clip=1e-6 / multiplier)
            federation = federation_of(centers, policy=SIMULATED, secure_aggregation=secure)
            run(algorithm, federation, after_round=[lambda state: found.append(state["weights"].astype(float))])
            return np.diff(found, axis=0)

        return (weights(1e4) / (0.5 * 1e-6 / n)).ravel()  # gradients are lost in it

    own = noise(False, None)
    shared = noise(True, SecureAggregation(threshold=1.0, colluding=0.0))
    for found, expected in ((own, np.sqrt(6)), (shared, 1.0)):
        assert abs(found.std() / expected - 1) < norm.isf(5e-5) / np.sqrt(2 * len(found)) + 0.02


def test_a_share_of_the_noise_never_leaves_without_masks() -> None:
    with pytest.raises(QuorumError, match="asks for a share of the noise, and no secure aggregation masks the rest"):
        run(private(distributed=True), federation_of(policy=SIMULATED))


def test_the_declaration_travels_and_the_strategy_stays() -> None:
    algorithm = private(PrivateAveraging, adaptive=AdaptiveClipping(quantile=0.7), clip=0.4)
    there = build(algorithm.declare())
    assert isinstance(there, PrivateAveraging)
    assert (there.adaptive, there.clip, there.noise) == (AdaptiveClipping(quantile=0.7), 0.4, QUIET)


def test_patients_are_drawn_by_poisson_sampling() -> None:
    """The number of sampled patients varies; on average the step is that on everybody."""
    algorithm = private(sampling=0.3, rounds=1, noise=QUIET)
    everybody = run(private(rounds=1, noise=QUIET), federation_of(policy=SIMULATED))["weights"]
    found = np.array([run(algorithm, federation_of(policy=SIMULATED, seed=s))["weights"] for s in range(30)])
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (error > 0).all()
    assert (np.abs(found.mean(axis=0) - everybody) < 4.5 * error).all()


def test_a_center_sends_no_more_than_its_bound_whatever_its_patients_are() -> None:
    federation = federation_of(policy=SIMULATED)
    wild = private(PrivateAveraging, clip=0.05, largest=20, training=TrainingOptions(steps=30, learning_rate=5.0))
    state = {**wild.start(federation.roster)}
    for center in federation.centers:
        from federation.in_process import question_for

        question = question_for(wild, state, "run", federation.split, federation.roster, 10)
        patients = center.patients(question)
        alone = wild.client_update(wild.broadcast(state), patients, np.random.default_rng(0), center.memory("run"))
        assert np.linalg.norm(alone["update"]) <= 0.05 * min(1, len(patients.train) / 20) + 1e-9
        assert "by_center" not in alone


def test_without_noise_and_bound_protected_centers_are_federated_averaging() -> None:
    options: dict[str, Any] = {"weighting": "uniform", "training": TrainingOptions(steps=3, learning_rate=0.3)}
    mine = run(private(PrivateAveraging, clip=1e6, noise=1e-13, **options), federation_of(policy=SIMULATED))
    plain = averaging(model="discrete_hazard", model_parameters=MODEL, **options)
    np.testing.assert_allclose(mine["weights"], run(plain, federation_of())["weights"], atol=1e-5)


def test_the_bound_adapts_to_the_quantile_of_the_norms() -> None:
    """Andrew et al. 2021: from far above and far below it comes to where so many updates are clipped."""
    ends = []
    for clip in (1e-3, 1e2):
        adaptive = AdaptiveClipping(quantile=0.5, learning_rate=1.0)
        algorithm = private(
            PrivateAveraging,
            clip=clip,
            adaptive=adaptive,
            rounds=30,
            weighting="uniform",
            training=TrainingOptions(steps=1, learning_rate=1e-3),
        )
        ends.append(float(run(algorithm, federation_of(policy=SIMULATED))["clip"]))
    assert ends[0] == pytest.approx(ends[1], rel=0.3)
    assert 1e-4 < ends[0] < 1e-2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"noise": 0.0}, "both are above 0"),
        ({"sample": 0.5}, "sample must be 1"),
        ({"model": "cox", "model_parameters": {}}, "risk set of every earlier event"),
    ],
)
def test_what_would_protect_nobody_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, QuorumError), match=words):
        run(private(**changes), federation_of(policy=SIMULATED))


def test_control_variates_are_refused() -> None:
    with pytest.raises(ValueError, match="strategies of the server alone"):
        PrivateGradients.create(Scaffold(), model="discrete_hazard", model_parameters=MODEL)


def test_a_fit_costs_what_the_settings_say() -> None:
    privacy = DifferentialPrivacy(epsilon=4.0, statistics="noisy")
    spent = privacy.summary(20, 6)
    assert 3.9 < spent["epsilon"] <= 4.0
    assert spent["epsilon_of_all_fits"] > 2 * spent["epsilon"]
    assert [s.count for s in privacy.spending(20)] == [20, 2]


def test_masks_change_no_bit_of_private_training() -> None:
    from tests.federation.privacy.test_secure import Bare

    def centers() -> Any:
        return federation_of(policy=SIMULATED).centers

    masked = run(private(noise=2.0), InProcessFederation(centers(), 5, secure_aggregation=SecureAggregation()))
    bare = run(private(noise=2.0), Bare(centers(), 5))
    np.testing.assert_array_equal(masked["weights"], bare["weights"])
