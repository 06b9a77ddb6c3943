"""States: plain named arrays on their way to centers, on disk, or compared bit by bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from numpy.typing import NDArray

State = Mapping[str, NDArray[Any]]
"""A state is plain named arrays, nothing else."""


def file_name(*parts: str) -> str:
    """A name that is safe as one path component, whatever a center is called."""
    return "--".join(quote(part, safe=" +=,") for part in parts)
