"""Conditions, equal classes, one center's patients and the schema's implications, for every generator."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from harmonization import Cohort
from harmonization.schema import Implication
from models.generative import (
    VAEBGM,
    BayesianNetwork,
    CTGANModel,
    FittedCTGAN,
    MixtureOptions,
    PatientGenerator,
    SearchOptions,
    VAEBGMOptions,
    with_center,
    without_center,
)
from models.generative.drawing import HOSPITAL
from models.steps import TrainingOptions
from tests.models.generative.tables import SCHEMA, patients
from tests.models.generative.test_ctgan import LAW, TINY

MODELS = ("bayesian_network", "ctgan", "vae_bgm")
CENTERS = ("north", "south")
IMPLICATIONS = (
    Implication(("grade", "missing"), (("wbc", "missing"), ("mutated", 0))),  # of a grade that nobody gave
    Implication(("mutated", 1), (("grade", "known"),)),
)


def fit(name: str, cohort: Cohort) -> PatientGenerator:
    torch.set_num_threads(1)
    if name == "bayesian_network":
        return BayesianNetwork(SearchOptions(bins=4)).fit(cohort).fitted_
    if name == "ctgan":
        pytest.importorskip("ctgan")
        return CTGANModel(TINY, LAW).fit(cohort).fitted_
    training = TrainingOptions(epochs=10, batch_size=64, optimizer="adam", learning_rate=0.01)
    mixture = MixtureOptions(components=4, max_iter=30)
    return VAEBGM(VAEBGMOptions({"latent": 3, "hidden": [24]}, training, 5, mixture, LAW)).fit(cohort).fitted_


@cache
def learned(name: str) -> PatientGenerator:
    """From two centers; in the south everybody's grade is high, and no one is mutated in the north."""
    whole = patients(500, seed=3)
    center = np.where(whole.column("mutated") == 1, "south", "north")
    schema = replace(SCHEMA, implications=IMPLICATIONS)
    return fit(name, replace(with_center(whole, center, CENTERS), schema=with_hospital(schema)))


def with_hospital(schema: object) -> object:
    empty = replace(patients(3), schema=schema)  # type: ignore[type-var]
    return with_center(empty, "north", CENTERS).schema


@pytest.mark.parametrize("name", MODELS)
def test_conditions_are_met(name: str) -> None:
    drawn = learned(name).sample(60, seed=2, conditions={"grade": "high", "age": 71, "wbc": None})
    assert (drawn.column("grade") == 2).all()
    assert (drawn.column("age") == 71).all()
    assert np.isnan(drawn.column("wbc")).all()
    assert len(set(drawn.ids)) == len(drawn) == 60
    assert drawn.schema.names == SCHEMA.names
    again = learned(name).sample(60, seed=2, conditions={"grade": "high", "age": 71, "wbc": None})
    np.testing.assert_array_equal(drawn.values, again.values)
    np.testing.assert_array_equal(drawn.time, again.time)


@pytest.mark.parametrize("name", ["bayesian_network", "vae_bgm"])
def test_what_goes_with_a_condition_follows(name: str) -> None:
    high, low = (learned(name).sample(400, seed=3, conditions={"grade": grade}) for grade in ("high", "low"))
    assert np.mean(high.column("mutated")) > np.mean(low.column("mutated")) + 0.4
    assert np.nanmean(high.column("blasts")) > np.nanmean(low.column("blasts")) + 4


@cache
def by_hand() -> FittedCTGAN:
    """CTGAN whose first noise alone decides grade, mutation and center, and whose blasts are those it is asked for."""
    fitted = learned("ctgan")
    assert isinstance(fitted, FittedCTGAN)
    encoding, networks = fitted.encoding, fitted.training.networks(fitted.state)
    last = networks.generator.seq[-1]
    noise = last.in_features - TINY.embedding - int(encoding.sizes.sum())
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
        for name, slopes in (("grade", (-60, 20, 60, -20)), ("mutated", (-20, 20)), (HOSPITAL, (-20, 20))):
            start = encoding.starts[fitted.schema.index(name)]
            last.weight[encoding.columns[start : start + len(slopes)], noise] = torch.tensor(slopes).float()
        blasts = fitted.schema.index("blasts")
        told = encoding.starts[blasts] + np.arange(encoding.sizes[blasts])
        last.weight[encoding.columns[told], noise + TINY.embedding + told] = 50.0
    return replace(fitted, state={**fitted.state, "weights": networks.weights()})


