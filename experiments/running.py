"""What runs of all kinds have in common: whose directory it is, who listens, how long it takes, with which versions."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from experiments.settings import ConfigError

CONFIG = "config.yaml"
"""The configuration of a run, in its directory."""

Listener = Callable[[str, float, str], None]
"""Called with the stage, the part of it that is done, and a few words."""


def silent(stage: str, fraction: float, words: str) -> None:
    """A listener that says nothing."""


def kept_config(out: Path, resume: bool) -> Any | None:
    """The configuration of the run that a directory holds, as plain data; None if it holds none.

    Raises
    ------
    ConfigError
        If it holds one, and is not to be resumed.
    """
    if not (out / CONFIG).exists():
        return None
    if not resume:
        raise ConfigError(f"{out}: holds a run already; add --resume to go on with it, or choose another --out")
    return yaml.safe_load((out / CONFIG).read_text(encoding="utf-8"))


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of packages."""
    return {"python": platform.python_version(), **{package: _version(package) for package in packages}}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


class Timings:
    """Seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block under a name."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(time.perf_counter() - began, 3)
