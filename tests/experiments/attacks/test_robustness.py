"""Bad centers cost plain averaging much, and a robust aggregator little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

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
    assert c["sign-flip-10", "geometric-median"]["detected"] == 1
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
