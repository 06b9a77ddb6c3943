"""Federated principal components: scikit-learn's on the pooled training patients, however they are spread, to 1e-6."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from federation.algorithm import run
from federation.pca import FitPCA, axes_of
from federation.policy import DisclosurePolicy
from federation.preprocessing import FitPreprocessor, preprocessor_of
from federation.splits import TRAIN, Split
from federation.state import State
from harmonization import Cohort, Feature, Schema
from models.preprocessing import PreprocessingOptions, Preprocessor
from tests.federation.hospitals import federation_of

WIDTH = 30
SCHEMA = Schema(
    "slides",
    "1",
    (
        Feature("age", "continuous", reference=60),
        *(Feature(f"e{i}", "continuous", "histopathology", reference=i) for i in range(WIDTH)),
        Feature("sex", "categorical", categories=("F", "M")),
    ),
)
OPTIONS = PreprocessingOptions(reduce={"histopathology": 5})
WIDE = {"widest": 10, "tolerance": 1e-10}


def hospital(n: int, seed: int, absent: float = 0.3) -> Cohort:
    """Embeddings of differing scale and falling variance, missing as a whole for some and here and there for others."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((WIDTH, WIDTH)) * 0.7 ** np.arange(WIDTH)[:, None]
    embedding = (rng.standard_normal((n, WIDTH)) + seed) @ mixing * np.geomspace(0.01, 100, WIDTH)
    embedding[rng.random(embedding.shape) < 0.05] = np.nan
    embedding[rng.random(n) < absent] = np.nan
    values = np.column_stack([rng.normal(60, 9, n), embedding, rng.integers(0, 2, n)])
    ids = np.array([f"{seed}-{i}" for i in range(n)])
    return Cohort(SCHEMA, ids, values, rng.exponential(3, n), rng.random(n) < 0.6)


COHORTS = {"East": hospital(50, 1), "West": hospital(25, 2), "None": hospital(20, 3, absent=1.0)}


def fitted(cohorts: Mapping[str, Cohort], split: Split, **options: object) -> tuple[State, Preprocessor]:
    federation = federation_of(cohorts, schema=SCHEMA, split=split)
    first = preprocessor_of(run(FitPreprocessor(SCHEMA, OPTIONS), federation))
    return run(FitPCA("histopathology", 5, SCHEMA, first, **options), federation), first  # type: ignore[arg-type]


def pooled_block(cohorts: Mapping[str, Cohort], split: Split) -> NDArray[np.float64]:
    """The standardized block of all training patients who have it, by scikit-learn's conventions."""
    tables = [c.values[split.parts(c.ids, c.event, name) == TRAIN, 1 : WIDTH + 1] for name, c in cohorts.items()]
    block = np.concatenate(tables)
    block = block[~np.isnan(block).all(axis=1)]
    z = (block - np.nanmean(block, axis=0)) / np.nanstd(block, axis=0)
    standardized: NDArray[np.float64] = np.nan_to_num(z, nan=0.0)
    return standardized


@pytest.mark.parametrize("options", [{}, WIDE], ids=["outer products", "subspace iteration"])
@pytest.mark.parametrize("split", [Split(), Split(n_folds=4, fold=1)], ids=["everybody", "a fold"])
def test_they_are_scikit_learns_on_the_pooled_training_patients(split: Split, options: dict[str, float]) -> None:
    state, _ = fitted(COHORTS, split, **options)
    block = pooled_block(COHORTS, split)
    theirs = PCA(5, svd_solver="full").fit(block)
    mine = axes_of(state)
    signs = np.sign((mine.components * theirs.components_).sum(axis=1))
    np.testing.assert_allclose(mine.components, theirs.components_ * signs[:, None], atol=1e-6)
    np.testing.assert_allclose(mine.variances, theirs.explained_variance_, rtol=1e-6)
    assert (int(state["round"]) == 1) == (options == {})

    preprocessor = preprocessor_of(state)
    names = preprocessor.names(SCHEMA)
    where = [i for i, name in enumerate(names) if name.startswith("histopathology")]
    assert [names[i] for i in where] == [f"histopathology {i}" for i in range(1, 6)]
    assert not any(name.startswith("e") and name[1:].isdigit() for name in names)
    assert len(names) == preprocessor.n_features
    table = Cohort.concatenate(list(COHORTS.values()))
    present = ~np.isnan(table.values[:, 1 : WIDTH + 1]).all(axis=1)
    design = preprocessor.transform(table)
    assert design.shape == (len(table), len(names))
    z = (table.values[present, 1 : WIDTH + 1] - np.nanmean(_train(split), axis=0)) / np.nanstd(_train(split), axis=0)
    scores = theirs.transform(np.nan_to_num(z, nan=0.0)) * signs / np.sqrt(theirs.explained_variance_)
    np.testing.assert_allclose(design[present][:, where], scores, atol=1e-5)
    np.testing.assert_array_equal(design[~present][:, where], 0)


def _train(split: Split) -> NDArray[np.float64]:
    tables = [c.values[split.parts(c.ids, c.event, name) == TRAIN, 1 : WIDTH + 1] for name, c in COHORTS.items()]
    return np.concatenate(tables)


def test_how_patients_are_spread_over_centers_does_not_matter() -> None:
    table = Cohort.concatenate(list(COHORTS.values()))
    where = np.random.default_rng(4).integers(4, size=len(table))
    other = {f"C{c}": table[where == c] for c in range(4)}
    for options in ({}, WIDE):
        one, another = (axes_of(fitted(c, Split(), **options)[0]) for c in (COHORTS, other))
        np.testing.assert_allclose(one.components, another.components, atol=1e-6)


def test_one_indicator_says_for_all_who_lacks_the_block() -> None:
    _, first = fitted(COHORTS, Split())
    names = first.names(SCHEMA)
    assert "e0 missing" in names
    assert sum(name.endswith("missing") for name in names) == 1


def test_a_center_with_too_few_patients_who_have_the_block_adds_nothing() -> None:
    values = COHORTS["None"].values.copy()
    values[:2, 1 : WIDTH + 1] = 1000.0
    with_two = {**COHORTS, "None": replace(COHORTS["None"], values=values)}
    first = fitted(COHORTS, Split())[1]
    algorithm = FitPCA("histopathology", 5, SCHEMA, first)
    policy = DisclosurePolicy(min_patients=3)
    states = [run(algorithm, federation_of(c, schema=SCHEMA, policy=policy)) for c in (COHORTS, with_two)]
    np.testing.assert_array_equal(states[0]["components"], states[1]["components"])


def test_wide_blocks_send_products_with_the_basis_only() -> None:
    first = fitted(COHORTS, Split())[1]
    federation = federation_of(COHORTS, schema=SCHEMA)
    algorithm = FitPCA("histopathology", 3, SCHEMA, first, widest=10)
    total = federation.ask(algorithm, algorithm.start(federation.roster))
    assert total["image"].shape == (WIDTH, 16)
    assert total["present"] == (~np.isnan(np.concatenate([c.values[:, 1:-1] for c in COHORTS.values()])).all(1)).sum()


def test_reduced_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="histopathology is 0"):
        PreprocessingOptions(reduce={"histopathology": 0})
