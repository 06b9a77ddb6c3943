"""Generators are fitted in several steps, each an algorithm of its own."""

from __future__ import annotations

from collections.abc import Callable

from federation.algorithm import Algorithm
from federation.state import State

RunTask = Callable[[str, Algorithm], State]
"""Runs an algorithm under a name on a federation, and returns its final state."""
