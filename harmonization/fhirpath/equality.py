"""When two values are equal, equivalent or ordered (FHIRPath N1, sections 6.1 and 6.2).

Every function takes ``temporal``: whether the compiler knows one side to be a date or time. JSON has only strings, and
of two strings nobody knows better: they are compared as strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from harmonization.fhirpath.numbers import exact, is_number
from harmonization.fhirpath.temporal import Temporal, compare, read_temporal


def equal(a: Any, b: Any, temporal: bool = False) -> bool | None:
    """``a = b`` for single values; None if the precision of two dates does not decide."""
    kind = type(a)
    if kind is str and type(b) is str:
        if a == b:
            return True
        found = _pair(a, b) if temporal else None
        if found is None:
            return False
        try:
            order = compare(*found)
        except TypeError:
            return False
        return None if order is None else order == 0
    if is_number(a) and is_number(b):
        if kind is not type(b) and (kind is Decimal or type(b) is Decimal):
            return exact(a) == exact(b)
        return bool(a == b)
    if kind is dict and type(b) is dict:
        return a.keys() == b.keys() and all(equal(value, b[key]) for key, value in a.items())
    if kind is list and type(b) is list:
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return kind is type(b) and bool(a == b)


def equal_collections(a: Sequence[Any], b: Sequence[Any], temporal: bool = False) -> bool | None:
    """``a = b`` for collections: same length, equal pair by pair; None if one is empty or no pair differs for sure."""
    if not a or not b:
        return None
    if len(a) != len(b):
        return False
    answer: bool | None = True
    for x, y in zip(a, b, strict=True):
        same = equal(x, y, temporal)
        if same is False:
            return False
        answer = None if same is None else answer
    return answer


def equivalent_collections(a: Sequence[Any], b: Sequence[Any], temporal: bool = False) -> bool:
    """``a ~ b``: equal but for order, case and blanks of text, and digits beyond the less precise decimal's."""
    if len(a) != len(b):
        return False
    rest = list(b)
    for x in a:
        for i, y in enumerate(rest):
            if _equivalent(x, y, temporal):
                del rest[i]
                break
        else:
            return False
    return True


def _equivalent(a: Any, b: Any, temporal: bool) -> bool:
    if type(a) is str and type(b) is str and not (temporal and _pair(a, b)):
        return " ".join(a.lower().split()) == " ".join(b.lower().split())
    if is_number(a) and is_number(b):
        x, y = exact(a).normalize(), exact(b).normalize()
        digits = min(_digits(x), _digits(y))
        return round(x, digits) == round(y, digits)
    if type(a) is dict and type(b) is dict:
        return a.keys() == b.keys() and all(_equivalent(value, b[key], False) for key, value in a.items())
    if type(a) is list and type(b) is list:
        return equivalent_collections(a, b)
    return equal(a, b, temporal) is True


def _digits(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def order(a: Any, b: Any, temporal: bool = False) -> int | None:
    """-1, 0 or 1 for two numbers, two texts or two times; None if the precision does not decide.

    Raises
    ------
    TypeError
        If the two have no order.
    """
    if is_number(a) and is_number(b):
        if type(a) is not type(b) and (type(a) is Decimal or type(b) is Decimal):
            a, b = exact(a), exact(b)
        return int(a > b) - int(a < b)
    if type(a) is str and type(b) is str:
        if temporal:
            found = _pair(a, b)
            if found is None:
                raise TypeError("one of the two is no date or time")
            return compare(*found)
        return int(a > b) - int(a < b)
    raise TypeError("only two numbers, two texts or two dates have an order")


def _pair(a: str, b: str) -> tuple[Temporal, Temporal] | None:
    x, y = read_temporal(a), read_temporal(b)
    return None if x is None or y is None else (x, y)


def unique(values: Sequence[Any]) -> list[Any]:
    """The values without repetitions, in order of first appearance."""
    kept: list[Any] = []
    for value in values:
        if not any(equal(value, other) for other in kept):
            kept.append(value)
    return kept
