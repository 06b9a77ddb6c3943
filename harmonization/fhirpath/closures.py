"""What an expression becomes: two closures over plain parsed JSON, and what is known of their values beforehand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Environment = tuple[Any, int]
"""The resource, and the index of the row (``%resource``, ``%rowIndex``)."""

Many = Callable[[Any, Environment], list[Any]]
"""From a focus (``$this``) to the collection that an expression gives."""

One = Callable[[Any, Environment], Any]
"""The same where one item is asked for: the item, or None for the empty collection."""

Truth = Callable[[Any, Environment], bool | None]
"""A condition; None is unknown."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """An expression as closures.

    Parameters
    ----------
    many, one
        The collection, and the single item, that the expression gives; ``one`` raises where there are several.
    kind
        FHIR type of the items, if the expression says it.
    single
        Whether there is at most one item whatever the resource.
    """

    many: Many
    one: One
    kind: str | None = None
    single: bool = False


def short(value: Any) -> str:
    """A value for a message, not longer than a line."""
    if isinstance(value, dict):
        return f"an object with {', '.join(list(value)[:3])}"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
