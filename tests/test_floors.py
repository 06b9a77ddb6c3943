"""Who may import whom: a floor knows the floors below it, and each heavy dependency lives in one place."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {"harmonization": 1, "models": 2, "clustering": 2, "federation": 3, "actors": 4, "experiments": 5}
PRESENT = [folder for folder in FLOORS if (ROOT / folder).is_dir()]


def imports(source: str, module: str) -> Iterator[str]:
    """Dotted names of everything a module imports, wherever in it, also for type checking alone."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = [*package, *([node.module] if node.module else [])]
            yield ".".join(base)
            yield from (".".join([*base, alias.name]) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)


def modules(folder: str) -> Iterator[tuple[str, set[str]]]:
    """Path of each module of a folder, and what it imports."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        relative = path.relative_to(ROOT)
        yield str(relative), set(imports(path.read_text(), ".".join(relative.with_suffix("").parts)))


def misplaced(folder: str, imported: set[str]) -> set[str]:
    """Imports of a folder that is not below."""
    tops = {name.split(".")[0] for name in imported} & FLOORS.keys()
    return {top for top in tops if top != folder and FLOORS[top] >= FLOORS[folder]}


def knows(imported: set[str], package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in imported)


def test_every_folder_of_code_has_a_floor() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert folders - {"tests", "docs"} <= FLOORS.keys()
    assert {"harmonization", "models", "federation", "actors", "experiments"} <= set(PRESENT)


@pytest.mark.parametrize("folder", PRESENT)
def test_no_folder_imports_a_floor_that_is_not_below(folder: str) -> None:
    seen = list(modules(folder))
    assert seen
    assert {path: bad for path, names in seen if (bad := misplaced(folder, names))} == {}


def test_mlflow_is_known_to_the_tracking_modules_alone() -> None:
    knowing = {path for folder in PRESENT for path, names in modules(folder) if knows(names, "mlflow")}
    assert knowing == {
        "experiments/mlflow_runs.py",
        "experiments/tracking.py",
        "experiments/served_model.py",
        "experiments/stratify/tracking.py",
        "experiments/synthetic/tracking.py",
    }


def test_ray_is_unknown_up_to_the_federation() -> None:
    knowing = {path for folder in PRESENT for path, names in modules(folder) if knows(names, "ray")}
    assert {Path(path).parts[0] for path in knowing} <= {"actors", "experiments"}
    assert "actors/federation.py" in knowing


def test_a_centers_process_loads_nothing_it_does_not_need() -> None:
    # Hundreds of them may start on one machine; each of these packages costs it seconds and memory.
    code = "import sys, federation; print(*{'ray', 'mlflow', 'sksurv', 'lifelines', 'matplotlib'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("folder", "source", "bad"),
    [
        ("models", "from federation.center import Center", {"federation"}),
        ("models", "import clustering", {"clustering"}),
        ("models", "from clustering import dpmm", {"clustering"}),
        ("federation", "def f():\n    from actors.center import CenterActor", {"actors"}),
        ("federation", "import importlib\nimportlib.import_module('experiments.cli')", {"experiments"}),
        ("federation", "if TYPE_CHECKING:\n    import actors.center", {"actors"}),
        ("federation", "from models.flat import bind\nimport numpy", set()),
        ("models", "from models.flat import bind\nfrom harmonization import Cohort", set()),
        ("actors", "from ..experiments import cli", {"experiments"}),
    ],
)
def test_this_test_sees_forbidden_imports(folder: str, source: str, bad: set[str]) -> None:
    assert misplaced(folder, set(imports(source, f"{folder}.module"))) == bad


def test_mlflow_is_not_taken_for_something_else() -> None:
    assert knows({"mlflow.pyfunc"}, "mlflow")
    assert not knows({"mlflow_export"}, "mlflow")


def test_the_processes_of_centers_start_light() -> None:
    """pandas and scikit-learn take a hundred MB and a second in each, scipy.stats a half of both; centers whose tables
    are arrays need none of them."""
    heavy = ("pandas", "sklearn", "mlflow", "matplotlib", "scipy.stats")
    code = f"import sys, actors.center; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout.strip() == "[]"
