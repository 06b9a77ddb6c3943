"""fhir.resources as validator: what is valid passes, R5 is refused, and nobody imports its R5 models."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from harmonization.reading import Located
from harmonization.validation import is_sampled, validate
from tests.harmonization.fhir_examples import examples

ROOT = Path(__file__).resolve().parent.parent.parent
CODE = ("harmonization", "models", "clustering", "federation", "actors", "experiments", "tests")

pytest.importorskip("fhir.resources.R4B")


def uses_default(source: str) -> bool:
    """Whether a module imports fhir.resources other than through R4B."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and str(node.value).startswith("fhir.resources."):
            names.append(str(node.value))  # importlib.import_module("fhir.resources.patient")
    used = [f"{name}." for name in names if name.split(".")[0] == "fhir"]
    return any(not name.startswith("fhir.resources.R4B.") for name in used)


def test_the_default_models_are_used_nowhere() -> None:
    files = [path for folder in CODE for path in (ROOT / folder).rglob("*.py") if path != Path(__file__)]
    assert len(files) > 100
    naming = [path for path in files if "fhir.resources" in path.read_text() or "fhir import" in path.read_text()]
    assert ROOT / "harmonization" / "validation.py" in naming
    assert [str(path) for path in naming if uses_default(path.read_text())] == []


@pytest.mark.parametrize(
    ("source", "default"),
    [
        ("from fhir.resources.patient import Patient", True),
        ("import fhir.resources", True),
        ("from fhir.resources import get_fhir_model_class", True),
        ("from fhir import resources", True),
        ("def f():\n    import fhir.resources.bundle as b", True),
        ("importlib.import_module('fhir.resources.patient')", True),
        ("from fhir.resources.R4B.patient import Patient", False),
        ("from fhir.resources.R4B import get_fhir_model_class", False),
        ("importlib.import_module('fhir.resources.R4B.patient')", False),
        ("from harmonization.fhirpath import compile_path", False),
    ],
)
def test_this_test_sees_the_default(source: str, default: bool) -> None:
    assert uses_default(source) is default


def test_every_valid_example_is_valid(data_dir: Path) -> None:
    """All but a questionnaire whose items have no linkId, which R4 requires."""
    if not (data_dir / "fhir").is_dir():
        pytest.skip(f"no fhir in {data_dir}")
    found = [one for one in examples(data_dir / "fhir") if one.resource["resourceType"] != "Bundle"]
    assert len(found) > 7200
    assert {Path(one.file).name for one in found if validate(one.resource)} == {"bundle-questionnaire.json"}


def test_problems_have_paths() -> None:
    observation = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "component": [{"foo": 3}]}
    paths = {problem.path for problem in validate(observation)}
    assert "Observation.component[0].foo" in paths
    assert validate({"resourceType": "Observation", "code": {"text": "x"}})[0].path == "Observation.status"


def test_resources_and_elements_of_r5_are_refused() -> None:
    assert [p.kind for p in validate({"resourceType": "Transport"})] == ["version"]
    assert [p.kind for p in validate({"resourceType": "SubscriptionTopic"})] == ["version"]  # of R4B, not of R4
    r5 = {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, "triggeredBy": [{"type": "reflex"}]}
    assert validate(r5)[0].path == "Observation.triggeredBy"
    assert validate({"resourceType": "MedicinalProduct"}) == []  # of R4; no model knows it


def test_a_sample_is_a_fraction_and_the_same_wherever_it_is_drawn() -> None:
    places = [Located({}, "a.ndjson", i) for i in range(10000)]
    chosen = [one for one in places if is_sampled(one, 0.1)]
    assert 850 < len(chosen) < 1150
    assert all(is_sampled(one, 1) and not is_sampled(one, 0) for one in places)
    assert all(is_sampled(one, 0.2) for one in chosen)
