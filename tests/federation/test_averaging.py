"""Parameter averaging: what a round computes, in formulas; whose patients count for how much; who takes part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sksurv.util import Surv

from federation.algorithm import run
from federation.averaging import COLUMNS, ParameterAveraging, result
from federation.center import Center
from federation.contribution import Contribution
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.preprocessing import FitPreprocessor, preprocessor_of
from federation.splits import Split
from federation.state import State
from federation.strategies import FedAvg, FedProx, Scaffold, Strategy
from models.flat import bind, penalty_mask
from models.survival.estimators import LinearCox
from models.survival.network import build_network
from models.training import TrainingOptions, train
from tests.federation.hospitals import (
    NOISY,
    SCHEMA,
    SMALL,
    averaging,
    design,
    federation_of,
    hospitals,
    patients,
    pooled,
    preprocessor,
    require_equal_states,
    states,
)

COLUMN = {name: j for j, name in enumerate(COLUMNS)}
SIZES = {name: len(cohort) for name, cohort in hospitals().items()}
EVENTS = {name: int(cohort.event.sum()) for name, cohort in hospitals().items()}


def stratified_loss(log_hazard: torch.Tensor, time: Any, event: Any, strata: Any) -> torch.Tensor:
    """Negative log partial likelihood of the stratified Cox model per patient, by its definition; no ties here."""
    terms = []
    for i in np.flatnonzero(event):
        at_risk = torch.tensor((strata == strata[i]) & (time >= time[i]))
        terms.append(log_hazard[i] - torch.logsumexp(log_hazard[at_risk], 0))
    return -torch.stack(terms).sum() / len(time)


def centralized_step(
    algorithm: ParameterAveraging, weights: NDArray[Any], strata: bool = True, cohorts: Mapping[str, Any] | None = None
) -> NDArray[np.float64]:
    """One step of gradient descent on the pooled patients, by autograd in float64."""
    table, hospital = pooled(cohorts or hospitals())
    network = build_network(algorithm.model, preprocessor().n_features, algorithm.model_parameters).double()
    flat, gradient = bind(network, weights)
    output = network(torch.tensor(preprocessor().transform(table)))
    labels = hospital if strata else np.zeros(len(table))
    stratified_loss(output, table.time, table.event, labels).backward()  # type: ignore[no-untyped-call]
    options = algorithm.training
    slope = gradient + options.weight_decay * penalty_mask(network) * flat
    return (flat.detach() - options.learning_rate * slope).detach().numpy()


# One step -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight_decay", [0.0, 0.5])
@pytest.mark.parametrize("model", ["cox", "deepsurv"])
def test_one_local_step_is_one_centralized_step_on_the_stratified_likelihood(model: str, weight_decay: float) -> None:
    options = TrainingOptions(steps=1, learning_rate=0.7, weight_decay=weight_decay)
    parameters = SMALL if model == "deepsurv" else {}
    algorithm = averaging(model=model, model_parameters=parameters, training=options, rounds=5)
    seen = states(algorithm, federation_of())
    for before, after in pairwise(seen[:6]):
        expected = centralized_step(algorithm, before["weights"])
        np.testing.assert_allclose(after["weights"], expected, atol=1e-6)
        assert np.abs(after["weights"] - before["weights"]).max() > 1e-3


def test_it_is_not_a_step_on_the_unstratified_likelihood() -> None:
    # Partial likelihoods of mini-cohorts add up to the stratified one; a risk set never spans two hospitals.
    algorithm = averaging(model="cox", model_parameters={}, rounds=1)
    first = states(algorithm, federation_of())
    unstratified = centralized_step(algorithm, first[0]["weights"], strata=False)
    assert np.abs(first[1]["weights"] - unstratified).max() > 1e-2


@pytest.mark.parametrize("model", ["cox", "deepsurv"])
def test_a_federation_of_one_is_plain_training(model: str) -> None:
    table, _ = pooled(hospitals())
    options = TrainingOptions(steps=1, learning_rate=0.3)
    algorithm = averaging(model=model, model_parameters={}, training=options, rounds=6)
    federated = states(algorithm, federation_of({"all": table}))
    network = build_network(model, preprocessor().n_features)
    longer = replace(options, steps=6)
    alone, _ = train(network, federated[0]["weights"], design(table), longer, np.random.default_rng(0))
    np.testing.assert_allclose(federated[-1]["weights"], alone, atol=1e-6)


def test_fedavg_with_one_step_converges_to_the_stratified_cox_model() -> None:
    table, hospital = pooled(hospitals())
    y = Surv.from_arrays(table.event, table.time)
    data = design(table)
    for alpha in (0.0, 10.0):
        options = TrainingOptions(steps=1, learning_rate=2.5, weight_decay=alpha / len(table))
        algorithm = averaging(model="cox", model_parameters={}, training=options, rounds=60)
        federated = result(run(algorithm, federation_of()))
        expected = LinearCox(alpha=alpha).fit(data.x, y, strata=hospital).coef_
        np.testing.assert_allclose(federated, expected, atol=1e-6)
        unstratified = LinearCox(alpha=alpha).fit(data.x, y).coef_
        assert np.abs(expected - unstratified).max() > 0.01


# Weights ---------------------------------------------------------------------------------------------


def local_results(algorithm: ParameterAveraging, state: State) -> dict[str, NDArray[np.float32]]:
    """What each hospital's full-batch training makes of the weights; computed outside of any federation."""
    network = build_network(algorithm.model, preprocessor().n_features, algorithm.model_parameters)
    rng = np.random.default_rng(0)
    return {
        name: train(network, state["weights"], design(c), algorithm.training, rng, proximal=algorithm.proximal)[0]
        for name, c in hospitals().items()
    }


