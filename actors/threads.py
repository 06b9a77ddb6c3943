"""One thread a process: Ray runs as many as there are CPUs."""

from __future__ import annotations

import os
import sys


def one_thread() -> None:
    """Let torch compute in one thread in this process, whether it is imported yet or not (it takes a second)."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(1)
