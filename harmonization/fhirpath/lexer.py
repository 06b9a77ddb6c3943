"""From the text of an expression to its words (FHIRPath N1, appendix B: lexical elements)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from harmonization.fhirpath.errors import FHIRPathError

Kind = Literal["string", "number", "date", "dateTime", "time", "name", "special", "operator", "end"]

_WORD = re.compile(
    r"""
      (?P<blank>\s+|//[^\n]*|/\*.*?\*/)
    | (?P<time>@T\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?)
    | (?P<dateTime>@\d{4}(?:-\d\d(?:-\d\d)?)?T(?:\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:\d\d)?)?)
    | (?P<date>@\d{4}(?:-\d\d(?:-\d\d)?)?)
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<string>'(?:[^'\\]|\\.)*')
    | (?P<quoted>`(?:[^`\\]|\\.)*`)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<special>\$[a-z]+)
    | (?P<operator><=|>=|!=|!~|[-+*/&|<>=~.,()\[\]{}%])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"r": "\r", "n": "\n", "t": "\t", "f": "\f"}
_LITERAL = frozenset("'\"`\\/")


@dataclass(frozen=True, slots=True)
class Token:
    """One word: its kind, its text (strings and quoted names unescaped, dates without ``@``), its first character."""

    kind: Kind
    text: str
    at: int
    quoted: bool = False


def tokenize(expression: str) -> list[Token]:
    """Cut an expression into words; the last one is of kind ``end``.

    Raises
    ------
    FHIRPathError
        At the first character that starts no word.
    """
    tokens: list[Token] = []
    at = 0
    while at < len(expression):
        found = _WORD.match(expression, at)
        if found is None:
            raise FHIRPathError(_unreadable(expression[at]), expression, at)
        kind, text = found.lastgroup, found.group()
        if kind == "string":
            tokens.append(Token("string", _unescape(text[1:-1], expression, at), at))
        elif kind == "quoted":
            tokens.append(Token("name", _unescape(text[1:-1], expression, at), at, quoted=True))
        elif kind == "time":
            tokens.append(Token("time", text[2:], at))
        elif kind == "date":
            tokens.append(Token("date", text[1:], at))
        elif kind == "dateTime":
            tokens.append(Token("dateTime", text[1:].removesuffix("T"), at))
        elif kind != "blank":
            tokens.append(Token(kind, text, at))  # type: ignore[arg-type]
        at = found.end()
    tokens.append(Token("end", "", len(expression)))
    return tokens


def _unreadable(character: str) -> str:
    if character in "'`":
        return (
            f"{character} opens a text that is not closed; close it with {character}, and write \\{character} inside it"
        )
    if character == "@":
        return "@ starts a date or time: write @2024-05-31, @2024-05-31T10:00:00Z or @T10:00"
    if character == '"':
        return "text stands in single quotes in FHIRPath"
    return f"{character!r} means nothing here; take it out"


def _unescape(text: str, expression: str, at: int) -> str:
    def one(found: re.Match[str]) -> str:
        code = found.group(1)
        if len(code) == 5:
            return chr(int(code[1:], 16))
        if code in _ESCAPED:
            return _ESCAPED[code]
        if code in _LITERAL:
            return code
        raise FHIRPathError(
            f"\\{code} is no escape; there are \\' \\\" \\` \\\\ \\/ \\r \\n \\t \\f \\uXXXX",
            expression,
            at + 1 + found.start(),
        )

    return _ESCAPE.sub(one, text) if "\\" in text else text
