"""The command: what it prints, and that every mistake is one line without a traceback."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from experiments.cli import app
from experiments.datasets import load_dataset
from tests.conftest import ROOT
from tests.experiments.conftest import Finished, Make
from tests.harmonization.hospital import DIAGNOSED, diagnosis, lab, patient, write


def haemfed(*arguments: object) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refusal(*arguments: object) -> str:
    """The one line with which the command refuses."""
    found = haemfed(*arguments)
    assert found.exit_code == 1, (found.exception, found.output)
    assert "Traceback" not in found.output
    lines = [line for line in found.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A configuration that runs in a few seconds."""
    data = {
        "name": "small",
        "dataset": {"name": "whas500"},
        "partition": {"name": "fractions", "parameters": {"fractions": [0.7, 0.3]}},
        "split": {"folds": 2},
        "rounds": 2,
        "evaluation": {"horizons": [1], "bootstrap": 20},
        "federation": {"hosts": 1},
        "arms": {"local": None, "centralized": False},
        "tracking": {"enabled": False},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


# -- what works ----------------------------------------------------------------------------------------------------


def test_help_needs_no_heavy_import() -> None:
    """Help and mistakes in the arguments are answered at once: nothing that takes seconds to import is imported."""
    check = (
        "import sys; from typer.testing import CliRunner; from experiments.cli import app; "
        "r = CliRunner().invoke(app, ['run', '--help']); assert r.exit_code == 0 and '--resume' in r.output; "
        "heavy = {'torch', 'ray', 'mlflow', 'matplotlib'} & sys.modules.keys(); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", check], check=True, cwd=ROOT)


def test_data_sets_are_listed_with_where_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("HAEMFED_DATA", raising=False)
    found = haemfed("datasets")
    assert found.exit_code == 0
    lines = {line.split("│")[1].strip(): line for line in found.output.splitlines() if line.count("│") == 5}
    assert {"whas500", "gbsg2", "aml_amlsg", "mds_iwg", "files", "table"} <= lines.keys()
    assert lines["whas500"].split("│")[2].strip() == "yes"
    assert lines["aml_amlsg"].split("│")[2].strip() == "no"


