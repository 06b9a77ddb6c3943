"""Figures and tables of what models have learned, from results as they are and from results that lack much."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.model_plots import FIGURES, ordered_hazard_ratios
from experiments.report import render


def interval(mean: float | None, margin: float = 0.1) -> dict[str, float | None]:
    return {
        "mean": mean,
        "low": None if mean is None else mean - margin,
        "high": None if mean is None else mean + margin,
    }


def ratio(feature: str, p: float | None, hazard_ratio: float | None = 1.4, high: float | None = 2.0) -> dict[str, Any]:
    return {
        "feature": feature,
        "per": "yes",
        "hazard_ratio": hazard_ratio,
        "low": 1.1,
        "high": high,
        "p": p,
        "robust_p": p,
        "proportional_hazards_p": 0.0004,
    }


@pytest.fixture
def results() -> dict[str, Any]:
    table = {"patients": 100, "events": 40, "converged": True, "broadcasts": 11, "proportional_hazards_p": 0.2}
    curve = {"mean": [0.5, 0.4], "low": [0.4, 0.3], "high": [0.6, 0.5]}
    return {
        "arms": {
            "federated/fedavg": {"kind": "federated", "pooled": {"harrell_c": interval(0.7)}},
            "exact-cox/federated": {"kind": "federated"},
            "exact-cox/centralized": {"kind": "centralized"},
            "centralized": {"kind": "centralized", "pooled": {"harrell_c": interval(0.71)}},
        },
        "differences": [
            {
                "a": "federated/fedavg",
                "b": "centralized",
                "metric": "harrell_c",
                **interval(-0.01, 0.02),
                "lower": -0.025,
                "non_inferior": False,
            }
        ],
        "hazard_ratios": {
            "largest_difference": 2e-9,
            "arms": {
                "exact-cox/federated": {
                    **table,
                    "rows": [ratio("TP53", 0.2), ratio("age", 1e-9), ratio("$rare", None)],
                },
                "exact-cox/centralized": {**table, "broadcasts": None, "rows": [ratio("age", 1e-9, high=1e30)]},
            },
        },
        "explanation": {
            "importance": {
                "federated/fedavg": [{"feature": "age", "drop": interval(0.05), "loss": interval(0.01)}],
                "centralized": [{"feature": "TP53", "drop": interval(None), "loss": interval(0.01)}],
            },
            "partial_dependence": {
                "federated/fedavg": {
                    "age": {"unit": "years", "values": [20.0, 80.0], "risk": curve, "survival": {"1": curve}},
                    "sex": {"unit": "", "values": ["no", "yes"], "risk": curve, "survival": {"1": curve}},
                },
                "centralized": {},
            },
        },
    }


def test_every_figure_is_drawn(results: dict[str, Any]) -> None:
    for draw in FIGURES.values():
        figure = draw(results)
        assert figure is not None
        figure.draw_without_rendering()


def test_nothing_to_show(results: dict[str, Any]) -> None:
    for draw in FIGURES.values():
        assert draw({}) is None
        assert draw({"hazard_ratios": None, "explanation": None}) is None


def test_the_smallest_p_value_comes_first(results: dict[str, Any]) -> None:
    assert [name for name, *_ in ordered_hazard_ratios(results)] == ["age", "TP53", "$rare"]


def test_the_page_has_them(results: dict[str, Any]) -> None:
    page = render(results)
    assert "11 broadcasts" in page
    assert "2.0e-09" in page
    assert "not shown to be non-inferior (bound −0.025)" in page
    assert 'id="figure-hazard_ratios"' in page
    assert 'id="importance"' in page
