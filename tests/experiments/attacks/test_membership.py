"""Membership inference finds who was memorized, and is at chance where nothing depends on membership."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from experiments.attacks import membership
from experiments.attacks.membership import (
    auc_interval,
    choices,
    chosen,
    concordances,
    likelihood_ratios,
    mean_auc,
    measure,
    summarize,
)
from experiments.settings import ConfigError


def test_the_area_is_the_librarys() -> None:
    rng = np.random.default_rng(0)
    scores, inside = rng.normal(size=(2, 80)).round(1), rng.random((2, 80)) < 0.4
    expected = np.mean([roc_auc_score(m, s) for s, m in zip(scores, inside, strict=True)])
    assert mean_auc(scores, inside) == pytest.approx(expected)
    untied = rng.normal(size=(2, 80))
    weights = rng.integers(0, 3, 80).astype(float)
    expected = np.mean([roc_auc_score(m, s, sample_weight=weights) for s, m in zip(untied, inside, strict=True)])
    assert mean_auc(untied, inside, weights) == pytest.approx(expected)


def test_ratios_tell_what_losses_alone_do_not() -> None:
    """Patients differ much in how well they are predicted, and little by having been seen."""
    rng = np.random.default_rng(0)
    inside = rng.random((24, 300)) < 0.5
    values = 5 * rng.normal(size=300) + inside + 0.3 * rng.normal(size=inside.shape)
    ratios = likelihood_ratios(values, inside)
    assert mean_auc(ratios, inside) > 0.95
    assert mean_auc(values, inside) < 0.65
    chance = auc_interval(
        likelihood_ratios(rng.normal(size=inside.shape), inside), inside, np.random.default_rng(1), 50
    )
    assert chance["low"] < 0.5 < chance["high"]
    assert chance["high"] < 0.53


def test_a_model_that_memorizes_gives_its_patients_away(attacked: Callable[..., Any]) -> None:
    memorizing = {
        "model": {"name": "deepsurv", "parameters": {"hidden": [64, 64]}},
        "ridge": 0,
        "rounds": 20,
        "training": {"steps": 10, "optimizer": "adam", "learning_rate": 0.01},
    }
    config, study = attacked(
        membership={"models": {"released": {}, "memorizing": memorizing}, "shadows": 8, "draws": 40}
    )
    rows = [row for name in ("released", "memorizing") for row in measure(config, study, f"{name}/0")]
    table = {row["name"]: row["auc"] for row in summarize(config, study, rows)["table"]}
    assert table["memorizing, LiRA"]["low"] > 0.53
    assert table["released, LiRA"]["mean"] < table["memorizing, LiRA"]["low"]


def test_sums_give_members_away_and_what_stops_it(attacked: Callable[..., Any]) -> None:
    privacy = {"epsilon": 0.5, "ranges": {"age": [20, 100], "blasts": [0, 40]}}
    section = {"draws": 40, "privacy": privacy, "policy": {"min_patients": 15}}
    config, study = attacked(membership=section)
    rows = measure(config, study, "sums/0")
    table = {row["name"]: row["auc"] for row in summarize(config, study, rows)["table"]}
    bare = table["sums, bare"]["mean"]
    assert table["sums, secure aggregation"]["mean"] < bare - 0.02
    assert table["sums, differential privacy"]["mean"] < bare - 0.05
    assert table["sums, secure aggregation, differential privacy"]["mean"] < table["sums, secure aggregation"]["mean"]
    small = "centers of 1 to 19 patients"
    assert table[f"sums, bare, {small}"]["mean"] > 0.57
    refused = table[f"sums, disclosure rules, {small}"]  # fewer than 15 of 19 patients or less: a guess
    assert refused["low"] < 0.5 < refused["high"]
    large = "centers of 50 patients and more"
    assert table[f"sums, disclosure rules, {large}"]["mean"] == pytest.approx(table[f"sums, bare, {large}"]["mean"])


def test_means_follow_from_noisy_sums_where_there_is_little_noise(
    attacked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "noise_for", lambda *_: 1e-6)
    privacy = {"epsilon": 1, "ranges": {"age": [0, 120], "blasts": [0, 100]}}
    config, study = attacked(membership={"draws": 2, "privacy": privacy})
    scores = {row["model"]: row["value"] for row in measure(config, study, "sums/0") if row["shadow"] == 0}
    np.testing.assert_allclose(scores["sums, differential privacy"], scores["sums, bare"], atol=1e-3)


def test_the_last_model_within_one_standard_error_is_released() -> None:
    noise = np.array([-0.02, 0.01, 0.03, -0.01, -0.01])  # a standard error of .0084
    inner = np.array([0.69, 0.70, 0.695, 0.692, 0.68])[:, None] + noise
    assert chosen(inner) == 3
    assert chosen(inner[::-1]) == 3  # none after the best is within
    assert chosen(inner[:1]) == 0


def test_a_release_is_chosen_on_inner_patients_alone(attacked: Callable[..., Any]) -> None:
    models = {"released": {}, "heavier": {"ridge": 50}, "useless": {"rounds": 1, "training.learning_rate": 1e-9}}
    config, study = attacked(membership={"models": models, "families": {"Cox": list(models)}})
    rows = [row for name in models for row in concordances(config, study, name)]
    assert all(len(row["inner"]) == 2 for row in rows)
    table = {row["name"]: row for row in choices(config, rows)}
    assert [table[f"Cox: {name}"]["released"] for name in models] == [False, True, False]
    assert table["Cox: chosen in each fold"]["test C"] > table["Cox: useless"]["test C"] + 0.05
    tampered = [row | ({"test": 0.0} if "test" in row else {}) for row in rows]
    again = {row["name"]: row for row in choices(config, tampered)}
    assert [again[f"Cox: {name}"]["released"] for name in models] == [False, True, False]
    with pytest.raises(ConfigError, match=r"families\.Cox: no model 'other'"):
        attacked(membership={"models": models, "families": {"Cox": ["other"]}})
