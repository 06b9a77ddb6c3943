"""More than one node: centers pinned to theirs, a node that goes away, a driver that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from actors.center import balance
from federation.algorithm import run
from federation.center import Center
from federation.checkpoint import load_state
from federation.in_process import InProcessFederation
from federation.strategies import Scaffold
from tests.actors.hospitals import NAMES, SCHEMA, HeldAveraging, averaging, federation_of
from tests.conftest import ROOT


def script(name: str, *arguments: str) -> subprocess.Popen[str]:
    """A script beside this file, in a process of its own, for it starts a Ray of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    environment.pop("RAY_ADDRESS", None)
    call = [sys.executable, "-m", f"tests.actors.{name}", *arguments]
    return subprocess.Popen(call, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_centers_that_need_a_resource_have_a_host_of_their_own() -> None:
    specs = federation_of()
    pinned = [*specs[:1], type(specs[1])("Bonn", 1, specs[1].source, 25.0, "Bonn"), *specs[2:]]
    for hosts in (1, 2, 5):
        groups = balance(pinned, hosts)
        assert [s.name for s in groups[0]] == ["Bonn"]
        assert sorted(s.name for group in groups for s in group) == sorted(NAMES)


@pytest.mark.slow
def test_three_nodes(tmp_path: Path) -> None:
    out, errors = script("three_nodes", str(tmp_path)).communicate(timeout=300)
    assert out.strip(), errors[-3000:]
    found = json.loads(out.strip().splitlines()[-1])
    assert found["nodes"] == 3
    assert found["pinned"]
    centers = [Center(s.name, s.source, s.position, SCHEMA) for s in federation_of()]
    expected = run(averaging(Scaffold(), rounds=3), InProcessFederation(centers, task="together"))
    np.testing.assert_array_equal(np.load(tmp_path / "weights.npy"), expected["weights"])
    # The node went away in round 1; nobody waited longer than the time limit of a round, and the others went on.
    np.testing.assert_array_equal(found["present"], [[1, 1, 1], *[[1, 0, 1]] * 4])
    assert found["dropouts"].keys() == {"Bonn"}
    assert found["seconds"] < 60


@pytest.mark.slow
def test_the_driver_is_killed_and_the_run_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    kept, gate = tmp_path / "kept.npz", tmp_path / "gate"
    first = script("killed_driver", str(tmp_path))
    deadline = time.monotonic() + 200
    while not Path(f"{gate}.pid").exists():  # a center waits in round 5
        assert first.poll() is None, first.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.wait()
    pid = int(Path(f"{gate}.pid").read_text())
    while Path(f"/proc/{pid}").exists():  # Ray ends with its driver, a little later
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert int(load_state(kept)["round"]) == 4
    gate.touch()
    out, errors = script("killed_driver", str(tmp_path)).communicate(timeout=200)
    assert out.strip(), errors[-3000:]
    assert json.loads(out.strip().splitlines()[-1])["rounds"][0] == 5  # not from the start; each logged once
    centers = [Center(s.name, s.source, s.position, SCHEMA) for s in federation_of()]
    algorithm = averaging(Scaffold(), HeldAveraging, rounds=7, wait_round=5, gate=str(gate))
    expected = run(algorithm, InProcessFederation(centers, task="killed"))
    final = load_state(tmp_path / "final.npz")
    assert final.keys() == expected.keys()
    for name in final:
        np.testing.assert_array_equal(final[name], expected[name], err_msg=name)
