"""Steps of a path: from an object to what it holds under a name, and how a chain of steps becomes one fast closure.

Nearly all time of a view goes into chains such as ``code.coding.code``, so they are not a closure per step: a chain is
walked in one loop of dictionary look-ups, which leaves for the general way only where a list holds several items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harmonization.fhirpath.closures import Environment, Many, One
from harmonization.fhirpath.elements import CHOICES, family, kind_of

Getter = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Parameters
    ----------
    name
        The element.
    keys
        Its keys in JSON, first choice first.
    get
        From an object to the value or list of values, None if there is none.
    kind
        The FHIR type of the values, if known.
    """

    name: str
    keys: tuple[str, ...]
    get: Getter
    kind: str | None

    @property
    def plain(self) -> bool:
        """Whether the step is a look-up of its name."""
        return self.keys == (self.name,)

    def extensions(self, parent: dict[str, Any]) -> list[Any]:
        """Extensions of the step's values, those of primitives too, which JSON keeps beside them (``_birthDate``)."""
        found: list[Any] = []
        for key in self.keys:
            for child in (parent.get(key), parent.get(f"_{key}")):
                for one in child if type(child) is list else (child,):
                    if type(one) is dict:
                        found += one.get("extension") or ()
        return found


def member(name: str) -> Step:
    """``.name``; a choice element is found under whichever of its keys is there."""
    types = CHOICES.get(name)
    if types is None:
        return Step(name, (name,), lambda parent: parent.get(name), kind_of(name))

    def get(parent: dict[str, Any]) -> Any:
        value = parent.get(name)
        if value is None:
            for key in parent:
                if key in types:
                    return parent[key]
        return value

    return Step(name, (name, *types), get, kind_of(name))


def typed_member(name: str, type_: str, is_type: Callable[[Any], bool]) -> Step | None:
    """``.name.ofType(type_)`` for a choice element: a look-up of one key; None if ``name`` is no choice of that type.

    The same name may be an ordinary element elsewhere (``Quantity.value``); then ``is_type`` judges the value.
    """
    wanted = family(type_)
    types = CHOICES.get(name, {})
    keys = sorted((key for key in types if types[key] in wanted), key=lambda key: types[key] != type_)
    if not keys:
        return None

    def get(parent: dict[str, Any]) -> Any:
        for key in keys:
            value = parent.get(key)
            if value is not None:
                return value
        value = parent.get(name)
        if type(value) is list:
            return [v for v in value if v is not None and is_type(v)]
        return value if value is not None and is_type(value) else None

    return Step(name, (*keys, name), get, type_)


def walk(values: Sequence[Any], steps: Sequence[Step]) -> list[Any]:
    """The general way: take every step from every value; values that are no objects have no members."""
    reached = list(values)
    for step in steps:
        get = step.get
        found: list[Any] = []
        for value in reached:
            if type(value) is dict:
                child = get(value)
                if type(child) is list:
                    found += [c for c in child if c is not None]
                elif child is not None:
                    found.append(child)
        reached = found
    return reached


def chain(steps: Sequence[Step], fail: Callable[[list[Any]], Exception]) -> tuple[Many, One]:
    """Closures of a chain of steps that starts at ``$this``; ``fail`` makes the error of several values for one."""
    stages = [
        (step.keys[0], None if step.plain else step.get, tuple(steps[i:])) for i, step in enumerate(steps)
    ]  # nearly always the first key is the one that is there

    def many(item: Any, environment: Environment) -> list[Any]:
        value = item
        for key, get, rest in stages:
            if type(value) is not dict:
                return walk(value, rest) if type(value) is list else []
            child = value.get(key)
            if child is None and (get is None or (child := get(value)) is None):
                return []
            value = child
        if type(value) is list:
            return [v for v in value if v is not None]
        return [value]

    def slow(item: Any, environment: Environment) -> Any:
        values = many(item, environment)
        if len(values) > 1:
            raise fail(values)
        return values[0] if values else None

    def one(item: Any, environment: Environment) -> Any:
        value = item
        for key, get, _ in stages:
            if type(value) is not dict:
                if type(value) is not list or len(value) != 1 or type(value[0]) is not dict:
                    return slow(item, environment)
                value = value[0]
            child = value.get(key)
            if child is None and (get is None or (child := get(value)) is None):
                return None
            value = child
        if type(value) is list:
            return value[0] if len(value) == 1 else slow(item, environment)
        return value

    return many, one
