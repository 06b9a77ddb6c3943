"""From the tree of an expression to closures over plain parsed JSON: compiled once, called for every resource.

Every expression becomes two closures. ``many`` gives the collection that FHIRPath speaks of; ``one`` gives the single
item (or None for the empty collection) where the language asks for one, and raises where there are several. Operators
are natively ``one``, paths natively both; nothing builds lists that nobody looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harmonization.fhirpath import parser
from harmonization.fhirpath.closures import Compiled, Environment, Many, One, Truth, short
from harmonization.fhirpath.elements import TEMPORAL
from harmonization.fhirpath.equality import equal, equal_collections, equivalent_collections, order, unique
from harmonization.fhirpath.errors import FHIRPathError
from harmonization.fhirpath.functions import FUNCTIONS
from harmonization.fhirpath.numbers import calculate, is_number
from harmonization.fhirpath.parser import Node
from harmonization.fhirpath.steps import Step, chain, member, walk
from harmonization.fhirpath.types import type_test, typed_step

ROW_INDEX = "rowIndex"
BUILT_IN = frozenset({ROW_INDEX, "resource", "rootResource"})
"""Constants that are always there."""


@dataclass(frozen=True, slots=True)
class Value:
    """The value of a constant (str, bool, int, float or Decimal), and the FHIR name of its type."""

    value: Any
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Path:
    """A compiled expression.

    Call it with a resource for the collection of values, as a list. Where speed counts, ``many`` and ``one`` are the
    bare closures; both take the focus and ``(resource, row index)``.

    Parameters
    ----------
    expression
        The text.
    many, one
        See `Compiled`.
    kind
        FHIR type of the values, if the expression says it.
    """

    expression: str
    many: Many
    one: One
    kind: str | None

    def __call__(self, resource: Any, environment: Environment | None = None) -> list[Any]:
        return self.many(resource, environment if environment is not None else (resource, 0))


def compile_path(expression: str, constants: Mapping[str, Any] | None = None) -> Path:
    """Compile a FHIRPath expression of the SQL-on-FHIR v2 subset.

    Parameters
    ----------
    expression
        The expression.
    constants
        What ``%name`` stands for: a str, bool, int, float or Decimal, or a `Value` that also says its FHIR type (dates
        need it). ``%resource`` and ``%rowIndex`` are always there.

    Returns
    -------
    Path
        A callable from a resource (dicts and lists as parsed from JSON) to a list of values.

    Raises
    ------
    FHIRPathError
        If the expression is not FHIRPath, or uses what the subset has not. The compiled path raises it too, where a
        resource holds several values and the expression needs one, or values of types that do not go together.
    """
    named = {name: value if isinstance(value, Value) else Value(value) for name, value in (constants or {}).items()}
    if not isinstance(expression, str):
        raise FHIRPathError("an expression is text", str(expression), 0)
    try:
        compiled = Compiler(expression, named).compile(parser.parse(expression), None)
    except RecursionError:
        raise FHIRPathError("the expression is nested too deeply; cut it into several", expression, 0) from None
    return Path(expression, compiled.many, compiled.one, compiled.kind)


class Compiler:
    """Compiles the nodes of one expression; ``this`` is the FHIR type of ``$this`` at a node, if it is known."""

    def __init__(self, expression: str, constants: Mapping[str, Value]) -> None:
        self.expression = expression
        self.constants = constants

    def error(self, node: Node, problem: str) -> FHIRPathError:
        """The error at a node."""
        return FHIRPathError(problem, self.expression, node.at)

    # -- making closures -------------------------------------------------------------------------------------------

    def from_many(self, node: Node, many: Many, kind: str | None = None) -> Compiled:
        """An expression that may give several items."""
        fail = self.several(node)

        def one(item: Any, environment: Environment) -> Any:
            values = many(item, environment)
            if len(values) > 1:
                raise fail(values)
            return values[0] if values else None

        return Compiled(many, one, kind)

    def from_one(self, one: One, kind: str | None = None) -> Compiled:
        """An expression that gives at most one item."""

        def many(item: Any, environment: Environment) -> list[Any]:
            value = one(item, environment)
            return [] if value is None else [value]

        return Compiled(many, one, kind, single=True)

    def several(self, node: Node) -> Callable[[list[Any]], Exception]:
        """The error of several values where one is needed."""

        def fail(values: list[Any]) -> Exception:
            shown = ", ".join(short(v) for v in values[:3]) + (", …" if len(values) > 3 else "")
            return self.error(node, f"{len(values)} values where one is needed ({shown}); take first() or use where()")

        return fail

    def truth(self, node: Node, this: str | None) -> Truth:
        """An expression as a condition: a single item that is no boolean counts as true (N1, section 5.5)."""
        compiled = self.compile(node, this)
        one = compiled.one
        if compiled.kind == "boolean":
            return one

        def truth(item: Any, environment: Environment) -> bool | None:
            value = one(item, environment)
            return value if value is None or value is False else True

        return truth

    # -- nodes -----------------------------------------------------------------------------------------------------

    def compile(self, node: Node, this: str | None) -> Compiled:
        """Compile a node."""
        if typed_step(self, node) is not None:
            return self.path(node, this)
        match node:
            case parser.Literal():
                return self.literal(node)
            case parser.This():
                return Compiled(lambda item, environment: [item], lambda item, environment: item, this, single=True)
            case parser.Constant():
                return self.constant(node)
            case parser.Member():
                return self.path(node, this)
            case parser.Index():
                return self.index(node, this)
            case parser.Call():
                return self.call(node, this)
            case parser.Negation():
                return self.negation(node, this)
            case parser.Binary():
                return self.binary(node, this)
            case parser.TypeTest():
                return type_test(self, node, this)

    def literal(self, node: parser.Literal) -> Compiled:
        value = node.value
        if value is None:
            return Compiled(lambda item, environment: [], lambda item, environment: None, single=True)
        return Compiled(lambda item, environment: [value], lambda item, environment: value, node.kind, single=True)

    def resolve(self, node: Node) -> Node:
        """A constant as the literal that it stands for; other nodes as they are."""
        if isinstance(node, parser.Constant) and node.name in self.constants:
            known = self.constants[node.name]
            return parser.Literal(known.value, known.kind, str(known.value), node.at)
        return node

    def constant(self, node: parser.Constant) -> Compiled:
        literal = self.resolve(node)
        if isinstance(literal, parser.Literal):
            return self.literal(literal)
        if node.name == ROW_INDEX:
            return self.from_one(lambda item, environment: environment[1], "integer")
        if node.name in BUILT_IN:
            return self.from_one(lambda item, environment: environment[0])
        there = ", ".join(f"%{name}" for name in (*self.constants, *sorted(BUILT_IN)))
        raise self.error(node, f"no constant %{node.name}; there are {there}")

    def steps(self, node: Node, this: str | None) -> tuple[Node, list[Step]]:
        """A path as where it starts and the steps from there."""
        steps: list[Step] = []
        while True:
            step = typed_step(self, node)
            if step is not None:
                assert isinstance(node, parser.Call | parser.TypeTest)
                source = node.source if isinstance(node, parser.Call) else node.operand
                assert isinstance(source, parser.Member)
                node = source.source
            elif isinstance(node, parser.Member) and not self.names_type(node) and not self.primitive_extension(node):
                step, node = member(node.name), node.source
            else:
                return node, steps[::-1]
            steps.append(step)

    def names_type(self, node: parser.Member) -> bool:
        """Whether a path starts with the type of its resource (``Patient.name``); elements are never capitalized."""
        return isinstance(node.source, parser.This) and node.name[:1].isupper()

    def primitive_extension(self, node: parser.Member) -> bool:
        """Whether it is ``element.extension``, which JSON keeps in another place for primitives."""
        return node.name == "extension" and isinstance(node.source, parser.Member) and not self.names_type(node.source)

    def path(self, node: Node, this: str | None) -> Compiled:
        if isinstance(node, parser.Member) and self.names_type(node):
            return self.root(node.name)
        if isinstance(node, parser.Member) and self.primitive_extension(node):
            return self.from_many(node, self.extensions(node.source, this))
        start, steps = self.steps(node, this)
        many, one = chain(steps, self.several(node))
        kind = steps[-1].kind
        if isinstance(start, parser.This):
            return Compiled(many, one, kind)
        source = self.compile(start, this)
        source_many, source_one = source.many, source.one

        def path_of_many(item: Any, environment: Environment) -> list[Any]:
            return walk(source_many(item, environment), steps)

        if not source.single:
            return self.from_many(node, path_of_many, kind)

        def path_of_one(item: Any, environment: Environment) -> Any:
            value = source_one(item, environment)
            return None if value is None else one(value, environment)

        return Compiled(path_of_many, path_of_one, kind)

    def root(self, type_: str) -> Compiled:
        def one(item: Any, environment: Environment) -> Any:
            if type(item) is not dict or "resourceType" not in item:
                return None
            return item if type_ in (item["resourceType"], "Resource", "DomainResource") else None

        return self.from_one(one)

    def extensions(self, node: Node, this: str | None) -> Many:
        """All extensions of what a node gives, those of primitive elements too."""
        start, steps = self.steps(node, this)
        if not steps:
            many = self.compile(node, this).many
            extension = (member("extension"),)
            return lambda item, environment: walk(many(item, environment), extension)
        source = self.compile(start, this).many
        *before, last = steps

        def extensions(item: Any, environment: Environment) -> list[Any]:
            parents = walk(source(item, environment), before)
            return [e for parent in parents if type(parent) is dict for e in last.extensions(parent)]

        return extensions

    def index(self, node: parser.Index, this: str | None) -> Compiled:
        source = self.compile(node.source, this)
        many, at = source.many, self.compile(node.index, this).one

        def one(item: Any, environment: Environment) -> Any:
            position = at(item, environment)
            if position is None:
                return None
            if type(position) is not int:
                raise self.error(node, f"an index is a whole number, found {short(position)}")
            values = many(item, environment)
            return values[position] if 0 <= position < len(values) else None

        return self.from_one(one, source.kind)

    def call(self, node: parser.Call, this: str | None) -> Compiled:
        function = FUNCTIONS.get(node.name)
        if function is None:
            raise self.error(node, f"no function {node.name}(); there are {', '.join(sorted(FUNCTIONS))}")
        given = len(node.arguments)
        if not function.least <= given <= function.most:
            takes = str(function.least) if function.least == function.most else f"{function.least} to {function.most}"
            raise self.error(node, f"{node.name}() takes {takes} argument(s), found {given}")
        return function.build(self, node, this)

    def negation(self, node: parser.Negation, this: str | None) -> Compiled:
        operand = self.compile(node.operand, this)
        inner = operand.one

        def one(item: Any, environment: Environment) -> Any:
            value = inner(item, environment)
            if value is None:
                return None
            if not is_number(value):
                raise self.error(node, f"- needs a number, found {short(value)}")
            return -value

        return self.from_one(one, operand.kind)

    # -- operators -------------------------------------------------------------------------------------------------

    def binary(self, node: parser.Binary, this: str | None) -> Compiled:
        operator = node.operator
        if operator in ("and", "or", "xor", "implies"):
            return self.logic(node, this)
        left, right = self.compile(node.left, this), self.compile(node.right, this)
        if operator in ("=", "!="):
            return self.equality(node, left, right)
        if operator in ("~", "!~"):
            temporal = _temporal(left, right)
            wanted = operator == "~"
            return self.from_one(
                lambda item, environment: (
                    equivalent_collections(left.many(item, environment), right.many(item, environment), temporal)
                    is wanted
                ),
                "boolean",
            )
        if operator in ("<", ">", "<=", ">="):
            return self.inequality(node, left, right)
        if operator == "|":
            kind = left.kind if left.kind == right.kind else None
            return self.from_many(
                node,
                lambda item, environment: unique(left.many(item, environment) + right.many(item, environment)),
                kind,
            )
        if operator in ("in", "contains"):
            element, collection = (left, right) if operator == "in" else (right, left)
            temporal = _temporal(left, right)

            def membership(item: Any, environment: Environment) -> bool | None:
                value = element.one(item, environment)
                if value is None:
                    return None
                return any(equal(value, other, temporal) for other in collection.many(item, environment))

            return self.from_one(membership, "boolean")
        return self.arithmetic(node, left, right)

    def logic(self, node: parser.Binary, this: str | None) -> Compiled:
        """Three-valued logic: None is unknown (N1, section 6.5)."""
        left, right = self.truth(node.left, this), self.truth(node.right, this)

        def conjunction(item: Any, environment: Environment) -> bool | None:
            a = left(item, environment)
            if a is False:
                return False
            b = right(item, environment)
            return False if b is False else (None if a is None or b is None else True)

        def disjunction(item: Any, environment: Environment) -> bool | None:
            a = left(item, environment)
            if a is True:
                return True
            b = right(item, environment)
            return True if b is True else (None if a is None or b is None else False)

        def exclusive(item: Any, environment: Environment) -> bool | None:
            a, b = left(item, environment), right(item, environment)
            return None if a is None or b is None else a is not b

        def implication(item: Any, environment: Environment) -> bool | None:
            a = left(item, environment)
            if a is False:
                return True
            b = right(item, environment)
            return True if b is True else (None if a is None or b is None else False)

        operators: dict[str, Truth] = {
            "and": conjunction,
            "or": disjunction,
            "xor": exclusive,
            "implies": implication,
        }
        return self.from_one(operators[node.operator], "boolean")

    def equality(self, node: parser.Binary, left: Compiled, right: Compiled) -> Compiled:
        temporal = _temporal(left, right)
        negated = node.operator == "!="
        literal = self.resolve(node.right)
        if isinstance(literal, parser.Literal) and type(literal.value) is str and not temporal:
            compared = self.equals_text(left, literal.value)
        elif left.single and right.single:
            one, other = left.one, right.one

            def compared(item: Any, environment: Environment) -> bool | None:
                a, b = one(item, environment), other(item, environment)
                return None if a is None or b is None else equal(a, b, temporal)

        else:
            many, others = left.many, right.many

            def compared(item: Any, environment: Environment) -> bool | None:
                return equal_collections(many(item, environment), others(item, environment), temporal)

        if not negated:
            return self.from_one(compared, "boolean")

        def differs(item: Any, environment: Environment) -> bool | None:
            same = compared(item, environment)
            return None if same is None else not same

        return self.from_one(differs, "boolean")

    def equals_text(self, left: Compiled, text: str) -> Truth:
        """``path = 'text'``, the condition of nearly every ``where()``."""
        many = left.many

        def compared(item: Any, environment: Environment) -> bool | None:
            values = many(item, environment)
            if len(values) == 1:
                return bool(values[0] == text)
            return False if values else None

        return compared

    def inequality(self, node: parser.Binary, left: Compiled, right: Compiled) -> Compiled:
        temporal = _temporal(left, right)
        operator = node.operator
        holds: dict[str, frozenset[int]] = {
            "<": frozenset({-1}),
            ">": frozenset({1}),
            "<=": frozenset({-1, 0}),
            ">=": frozenset({0, 1}),
        }
        wanted = holds[operator]
        one, other = left.one, right.one

        def compared(item: Any, environment: Environment) -> bool | None:
            a = one(item, environment)
            b = other(item, environment)
            if a is None or b is None:
                return None
            try:
                found = order(a, b, temporal)
            except TypeError as error:
                raise self.error(node, f"{short(a)} {operator} {short(b)}: {error}") from None
            return None if found is None else found in wanted

        return self.from_one(compared, "boolean")

    def arithmetic(self, node: parser.Binary, left: Compiled, right: Compiled) -> Compiled:
        operator = node.operator
        one, other = left.one, right.one

        def joined(item: Any, environment: Environment) -> str:
            a, b = one(item, environment), other(item, environment)
            for value in (a, b):
                if value is not None and type(value) is not str:
                    raise self.error(node, f"& joins texts, found {short(value)}; use toString()")
            return f"{a or ''}{b or ''}"

        def calculated(item: Any, environment: Environment) -> Any:
            a, b = one(item, environment), other(item, environment)
            if a is None or b is None:
                return None
            if is_number(a) and is_number(b):
                return calculate(operator, a, b)
            if operator == "+" and type(a) is str and type(b) is str and not temporal:
                return a + b
            raise self.error(node, f"{short(a)} {operator} {short(b)}: {operator} needs two numbers")

        temporal = _temporal(left, right)
        if operator == "&":
            return self.from_one(joined, "string")
        kind = "decimal" if operator == "/" else (left.kind if left.kind == right.kind else None)
        return self.from_one(calculated, kind)


def _temporal(left: Compiled, right: Compiled) -> bool:
    return left.kind in TEMPORAL or right.kind in TEMPORAL
