"""Independent work in other processes."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from actors.parallel import parallel_map
from harmonization import CohortError

pytestmark = pytest.mark.usefixtures("cluster")


def square_late(gate: Path, x: int) -> int:
    """The first waits for the last."""
    if x == 4:
        gate.touch()
    deadline = time.monotonic() + 120
    while x == 0 and not gate.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2 * (x == 0))
    return x * x


def refuse(x: int) -> int:
    raise CohortError("time is negative", source="a.csv", row=x)


def die_once(marker: Path) -> str:
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def threads(_: int) -> tuple[int, int]:
    return os.getpid(), torch.get_num_threads()


def test_each_item_comes_with_its_result_as_soon_as_it_is_there(tmp_path: Path) -> None:
    found = list(parallel_map(partial(square_late, tmp_path / "gate"), range(5)))
    assert sorted(found) == [(x, x * x) for x in range(5)]
    assert found[0] != (0, 0)


def test_nothing_to_do() -> None:
    assert list(parallel_map(threads, [])) == []


def test_an_error_is_raised_as_itself() -> None:
    with pytest.raises(CohortError, match=r"^a.csv, row 3: time is negative$") as caught:
        list(parallel_map(refuse, [3]))
    assert type(caught.value) is CohortError
    assert caught.value.row == 3


def test_a_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    assert list(parallel_map(die_once, [tmp_path / "died"])) == [(tmp_path / "died", "alive")]


def test_work_runs_elsewhere_on_one_thread_each() -> None:
    for _, (pid, count) in parallel_map(threads, range(3)):
        assert pid != os.getpid()
        assert count == 1
