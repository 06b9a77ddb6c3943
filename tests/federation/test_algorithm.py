"""The loop, and what an algorithm is: JSON and arrays. One contract for every registered algorithm."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pytest

from federation.algorithm import _REGISTRY, SERVER, Algorithm, Roster, build, register, rounds, run
from federation.averaging import ParameterAveraging
from federation.baseline import FitBaseline
from federation.center import Question
from federation.checkpoint import load_state, save_state
from federation.conformance import Bins, CompareCenters, Family
from federation.contribution import Contribution
from federation.explanation import PartialDependence, PermutationImportance, columns_of, grid_of
from federation.generative import (
    FitBayesianNetwork,
    FitColumnMixtures,
    FitCTGAN,
    FitEncoding,
    FitLatentMixture,
    FitMixture,
    JudgeHeldout,
    SumHeldout,
)
from federation.in_process import question_for
from federation.memory import Memory
from federation.patients import Patients
from federation.pca import FitPCA
from federation.preprocessing import FitPreprocessor, FitTimeGrid
from federation.privacy.dp.statistics import FitScale
from federation.robust_averaging import RobustAveraging
from federation.splits import Split
from federation.state import State
from federation.strategies import FedAvg, FedBuff, FedProx, Scaffold
from federation.stratification import FederatedMixture
from federation.survival import FitCox, FitCurves
from models.generative import CTGANOptions, MixtureOptions, SearchOptions, fit_mixture
from models.survival.baseline import BaselineHazard
from models.training import TrainingOptions
from tests.federation.hospitals import (
    NOISY,
    SCHEMA,
    SMALL,
    averaging,
    federation_of,
    hospitals,
    pooled,
    preprocessor,
    reducing,
    require_equal_states,
)


@register
@dataclass(frozen=True)
class MeanAge(Algorithm):
    """The mean age by repeated halving: each round goes half of the way."""

    name = "mean-age"

    share: float = 0.5
    rounds: int = field(default=4, metadata=SERVER)

    def start(self, roster: Roster) -> State:
        return {"round": np.array(0), "mean": np.array(0.0), "secret": np.array(7.0)}

    def done(self, state: State) -> bool:
        return int(state["round"]) >= self.rounds

    def broadcast(self, state: State) -> State:
        return {"mean": state["mean"]}

    def client_update(self, state: State, patients: Patients, rng: np.random.Generator, memory: Memory) -> Contribution:
        assert set(state) == {"mean"}
        off = patients.train.column("age") - state["mean"]
        seen = ~np.isnan(off)
        return Contribution(len(patients.train), off=self.share * np.nansum(off), n=seen.sum())

    def server_update(self, state: State, total: Contribution) -> State:
        return {**state, "round": state["round"] + 1, "mean": state["mean"] + total["off"] / total["n"]}


# The loop --------------------------------------------------------------------------------------------


def test_the_loop_asks_adds_up_and_updates_until_done() -> None:
    cohorts = {c.name: c._cohort for c in federation_of().centers}
    age = np.nanmean(np.concatenate([c.column("age") for c in cohorts.values()]))
    state = run(MeanAge(rounds=5), federation_of())
    assert state["round"] == 5
    assert state["mean"] == pytest.approx(age * (1 - 0.5**5), rel=1e-12)


def test_hooks_see_every_round_and_any_of_them_stops() -> None:
    seen: list[int] = []
    also: list[int] = []

    def watch(state: State) -> None:
        seen.append(int(state["round"]))

    def stop(state: State) -> bool:
        return int(state["round"]) == 2

    def last(state: State) -> None:
        also.append(int(state["round"]))

    assert run(MeanAge(), federation_of(), after_round=[watch])["round"] == 4
    assert seen == [1, 2, 3, 4]
    seen.clear()
    assert run(MeanAge(), federation_of(), after_round=[watch, stop, last])["round"] == 2
    assert seen == also == [1, 2]  # the hooks after the one that stops hear of the round too


def test_a_run_goes_on_from_any_state() -> None:
    whole = list(rounds(MeanAge(), federation_of()))
    rest = list(rounds(MeanAge(), federation_of(), whole[1]))
    assert len(rest) == 2
    require_equal_states(rest[-1], whole[-1])
    assert run(MeanAge(), federation_of(), whole[-1]) is whole[-1]  # done already


def test_an_algorithm_done_before_it_began_is_an_error() -> None:
    with pytest.raises(ValueError, match="mean-age was done before its first round"):
        run(MeanAge(rounds=0), federation_of())


# Declarations ----------------------------------------------------------------------------------------


def test_a_declaration_holds_the_centers_parameters_alone() -> None:
    text = averaging(FedProx(mu=0.25), rounds=77).declare()
    declared = json.loads(text)
    assert declared["algorithm"] == "parameter-averaging"
    assert declared["parameters"]["proximal"] == 0.25
    assert declared["parameters"]["training"]["steps"] == 1
    assert not {"rounds", "strategy", "preprocessor", "sample", "selection"} & declared["parameters"].keys()


def test_declarations_rebuild_every_parameter() -> None:
    options = TrainingOptions(epochs=3, batch_size=7, optimizer="adam", learning_rate=1 / 3, clip_norm=0.1)
    algorithm = averaging(
        FedProx(mu=0.1), training=options, weighting="events", model_parameters={"hidden": [3, 2], "dropout": 0.25}
    )
    again = build(algorithm.declare())
    assert isinstance(again, ParameterAveraging)
    assert again.training == options
    assert again.proximal == 0.1
    assert again.weighting == "events"
    assert dict(again.model_parameters) == {"hidden": [3, 2], "dropout": 0.25}
    assert again.declare() == algorithm.declare()


def edited(**changes: Any) -> str:
    declared = json.loads(averaging().declare())
    for name, value in changes.items():
        (declared if name == "algorithm" else declared["parameters"])[name] = value
    return json.dumps(declared)


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        (edited(algorithm="os.system"), "this center knows no algorithm 'os.system'; it has .*parameter-averaging"),
        (edited(code="import os"), "has no parameter 'code'"),
        (edited(strategy={}), "has no parameter 'strategy'"),  # the coordinator's business
        (edited(weighting="names"), "weighting|Input should be"),
        (edited(training={"learning_rate": -1.0}), "learning_rate is -1.0"),
        (edited(training={"learn_rate": 1.0}), "learn_rate"),
        (edited(proximal="much"), "valid number"),
        ("__import__('os')", "Expecting value"),
    ],
)
def test_a_center_builds_only_what_it_has_installed(declaration: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(declaration)


def test_control_variates_want_plain_gradient_descent() -> None:
    with pytest.raises(ValueError, match=r"need training\.optimizer 'sgd'"):
        averaging(Scaffold(), training=TrainingOptions(optimizer="adam"))


@pytest.mark.parametrize("sample", [0.0, -1.0, 1.01])
def test_sample_is_a_fraction(sample: float) -> None:
    with pytest.raises(ValueError, match=f"sample is {sample}"):
        averaging(sample=sample)


# The contract of every registered algorithm ----------------------------------------------------------

GRID = np.array([0.5, 1.0, 2.0, 6.0])
EXAMPLES: dict[str, Callable[[], Algorithm]] = {
    "parameter-averaging": lambda: averaging(Scaffold(), **NOISY),
    "buffered-averaging": lambda: averaging(FedBuff(buffer=2), **NOISY),
    "robust-averaging": lambda: RobustAveraging.create(
        FedAvg(), model="deepsurv", model_parameters=SMALL, rounds=2, preprocessor=preprocessor()
    ),
    "preprocessor": lambda: FitPreprocessor(SCHEMA),
    "scale": lambda: FitScale({"age": (20.0, 100.0), "blasts": (0.0, 40.0)}, SCHEMA),
    "pca": lambda: FitPCA("clinical", 2, SCHEMA, reducing(), widest=1, tolerance=1e-3),
    "time-grid": lambda: FitTimeGrid(horizon=5.0, cells=20, points=8),
    "baseline-hazard": lambda: FitBaseline(
        "cox", {}, np.full(preprocessor().n_features, 0.1, np.float32), preprocessor(), GRID
    ),
    "permutation-importance": lambda: PermutationImportance(
        repeats=4,
        weights=np.full(preprocessor().n_features, 0.1, np.float32),
        preprocessor=preprocessor(),
        source=columns_of(preprocessor(), SCHEMA),
    ),
    "partial-dependence": lambda: PartialDependence(
        times=(1.0, 3.0),
        weights=np.full(preprocessor().n_features, 0.1, np.float32),
        preprocessor=preprocessor(),
        values=grid_of(preprocessor(), SCHEMA, ["age", "grade"], 6).values,
        baseline=BaselineHazard(GRID, GRID / 10),
    ),
    "cox": lambda: FitCox(resolution=7, horizon=365 * 12, preprocessor=preprocessor()),
    "compare-centers": lambda: CompareCenters(
        (Bins("age", 20.0, 100.0, 0.05),), (Family("mutations", ("mutated",)),), {"age": (10.0,)}
    ),
    "survival-curves": lambda: FitCurves.of(SCHEMA, "grade", resolution=7, horizon=365 * 12),
    "bayesian-network": lambda: FitBayesianNetwork(SCHEMA, SearchOptions(bins=3, time_bins=3)),
    "mixture": lambda: FitMixture(MixtureOptions(components=2, max_iter=3), preprocessor()),
    "encoding": lambda: FitEncoding(SCHEMA),
    "latent-mixture": lambda: FitLatentMixture(
        MixtureOptions(components=2, max_iter=3),
        {"latent": 2, "hidden": [3]},
        # 5 columns and which are missing to 3 to means and variances of 2, and back to means and deviations
        np.linspace(-0.5, 0.5, 10 * 3 + 3 + 3 * 4 + 4 + 2 * 3 + 3 + 3 * 10 + 10, dtype=np.float32),
        preprocessor("keep"),
    ),
    "ctgan": lambda: FitCTGAN(
        CTGANOptions(embedding=4, generator=(6,), discriminator=(6,), batch_size=20, pac=2, steps=1, rounds=2),
        SCHEMA,
        fit_mixture(pooled(hospitals())[0].values[:, :2, None], MixtureOptions(components=3, max_iter=3)),
    ),
    "heldout-sums": lambda: SumHeldout(resolution=7, horizon=365 * 12),
    "heldout-concordance": lambda: JudgeHeldout(((preprocessor(), np.linspace(-1, 1, preprocessor().n_features)),)),
    "column-mixtures": lambda: FitColumnMixtures(MixtureOptions(components=3, max_iter=3)),
    # of so many components none met by this chain is a number of patients, which the shapes below must not have
    "federated-mixture": lambda: FederatedMixture(("mutated",), rounds=5, geometric=0.5, components=7),
}


def test_every_registered_algorithm_has_an_example_here() -> None:
    ours = {name for name, cls in _REGISTRY.items() if cls.__module__.startswith("federation.")}
    noisy = {"noisy", "private-averaging", "private-gradients", "private-mixture"}  # not the same twice: tested there
    assert ours == EXAMPLES.keys() | noisy


def is_plain(state: State) -> bool:
    return all(isinstance(array, np.ndarray) and array.dtype.kind in "biuf" for array in state.values())


@pytest.mark.parametrize("example", EXAMPLES)
def test_contract(example: str, tmp_path: Any) -> None:
    if example == "ctgan":
        pytest.importorskip("ctgan")
    algorithm, federation = EXAMPLES[example](), federation_of(split=Split(n_folds=5, validation=0.2))

    # It is declared as JSON and rebuilt with the same parameters.
    again = build(algorithm.declare())
    assert type(again) is type(algorithm)
    for f in fields(algorithm):  # type: ignore[arg-type]
        if not f.metadata.get("server"):
            assert getattr(again, f.name) == getattr(algorithm, f.name)

    state = algorithm.start(federation.roster)
    assert state["round"] == 0
    assert is_plain(state)
    assert not algorithm.done(state)
    seen = 0
    while not algorithm.done(state):
        # A question is JSON and plain arrays, and survives the journey.
        question = question_for(algorithm, state, "run", federation.split, federation.roster, 10)
        assert is_plain(question.state)
        travelled = Question.from_json(json.dumps(json.loads(question.to_json())), question.state)
        assert travelled == question

        # A center gives the same answer when asked again; its arrays are float64 and none is a list of patients.
        for center in federation.centers:
            answer, twice = center.answer(question), center.answer(travelled)
            assert answer.patients == twice.patients > 0
            for name, array in answer.items():
                assert array.dtype == np.float64
                np.testing.assert_array_equal(array, twice[name])
                assert center.load() not in array.shape
                assert answer.patients <= 3 or answer.patients not in array.shape  # three may be by chance

        # The coordinator changes no state in place; what it makes of it is plain, and survives a checkpoint.
        before = {name: array.copy() for name, array in state.items()}
        new = algorithm.server_update(state, federation.ask(algorithm, state))
        require_equal_states(before, state)
        assert new["round"] == state["round"] + 1
        assert is_plain(new)
        save_state(tmp_path / "state.npz", new)
        state = load_state(tmp_path / "state.npz")
        require_equal_states(new, state)
        assert all(isinstance(value, float) for value in algorithm.metrics(state).values())
        seen += 1
    assert seen >= 1
