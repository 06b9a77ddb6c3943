"""Shared by the tests of federated algorithms: one thread, since the networks here are tiny."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)