def test_a_run_prints_arms_and_where_the_results_are(small: Path, cluster: None, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "one [draft]"
    found = haemfed("run", small, "--out", out, "--set", "strategies=[{name: fedprox, label: 'mu [x]'}]")
    assert found.exit_code == 0, (found.exception, found.output)
    assert "federated/mu [x]" in found.stdout
    assert f"results: {out}/results.json" in found.stdout
    assert f"report:  {out}/report.html" in found.stdout
    assert (out / "results.json").is_file()
    assert (out / "report.html").stat().st_size > 10_000
    progress = found.stderr.splitlines()
    assert any(line.startswith("federated: 100%") for line in progress)
    assert refusal("run", small, "--out", out) == f"{out}: holds a run already; add --resume to go on with it, or " + (
        "choose another --out"
    )


def test_the_summary_has_a_row_per_arm_and_one_for_all_isolated_centers(finished: Finished) -> None:
    from io import StringIO

    from rich.console import Console

    from experiments.commands.training import summary

    page = StringIO()
    Console(file=page, width=120).print(summary(finished.results))
    text = page.getvalue()
    for name, arm in finished.results["arms"].items():
        assert (name in text) == (arm["kind"] != "local")
        if arm["kind"] != "local":
            c = arm["pooled"]["harrell_c"]
            assert f"{c['mean']:.3f} ({c['low']:.3f}–{c['high']:.3f})" in text
    assert "local, 4 centers" in text


# -- Ctrl-C --------------------------------------------------------------------------------------------------------


def test_ctrl_c_says_how_to_go_on(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def interrupted(config: Any, out: Path, data_dir: Path | None, **options: Any) -> None:
        asked.append((config.dataset.modalities, config.description, out, data_dir, options["resume"]))
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.experiment.run_experiment", interrupted)
    changes = ("--set", "dataset.modalities=[clinical]", "--set", "description='two words'")
    found = haemfed("run", small, *changes, "--data", tmp_path / "my data", "--out", tmp_path / "out")
    assert found.exit_code == 130
    assert "Traceback" not in found.output
    said = found.stderr.strip()
    assert said.startswith("stopped; go on with: haemfed run ")
    program, *arguments = shlex.split(said.removeprefix("stopped; go on with: "))
    assert program == "haemfed"
    assert haemfed(*arguments).exit_code == 130  # typed in again, it asks for the same run
    first, second = asked
    assert first[:4] == second[:4]
    assert (first[4], second[4]) == (False, True)


def test_without_out_resume_finds_the_latest_run(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[Path] = []

    def note(config: Any, out: Path, *_: Any, **__: Any) -> None:
        chosen.append(out)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiments.experiment.run_experiment", note)
    assert "no run to resume" in refusal("run", small, "--resume")
    for stamp in ("20260101-000000", "20260102-000000"):
        (tmp_path / "runs" / f"small-{stamp}").mkdir(parents=True)
        (tmp_path / "runs" / f"small-{stamp}" / "config.yaml").touch()
    (tmp_path / "runs" / "small-sweep-20270101-000000").mkdir()
    haemfed("run", small, "--resume")
    haemfed("run", small)
    assert chosen[0] == Path("runs/small-20260102-000000")
    assert chosen[1] not in (chosen[0], Path("runs/small-20260101-000000"))


# -- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.yaml"], ["none.yaml", "no such configuration"]),
        (["SMALL", "--set", "rouns=3"], ["unknown key 'rouns'", "did you mean 'rounds'"]),
        (["SMALL", "--set", "strategies=[{nme: fedavg}]"], ["strategies.0.nme", "did you mean 'name'"]),
        (["SMALL", "--set", "rounds"], ["--set rounds", "key=value"]),
        (["SMALL", "--set", "rounds=[1"], ["--set rounds=[1", "not YAML"]),
        (["SMALL", "--set", "evaluation.horizons.7=1"], ["evaluation.horizons.7"]),
        (["SMALL", "--set", "dataset.name=[/red]whas"], ["[/red]whas"]),
        (["SMALL", "--set", "dataset.name=whas50"], ["whas50", "did you mean 'whas500'"]),
        (["SMALL", "--set", "dataset.options.path=x"], ["whas500", "'path'"]),
        (["SMALL", "--set", "partition={name: real}"], ["whas500", "no center column", "fractions"]),
        (["SMALL", "--set", "dataset.modalities=[genomic]"], ["whas500", "no features"]),
    ],
    ids=lambda value: " ".join(value[-1:]),
)
def test_a_mistake_is_one_line(arguments: list[str], words: list[str], small: Path, tmp_path: Path) -> None:
    said = refusal("run", *(small if a == "SMALL" else a for a in arguments), "--out", tmp_path / "out")
    assert all(word in said for word in words), said


def test_data_that_are_not_there_say_where_to_get_them(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HAEMFED_DATA", raising=False)
    real = ("--set", "dataset.name=aml_amlsg", "--set", "partition={name: real}")
    assert "--data" in refusal("run", small, *real, "--out", tmp_path / "a")
    assert str(tmp_path / "empty") in refusal(
        "run", small, *real, "--out", tmp_path / "b", "--data", tmp_path / "empty"
    )


def test_a_wrong_value_in_a_table_is_named(small: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("patient_id,time,event,age\na,1.5,1,50\nb,-2,0,60\n")
    (tmp_path / "t.schema.yaml").write_text(
        "{name: t, version: '1', features: [{name: age, kind: continuous}], time_unit: years}"
    )
    table = ("--set", f"dataset={{name: table, options: {{path: {tmp_path}/t.csv}}}}")
    said = refusal("run", small, *table, "--out", tmp_path / "out")
    assert f"{tmp_path}/t.csv, row 2, column 'time', value -2.0: time is negative" in said


def test_too_few_centers_are_one_line_and_exit_code_1(small: Path, cluster: None, tmp_path: Path) -> None:
    centers = {name: f"{tmp_path}/{name}.csv" for name in ("Aachen", "Bonn")}
    said = refusal(
        "run",
        small,
        "--set",
        f"dataset={{name: files, options: {{centers: {centers}}}}}",
        "--set",
        ("partition={name: real}"),
        "--out",
        tmp_path / "out",
    )
    assert "Aachen" in said
    assert "no such file" in said


def test_a_lost_process_is_one_line(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def lost(*_: Any, **__: Any) -> None:
        raise ray.exceptions.ActorDiedError()

    monkeypatch.setattr("experiments.experiment.run_experiment", lost)
    assert "--resume" in refusal("run", small, "--out", tmp_path / "out")


def test_an_error_in_the_program_keeps_its_traceback(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.experiment.run_experiment", lambda *_, **__: dict[str, int]()["bug"])
    found = haemfed("run", small, "--out", tmp_path / "out")
    assert isinstance(found.exception, KeyError)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bench", "speed"], ["no benchmark 'speed'", "round"]),
        (["bench", "simulation", "--centers", "10,x"], ["--centers is '10,x'", "whole numbers"]),
        (["bench", "round", "--centers", "10"], ["belong to the benchmark 'simulation', not 'round'"]),
        (["ui", "--runs", "nowhere"], ["nowhere", "no mlflow.db"]),
        (["sweep", "SMALL"], ["no section 'sweep'"]),
        (["sweep", "none.yaml"], ["no such configuration"]),
    ],
    ids=lambda value: value[0],
)
def test_mistakes_in_other_commands_are_one_line(arguments: list[str], words: list[str], small: Path) -> None:
    said = refusal(*(small if a == "SMALL" else a for a in arguments))
    assert all(word in said for word in words), said


def test_an_out_that_cannot_be_written_is_one_line(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refusal("run", small, "--out", tmp_path / "file" / "run")


def test_the_installed_command_is_this_one() -> None:
    command = Path(sys.executable).with_name("haemfed")
    found = subprocess.run([command, "run", "none.yaml"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert found.returncode == 1
    assert found.stderr.strip() == "error: none.yaml: no such configuration; examples are in experiments/configs/"
    assert found.stdout == ""


def test_a_configuration_written_by_a_run_is_taken_again(experiment: Make, tmp_path: Path) -> None:
    from experiments.config import load_config

    experiment().write(tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == experiment()


def test_harmonize_writes_what_the_files_data_set_reads(tmp_path: Path) -> None:
    write(tmp_path / "fhir", [patient("p"), diagnosis("p"), lab("p", 1, 91, "g/L"), lab("p", 2, 9, "?", DIAGNOSED)])
    done = haemfed("harmonize", tmp_path / "fhir", "--dictionary", "aml", "--out", tmp_path / "out", "--workers", 1)
    assert done.exit_code == 0, done.output
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"cohort.parquet", "cohort.schema.yaml", "provenance.parquet", "reasons.parquet", "report.json"} <= written
    assert "quarantine.ndjson" in written
    cohort = load_dataset("files", options={"centers": {"here": str(tmp_path / "out" / "cohort.parquet")}}).cohort
    assert cohort.ids.tolist() == ["here/p"]
    assert cohort.column("hemoglobin").tolist() == [9.1]
    said = refusal("harmonize", tmp_path / "nothing", "--dictionary", "aml", "--out", tmp_path / "other")
    assert "nothing: no such file" in said
