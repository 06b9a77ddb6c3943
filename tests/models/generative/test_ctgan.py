"""CTGAN on one table: the encoding is the ctgan package's, patients drawn are valid, and the networks learn."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from harmonization import Cohort
from models.generative.ctgan import CTGANModel, CTGANOptions, CTGANTraining, divergence
from models.generative.survival_law import LawOptions
from models.generative.table_encoding import TableEncoding
from models.generative.variational_mixture import FittedMixture, MixtureOptions, fit_mixture
from tests.models.generative.tables import SCHEMA, patients

pytest.importorskip("ctgan")

MIXTURES = MixtureOptions(components=5, concentration=1e-3, max_iter=20)
LAW = LawOptions(resolution=7.0, horizon=3652)
TINY = CTGANOptions(
    embedding=8, generator=(16,), discriminator=(16,), batch_size=40, pac=4, steps=2, rounds=2, mixtures=MIXTURES
)
NUMERIC = [0, 3, 4]


def mixture(cohort: Cohort) -> FittedMixture:
    return fit_mixture(cohort.values[:, NUMERIC, None], MIXTURES)


@cache
def model() -> CTGANModel:
    return CTGANModel(TINY, LAW).fit(patients(150, seed=1))


class Uniforms:
    """Draws a row per column from the generator that the column's transformer is given below."""

    def random(self, shape: tuple[int, int]) -> NDArray[np.float64]:
        return np.stack([np.random.RandomState(block).random(shape[1]) for block in range(shape[0])])


def test_the_encoding_is_that_of_the_ctgan_package() -> None:
    from ctgan.data_transformer import DataTransformer

    cohort = patients(300, seed=2)
    cohort = cohort[~np.isnan(cohort.values).any(axis=1)]
    fitted = mixture(cohort)
    frame = pd.DataFrame(cohort.values, columns=SCHEMA.names)
    theirs = DataTransformer(max_clusters=MIXTURES.components)
    theirs.fit(frame, ["grade", "mutated"])
    everything = TableEncoding(SCHEMA, fitted)
    kept = everything.keep(everything.counts(cohort, np.random.default_rng(0))["counts"])
    encoding = TableEncoding(SCHEMA, fitted, kept)
    reorder, width = [], 0
    for i, info in enumerate(theirs._column_transform_info_list):
        if info.column_type == "continuous":  # give it our mixture
            block = NUMERIC.index(i)
            info.transform.set_random_state(np.random.RandomState(block), "transform")
            info.transform._bgm_transformer = fitted.to_sklearn(block)
            info.transform.valid_component_indicator = fitted.weights[block] > encoding.threshold
            dim = 1 + len(encoding.modes[block])
            theirs._column_transform_info_list[i] = info._replace(output_dimensions=dim)
            mine = np.arange(dim)
        else:  # its categories come in the order in which they are met
            dim = info.output_dimensions
            mine = np.argsort(np.argsort(info.transform.dummies))
        reorder += (width + mine).tolist()
        width += dim
    matrix, _ = encoding.encode(cohort, cast(Any, Uniforms()))
    assert matrix.shape[1] == width == len(reorder)
    np.testing.assert_allclose(matrix[:, reorder], theirs.transform(frame), atol=1e-6)


def test_what_is_encoded_comes_back() -> None:
    cohort, other = patients(300, seed=4), patients(200, seed=5)
    everything = TableEncoding(SCHEMA, mixture(cohort))
    total = everything.counts(cohort, np.random.default_rng(0))
    encoding = TableEncoding(SCHEMA, mixture(cohort), everything.keep(total["counts"]))
    matrix, states = encoding.encode(other, np.random.default_rng(1))
    back = encoding.decode(states, encoding.numbers(states, matrix[:, encoding.within].astype(float)))
    inside = np.ones(back.shape, bool)
    inside[:, NUMERIC] = np.abs(matrix[:, encoding.within]) < 0.98  # the others were moved to the mode's end
    assert inside.mean() > 0.97
    np.testing.assert_allclose(back[inside], other.values[inside], atol=1e-6)
    one_hot = matrix[:, encoding.columns]
    np.testing.assert_array_equal(one_hot.sum(axis=1), 5)
    np.testing.assert_array_equal(np.add.reduceat(one_hot, encoding.starts, axis=1), 1)
    assert encoding.sizes[1] == 4  # grade: three and missing
    assert encoding.sizes[2] == 2  # never missing
    unseen = Cohort(SCHEMA, np.array(["x"]), np.array([[60.0, 1, np.nan, 3, 2]]), np.ones(1), np.ones(1, bool))
    assert not encoding.known(unseen).any()
    with pytest.raises(ValueError, match="'mutated' is missing for a patient, but was for none"):
        encoding.encode(unseen, np.random.default_rng(1))