@pytest.mark.parametrize("weighting", ["patients", "events", "uniform"])
def test_a_round_is_the_weighted_mean_of_what_the_centers_made(
    weighting: Literal["patients", "events", "uniform"],
) -> None:
    options = TrainingOptions(epochs=4, learning_rate=0.5)
    algorithm = averaging(weighting=weighting, training=options, rounds=8)
    weight = {"patients": SIZES, "events": EVENTS, "uniform": dict.fromkeys(SIZES, 1)}[weighting]
    seen = states(algorithm, federation_of())
    for r, (before, after) in enumerate(pairwise(seen[:9])):  # every round, not the first ones alone
        local = local_results(algorithm, before)
        expected = np.average([local[n] for n in SIZES], axis=0, weights=[weight[n] for n in SIZES])
        np.testing.assert_allclose(after["weights"], expected, atol=1e-6)
        assert after["history"][r, :, COLUMN["weight"]].tolist() == list(weight.values())
        for name in SIZES:  # and no hospital's own model passes for the federation's
            assert np.abs(after["weights"] - local[name]).max() > 1e-4


def test_weightings_differ() -> None:
    # A weight that comes out equal for every center, whatever its size, makes all of them uniform.
    assert len({tuple(np.argsort(list(w.values()))) for w in (SIZES, EVENTS)}) == 2
    options = TrainingOptions(epochs=4, learning_rate=0.5)
    final = [
        run(averaging(weighting=weighting, training=options), federation_of())["weights"]
        for weighting in ("patients", "events", "uniform")
    ]
    assert min(np.abs(final[i] - final[j]).max() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-3


def test_a_hospital_twice_as_large_weighs_twice() -> None:
    # Two equal hospitals are one of double weight.
    north = hospitals()["North"]
    west = hospitals()["West"]
    twin = replace(north, ids=np.char.add(north.ids, "'"))
    options = TrainingOptions(epochs=3, learning_rate=0.5)
    twins = states(averaging(training=options, rounds=1), federation_of({"A": north, "B": twin, "C": west}))
    local = local_results(averaging(training=options), twins[0])
    expected = (120 * local["North"].astype(float) + 17 * local["West"]) / 137
    np.testing.assert_allclose(twins[1]["weights"], expected, atol=1e-6)


def test_a_center_without_events_weighs_nothing_by_events() -> None:
    calm = patients(40, 9)
    calm = replace(calm, event=np.zeros(40, dtype=bool))
    with_calm = federation_of({**hospitals(), "Calm": calm})
    a = run(averaging(weighting="events"), with_calm)["weights"]
    np.testing.assert_allclose(a, run(averaging(weighting="events"), federation_of())["weights"], atol=1e-7)
    only = run(averaging(weighting="events"), federation_of({"Calm": calm}))
    np.testing.assert_array_equal(only["weights"], averaging().start(federation_of().roster)["weights"])


@pytest.mark.parametrize("weighting", ["patients", "events", "uniform"])
@pytest.mark.parametrize("strategy", [FedAvg(), Scaffold()])
def test_a_center_without_training_patients_weighs_nothing(
    strategy: Strategy, weighting: Literal["patients", "events", "uniform"]
) -> None:
    # Such a center withholds, unless the policy lets it answer.
    empty = federation_of({**hospitals(), "New": patients(0)}, policy=DisclosurePolicy(min_patients=0))
    final = run(averaging(strategy, weighting=weighting), empty)
    assert not empty.dropouts.reasons
    np.testing.assert_array_equal(
        final["weights"], run(averaging(strategy, weighting=weighting), federation_of())["weights"]
    )


# Aggregation changes the model -----------------------------------------------------------------------


def test_the_result_is_neither_the_start_nor_a_copy_of_an_older_round() -> None:
    seen = states(averaging(rounds=10), federation_of())
    for before, after in pairwise(seen[:11]):
        assert np.abs(before["weights"] - after["weights"]).max() > 1e-4
    np.testing.assert_array_equal(result(seen[-1]), seen[-1]["weights"])
    np.testing.assert_array_equal(seen[-1]["weights"], seen[-2]["weights"])  # the last question is validation alone


def test_all_centers_get_the_same_weights_and_the_same_preprocessor() -> None:
    class Watched(InProcessFederation):
        def ask(self, algorithm, state):  # type: ignore[no-untyped-def]
            asked.append(algorithm.broadcast(state))
            return super().ask(algorithm, state)

    asked: list[State] = []
    algorithm = averaging(rounds=3)
    seen = states(algorithm, Watched(federation_of().centers))
    for sent, state in zip(asked, seen, strict=False):
        np.testing.assert_array_equal(sent["weights"], state["weights"])
        np.testing.assert_array_equal(sent["preprocessor/mean"], preprocessor().mean)


def test_initial_weights_come_from_the_seed_alone() -> None:
    starts = [averaging().start(federation_of(seed=seed).roster)["weights"] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])


