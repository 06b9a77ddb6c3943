"""Competing causes over hospitals: one likelihood, whoever holds the patients; predictions of each cause."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sksurv.metrics import concordance_index_censored
from sksurv.nonparametric import cumulative_incidence_competing_risks

from federation.algorithm import run
from federation.averaging import ParameterAveraging
from federation.explanation import PermutationImportance
from federation.patients import training_data
from federation.randomness import entropies, entropy
from federation.splits import Split
from harmonization import Cohort
from models.batched.streams import Streams
from models.batched.training import engine_for
from models.flat import bind
from models.survival.competing import times_of_cause
from models.survival.network import build_network
from models.survival.savae import SAVAENetwork
from models.training import TrainingOptions, predict_causes
from tests.federation.hospitals import averaging, federation_of, hospitals, patients, pooled, preprocessor

CAUSES = ("relapse", "death")


def probability_of_death(cohort: Cohort) -> NDArray[np.float64]:
    """Of patients with an event: the old die, those with the mutation relapse."""
    log_odds = 0.1 * (np.nan_to_num(cohort.column("age"), nan=60) - 60) - 2 * np.nan_to_num(cohort.column("mutated"))
    return np.asarray(1 / (1 + np.exp(-log_odds)))


def with_causes(cohort: Cohort, seed: int = 0) -> Cohort:
    """The same patients, and which event it was."""
    dies = np.random.default_rng(seed).random(len(cohort)) < probability_of_death(cohort)
    return replace(
        cohort, schema=replace(cohort.schema, causes=CAUSES), cause=np.where(cohort.event, 1 + dies, 0).astype(np.int64)
    )


@cache
def clinics() -> Mapping[str, Cohort]:
    return {name: with_causes(cohort) for name, cohort in hospitals().items()}


def competing(**changes: Any) -> ParameterAveraging:
    parameters = {"latent": 2, "hidden": 6, "causes": 2, "draws": 16} | changes.pop("parameters", {})
    keep = {"preprocessor": preprocessor("keep"), "model": "savae", "model_parameters": parameters}
    return averaging(**keep, **changes)


def test_one_round_is_one_step_on_the_pooled_likelihood() -> None:
    options = TrainingOptions(steps=1, learning_rate=0.3, weight_decay=0.01)
    algorithm = competing(training=options, rounds=1)
    federation = federation_of(clinics(), task="run")
    start = algorithm.start(federation.roster)["weights"]
    after = run(algorithm, federation)["weights"]

    # The pooled patients, with the random numbers that their hospitals drew for them.
    everybody, _ = pooled(clinics())
    path = entropies(0, algorithm.name, "run", 0)
    streams = Streams(path, np.array([entropy(name) for name in clinics()], dtype=np.uint64))
    noise = []
    for j, cohort in enumerate(clinics().values()):
        rng = streams.generator(j)
        rng.integers(2**63)  # the seed of dropout
        noise.append(rng.standard_normal((len(cohort), 2)))
    network = build_network("savae", preprocessor("keep").n_features, algorithm.model_parameters).double().train()
    assert isinstance(network, SAVAENetwork)
    weights, gradient = bind(network, start)
    x = torch.as_tensor(preprocessor("keep").transform(everybody))
    assert everybody.cause is not None
    assert set(everybody.cause) == {0, 1, 2}
    target = network.prepare(everybody.time, everybody.cause)
    network.loss(network(x, torch.as_tensor(np.concatenate(noise)), 0.0), target).backward()  # type: ignore[no-untyped-call]
    penalized = torch.cat([torch.full((p.numel(),), float(p.ndim > 1)) for p in network.parameters()])
    expected = weights.detach() - 0.3 * (gradient + 0.01 * penalized * weights.detach())
    np.testing.assert_allclose(after, expected, atol=1e-6)
    assert np.abs(after - start).max() > 1e-3


@pytest.mark.parametrize(("dropout", "weighting"), [(0.0, "events"), (0.3, "patients")])
def test_together_and_one_by_one(dropout: float, weighting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = TrainingOptions(epochs=2, batch_size=12, optimizer="adam", learning_rate=0.01)
    algorithm = competing(training=options, parameters={"dropout": dropout}, weighting=weighting)
    network = build_network("savae", 6, algorithm.model_parameters)
    assert engine_for(network) == ("loop" if dropout else "vectorized")
    split = Split(seed=1, validation=0.25)
    together = run(algorithm, federation_of(clinics(), split=split))
    with monkeypatch.context() as patched:
        patched.setattr(type(algorithm), "client_updates", lambda *arguments: None)
        alone = run(algorithm, federation_of(clinics(), split=split))
    start = algorithm.start(federation_of(clinics()).roster)["weights"]
    moved = np.linalg.norm(alone["weights"] - start)
    assert moved > 0.1
    assert np.linalg.norm(together["weights"] - alone["weights"]) <= 1e-5 * moved + 1e-6
    np.testing.assert_allclose(together["history"], alone["history"], rtol=2e-5, atol=2e-6, equal_nan=True)
    events = [int(c[split.parts(c.ids, c.event, name) == 0].event.sum()) for name, c in clinics().items()]
    if weighting == "events":  # an event is one, whatever its number
        assert together["history"][0, :, 0].tolist() == events


def test_a_network_of_one_event_takes_an_event_of_any_cause() -> None:
    for model, parameters in (("cox", {}), ("savae", {"latent": 2, "hidden": 6})):
        kept = preprocessor("keep" if model == "savae" else "impute")
        algorithm = averaging(model=model, model_parameters=parameters, rounds=2, preprocessor=kept)
        ours, plain = run(algorithm, federation_of(clinics())), run(algorithm, federation_of())
        np.testing.assert_array_equal(ours["weights"], plain["weights"])


def test_predictions_of_each_cause() -> None:
    names = [f"clinic {j}" for j in range(4)]
    cohorts = {name: with_causes(patients(150, j + 20, age=56 + 4 * j), j) for j, name in enumerate(names)}
    options = TrainingOptions(epochs=2, batch_size=32, optimizer="adam", learning_rate=0.01, clip_norm=5)
    parameters = {"latent": 4, "hidden": 12, "time_scale": 2.0, "horizon": 4.0}
    algorithm = competing(training=options, rounds=25, parameters=parameters)
    weights = run(algorithm, federation_of(cohorts))["weights"]
    network = build_network("savae", preprocessor("keep").n_features, algorithm.model_parameters)
    times = np.linspace(0, 4, 41)

    fitted, new = Cohort.concatenate(list(cohorts.values())), with_causes(patients(300, 77, age=62), 9)
    assert fitted.cause is not None
    assert new.cause is not None
    x = preprocessor("keep").transform(fitted)
    _, incidence = predict_causes(network, weights, x, times)
    assert incidence.shape == (600, 2, 41)
    observed_at, observed = cumulative_incidence_competing_risks(fitted.cause, fitted.time)
    at = [5, 10, 20, 30]  # Aalen and Johansen's curves of the pooled patients, whom the federation never saw
    expected = observed[1:, np.searchsorted(observed_at, times[at], side="right") - 1]
    np.testing.assert_allclose(incidence.mean(axis=0)[:, at], expected, atol=0.05)

    risk, _ = predict_causes(network, weights, preprocessor("keep").transform(new), times)
    known = np.where(np.isnan(new.values), [60, 10, 0.3, 0], new.values)
    rate = np.exp(0.05 * (known[:, 0] - 60) + 0.1 * (known[:, 1] - 10) + 0.8 * known[:, 2]) / 3
    dies = probability_of_death(new)
    truth = np.stack([1 - dies, dies]) * (4 - (1 - np.exp(-4 * rate)) / rate)  # time lost to a cause by year 4
    for j in (1, 2):  # Wolbers' C among patients of none of the hospitals
        time, event = times_of_cause(new.time, new.cause, j)
        assert event.sum() == (new.cause == j).sum()
        own, other, best = (
            concordance_index_censored(event, time, r)[0] for r in (risk[:, j - 1], risk[:, 2 - j], truth[j - 1])
        )
        assert own > best - 0.05
        assert other < 0.5


def test_another_number_of_causes_is_refused() -> None:
    one = next(iter(hospitals().values()))
    for cohort, causes, named in ((one, 2, "none"), (with_causes(one), 3, "relapse, death")):
        with pytest.raises(ValueError, match=f"the network has causes {causes}, .* \\({named}\\)"):
            training_data(cohort, preprocessor("keep"), causes)


def test_explanation_knows_the_causes() -> None:
    algorithm = competing(rounds=1)
    weights = run(algorithm, federation_of(clinics()))["weights"]
    split = Split(fold=0, n_folds=2)
    declared = {"model": "savae", "model_parameters": algorithm.model_parameters, "preprocessor": preprocessor("keep")}
    source = tuple(f"x{j}" for j in range(preprocessor("keep").n_features))
    asked = PermutationImportance(**declared, weights=weights, source=source, repeats=1)  # type: ignore[arg-type]
    found = run(asked, federation_of(clinics(), split=split))
    network = build_network("savae", preprocessor("keep").n_features, algorithm.model_parameters)
    bind(network, weights)
    losses, n = 0.0, 0
    for name, cohort in clinics().items():
        test = cohort[split.parts(cohort.ids, cohort.event, name) == 2]
        data = training_data(test, preprocessor("keep"), 2)
        with torch.no_grad():
            output = network.eval()(torch.as_tensor(data.x, dtype=torch.float32))
            losses += len(test) * float(network.loss(output, network.prepare(data.time, data.event)))
        n += len(test)
    assert float(found["loss"]) == pytest.approx(losses / n, rel=1e-5)