def test_what_is_drawn_is_valid_and_missing_at_its_rate() -> None:
    real, drawn = patients(150, seed=1), model().sample(2000, seed=3)
    again = Cohort.from_frame(drawn.to_frame(), SCHEMA)
    np.testing.assert_array_equal(again.values, drawn.values)
    assert len(set(drawn.ids)) == 2000
    np.testing.assert_allclose(np.isnan(drawn.values).mean(0), np.isnan(real.values).mean(0), atol=0.03)
    np.testing.assert_allclose(drawn.column("mutated").mean(), real.column("mutated").mean(), atol=0.04)
    for name in ("age", "blasts", "wbc"):  # whatever the networks have learned
        levels = [np.nanquantile(c.column(name), [0.1, 0.3, 0.5, 0.7, 0.9]) for c in (real, drawn)]
        np.testing.assert_allclose(levels[1], levels[0], atol=0.3 * np.nanstd(real.column(name)))
    assert drawn.event.mean() == pytest.approx(real.event.mean(), abs=0.1)
    assert np.isnan(drawn.column("wbc")).any()
    assert not np.isnan(drawn.column("age")).any()


def test_a_seed_gives_the_same_patients() -> None:
    again = CTGANModel(TINY, LAW).fit(patients(150, seed=1))
    one, two, other = model().sample(50, 7), again.sample(50, 7), model().sample(50, 8)
    np.testing.assert_array_equal(one.values, two.values)
    np.testing.assert_array_equal(one.time, two.time)
    assert not np.array_equal(one.values, other.values, equal_nan=True)
    assert len(model().sample(0, 1)) == 0


def test_batch_normalization_settles_at_what_the_generator_sees() -> None:
    import torch

    from models.generative.adversarial import seeded

    fitted = model().fitted_
    networks = fitted.networks
    condition = fitted._ask(4096, np.random.default_rng(5))
    with seeded(1):
        settled = networks.raw(condition)
    networks.generator.train()
    with seeded(1), torch.no_grad():
        by_batch = networks.raw(condition)
    networks.settle(condition, 9)
    assert not networks.generator.training
    np.testing.assert_allclose(settled, by_batch, atol=0.15)
    with seeded(9):
        np.testing.assert_allclose(networks.raw(condition).std(axis=0), settled.std(axis=0), rtol=0.1)


@pytest.mark.parametrize(("n", "pack"), [(3, 2), (10, 2), (20, 5), (89, 5), (90, 10)])
def test_small_centers_show_fewer_patients_side_by_side(n: int, pack: int) -> None:
    assert CTGANOptions(pac=10).pack(n) == pack


class Shown:
    """What the networks are shown in a round of `train`, in order, and the numbers that it draws."""

    def __init__(self, options: CTGANOptions, pack: int, n: int = 60) -> None:
        from models.generative.adversarial import Rows, train

        cohort = patients(n, seed=1)
        self.training, rng = CTGANTraining(options, SCHEMA), np.random.default_rng(7)
        first = self.training.start(mixture(cohort), 3)
        self.state = self.training.update(first, self.training.answer(first, cohort, rng))
        self.encoding, self.networks = self.training.encoding(self.state), self.training.networks(self.state)
        self.generator: list[Any] = []
        self.discriminator: list[Any] = []
        for network, seen in (
            (self.networks.generator, self.generator),
            (self.networks.discriminator, self.discriminator),
        ):
            network.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].detach().clone()))
        self.rows = Rows(self.encoding, *self.encoding.encode(cohort, rng))
        self.orders: list[NDArray[np.int64]] = []
        self.rng = rng
        self.trained, *self.losses = train(
            self.networks, self.state["weights"], self.rows, self.state["counts"], pack, cast(Any, self)
        )

    def integers(self, *bounds: Any, **options: Any) -> Any:
        drawn = self.rng.integers(*bounds, **options)
        if not options:
            self.seed = int(drawn)
        return drawn

    def random(self, size: int) -> Any:
        return self.rng.random(size)

    def permutation(self, size: int) -> Any:
        self.orders.append(self.rng.permutation(size))
        return self.orders[-1]