# FedProx ---------------------------------------------------------------------------------------------


def test_fedprox_with_mu_zero_is_fedavg_bit_for_bit() -> None:
    plain = run(averaging(**NOISY), federation_of())
    require_equal_states(run(averaging(FedProx(mu=0.0), **NOISY), federation_of()), plain)


def test_fedprox_pulls_toward_the_weights_that_were_sent() -> None:
    options = TrainingOptions(epochs=30, learning_rate=0.3)
    lengths = []
    for mu in (0.0, 0.1, 1.0, 3.0):
        seen = states(averaging(FedProx(mu=mu), training=options, rounds=2), federation_of())
        lengths.append([np.linalg.norm(after["weights"] - before["weights"]) for before, after in pairwise(seen[:3])])
    assert (np.diff(lengths, axis=0) < -0.01).all()  # in the second round too, where the weights sent are others


def test_fedprox_is_local_training_with_the_penalty() -> None:
    options = TrainingOptions(epochs=5, learning_rate=0.4)
    algorithm = averaging(FedProx(mu=0.8), training=options, rounds=2)
    assert algorithm.proximal == 0.8
    seen = states(algorithm, federation_of())
    for before, after in pairwise(seen[:3]):
        local = local_results(algorithm, before)
        expected = np.average([local[n] for n in SIZES], axis=0, weights=[SIZES[n] for n in SIZES])
        np.testing.assert_allclose(after["weights"], expected, atol=1e-6)


def test_fedprox_changes_nothing_in_a_single_full_batch_step() -> None:
    # The penalty's gradient is zero where training starts.
    without, with_ = (run(averaging(FedProx(mu=mu)), federation_of())["weights"] for mu in (0.0, 5.0))
    np.testing.assert_array_equal(without, with_)


# Client sampling -------------------------------------------------------------------------------------


def many(n: int = 10) -> Mapping[str, Any]:
    return {f"C{j}": patients(8 + j, j) for j in range(n)}


@pytest.mark.parametrize(("sample", "trained"), [(1.0, 10), (0.5, 5), (0.34, 3), (0.01, 1)])
def test_a_fraction_of_the_centers_trains_and_all_validate(sample: float, trained: int) -> None:
    federation = federation_of(many(), split=Split(validation=0.5))
    final = run(averaging(sample=sample, rounds=6), federation)
    weight, validated = (final["history"][:, :, COLUMN[name]] for name in ("weight", "patients"))
    assert ((weight > 0).sum(axis=1)[:6] == trained).all()
    assert not weight[6].any()
    assert (validated > 0).all()


def test_each_round_draws_anew_from_the_seed_and_nobody_is_left_out() -> None:
    def drawn(seed: int) -> NDArray[np.bool_]:
        final = run(averaging(sample=0.3, rounds=20), federation_of(many(), seed=seed))
        return np.asarray(final["history"][:20, :, COLUMN["weight"]] > 0)

    first = drawn(0)
    np.testing.assert_array_equal(drawn(0), first)
    assert not np.array_equal(drawn(1), first)
    assert len({tuple(row) for row in first}) > 10
    assert first.any(axis=0).all()


