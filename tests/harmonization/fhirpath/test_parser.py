"""Reading expressions: what binds how, how values are written, and where a mistake is."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonization.fhirpath import FHIRPathError, compile_path
from harmonization.fhirpath.parser import parse


def value(expression: str) -> object:
    found = compile_path(expression)({})
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("expression", "bracketed"),
    [
        ("1 + 2 * 3", "1 + (2 * 3)"),
        ("1 - 2 - 3", "(1 - 2) - 3"),
        ("7 mod 4 * 2", "(7 mod 4) * 2"),
        ("-a.b", "-(a.b)"),
        ("-1 + 2", "(-1) + 2"),
        ("a | b = c", "(a | b) = c"),
        ("a + b | c", "(a + b) | c"),
        ("a | b is Quantity", "a | (b is Quantity)"),
        ("a < b = c < d", "(a < b) = (c < d)"),
        ("a = b in c", "(a = b) in c"),
        ("a in b and c", "(a in b) and c"),
        ("a or b and c", "a or (b and c)"),
        ("a xor b or c", "(a xor b) or c"),
        ("a implies b or c", "a implies (b or c)"),
        ("(a as Quantity).value", "((a as FHIR.Quantity)).value"),
        ("a & b = c", "(a & b) = c"),
    ],
)
def test_operators_bind_as_in_the_table_of_the_specification(expression: str, bracketed: str) -> None:
    assert _shape(parse(expression)) == _shape(parse(bracketed))


def _shape(node: object) -> object:
    """A tree without positions."""
    if isinstance(node, tuple):
        return tuple(map(_shape, node))
    names = getattr(type(node), "__slots__", None)
    if names is None:
        return node
    return (type(node).__name__, *(_shape(getattr(node, name)) for name in names if name not in ("at", "text")))


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("'a'", "a"),
        (r"'it\'s \"x\" \`y\` \\ \/'", 'it\'s "x" `y` \\ /'),
        (r"'\r\n\t\f'", "\r\n\t\f"),
        (r"'\u00e4\u0041'", "äA"),
        ("''", ""),
        ("true", True),
        ("false", False),
        ("0", 0),
        ("42", 42),
        ("-7", -7),
        ("+7", 7),
        ("1.50", 1.5),
        ("@2024-05-31", "2024-05-31"),
        ("@2024-05", "2024-05"),
        ("@2024T", "2024"),
        ("@2024-05-31T10:30:00.5+02:00", "2024-05-31T10:30:00.5+02:00"),
        ("@2024-05-31T10Z", "2024-05-31T10Z"),
        ("@T10:30", "10:30"),
        ("/* a\ncomment */ 1 // and another", 1),
        ("( 1 )", 1),
    ],
)
def test_literals(literal: str, expected: object) -> None:
    found = value(literal)
    assert found == expected
    assert type(found) is type(expected)


def test_the_empty_collection_is_a_literal() -> None:
    assert compile_path("{}")({}) == []
    assert compile_path("{ }.exists()")({}) == [False]


def test_keywords_are_names_after_a_point_and_names_may_be_quoted() -> None:
    resource = {"contains": {"in": [{"is": 1, "div": 2}]}, "a-b": 3, "true": 4}
    assert compile_path("contains.in.is")(resource) == [1]
    assert compile_path("contains.in.`div`")(resource) == [2]
    assert compile_path("`a-b`")(resource) == [3]
    assert compile_path("`true`")(resource) == [4]


@pytest.mark.parametrize(
    ("expression", "position", "words"),
    [
        ("", 0, "empty"),
        ("  ", 0, "empty"),
        ("@@", 0, "@2024-05-31"),
        ("name.", 5, "after the point"),
        ("name..use", 5, "after the point"),
        ("name.where(", 11, "the expression ends"),
        ("name.where(use = 'x'", 20, "')'"),
        ("name[0", 6, "']'"),
        ("a = 'b", 4, "not closed"),
        ("a = `b", 4, "not closed"),
        ('a = "b"', 4, "single quotes"),
        (r"a = '\q'", 5, "no escape"),
        ("a # b", 2, "means nothing"),
        ("a b", 2, "does not follow"),
        ("a +", 3, "the expression ends"),
        ("* a", 0, "'*'"),
        ("%", 1, "name of a constant"),
        ("$index", 0, "$this"),
        ("$total", 0, "$this"),
        ("1 'mg'", 2, "value and code"),
        ("4 days", 2, "value and code"),
        ("a is 3", 5, "name of a type"),
        ("{ a }", 2, "'}'"),
        ("f(", 2, "the expression ends"),
        ("a.nope()", 2, "no function nope()"),
        ("a.first(1)", 2, "0 argument"),
        ("a.where()", 2, "1 argument"),
        ("a = %wrong", 4, "no constant %wrong"),
        ("a.ofType(42)", 9, "name of a type"),
        ("value.ofType(Quantiy)", 6, "never a 'Quantiy'"),
    ],
)
def test_a_mistake_is_named_with_its_place(expression: str, position: int, words: str) -> None:
    with pytest.raises(FHIRPathError) as caught:
        compile_path(expression)
    assert caught.value.position == position
    assert caught.value.expression == expression
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    with pytest.raises(FHIRPathError, match="nested too deeply"):
        compile_path("(" * 5000 + "1" + ")" * 5000)
    with pytest.raises(FHIRPathError, match="nested too deeply"):
        compile_path("1" + " + 1" * 50000)


def test_an_expression_is_text() -> None:
    with pytest.raises(FHIRPathError, match="text"):
        compile_path(1)  # type: ignore[arg-type]


def test_the_error_survives_pickling() -> None:
    error = FHIRPathError("a problem", "a.b", 2)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.position) == (str(error), 2)


@settings(deadline=None)
@given(st.text(st.sampled_from("ab.(),[]'=<>+-*/&|%$@~!{}` 01T:é\\\n"), max_size=30))
def test_any_text_is_an_expression_or_an_error(text: str) -> None:
    try:
        compile_path(text)
    except FHIRPathError as error:
        position = error.position
    else:
        position = 0
    assert 0 <= position <= len(text)


@settings(deadline=None)
@given(st.text(max_size=20))
def test_any_text_can_be_written_as_a_literal(text: str) -> None:
    written = text.replace("\\", "\\\\").replace("'", "\\'")
    assert value(f"'{written}'") == text