def test_a_training_step_is_that_of_the_ctgan_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own `fit`, given weights, states asked for, patients and random numbers: the same losses and weights."""
    import torch
    from ctgan.data_transformer import SpanInfo
    from ctgan.synthesizers import ctgan as package

    options = replace(TINY, steps=1, pac=2)
    mine = Shown(options, pack=2)
    encoding, width, batch = mine.encoding, mine.encoding.width, options.batch_size
    asked = [inputs[:, options.embedding :].numpy() for inputs in mine.generator]
    owner = np.repeat(np.arange(len(encoding.sizes)), encoding.sizes)
    real = mine.discriminator[1][:, :width].numpy()
    spans: list[Any] = []
    for j, size in enumerate(encoding.sizes):  # each of our columns is one of its discrete ones, or a number of its own
        spans += [[SpanInfo(1, "tanh")]] * SCHEMA.features[j].numeric + [[SpanInfo(int(size), "softmax")]]

    class Transformer:
        output_info_list, output_dimensions = spans, width

        def fit(self, *arguments: Any) -> None:
            pass

        def transform(self, table: Any) -> Any:
            return table

    class Sampler:
        def __init__(self, *arguments: Any) -> None:
            self.asked = iter(asked)

        def dim_cond_vec(self) -> int:
            return len(owner)

        def sample_condvec(self, size: int) -> Any:
            condition = next(self.asked)
            state = condition.argmax(axis=1)
            discrete = np.zeros((size, len(encoding.sizes)), np.float32)
            discrete[np.arange(size), owner[state]] = 1
            return condition, discrete, owner[state], state

        def sample_data(self, table: Any, size: int, feature: Any, state: Any) -> Any:
            np.testing.assert_array_equal(feature, owner[asked[0].argmax(axis=1)][mine.orders[0]])
            return real

    networks = mine.training.networks(mine.state)
    networks.load(mine.state["weights"])
    monkeypatch.setattr(package, "DataTransformer", Transformer)
    monkeypatch.setattr(package, "DataSampler", Sampler)
    monkeypatch.setattr(package, "Generator", lambda *arguments, **options: networks.generator)
    monkeypatch.setattr(package, "Discriminator", lambda *arguments, **options: networks.discriminator)
    monkeypatch.setattr(np.random, "shuffle", lambda places: places.__setitem__(slice(None), mine.orders[0]))
    theirs = package.CTGAN(
        embedding_dim=options.embedding, generator_lr=options.generator_rate, generator_decay=options.decay,
        discriminator_lr=options.discriminator_rate, discriminator_decay=options.decay, batch_size=batch,
        pac=options.pac, epochs=1, enable_gpu=False,
    )  # fmt: skip
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(mine.seed)
    theirs.fit(np.zeros((batch, width)))
    torch.set_rng_state(before)
    losses = theirs.loss_values[["Generator Loss", "Discriminator Loss"]].to_numpy()[0]
    np.testing.assert_allclose(mine.losses, losses, rtol=1e-5)
    # Adam takes a whole first step, of 2e-4, where the gradient is rounding, as few are.
    assert np.isclose(networks.weights(), mine.trained, rtol=0, atol=1e-6).mean() > 0.99
    assert np.abs(mine.trained - mine.state["weights"]).mean() > 1e-4


def test_a_small_center_shows_each_patient_several_times_side_by_side() -> None:
    """Of four places for patients it fills two, real and generated; a pack has no others."""
    mine = Shown(TINY, pack=2)
    fake, real, *_ = mine.discriminator
    assert len(fake) == len(real) == TINY.batch_size
    packs = [shown.numpy().reshape(-1, TINY.pac, shown.shape[1]) for shown in (fake, real)]
    for shown in packs:
        np.testing.assert_array_equal(shown[:, 0], shown[:, 1])
        np.testing.assert_array_equal(shown[:, 2], shown[:, 3])
        assert (shown[:, 0] != shown[:, 2]).any(axis=1).mean() > 0.8
    matrix, condition = packs[1][..., : mine.encoding.width], packs[1][..., mine.encoding.width :]
    patients_shown = {row.tobytes() for row in matrix.reshape(-1, mine.encoding.width)}
    assert patients_shown <= {row.tobytes() for row in mine.rows.matrix}
    assert (matrix[..., mine.encoding.columns] * condition).sum(axis=-1).all()  # each has the state asked for


def test_a_center_unlike_the_others_weighs_less() -> None:
    assert divergence(np.array([3.0, 1.0]), np.array([6.0, 2.0])) == pytest.approx(0.0)
    assert divergence(np.array([3.0, 0.0]), np.array([0.0, 2.0])) == pytest.approx(1.0)
    cohort = patients(200, seed=6)
    training = CTGANTraining(CTGANOptions(weighting="similarity"), SCHEMA)
    encoding = TableEncoding(SCHEMA, mixture(cohort))
    _, states = encoding.encode(cohort, np.random.default_rng(1))
    totals = encoding.count(states)
    assert training.weight(encoding, states, totals) == pytest.approx(200)
    mutated = states[cohort.column("mutated") == 1]
    assert 0.5 * len(mutated) < training.weight(encoding, mutated, totals) < 0.95 * len(mutated)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="batch_size is 15; at least twice pac, 20"):
        CTGANOptions(batch_size=15, pac=10)
    with pytest.raises(ValueError, match="steps is 0; 1 or more"):
        CTGANOptions(steps=0)


@pytest.mark.slow
def test_the_networks_learn_what_goes_together() -> None:
    options = CTGANOptions(
        embedding=16, generator=(64, 64), discriminator=(64, 64), generator_rate=1e-3, discriminator_rate=1e-3,
        batch_size=100, pac=5, steps=50, rounds=20,
    )  # fmt: skip
    real = patients(800, seed=1)
    learned = CTGANModel(options, LAW).fit(real)
    drawn = learned.sample(3000, 1)
    for cohort in (real, drawn):
        with_, without = (cohort.column("blasts")[cohort.column("mutated") == m].mean() for m in (1, 0))
        assert with_ - without > 4
    with_, without = (learned.sample(500, 2, conditions={"mutated": m}).column("blasts").mean() for m in (1, 0))
    assert with_ - without > 3


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    training, state = model().fitted_.training, model().fitted_.state
    monkeypatch.setitem(sys.modules, "ctgan", None)
    monkeypatch.setitem(sys.modules, "ctgan.synthesizers.ctgan", None)
    monkeypatch.delitem(sys.modules, "models.generative.adversarial")
    with pytest.raises(ImportError, match=r"pip install 'haemfed\[synthetic\]'"):
        training.networks(state)


@settings(max_examples=10, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.filter_too_much])
@given(data=st.data())
def test_any_cohort_can_be_encoded(data: st.DataObject, cohorts: Any) -> None:
    cohort = data.draw(cohorts)
    cohort = replace(cohort, values=np.clip(cohort.values, -1e6, 1e6))  # squares of larger numbers are not finite
    numeric = [j for j, feature in enumerate(cohort.schema.features) if feature.numeric]
    points = cohort.values[:, numeric, None]
    assume(((~np.isnan(points)).sum(axis=0) >= 2).all())
    everything = TableEncoding(cohort.schema, fit_mixture(points, MIXTURES) if numeric else None)
    total = everything.counts(cohort, np.random.default_rng(0))
    encoding = TableEncoding(cohort.schema, everything.mixture, everything.keep(total["counts"]))
    matrix, states = encoding.encode(cohort, np.random.default_rng(0))
    assert encoding.known(cohort).all()
    back = encoding.decode(states, encoding.numbers(states, matrix[:, encoding.within].astype(float)))
    np.testing.assert_array_equal(np.isnan(back), np.isnan(cohort.values))
    others = [j for j, feature in enumerate(cohort.schema.features) if not feature.numeric]
    np.testing.assert_array_equal(back[:, others], cohort.values[:, others])
    drawn = replace(cohort, values=back)
    np.testing.assert_array_equal(Cohort.from_frame(drawn.to_frame(), cohort.schema).values, back)