def test_the_mean_is_over_those_who_trained() -> None:
    options = TrainingOptions(epochs=4, learning_rate=0.5)
    algorithm = averaging(sample=0.34, training=options, rounds=4)  # one of three
    seen = states(algorithm, federation_of())
    for before, after in pairwise(seen[:5]):
        (who,) = np.flatnonzero(before["training"])
        local = list(local_results(algorithm, before).values())[who]
        np.testing.assert_allclose(after["weights"], local, atol=1e-6)


def test_a_round_in_which_nobody_trained_leaves_the_weights() -> None:
    algorithm = averaging(sample=0.34, rounds=6)
    start = algorithm.start(federation_of().roster)

    class Away(Center):
        def answer(self, question):  # type: ignore[no-untyped-def]
            if question.state["training"][self.position]:
                raise TimeoutError("no line")
            return super().answer(question)

    centers = [Away(name, lambda c=c: c, j, SCHEMA) for j, (name, c) in enumerate(hospitals().items())]  # type: ignore[misc]
    final = run(algorithm, InProcessFederation(centers))
    np.testing.assert_array_equal(final["weights"], start["weights"])


# What is reported ------------------------------------------------------------------------------------


def test_history_adds_up_over_centers() -> None:
    split = Split(validation=0.3)
    algorithm = averaging(rounds=2)
    seen = states(algorithm, federation_of(split=split))
    rows = seen[-1]["history"]
    assert rows.shape == (3, 3, len(COLUMNS))
    n = [(split.parts(c.ids, c.event, name) == 1).sum() for name, c in hospitals().items()]
    assert rows[0, :, COLUMN["patients"]].tolist() == n
    shown = algorithm.metrics(seen[1])
    assert shown["loss"] == pytest.approx(rows[0, :, COLUMN["validation_loss"]].sum() / sum(n))
    concordant, comparable = (rows[0, :, COLUMN[name]].sum() for name in ("concordant", "comparable"))
    assert shown["concordance"] == concordant / comparable
    assert np.isnan(seen[1]["history"][1:]).all()  # not yet


def test_a_model_that_is_worse_than_chance_is_reported_as_that() -> None:
    federation = federation_of(split=Split(validation=0.4))
    algorithm = averaging(model="cox", model_parameters={}, rounds=30, training=TrainingOptions(learning_rate=0.5))
    good = run(algorithm, federation)
    turned = {**algorithm.start(federation.roster), "weights": -good["weights"]}
    c = [algorithm.metrics(algorithm.server_update(s, federation.ask(algorithm, s)))["concordance"] for s in (
        {**turned, "weights": good["weights"]}, turned,
    )]  # fmt: skip
    assert c[0] > 0.6
    assert c[1] == pytest.approx(1 - c[0])
    assert c[1] < 0.4


# Nothing but the federation's own statistics ---------------------------------------------------------


def test_a_fitted_preprocessor_is_what_the_centers_use() -> None:
    # With each hospital scaled by itself the step would be another one.
    split = Split(n_folds=5, validation=0.2)
    fitted = preprocessor_of(run(FitPreprocessor(SCHEMA), federation_of(split=split)))
    algorithm = averaging(model="cox", model_parameters={}, rounds=1, preprocessor=fitted)
    after = states(algorithm, federation_of(split=split))[1]["weights"]
    table, hospital = pooled(hospitals(), split)

    def step(x: NDArray[np.float64]) -> NDArray[np.float64]:
        w = torch.zeros(fitted.n_features, dtype=torch.float64, requires_grad=True)
        stratified_loss(torch.tensor(x) @ w, table.time, table.event, hospital).backward()  # type: ignore[no-untyped-call]
        assert w.grad is not None
        return -0.5 * w.grad.numpy()

    np.testing.assert_allclose(after, step(fitted.transform(table)), atol=1e-6)
    x = fitted.transform(table)
    for name in hospitals():
        here = hospital == name
        x[here] = (x[here] - x[here].mean(0)) / np.maximum(x[here].std(0), 1e-9)
    assert np.abs(after - step(x)).max() > 1e-2


def test_no_answer_is_anything_but_sums() -> None:
    algorithm, federation = averaging(), federation_of()
    state = algorithm.start(federation.roster)
    total: Contribution = federation.ask(algorithm, state)
    assert total.patients == sum(SIZES.values())
    assert total["weight"] == sum(SIZES.values())
    assert total.keys() == {"update", "weight", "by_center"}
