"""From the words of an expression to its tree: a Pratt parser of the FHIRPath N1 grammar.

The operators bind as the specification's table of precedence says (section 6.8). What the SQL-on-FHIR subset has no
use for is refused by name: quantity literals, and the iteration variables ``$index`` and ``$total``.
"""

from __future__ import annotations

from dataclasses import dataclass

from harmonization.fhirpath.errors import FHIRPathError
from harmonization.fhirpath.lexer import Token, tokenize


@dataclass(frozen=True, slots=True)
class Literal:
    """A value written out. ``value`` is str, bool, int, float, or None for the empty collection ``{}``.

    ``kind`` is the FHIR name of its type; ``text`` keeps the digits of a decimal, which say how precise it is.
    """

    value: str | bool | int | float | None
    kind: str | None
    text: str
    at: int


@dataclass(frozen=True, slots=True)
class This:
    """``$this``, or what a path without a start begins at."""

    at: int


@dataclass(frozen=True, slots=True)
class Constant:
    """``%name``."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Member:
    """``source.name``."""

    source: Node
    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Index:
    """``source[index]``."""

    source: Node
    index: Node
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """``source.name(arguments)``."""

    source: Node
    name: str
    arguments: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Negation:
    """``-operand``."""

    operand: Node
    at: int


@dataclass(frozen=True, slots=True)
class Binary:
    """``left operator right``."""

    operator: str
    left: Node
    right: Node
    at: int


@dataclass(frozen=True, slots=True)
class TypeTest:
    """``operand is type`` or ``operand as type``."""

    operator: str
    operand: Node
    type: str
    at: int


Node = Literal | This | Constant | Member | Index | Call | Negation | Binary | TypeTest

_BINDING = {
    "implies": 1,
    "or": 2,
    "xor": 2,
    "and": 3,
    "in": 4,
    "contains": 4,
    "=": 5,
    "!=": 5,
    "~": 5,
    "!~": 5,
    "<": 6,
    ">": 6,
    "<=": 6,
    ">=": 6,
    "|": 7,
    "is": 8,
    "as": 8,
    "+": 9,
    "-": 9,
    "&": 9,
    "*": 10,
    "/": 10,
    "div": 10,
    "mod": 10,
}
_SIGN = 11
_CALENDAR_UNITS = frozenset(
    unit + plural
    for unit in ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
    for plural in ("", "s")
)


def parse(expression: str) -> Node:
    """Read an expression.

    Raises
    ------
    FHIRPathError
        Where the expression stops being FHIRPath.
    """
    if not expression.strip():
        raise FHIRPathError("the expression is empty; write a path, e.g. $this", expression, 0)
    try:
        return _Parser(expression).whole()
    except RecursionError:
        raise FHIRPathError("the expression is nested too deeply; cut it into several", expression, 0) from None


class _Parser:
    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens = tokenize(expression)
        self.position = 0

    def whole(self) -> Node:
        node = self.operand(0)
        if self.peek.kind != "end":
            raise self.error(f"{self.peek.text!r} does not follow from what is before it; is an operator missing?")
        return node

    @property
    def peek(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.peek
        self.position += 1
        return token

    def sees(self, operator: str) -> bool:
        return self.peek.kind == "operator" and self.peek.text == operator

    def expect(self, operator: str, purpose: str) -> None:
        if not self.sees(operator):
            found = repr(self.peek.text) if self.peek.kind != "end" else "the end"
            raise self.error(f"{operator!r} {purpose} is expected, found {found}")
        self.take()

    def error(self, problem: str, at: int | None = None) -> FHIRPathError:
        return FHIRPathError(problem, self.expression, self.peek.at if at is None else at)

    def operand(self, binding: int) -> Node:
        """The longest expression whose operators all bind tighter than ``binding``."""
        left = self.signed() if self.sees("-") or self.sees("+") else self.path(self.term())
        while True:
            token = self.peek
            named = token.kind == "name" and not token.quoted
            power = _BINDING.get(token.text, 0) if named or token.kind == "operator" else 0
            if power <= binding:
                return left
            self.take()
            if token.text in ("is", "as"):
                left = TypeTest(token.text, left, self.type_name(), token.at)
            else:
                left = Binary(token.text, left, self.operand(power), token.at)

    def signed(self) -> Node:
        sign = self.take()
        operand = self.operand(_SIGN)
        if sign.text == "+":
            return operand
        if isinstance(operand, Literal) and isinstance(operand.value, int | float) and operand.kind != "boolean":
            return Literal(-operand.value, operand.kind, f"-{operand.text}", sign.at)
        return Negation(operand, sign.at)

    def path(self, node: Node) -> Node:
        """What follows a term: ``.name``, ``.function()``, ``[index]``."""
        while True:
            if self.sees("."):
                self.take()
                if self.peek.kind != "name":
                    raise self.error("a name or function is expected after the point")
                node = self.invocation(node)
            elif self.sees("["):
                at = self.take().at
                index = self.operand(0)
                self.expect("]", "after the index")
                node = Index(node, index, at)
            else:
                return node

    def invocation(self, source: Node) -> Node:
        name = self.take()
        if not self.sees("("):
            return Member(source, name.text, name.at)
        self.take()
        arguments: list[Node] = []
        while not self.sees(")"):
            if arguments:
                self.expect(",", "or ')' after an argument")
            arguments.append(self.operand(0))
        self.take()
        return Call(source, name.text, tuple(arguments), name.at)

    def term(self) -> Node:
        token = self.peek
        if token.kind in ("string", "date", "dateTime", "time"):
            self.take()
            return Literal(token.text, token.kind, token.text, token.at)
        if token.kind == "number":
            return self.number()
        if token.kind == "special":
            self.take()
            if token.text == "$this":
                return This(token.at)
            raise self.error(f"{token.text} is not supported; there is $this", token.at)
        if token.kind == "name":
            if token.text in ("true", "false") and not token.quoted:
                self.take()
                return Literal(token.text == "true", "boolean", token.text, token.at)
            return self.invocation(This(token.at))
        if self.sees("("):
            self.take()
            node = self.operand(0)
            self.expect(")", "to close the bracket")
            return node
        if self.sees("{"):
            self.take()
            self.expect("}", "for the empty collection {}")
            return Literal(None, None, "{}", token.at)
        if self.sees("%"):
            self.take()
            if self.peek.kind not in ("name", "string"):
                raise self.error("the name of a constant is expected after %")
            return Constant(self.take().text, token.at)
        found = f"found {token.text!r}" if token.kind != "end" else "the expression ends"
        raise self.error(f"a value or path is expected here, but {found}")

    def number(self) -> Node:
        token = self.take()
        if self.peek.kind == "string" or (self.peek.kind == "name" and self.peek.text in _CALENDAR_UNITS):
            raise self.error("quantities are not part of the FHIRPath of views; compare value and code of the Quantity")
        if "." in token.text:
            return Literal(float(token.text), "decimal", token.text, token.at)
        return Literal(int(token.text), "integer", token.text, token.at)

    def type_name(self) -> str:
        """``Quantity``, ``FHIR.Quantity`` or ``System.String``, without the namespace."""
        if self.peek.kind != "name":
            raise self.error("the name of a type is expected, e.g. Quantity")
        name = self.take().text
        if name in ("FHIR", "System") and self.sees("."):
            self.take()
            if self.peek.kind != "name":
                raise self.error("the name of a type is expected, e.g. Quantity")
            name = self.take().text
        return name
