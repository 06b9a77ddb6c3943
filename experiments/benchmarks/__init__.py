"""Benchmarks: each returns figures that are ratios to a peer or a bound measured in the same run.

``haemfed bench NAME --json``
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

BENCHMARKS = (
    "conformance",
    "cox",
    "dp",
    "evaluation",
    "harmonize",
    "recovery",
    "round",
    "secure",
    "simulation",
    "stratify",
)


def benchmark(name: str) -> Callable[..., Mapping[str, Any]]:
    """A benchmark by its name; its module is imported only now, since the actors of one need not know the others."""
    found: Callable[..., Mapping[str, Any]] = getattr(
        import_module(f"experiments.benchmarks.{name}"), f"{name}_benchmark"
    )
    return found
