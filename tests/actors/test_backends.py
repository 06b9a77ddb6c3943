"""The same algorithm object gives the same result in one process and on actors, however centers are packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from actors.federation import INLINE_BYTES, RayFederation
from federation.algorithm import Algorithm, Roster, run
from federation.averaging import ParameterAveraging, Selection
from federation.baseline import FitBaseline
from federation.center import Center
from federation.explanation import PartialDependence, PermutationImportance, columns_of, grid_of
from federation.generative import FitBayesianNetwork, FitColumnMixtures, FitLatentMixture, FitMixture
from federation.in_process import InProcessFederation
from federation.pca import FitPCA
from federation.preprocessing import FitPreprocessor, FitTimeGrid
from federation.splits import Split
from federation.state import State
from federation.strategies import STRATEGIES, Scaffold
from federation.survival import FitCox, FitCurves
from models.flat import get_weights
from models.generative import MixtureOptions, SearchOptions
from models.survival.baseline import BaselineHazard
from models.survival.network import build_network
from models.training import TrainingOptions
from tests.actors.conftest import Packings
from tests.actors.hospitals import NAMES, SCHEMA, averaging, federation_of, preprocessor, reducing

SPLIT = Split(seed=1, n_folds=4, validation=0.2)
ROSTER = Roster(NAMES, seed=5)


def in_process(algorithm: Algorithm, task: str = "task", directory: Path | None = None) -> State:
    """The final state in this process."""
    centers = [Center(s.name, s.source, s.position, SCHEMA, directory=directory) for s in federation_of()]
    return run(algorithm, InProcessFederation(centers, ROSTER.seed, SPLIT, task))


def on_actors(packings: Packings, packing: str, algorithm: Algorithm, task: str = "task") -> State:
    """The final state on actors."""
    return run(algorithm, RayFederation(packings[packing](), ROSTER, SPLIT, task))


def assert_same(a: State, b: State) -> None:
    """Bit by bit."""
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name, strict=True)


def algorithms() -> dict[str, Algorithm]:
    """Every algorithm; averaging with every strategy, and with options that take another path."""
    weights = np.linspace(-0.1, 0.1, preprocessor().n_features, dtype=np.float32)
    early = averaging(sample=0.5, rounds=6, weighting="events", selection=Selection("concordance", patience=2))
    linear = averaging(
        model="cox",
        model_parameters={},
        training=TrainingOptions(steps=3, optimizer="adam", clip_norm=1.0, weight_decay=0.1),
        weighting="uniform",
    )
    autoencoder = build_network("vae", preprocessor().n_features, {"latent": 2, "hidden": [3]})
    autoencoder.initialize(np.random.default_rng(0))
    found: dict[str, Algorithm] = {
        "preprocessor": FitPreprocessor(SCHEMA),
        "outer products": FitPCA("clinical", 2, SCHEMA, reducing()),
        "subspace iteration": FitPCA("clinical", 2, SCHEMA, reducing(), widest=1, max_rounds=3),
        "time grid": FitTimeGrid(horizon=6.0, cells=60, points=10),
        "baseline hazard": FitBaseline("cox", {}, weights, preprocessor(), np.arange(1.0, 7.0)),
        "permutation importance": PermutationImportance(
            part="validation",
            repeats=3,
            weights=weights,
            preprocessor=preprocessor(),
            source=columns_of(preprocessor(), SCHEMA),
        ),
        "partial dependence": PartialDependence(
            part="train",
            times=(1.0, 3.0),
            weights=weights,
            preprocessor=preprocessor(),
            values=grid_of(preprocessor(), SCHEMA, ["age", "grade"], 5).values,
            baseline=BaselineHazard(np.arange(1.0, 7.0), np.arange(1.0, 7.0) / 10),
        ),
        "exact cox": FitCox(resolution=7, horizon=3652, alpha=1.0, tolerance=1e-6, preprocessor=preprocessor()),
        "Bayesian network": FitBayesianNetwork(SCHEMA, SearchOptions(bins=4)),
        "mixture": FitMixture(MixtureOptions(components=3, max_iter=5), preprocessor()),
        "mixtures of columns": FitColumnMixtures(MixtureOptions(components=3, max_iter=5)),
        "mixture of latents": FitLatentMixture(
            MixtureOptions(components=3, max_iter=5),
            {"latent": 2, "hidden": [3]},
            get_weights(autoencoder),
            preprocessor(),
        ),
        "survival curves": FitCurves.of(SCHEMA, resolution=7, horizon=3652),
        "half of the centers, stopping early": early,
        "linear, adam, uniform weights": linear,
    }
    return found | {name: averaging(kind()) for name, kind in STRATEGIES.items()}


@pytest.mark.parametrize("name", algorithms())
def test_the_backends_agree(name: str, packings: Packings) -> None:
    algorithm = algorithms()[name]
    expected = in_process(algorithm, name)
    for packing in ("one host", "two hosts", "one actor per center"):
        assert_same(on_actors(packings, packing, algorithm, name), expected)


def test_strategies_differ() -> None:
    """If all strategies were one, the backends would agree on them too."""
    weights = {n: in_process(a)["weights"] for n, a in algorithms().items() if isinstance(a, ParameterAveraging)}
    for name, found in weights.items():
        for other in weights.keys() - {name}:
            if len(found) == len(weights[other]):
                assert np.abs(found - weights[other]).max() > 1e-7, f"{name} and {other}"


@pytest.mark.parametrize("packing", ["one host", "two hosts", "one actor per center"])
def test_a_run_repeated_gives_the_same_bits(packing: str, packings: Packings) -> None:
    once = on_actors(packings, packing, averaging(Scaffold()), "repeated")
    assert_same(on_actors(packings, packing, averaging(Scaffold()), "repeated"), once)


def test_random_numbers_depend_on_the_task_and_the_seed(packings: Packings) -> None:
    def weights(task: str, seed: int) -> np.ndarray:
        # the initial weights depend on the seed, so the linear model, which starts at zero
        algorithm = averaging(model="cox", model_parameters={})
        federation = RayFederation(packings["one host"](), Roster(NAMES, seed), SPLIT, task)
        return run(algorithm, federation)["weights"]

    first = weights("one", 1)
    assert np.abs(first - weights("two", 1)).max() > 1e-5
    assert np.abs(first - weights("one", 2)).max() > 1e-5


@pytest.mark.parametrize("hidden", [[100], [200, 200]], ids=["inline", "by reference"])
def test_a_state_travels_unchanged_with_the_call_or_through_the_object_store(
    hidden: list[int], packings: Packings
) -> None:
    algorithm = averaging(model_parameters={"hidden": hidden}, rounds=2)
    size = sum(array.nbytes for array in algorithm.broadcast(algorithm.start(ROSTER)).values())
    assert (size < INLINE_BYTES) == (len(hidden) == 1)
    assert_same(on_actors(packings, "one host", algorithm), in_process(algorithm))


def test_inline_and_by_reference_are_the_same(packings: Packings, monkeypatch: pytest.MonkeyPatch) -> None:
    inline = on_actors(packings, "two hosts", averaging(Scaffold()), "carried")
    monkeypatch.setattr("actors.federation.INLINE_BYTES", 0)
    assert_same(on_actors(packings, "two hosts", averaging(Scaffold()), "carried"), inline)
