"""Of which FHIR type a value is: ``ofType()``, ``is`` and ``as``.

JSON shows the type of a value in two places only: in the key of a choice element (``valueQuantity``), and in the
``resourceType`` of a resource. The usual ``value.ofType(Quantity)`` is a look-up of the key. Elsewhere the type is
carried along from the choice element as far as functions hand its values on untouched; what it is carried by nothing
is judged by its JSON type, and an object that could be anything is an error rather than a guess.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from harmonization.fhirpath import parser
from harmonization.fhirpath.closures import Compiled, Environment
from harmonization.fhirpath.elements import CHOICES, DATA_TYPES, PRIMITIVES, SYSTEM_TYPES, TEMPORAL, family
from harmonization.fhirpath.parser import Node
from harmonization.fhirpath.steps import Step, typed_member
from harmonization.fhirpath.temporal import read_temporal

if TYPE_CHECKING:
    from harmonization.fhirpath.compiler import Compiler

Typed = Callable[[Any, Environment], list[tuple[Any, str | None]]]
"""Like `Many`, each value with its type, or None where nothing says it."""

_WHOLE = frozenset({"integer", "positiveInt", "unsignedInt", "integer64", "decimal"})  # a decimal may be written 5
_NOT_DOMAIN = frozenset({"Bundle", "Parameters", "Binary"})
_UNTOUCHED: dict[str, Callable[[list[Any]], list[Any]]] = {
    "first": lambda values: values[:1],
    "last": lambda values: values[-1:],
    "tail": lambda values: values[1:],
}


def type_name(compiler: Compiler, argument: Node) -> str:
    """The type that an argument names: ``Quantity``, ``FHIR.Quantity`` or ``System.String``."""
    if isinstance(argument, parser.Member):
        namespaced = isinstance(argument.source, parser.Member) and argument.source.name in ("FHIR", "System")
        start = argument.source.source if namespaced and isinstance(argument.source, parser.Member) else argument.source
        if isinstance(start, parser.This):
            return SYSTEM_TYPES.get(argument.name, argument.name)
    raise compiler.error(argument, "the name of a type is expected, e.g. Quantity")


def typed_step(compiler: Compiler, node: Node) -> Step | None:
    """``value.ofType(T)`` and ``value as T`` as a single step; None if the node is something else."""
    if isinstance(node, parser.Call) and node.name in ("ofType", "as") and len(node.arguments) == 1:
        source, type_ = node.source, type_name(compiler, node.arguments[0])
    elif isinstance(node, parser.TypeTest) and node.operator == "as":
        source, type_ = node.operand, SYSTEM_TYPES.get(node.type, node.type)
    else:
        return None
    if not isinstance(source, parser.Member) or source.name not in CHOICES:
        return None
    if type_ not in DATA_TYPES and not any(type_ in family(known) for known in DATA_TYPES):
        raise compiler.error(
            node, f"{source.name} is never a {type_!r}; types are spelt as in FHIR, e.g. dateTime, Quantity"
        )
    return typed_member(source.name, type_, judge(compiler, node, type_))


def judge(compiler: Compiler, node: Node, type_: str) -> Callable[[Any], bool]:
    """Whether a value whose type nothing tells is of a type."""
    wanted = family(type_)

    def is_type(value: Any) -> bool:
        if isinstance(value, bool):
            return type_ == "boolean"
        if isinstance(value, int):
            return type_ in _WHOLE
        if isinstance(value, float | Decimal):
            return type_ == "decimal"
        if isinstance(value, str):
            return _is_temporal(value, type_) if type_ in TEMPORAL else type_ in PRIMITIVES - _WHOLE - {"boolean"}
        if "resourceType" in value:
            resource = value["resourceType"]
            return type_ in (resource, "Resource") or (type_ == "DomainResource" and resource not in _NOT_DOMAIN)
        if wanted & PRIMITIVES or type_[:1].islower():
            return False
        raise compiler.error(
            node, f"whether this object is a {type_} does not show in JSON; ask it of a choice element or a resource"
        )

    return is_type


def _is_temporal(text: str, type_: str) -> bool:
    found = read_temporal(text)
    if found is None or found.clock != (type_ == "time"):
        return False
    return {"date": len(found.parts) <= 3, "instant": found.offset is not None}.get(type_, True)


def type_test(compiler: Compiler, node: parser.Call | parser.TypeTest, this: str | None) -> Compiled:
    """``ofType(T)``, ``as T`` and ``is T`` in general."""
    if isinstance(node, parser.Call):
        operator, source, type_ = node.name, node.source, type_name(compiler, node.arguments[0])
    else:
        operator, source, type_ = node.operator, node.operand, SYSTEM_TYPES.get(node.type, node.type)
    values, is_untold, wanted = typed(compiler, source, this), judge(compiler, node, type_), family(type_)

    def matches(value: Any, known: str | None) -> bool:
        return known in wanted if known is not None else is_untold(value)

    if operator != "is":

        def kept(item: Any, environment: Environment) -> list[Any]:
            return [value for value, known in values(item, environment) if matches(value, known)]

        return compiler.from_many(node, kept, type_)
    several = compiler.several(node)

    def is_type(item: Any, environment: Environment) -> bool | None:
        found = values(item, environment)
        if len(found) > 1:
            raise several([value for value, _ in found])
        return matches(*found[0]) if found else None

    return compiler.from_one(is_type, "boolean")


def typed(compiler: Compiler, node: Node, this: str | None) -> Typed:
    """The values of a node, each with the type that its choice element says."""
    if isinstance(node, parser.Member) and node.name in CHOICES and not compiler.names_type(node):
        return _choice(compiler, node, this)
    if isinstance(node, parser.Call) and node.name in _UNTOUCHED and not node.arguments:
        inner, pick = typed(compiler, node.source, this), _UNTOUCHED[node.name]
        return lambda item, environment: pick(inner(item, environment))
    if isinstance(node, parser.Index):
        inner = typed(compiler, node.source, this)
        at = compiler.compile(node.index, this).one

        def indexed(item: Any, environment: Environment) -> list[tuple[Any, str | None]]:
            position = at(item, environment)
            return inner(item, environment)[position : position + 1] if position is not None and position >= 0 else []

        return indexed
    if isinstance(node, parser.Call) and node.name == "where" and len(node.arguments) == 1:
        inner, criterion = typed(compiler, node.source, this), compiler.truth(node.arguments[0], None)
        return lambda item, environment: [v for v in inner(item, environment) if criterion(v[0], environment)]
    compiled = compiler.compile(node, this)
    many = compiled.many
    # A name such as "issued" may stand for a dateTime or an instant: of dates, the text itself is judged.
    kind = None if compiled.kind in TEMPORAL else compiled.kind
    return lambda item, environment: [(value, kind) for value in many(item, environment)]


def _choice(compiler: Compiler, node: parser.Member, this: str | None) -> Typed:
    source, name, types = compiler.compile(node.source, this).many, node.name, CHOICES[node.name]

    def values(item: Any, environment: Environment) -> list[tuple[Any, str | None]]:
        found: list[tuple[Any, str | None]] = []
        for parent in source(item, environment):
            if type(parent) is not dict:
                continue
            child = parent.get(name)
            if child is not None:
                found += [(one, None) for one in (child if type(child) is list else [child]) if one is not None]
                continue
            found += [(parent[key], types[key]) for key in parent if key in types]
        return found

    return values
