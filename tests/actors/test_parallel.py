"""Independent work in other processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from actors.parallel import parallel_map
from harmonization import CohortError

pytestmark = pytest.mark.usefixtures("cluster")


def square_late(x: int) -> int:
    time.sleep(0.4 * (x == 0))
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


def test_each_item_comes_with_its_result_as_soon_as_it_is_there() -> None:
    list(parallel_map(square_late, [1, 1]))  # the workers are up
    found = list(parallel_map(square_late, range(5)))
    assert sorted(found) == [(x, x * x) for x in range(5)]
    assert found[0] != (0, 0)


def test_nothing_to_do() -> None:
    assert list(parallel_map(square_late, [])) == []


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
