"""Nested comparison: no test patient reaches a model, pieces are kept, the table is what the pieces say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from experiments import nested
from experiments.nested import CONTENDERS, Contender, Piece, compare, compute, grid, outer_folds, table
from federation.checkpoint import load_state
from harmonization import Cohort, Feature, Schema

SCHEMA = Schema("made-up", "1", (Feature("age", "continuous", reference=60), Feature("mutated", "binary")))


def patients(n: int = 120) -> Cohort:
    rng = np.random.default_rng(0)
    values = np.column_stack([rng.normal(60, 10, n), rng.random(n) < 0.4]).astype(float)
    died = rng.exponential(3 * np.exp(-0.08 * (values[:, 0] - 60) - values[:, 1]))
    left = rng.uniform(0.5, 9, n)
    values[rng.random(values.shape) < 0.1] = np.nan
    ids = np.array([f"p{i}" for i in range(n)])
    return Cohort(SCHEMA, ids, values, np.minimum(died, left), died <= left)


@pytest.fixture
def cohort(monkeypatch: pytest.MonkeyPatch) -> Cohort:
    found = patients()
    monkeypatch.setattr(nested, "_cohort", lambda name, data_dir: found)
    return found


class Watched:
    """Remembers who it was fitted to, by their times, and predicts with its setting."""

    seen: list[tuple[float, frozenset[float]]]

    def __init__(self, good: bool) -> None:
        self.good = good

    def fit(self, x: NDArray[np.float64], y: Any) -> None:
        assert np.isnan(x).any()
        self.seen.append((float(self.good), frozenset(y["time"].tolist())))

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.nan_to_num(x).sum(axis=1) * (1 if self.good else -1)

    def predict_survival(self, x: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.tile(np.exp(-times), (len(x), 1))


def test_settings_are_chosen_on_training_patients_alone(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Watched.seen = []
    contender = Contender(lambda setting, seed: Watched(**setting), grid(good=(False, True)), missing="keep")
    monkeypatch.setitem(CONTENDERS, "watched", contender)
    piece = Piece("made-up", None, "watched", 3, 1, 4, 3, tmp_path)
    compute(piece)
    found = load_state(piece.path)
    assert found["chosen"] == 1
    assert found["scores"].shape == (2,)
    tested = outer_folds(cohort, 3, 4) == 1
    assert found["risk"].shape == (tested.sum(),)
    times = set(cohort.time[tested].tolist())
    assert len(Watched.seen) == 2 * 3 + 1
    assert not any(times & fitted for _, fitted in Watched.seen)
    assert Watched.seen[-1] == (1.0, frozenset(cohort.time[~tested].tolist()))
    np.testing.assert_array_equal(found["survival"][0], np.exp(-nested.TIMES))


def test_settings_that_are_added_are_computed_and_no_others(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Watched.seen = []
    bad, both = grid(good=(False,)), grid(good=(True, False))
    build = Contender(lambda setting, seed: Watched(**setting), bad, missing="keep")
    piece = Piece("made-up", None, "watched", 3, 1, 4, 3, tmp_path)
    monkeypatch.setitem(CONTENDERS, "watched", build)
    assert not piece.done
    compute(piece)
    assert piece.done
    before = load_state(piece.path)
    assert len(Watched.seen) == 3 + 1
    monkeypatch.setitem(CONTENDERS, "watched", replace(build, settings=both))
    assert not piece.done
    compute(piece)
    assert piece.done
    after = load_state(piece.path)
    assert len(Watched.seen) == 4 + 3 + 1
    assert after["scores"][1] == before["scores"][0]
    assert after["chosen"] == 0
    assert after["seconds"] > before["seconds"]
    monkeypatch.setitem(CONTENDERS, "watched", build)
    compute(piece)
    np.testing.assert_array_equal(load_state(piece.path)["risk"], before["risk"])


def test_seeds_draw_other_folds_and_each_patient_is_tested_once() -> None:
    cohort = patients()
    first, second = outer_folds(cohort, 0, 5), outer_folds(cohort, 1, 5)
    assert np.bincount(first).tolist() == [24] * 5
    assert (first != second).mean() > 0.5


def test_two_models_are_compared_over_all_seeds(
    cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cox = replace(CONTENDERS["cox"], settings=grid(alpha=(1.0,)))
    upside_down = Contender(lambda setting, _: cox.build({"alpha": 1e6}, 0), grid(alpha=(1.0,)))
    monkeypatch.setitem(CONTENDERS, "cox", cox)
    monkeypatch.setitem(CONTENDERS, "flat", upside_down)
    pieces: dict[str, dict[tuple[int, int], Any]] = {"cox": {}, "flat": {}}
    for model, of_model in pieces.items():
        for seed in (0, 1):
            for fold in range(3):
                piece = Piece("made-up", None, model, seed, fold, 3, 2, tmp_path)
                compute(piece)
                of_model[seed, fold] = load_state(piece.path)
    result = compare(cohort, pieces, 3)
    rows = result["models"]
    assert rows["cox"]["harrell_c"]["mean"] == pytest.approx(np.mean(rows["cox"]["by_seed"]["harrell_c"]))
    assert rows["cox"]["harrell_c"]["low"] > 0.6
    gap = rows["cox"]["against_best_other"]["ibs"]
    assert gap["mean"] == pytest.approx(rows["cox"]["ibs"]["mean"] - rows["flat"]["ibs"]["mean"])
    assert gap["high"] < 0
    assert rows["cox"]["chosen"] == [{"setting": {"alpha": 1.0}, "times": 6}]
    assert "| made-up | cox | 0." in table({"made-up": result})
