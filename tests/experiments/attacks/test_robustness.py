"""Bad centers cost plain averaging much, and a robust aggregator little."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments.attacks.report import tables
from experiments.attacks.robustness import measure, pieces, summarize


def test_reversed_updates(attacked: Callable[..., Any]) -> None:
    section = {
        "harms": ["sign-flip-10", "nan"],
        "shares": [0.15],
        "aggregators": [{"name": "mean"}, {"name": "geometric-median"}],
        "feature": "mutated",
    }
    config, study = attacked(robustness=section)
    rows = [row for piece in pieces(config, study) for row in measure(config, study, piece)]
    found = summarize(config, study, rows)
    c = {(row["harm"], row["aggregator"]): row for row in found["table"]}
    assert c["none", "mean"]["loss"] == {"mean": 0, "low": 0, "high": 0}
    assert c["sign-flip-10", "mean"]["loss"]["mean"] > 0.1
    assert c["sign-flip-10", "geometric-median"]["loss"]["mean"] < 0.03
    assert c["sign-flip-10", "geometric-median"]["detected"]["mean"] == 1
    assert c["nan", "mean"]["loss"]["mean"] < 0.03  # left out
    assert any(
        said.startswith("sign-flip-10, 15% of the centers: plain averaging loses 0.") for said in found["findings"]
    )


def test_a_backdoor_is_measured_by_the_genes_effect(attacked: Callable[..., Any]) -> None:
    section = {"harms": ["backdoor"], "shares": [0.3], "aggregators": [{"name": "mean"}], "feature": "mutated"}
    config, study = attacked(robustness=section)
    honest, bad = measure(config, study, "0-0")
    assert honest["gene"] > 0.2
    assert bad["gene"] < honest["gene"] - 0.2


def test_an_unknown_harm_is_named(attacked: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="no harm 'theft'; there are label-flip"):
        attacked(robustness={"harms": ["theft"]})


def test_intervals_are_of_the_same_folds() -> None:
    """Folds differ much, losses little: the interval is of the paired losses (Nadeau & Bengio 2003, by hand)."""
    honest, lost = [0.6, 0.7, 0.8], [0.01, 0.02, 0.03]
    common = {"gene": 0.0, "bad_patients": 0.2}
    rows = [
        {"harm": harm, "share": share, "aggregator": "mean", "piece": str(k), "c": c - loss, "detected": auc, **common}
        for k, (c, of_fold) in enumerate(zip(honest, lost, strict=True))
        for harm, share, loss, auc in (("none", 0.0, 0.0, None), ("sign-flip", 0.2, of_fold, 0.7 + of_fold))
    ]
    study: Any = SimpleNamespace(config=SimpleNamespace(split=SimpleNamespace(folds=5)))
    _, bad = summarize(SimpleNamespace(), study, rows)["table"]  # type: ignore[arg-type]
    margin = 4.302653 * np.sqrt((1 / 3 + 1 / 4) * 0.0001)  # t with 2 degrees of freedom
    expected = pytest.approx({"mean": 0.02, "low": 0.02 - margin, "high": 0.02 + margin})
    assert bad["loss"] == expected
    assert bad["detected"]["high"] - bad["detected"]["mean"] == pytest.approx(margin)
    (honest_table, table, detection) = tables({"attack": "robustness", "table": [_, bad]})
    assert honest_table.rows == [["none", "0.700;\n+0.000\n(0.000 to 0.000)"]]
    assert table.rows == [["sign-flip", "0.680;\n+0.020\n(-0.013 to 0.053)"]]
    assert detection.rows == [["sign-flip", "0.72\n(0.69 to 0.75)"]]
    assert "| sign-flip | 0.680; +0.020 (-0.013 to 0.053) |" in table.markdown()


def test_who_lies_ignores_the_bound_on_updates_and_who_is_poisoned_keeps_it(attacked: Callable[..., Any]) -> None:
    ranges = {"age": [20, 100], "blasts": [0, 40]}
    private = {
        "model": {"name": "discrete_hazard", "parameters": {"intervals": 3}},
        "ridge": None,
        "rounds": 4,
        "training": {"steps": 3, "learning_rate": 1},
        "federation.secure_aggregation": {},
        "federation.differential_privacy": {
            **{"epsilon": 50, "accountant": "rdp", "unit": "center", "noise": "distributed", "clip": 0.3},
            **{"largest": 20, "ranges": ranges},
        },
    }
    section = {"harms": ["scaled", "label-flip"], "shares": [0.2], "aggregators": [], "feature": "mutated"}
    config, study = attacked(robustness=section | {"private": private})
    honest, scaled, poisoned = measure(config, study, "0-0")
    assert {row["aggregator"] for row in (honest, scaled, poisoned)} == {"differential privacy"}
    assert honest["c"] > 0.6
    assert abs(scaled["gene"]) > 3 * abs(honest["gene"])
    assert poisoned["c"] > honest["c"] - 0.1
