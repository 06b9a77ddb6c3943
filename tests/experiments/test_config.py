"""Configurations: what is wrong is named, with the nearest known key; what is written is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.arms import require_sums_of_several
from experiments.config import Config, load_config, parse_config
from experiments.settings import ConfigError
from tests.conftest import ROOT
from tests.experiments.conftest import Make

MINIMAL: dict[str, Any] = {"dataset": {"name": "whas500"}}


def write(path: Path, data: Any) -> Path:
    path.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
    return path


def refusal(data: dict[str, Any]) -> str:
    """Why a configuration is refused: one line."""
    with pytest.raises(ConfigError) as caught:
        parse_config(MINIMAL | data, "my.yaml")
    message = str(caught.value)
    assert message.startswith("my.yaml: ")
    assert len(message.splitlines()) == 1
    return message.removeprefix("my.yaml: ")


@pytest.mark.parametrize(
    ("data", "key", "nearest"),
    [
        ({"rouns": 3}, "rouns", "rounds"),
        ({"stratgies": []}, "stratgies", "strategies"),
        ({"dataset": {"name": "whas500", "modality": None}}, "dataset.modality", "modalities"),
        ({"split": {"fold": 3}}, "split.fold", "folds"),
        ({"training": {"lerning_rate": 0.1}}, "training.lerning_rate", "learning_rate"),
        ({"selection": {"patient": 3}}, "selection.patient", "patience"),
        ({"arms": {"lokal": None}}, "arms.lokal", "local"),
        ({"arms": {"local": {"min_patient": 3}}}, "arms.local.min_patient", "min_patients"),
        ({"arms": {"left_out": {"center": 3}}}, "arms.left_out.center", "centers"),
        ({"federation": {"quorum": {"fracton": 1}}}, "federation.quorum.fracton", "fraction"),
        ({"federation": {"policy": {"min_patient": 1}}}, "federation.policy.min_patient", "min_patients"),
        ({"strategies": [{"name": "fedavg"}, {"nme": "x"}]}, "strategies.1.nme", "name"),
        ({"strategies": [{"name": "fedavg", "parameter": {}}]}, "strategies.0.parameter", "parameters"),
        (
            {"strategies": [{"name": "fedavg"}, {"name": "fedprox", "training": {"step": 3}}]},
            "strategies.1.training.step",
            "steps",
        ),
        ({"sweep": {"space": {}, "trails": 3}}, "sweep.trails", "trials"),
        ({"tracking": {"url": "x"}}, "tracking.url", "uri"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unknown_key_is_named_with_the_nearest(data: dict[str, Any], key: str, nearest: str) -> None:
    assert f"unknown key {key!r}; did you mean {nearest!r}?" in refusal(data)


def test_a_key_like_no_other_lists_what_there_is() -> None:
    assert "unknown key 'split.zzz'; known here: folds, repeats, validation" in refusal({"split": {"zzz": 1}})


def test_all_mistakes_are_named_at_once() -> None:
    message = refusal({"rouns": 3, "split": {"fold": 3}, "seed": "one"})
    assert all(key in message for key in ("'rouns'", "'split.fold'", "seed"))


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="'dataset' is missing"):
        parse_config({})
    assert "'dataset.name' is missing" in refusal({"dataset": {}})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"rounds": 0}, ("rounds", "found 0")),
        ({"rounds": "many"}, ("rounds", "found 'many'")),
        ({"sample": 1.5}, ("sample", "found 1.5")),
        ({"split": {"folds": 1}}, ("split.folds", "found 1")),
        ({"weighting": "size"}, ("weighting", "'patients', 'events' or 'uniform'", "found 'size'")),
        ({"training": {"learning_rate": -1}}, ("training", "learning_rate is -1")),
        ({"training": {"optimizer": "sdg"}}, ("training.optimizer", "'sgd'", "found 'sdg'")),
        ({"model": {"name": "coks"}}, ("model", "unknown model 'coks'", "cox, deepsurv")),
        ({"model": {"name": "deepsurv", "parameters": {"widths": [3]}}}, ("model", "widths")),
        ({"strategies": []}, ("strategies", "at least one")),
        ({"strategies": [{"name": "fedavg"}, {"name": "fedavg"}]}, ("strategies", "different labels")),
        ({"strategies": [{"name": "fedsvg"}]}, ("strategies.0", "unknown strategy 'fedsvg'", "fedavg")),
        ({"strategies": [{"name": "fedprox", "parameters": {"nu": 1}}]}, ("strategies.0", "'nu'", "mu")),
        ({"strategies": [{"name": "fedprox", "parameters": {"mu": "big"}}]}, ("strategies.0", "mu")),
        ({"strategies": [{"name": "fedavg", "training": {"steps": 0}}]}, ("strategies.0.training", "steps is 0")),
        ({"strategies": [{"name": "scaffold", "training": {"optimizer": "adam"}}]}, ("scaffold", "sgd")),
        ({"partition": {"name": "fractions", "parameters": {"fractions": [0.5]}}}, ("partition", "sum to 1")),
        ({"partition": {"name": "fraction"}}, ("partition", "'fraction'", "'fractions'")),
        ({"evaluation": {"horizons": [3, 1]}}, ("evaluation.horizons", "increasing")),
        ({"evaluation": {"horizons": []}}, ("evaluation.horizons", "increasing")),
        ({"evaluation": {"scores": ["ELN-2022"]}}, ("evaluation.scores", "'ELN-2022'", "did you mean 'ELN 2022'")),
    ],
    ids=str,
)
def test_a_wrong_value_is_named(data: dict[str, Any], words: tuple[str, ...]) -> None:
    message = refusal(data)
    assert all(word in message for word in words), message


# -- files and --set -----------------------------------------------------------------------------------------------


def test_changes_reach_parts_lists_and_missing_sections(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", MINIMAL | {"strategies": [{"name": "fedavg"}], "arms": {"left_out": None}})
    changes = (
        "rounds=7",
        "training.learning_rate=0.5",
        "strategies.0.name=fedprox",
        "strategies.0.parameters.mu=0.25",
        "arms.left_out.centers=3",
        "arms.local=null",
        "evaluation.horizons=[1, 2.5]",
        "tracking.uri=sqlite:///a=b.db",
    )
    config = load_config(path, changes)
    assert config.rounds == 7
    assert config.training.learning_rate == 0.5
    assert config.strategies[0].arm == "federated/fedprox"
    assert config.strategies[0].parameters == {"mu": 0.25}
    assert config.arms.left_out is not None
    assert config.arms.left_out.centers == 3
    assert config.arms.local is None
    assert config.evaluation.horizons == (1.0, 2.5)
    assert config.tracking.uri == "sqlite:///a=b.db"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("rounds", ("--set rounds", "key=value")),
        ("rounds=[1", ("--set rounds=[1",)),
        ("training.lerning_rate=1", ("training.lerning_rate", "did you mean 'learning_rate'")),
        ("strategies.4.name=fedavg", ("strategies.4.name",)),
        ("strategies.first.name=fedavg", ("strategies.first.name",)),
        ("evaluation.horizons.0.years=1", ("evaluation.horizons.0.years",)),
        ("=3", ("--set =3",)),
        ("training..steps=3", ("training..steps",)),
    ],
)
def test_a_change_that_cannot_be_made_is_named(change: str, words: tuple[str, ...], tmp_path: Path) -> None:
    data = MINIMAL | {"strategies": [{"name": "fedavg"}], "evaluation": {"horizons": [1, 3]}}
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path / "a.yaml", data), [change])
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [1\nb: 2", "not YAML"), ("- 1\n- 2", "a mapping"), ("", "a mapping"), ("just words", "a mapping")],
)
def test_a_file_that_is_no_configuration_is_named(text: str, words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match=str(tmp_path)):
        load_config(tmp_path)  # a directory


# -- what is written is read back ----------------------------------------------------------------------------------


def shipped() -> list[Path]:
    """The configurations of experiments that come along."""
    found = (ROOT / "experiments" / "configs").glob("*.yaml")
    # Of other commands, tested as such.
    others = ("aml_synthetic.yaml", "attacks.yaml", "hdmm_grid.yaml", "mds_synthetic.yaml", "results.yaml")
    return sorted(path for path in found if path.name not in others)


def test_configurations_come_along() -> None:
    assert {"demo.yaml", "demo_offline.yaml", "aml.yaml", "mds.yaml"} <= {path.name for path in shipped()}


@pytest.mark.parametrize("path", shipped(), ids=lambda path: path.name)
def test_every_configuration_that_comes_along_loads_and_survives_writing(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    config.write(tmp_path / "written.yaml")
    assert load_config(tmp_path / "written.yaml") == config


def test_writing_keeps_everything(experiment: Make, tmp_path: Path) -> None:
    config = experiment(
        training={"steps": 3, "learning_rate": 1e-5, "clip_norm": 1.0},
        model={"name": "deepsurv", "parameters": {"hidden": [4, 4], "activation": "tanh"}},
        sweep={"space": {"ridge": {"log": [1, 1000]}, "training.optimizer": {"choice": ["sgd", "adam"]}}},
        federation={"quorum": {"fraction": 0.75, "on_dropout": "stop"}, "policy": {"min_patients": 5}},
        description="Umlaute: äöü",
    )
    config.write(tmp_path / "written.yaml")
    read = load_config(tmp_path / "written.yaml")
    assert read == config
    assert read.to_dict() == config.to_dict()
    assert "äöü" in (tmp_path / "written.yaml").read_text(encoding="utf-8")


def test_defaults_are_those_of_the_minimal_configuration() -> None:
    config = Config.model_validate(MINIMAL)
    assert config == parse_config(config.to_dict())
    assert [s.arm for s in config.strategies] == ["federated/fedavg"]


def test_masked_sums_with_and_without_a_center_are_not_asked_for() -> None:
    masked, left_out = {"secure_aggregation": {}}, {"arms": {"local": None, "left_out": {"centers": 2}}}
    why = refusal(left_out | {"federation": masked})
    assert why.startswith("arms.left_out: the same sums with and without a center differ by that center's own")
    assert "set arms.left_out to null" in why
    assert parse_config(MINIMAL | left_out).arms.left_out is not None
    assert parse_config(MINIMAL | {"federation": masked}).federation.secure_aggregation is not None
    noisy = {"model": {"name": "discrete_hazard"}, "federation": masked | {"differential_privacy": {"epsilon": 8}}}
    assert parse_config(MINIMAL | left_out | noisy).arms.left_out is not None  # both sums have noise of their own


@pytest.mark.parametrize(
    ("change", "sent"),
    [
        ({"sample": 0.2}, 2),
        ({"strategies": [{"name": "fedbuff", "parameters": {"buffer": 2}}]}, 2),
        ({"strategies": [{"name": "fedbuff", "parameters": {"concurrency": 0.1}}]}, 1),
        ({"sample": 0.3}, None),
        ({"strategies": [{"name": "fedbuff", "parameters": {"buffer": 3}}]}, None),
    ],
)
def test_a_masked_sum_has_the_updates_of_several_centers(change: dict[str, Any], sent: int | None) -> None:
    require_sums_of_several(parse_config(MINIMAL | change), 10)  # bare sums hide nothing anyway
    masked = parse_config(MINIMAL | change | {"federation": {"secure_aggregation": {}}})
    if sent is None:
        require_sums_of_several(masked, 10)
        return
    with pytest.raises(ConfigError, match=f"updates of {sent} of 10 centers are in a sum"):
        require_sums_of_several(masked, 10)


def test_robust_aggregators() -> None:
    chosen = parse_config(MINIMAL | {"strategies": [{"name": "fedavg", "aggregator": {"name": "median"}}]})
    assert chosen.strategies[0].arm == "federated/fedavg-median"
    robust = {"strategies": [{"name": "fedavg", "aggregator": {"name": "krum", "parameters": {"bad": 0.3}}}]}
    assert "secure_aggregation shows their sum alone" in refusal(robust | {"federation": {"secure_aggregation": {}}})
    assert "has no option 'bat'" in refusal(
        {"strategies": [{"name": "fedavg", "aggregator": {"name": "krum", "parameters": {"bat": 0.3}}}]}
    )
    for name in ("scaffold", "fedbuff"):
        assert f"strategy {name!r} has no robust aggregator" in refusal(
            {"strategies": [{"name": name, "aggregator": {"name": "median"}}]}
        )