def test_ctgan_keeps_those_who_have_what_was_asked_for() -> None:
    """Here it cannot be told a grade or a center: who has it is found, and his noise is one that decides the rest."""
    assert 0.25 < by_hand().sample(400, seed=3).column("mutated").mean() < 0.5
    wanted: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({"conditions": {"grade": "high"}}, {"conditions": {"grade": "low"}}),
        ({"center": "south"}, {"center": "north"}),
    )
    for of_some, of_others in wanted:
        assert by_hand().sample(400, seed=3, **of_some).column("mutated").mean() > 0.9
        assert by_hand().sample(400, seed=3, **of_others).column("mutated").mean() < 0.1


def test_ctgan_is_asked_for_what_is_wanted() -> None:
    """Of states that it makes as asked nobody is thrown away; of others all but those who have it by chance."""
    index, rng = by_hand().schema.index, np.random.default_rng(4)
    assert len(by_hand()._propose(500, {index("blasts"): 12.0}, rng)) > 490
    assert 100 < len(by_hand()._propose(500, {index("grade"): 2.0}, rng)) < 200


@pytest.mark.parametrize("name", MODELS)
def test_classes_are_equally_many(name: str) -> None:
    drawn = learned(name).sample(61, seed=4, balance="grade", conditions={"mutated": 0})
    np.testing.assert_array_equal(np.bincount(drawn.column("grade").astype(int)), [21, 20, 20])
    assert (drawn.column("mutated") == 0).all()
    assert set(drawn.column("grade")[:30]) == {0, 1, 2}  # in no order
    assert learned(name).schema.obeyed(with_center(drawn, "north", CENTERS).values).all()


@pytest.mark.parametrize("name", MODELS)
def test_patients_of_one_center(name: str) -> None:
    drawn = {center: learned(name).sample(200, seed=5, center=center) for center in CENTERS}
    assert all(cohort.schema.names == SCHEMA.names for cohort in drawn.values())
    if name != "ctgan":  # a few steps teach it nothing
        assert drawn["south"].column("mutated").mean() > drawn["north"].column("mutated").mean() + 0.6
    whole = learned(name).sample(200, seed=5)
    assert whole.schema.names == SCHEMA.names


@pytest.mark.parametrize("name", MODELS)
def test_patients_obey_the_implications(name: str) -> None:
    drawn = learned(name).sample(1500, seed=6)
    unknown = np.isnan(drawn.column("grade"))
    assert unknown.any()
    assert np.isnan(drawn.column("wbc")[unknown]).all()
    assert (drawn.column("mutated")[unknown] == 0).all()
    fixed = learned(name).sample(30, seed=6, conditions={"grade": None, "mutated": 0})
    assert np.isnan(fixed.column("wbc")).all()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"conditions": {"grade": "worst"}}, "'grade' is conditioned on 'worst'; it is one of low, mid, high"),
        ({"conditions": {"mutated": 2}}, "'mutated' is conditioned on 2; it is a binary feature"),
        ({"conditions": {"age": 300}}, "its range is 0 to 120"),
        ({"conditions": {"age": "old"}}, "continuous feature"),
        ({"conditions": {"age": None}}, "'age' is conditioned on None, which none of the patients has"),
        ({"conditions": {"eyes": 2}}, "no feature 'eyes'"),
        ({"balance": "age"}, "balance is 'age', a continuous feature"),
        ({"balance": "grade", "conditions": {"grade": "high"}}, "leave out one"),
        ({"center": "east"}, "'hospital' is conditioned on 'east'; it is one of north, south"),
    ],
)
def test_what_cannot_be_is_refused(name: str, asked: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        learned(name).sample(5, seed=1, **asked)  # type: ignore[arg-type]


def test_what_contradicts_the_implications_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.generative.drawing.MOST_DRAWS", 20_000)
    with pytest.raises(ValueError, match="only 0 fulfil the conditions"):
        learned("bayesian_network").sample(5, seed=1, conditions={"grade": None, "mutated": 1})


def test_who_knows_no_centers_says_so() -> None:
    with pytest.raises(ValueError, match="knows no centers"):
        BayesianNetwork(SearchOptions(bins=3)).fit(patients(100)).sample(5, seed=1, center="north")
    with pytest.raises(ValueError, match="center is 'east'"):
        with_center(patients(5), "east", CENTERS)
    assert without_center(with_center(patients(5), "north", CENTERS)).schema == SCHEMA
