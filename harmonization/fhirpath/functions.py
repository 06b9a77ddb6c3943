"""The functions of the subset: what each takes, and how it becomes a closure.

The table at the end is the list of all functions. A builder gets the compiler, the call, and the FHIR type of
``$this`` where the call stands, if it is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from harmonization.fhirpath import parser
from harmonization.fhirpath.closures import Compiled, Environment, One, short
from harmonization.fhirpath.equality import unique
from harmonization.fhirpath.numbers import decimal_boundary, is_number
from harmonization.fhirpath.temporal import boundary, read_temporal
from harmonization.fhirpath.types import type_name, type_test

if TYPE_CHECKING:
    from harmonization.fhirpath.compiler import Compiler

Builder = Callable[["Compiler", parser.Call, str | None], Compiled]


@dataclass(frozen=True, slots=True)
class Function:
    """How a call is built, and how many arguments it takes."""

    build: Builder
    least: int = 0
    most: int = 0


# -- collections -------------------------------------------------------------------------------------------------------


def _where(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    source = compiler.compile(call.source, this)
    many, criterion = source.many, compiler.truth(call.arguments[0], source.kind)
    return compiler.from_many(
        call, lambda item, environment: [v for v in many(item, environment) if criterion(v, environment)], source.kind
    )


def _exists(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    source = compiler.compile(call.source, this)
    many = source.many
    if not call.arguments:
        return compiler.from_one(lambda item, environment: bool(many(item, environment)), "boolean")
    criterion = compiler.truth(call.arguments[0], source.kind)
    return compiler.from_one(
        lambda item, environment: any(criterion(v, environment) for v in many(item, environment)), "boolean"
    )


def _empty(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    many = compiler.compile(call.source, this).many
    return compiler.from_one(lambda item, environment: not many(item, environment), "boolean")


def _all(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    source = compiler.compile(call.source, this)
    many, criterion = source.many, compiler.truth(call.arguments[0], source.kind)
    return compiler.from_one(
        lambda item, environment: all(criterion(v, environment) is True for v in many(item, environment)), "boolean"
    )


def _count(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    many = compiler.compile(call.source, this).many
    return compiler.from_one(lambda item, environment: len(many(item, environment)), "integer")


def _at(position: int) -> Builder:
    """``first()`` and ``last()``."""

    def build(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
        source = compiler.compile(call.source, this)
        many = source.many

        def one(item: Any, environment: Environment) -> Any:
            values = many(item, environment)
            return values[position] if values else None

        return compiler.from_one(one, source.kind)

    return build


def _single(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    source = compiler.compile(call.source, this)
    return compiler.from_one(source.one, source.kind)


def _slice(keep: Callable[[list[Any], int], list[Any]]) -> Builder:
    """``skip(n)`` and ``take(n)``; a negative n counts as 0."""

    def build(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
        source = compiler.compile(call.source, this)
        many, number = source.many, _integer(compiler, call, call.arguments[0], this)
        return compiler.from_many(
            call,
            lambda item, environment: keep(many(item, environment), max(0, number(item, environment) or 0)),
            source.kind,
        )

    return build


def _listed(function: Callable[[list[Any]], list[Any]]) -> Builder:
    """``tail()`` and ``distinct()``."""

    def build(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
        source = compiler.compile(call.source, this)
        many = source.many
        return compiler.from_many(call, lambda item, environment: function(many(item, environment)), source.kind)

    return build


def _select(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    source = compiler.compile(call.source, this)
    projection = compiler.compile(call.arguments[0], source.kind)
    many, project = source.many, projection.many
    return compiler.from_many(
        call,
        lambda item, environment: [x for v in many(item, environment) for x in project(v, environment)],
        projection.kind,
    )


def _iif(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    source = compiler.compile(call.source, this)
    condition = compiler.truth(call.arguments[0], source.kind)
    branches = [compiler.compile(argument, source.kind) for argument in call.arguments[1:]]
    kinds = {branch.kind for branch in branches}
    then, otherwise = branches[0].many, branches[1].many if len(branches) > 1 else None
    focus = source.one

    def many(item: Any, environment: Environment) -> list[Any]:
        value = focus(item, environment)
        if condition(value, environment):
            return then(value, environment)
        return otherwise(value, environment) if otherwise is not None else []

    return compiler.from_many(call, many, kinds.pop() if len(kinds) == 1 else None)


def _not(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    truth = compiler.truth(call.source, this)

    def one(item: Any, environment: Environment) -> bool | None:
        value = truth(item, environment)
        return None if value is None else not value

    return compiler.from_one(one, "boolean")


def _join(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    """Of nothing, the empty text: the official tests ask for it."""
    many = compiler.compile(call.source, this).many
    separator = _text(compiler, call, call.arguments[0], this) if call.arguments else None

    def one(item: Any, environment: Environment) -> str:
        values = many(item, environment)
        for value in values:
            if type(value) is not str:
                raise compiler.error(call, f"join() takes texts, found {short(value)}")
        return ((separator(item, environment) if separator is not None else "") or "").join(values)

    return compiler.from_one(one, "string")


# -- FHIR --------------------------------------------------------------------------------------------------------------


def _extension(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    extensions = compiler.extensions(call.source, this)
    url = _text(compiler, call, call.arguments[0], this)

    def many(item: Any, environment: Environment) -> list[Any]:
        wanted = url(item, environment)
        return [e for e in extensions(item, environment) if type(e) is dict and e.get("url") == wanted]

    return compiler.from_many(call, many, "Extension")


def _resource_key(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    source = compiler.compile(call.source, this).one

    def one(item: Any, environment: Environment) -> str | None:
        resource = source(item, environment)
        if resource is None:
            return None
        if type(resource) is not dict or "resourceType" not in resource:
            raise compiler.error(
                call,
                f"getResourceKey() is asked of {short(resource)}; ask it of the resource, outside forEach and repeat, "
                "or write %resource.getResourceKey()",
            )
        key: str | None = resource.get("id")
        return key

    return compiler.from_one(one, "id")


_URL = re.compile(r"(?:https?://.+/)?([A-Z][A-Za-z]+)/([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?")
_URN = re.compile(r"urn:(?:uuid|oid):(.+)")


def reference_key(reference: dict[str, Any], type_: str | None) -> str | None:
    """The id in a literal reference, which is the key of the resource it points at.

    ``Patient/1``, ``Patient/1/_history/2`` and absolute URLs say their type. A ``urn:uuid:`` does not, unless
    ``Reference.type`` does; its id names one resource in the world, so a key of another type joins with nothing. All
    other references (contained, by identifier) have no key.
    """
    literal = reference.get("reference")
    if type(literal) is not str:
        return None
    if literal.count("/") == 1 and literal[0].isupper():  # by far the most are plain Patient/1
        target, _, key = literal.partition("/")
        return key or None if type_ in (None, target) else None
    found = _URL.fullmatch(literal)
    if found is not None:
        return found.group(2) if type_ in (None, found.group(1)) else None
    found = _URN.fullmatch(literal)
    if found is not None:
        said = reference.get("type")
        return found.group(1) if type_ is None or said is None or said == type_ else None
    return None


def _reference_key(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
    source = compiler.compile(call.source, this)
    type_ = type_name(compiler, call.arguments[0]) if call.arguments else None
    many = source.many

    def key_of(reference: Any) -> str | None:
        if type(reference) is not dict:
            raise compiler.error(call, f"getReferenceKey() is asked of {short(reference)}; ask it of a Reference")
        return reference_key(reference, type_)

    def keys(item: Any, environment: Environment) -> list[str]:
        return [key for key in map(key_of, many(item, environment)) if key is not None]

    return compiler.from_many(call, keys, "id")


def _boundary(high: bool) -> Builder:
    """``lowBoundary()`` and ``highBoundary()``, also of a Period."""

    def build(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
        source = compiler.compile(call.source, this)
        one, kind = source.one, source.kind
        precision = _integer(compiler, call, call.arguments[0], this) if call.arguments else None
        literal = compiler.resolve(call.source)
        digits = literal.text if isinstance(literal, parser.Literal) and literal.kind == "decimal" else None

        def edge(item: Any, environment: Environment) -> Any:
            value = one(item, environment)
            asked = precision(item, environment) if precision is not None else None
            if value is None or (precision is not None and asked is None):
                return None
            if type(value) is dict and ("start" in value or "end" in value):  # a Period
                value = value.get("end" if high else "start")
                if value is None:
                    return None
            if is_number(value):
                return decimal_boundary(value, high, asked, digits)
            found = read_temporal(value) if type(value) is str else None
            if found is None:
                raise compiler.error(
                    call, f"{call.name}() is for decimals, dates, times and periods, found {short(value)}"
                )
            form = "time" if found.clock else ("date" if kind == "date" and len(found.parts) <= 3 else "dateTime")
            return boundary(found, form, high, asked)

        return compiler.from_one(edge, kind)

    return build


# -- text --------------------------------------------------------------------------------------------------------------


def _text(compiler: Compiler, call: parser.Call, argument: parser.Node, this: str | None) -> One:
    """An argument that is a text or empty."""
    return _argument(compiler, call, argument, this, str, "a text")


def _integer(compiler: Compiler, call: parser.Call, argument: parser.Node, this: str | None) -> One:
    """An argument that is a whole number or empty."""
    return _argument(compiler, call, argument, this, int, "a whole number")


def _argument(
    compiler: Compiler, call: parser.Call, argument: parser.Node, this: str | None, wanted: type, words: str
) -> One:
    one = compiler.compile(argument, this).one

    def checked(item: Any, environment: Environment) -> Any:
        value = one(item, environment)
        if value is not None and type(value) is not wanted:
            raise compiler.error(call, f"{call.name}() takes {words}, found {short(value)}")
        return value

    return checked


def _of_text(function: Callable[..., Any], kind: str, *arguments: Callable[..., One]) -> Builder:
    """A function of one text and arguments; empty if any of them is empty."""

    def build(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
        source = compiler.compile(call.source, this).one
        given = [read(compiler, call, a, this) for read, a in zip(arguments, call.arguments, strict=False)]

        def one(item: Any, environment: Environment) -> Any:
            value = source(item, environment)
            if value is None:
                return None
            if type(value) is not str:
                raise compiler.error(call, f"{call.name}() is for texts, found {short(value)}; use toString()")
            values = [argument(item, environment) for argument in given]
            if None in values:
                return None
            try:
                return function(value, *values)
            except re.error as error:
                raise compiler.error(call, f"{values[0]!r} is no regular expression: {error}") from None

        return compiler.from_one(one, kind)

    return build


def _substring(text: str, start: int, length: int | None = None) -> str | None:
    if not 0 <= start < len(text):
        return None
    return text[start:] if length is None else text[start : start + max(0, length)]


def _to_string(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else format(value, "f") if isinstance(value, Decimal) else repr(value)


def _to_integer(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"[+-]?\d+", value) else None
    return int(value) if isinstance(value, bool | int) else None


def _to_decimal(value: Any) -> float | Decimal | None:
    if isinstance(value, Decimal):
        return value
    if isinstance(value, str) and not re.fullmatch(r"[+-]?\d+(\.\d+)?", value):
        return None
    return float(value)


def _converted(convert: Callable[[Any], Any], kind: str) -> Builder:
    """``toString()``, ``toInteger()``, ``toDecimal()``: empty where the value has no such form."""

    def build(compiler: Compiler, call: parser.Call, this: str | None) -> Compiled:
        source = compiler.compile(call.source, this).one

        def one(item: Any, environment: Environment) -> Any:
            value = source(item, environment)
            return None if value is None or isinstance(value, dict) else convert(value)

        return compiler.from_one(one, kind)

    return build


FUNCTIONS: dict[str, Function] = {
    "where": Function(_where, 1, 1),
    "exists": Function(_exists, 0, 1),
    "empty": Function(_empty),
    "all": Function(_all, 1, 1),
    "count": Function(_count),
    "first": Function(_at(0)),
    "last": Function(_at(-1)),
    "single": Function(_single),
    "tail": Function(_listed(lambda values: values[1:])),
    "skip": Function(_slice(lambda values, n: values[n:]), 1, 1),
    "take": Function(_slice(lambda values, n: values[:n]), 1, 1),
    "distinct": Function(_listed(unique)),
    "select": Function(_select, 1, 1),
    "iif": Function(_iif, 2, 3),
    "not": Function(_not),
    "join": Function(_join, 0, 1),
    "ofType": Function(type_test, 1, 1),
    "is": Function(type_test, 1, 1),
    "as": Function(type_test, 1, 1),
    "extension": Function(_extension, 1, 1),
    "getResourceKey": Function(_resource_key),
    "getReferenceKey": Function(_reference_key, 0, 1),
    "lowBoundary": Function(_boundary(high=False), 0, 1),
    "highBoundary": Function(_boundary(high=True), 0, 1),
    "startsWith": Function(_of_text(str.startswith, "boolean", _text), 1, 1),
    "endsWith": Function(_of_text(str.endswith, "boolean", _text), 1, 1),
    "contains": Function(_of_text(lambda text, part: part in text, "boolean", _text), 1, 1),
    "matches": Function(_of_text(lambda text, regex: bool(re.search(regex, text, re.DOTALL)), "boolean", _text), 1, 1),
    "replace": Function(_of_text(str.replace, "string", _text, _text), 2, 2),
    "substring": Function(_of_text(_substring, "string", _integer, _integer), 1, 2),
    "lower": Function(_of_text(str.lower, "string")),
    "upper": Function(_of_text(str.upper, "string")),
    "trim": Function(_of_text(str.strip, "string")),
    "length": Function(_of_text(len, "integer")),
    "toString": Function(_converted(_to_string, "string")),
    "toInteger": Function(_converted(_to_integer, "integer")),
    "toDecimal": Function(_converted(_to_decimal, "decimal")),
}
"""All functions by name."""
