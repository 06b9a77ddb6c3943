"""Attacks on the statistics door: each exposes patients without its defence, and none with it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.attacks import differencing, small_cells
from experiments.attacks import property as properties
from experiments.attacks.federations import centers_of, prepared, preprocessor_of, question_of
from experiments.attacks.run import run_attack
from experiments.settings import ConfigError
from federation.in_process import InProcessFederation
from federation.policy import DisclosurePolicy
from federation.privacy.dp.accounting import Unit
from federation.privacy.dp.settings import DifferentialPrivacy
from federation.splits import Split
from models.steps import TrainingData


def test_differencing(attacked: Callable[..., Any]) -> None:
    config, study = attacked(differencing={"victims": 4, "ranges": {"age": [0, 120], "blasts": [0, 100]}})
    found = {piece: differencing.measure(config, study, piece) for piece in differencing.DEFENCES}
    assert all(row["exposed"] for row in found["none"])
    alone = [row["exposed"] for row in found["secure aggregation"] if row["differ"] == 1]
    assert alone  # masks do not help against two sums
    assert all(alone)
    assert all("min_difference" in row["why"] for row in found["min_difference"])
    for defence in ("min_difference", "secure aggregation, min_difference", "differential privacy"):
        assert not any(row["exposed"] for row in found[defence])
    table = differencing.summarize(config, study, [row for rows in found.values() for row in rows])["table"]
    assert table[0]["exposed"]["mean"] == 1
    assert table[2]["refused"] == 4


def test_small_cells(attacked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config, study = attacked(small_cells={"epsilon": 0.5})
    rare = {name: c for name, c in study.cohorts.items() if (c.column("mutated") == 1).sum() == 1}
    (name, cohort), *_ = rare.items() if rare else [*study.cohorts.items()]
    chosen = [*np.flatnonzero(cohort.column("mutated") == 0), np.flatnonzero(cohort.column("mutated") == 1)[0]]
    study = type(study)(study.config, None, study.names, {**study.cohorts, name: cohort[np.sort(chosen)]}, {})
    found = {piece: small_cells.measure(config, study, piece) for piece in small_cells.DEFENCES}
    assert found["none"]
    assert all(row["exposed"] for row in found["none"])
    for defence in ("min_cell", "secure aggregation", "secure aggregation, min_cell", "differential privacy"):
        assert len(found[defence]) == len(found["none"])
        assert not any(row["exposed"] for row in found[defence])
    monkeypatch.setattr(small_cells, "noise_for", lambda *_: 1e-3)  # next to no noise: the guess is right
    assert all(row["exposed"] for row in small_cells.measure(config, study, "differential privacy"))


def test_property(attacked: Callable[..., Any]) -> None:
    hazard = {"model": {"name": "discrete_hazard", "parameters": {"intervals": 3}}}
    ranges = {"age": [20, 100], "blasts": [0, 40]}
    privacy = [
        {"epsilon": 1.0, "ranges": ranges},
        {"epsilon": 1.0, "delta": 1e-3, "unit": "center", "ranges": ranges},
    ]
    section = {"models": {"cox": {}, "hazard": hazard}, "worlds": 30, "rounds": 2, "privacy": privacy}
    config, study = attacked(property=section | {"policy": {"max_parameters_per_patient": 0.01}})
    rows = [row for piece in ("sums", "cox", "hazard") for row in properties.measure(config, study, piece)]
    table = {row["name"]: row["skill"] for row in properties.summarize(config, study, rows)["table"]}
    assert table["sums, none"]["mean"] == pytest.approx(1)
    assert table["sums, disclosure rules"]["mean"] == pytest.approx(1)  # sums of 0/1 columns are no counts
    assert table["sums, secure aggregation"]["mean"] < 0.1
    assert table["cox, secure aggregation"]["mean"] < 0.5
    assert table["cox, none"]["mean"] != 0
    assert table["cox, disclosure rules"]["mean"] == 0  # all refuse
    assert "cox, differential privacy of patients" not in table  # its loss is no sum over patients
    for defence in ("cox, differential privacy of centers", "hazard, differential privacy of patients"):
        bare = table[defence.partition(",")[0] + ", none"]["mean"]
        assert table[defence]["mean"] < bare - 0.2
    assert table["sums, differential privacy of patients"]["mean"] < 0.5


def test_the_attacker_makes_up_what_centers_send_but_for_the_noise(
    attacked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the true patients as the only world, and next to no noise, both are the same."""
    monkeypatch.setattr("federation.privacy.dp.settings.noise_for", lambda *_: 1e-6)
    hazard = {"model": {"name": "discrete_hazard", "parameters": {"intervals": 3}}}
    ranges = {"age": (20, 100), "blasts": (0, 40)}
    config, study = attacked()
    members = [np.flatnonzero(study.center == name) for name in study.cohorts]
    cases: list[tuple[Unit, dict[str, Any]]] = [("patient", hazard), ("center", {})]
    for unit, changes in cases:
        privacy = DifferentialPrivacy(1.0, unit=unit, clip=0.05, largest=20, ranges=ranges)
        policy = DisclosurePolicy(secure_noise=False)
        federation = InProcessFederation(centers_of(study.cohorts, policy), 1, Split(), "true")
        algorithm = prepared(config.target(changes | {"ridge": None}), study, federation, privacy)
        x = preprocessor_of(algorithm).transform(study.cohort)
        data = TrainingData(x, study.cohort.time, study.cohort.event)
        state: Any = algorithm.start(federation.roster)
        made_up = properties._clipped(algorithm, state, data, [members], np.random.default_rng(0))[0]  # type: ignore[arg-type]
        question = question_of(federation, algorithm, state)
        sent = [c.answer(question)["gradient" if unit == "patient" else "update"] for c in federation.centers]
        np.testing.assert_allclose(made_up, sent, atol=1e-5)
        if unit == "center":
            assert np.linalg.norm(made_up, axis=1).max() < 0.0501


def test_regression_finds_a_prevalence_that_is_in_the_update() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random((200, 2))
    features = labels @ rng.normal(size=(2, 40)) + 0.1 * rng.normal(size=(200, 40))
    held = properties.regress(features[:-1].astype(np.float32), labels[:-1], features[-1].astype(np.float32))
    np.testing.assert_allclose(held, labels[-1], atol=0.1)


def test_a_run_writes_its_page_and_goes_on(
    attacked: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = attacked(differencing={"victims": 1, "ranges": {"age": [0, 120], "blasts": [0, 100]}})
    monkeypatch.setattr(differencing, "DEFENCES", ("none", "min_difference"))
    monkeypatch.setattr("experiments.attacks.run.ray_session", nullcontext)
    monkeypatch.setattr("experiments.attacks.run.parallel_map", lambda f, items: ((item, f(item)) for item in items))
    results = run_attack("differencing", config, tmp_path / "run")
    for name in ("results.json", "table.md", "report.html", "figures/differencing.png"):
        assert (tmp_path / "run" / name).stat().st_size > 100
    with pytest.raises(ConfigError, match="holds a run already"):
        run_attack("differencing", config, tmp_path / "run")
    before = (tmp_path / "run" / "pieces" / "none.json").stat().st_mtime_ns
    (tmp_path / "run" / "pieces" / "min_difference.json").unlink()
    again = run_attack("differencing", config, tmp_path / "run", resume=True)
    assert again["table"] == results["table"]
    assert (tmp_path / "run" / "pieces" / "none.json").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="made by another attack"):
        run_attack("property", config, tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match="no attack 'theft'; there are robustness"):
        run_attack("theft", config, tmp_path / "other")
