"""Functions that the tests of paths, operators and dates do not already cover."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonization.fhirpath import FHIRPathError, compile_path
from harmonization.fhirpath.functions import FUNCTIONS

RESOURCE: dict[str, Any] = {
    "name": [{"use": "a", "given": ["x", "y"]}, {"use": "b", "given": ["z"]}, {"use": "c"}],
    "text": "Hb 7,2 g/dL",
    "empty": [],
    "n": 12,
    "d": 1.5,
    "flag": False,
}


def evaluate(expression: str, resource: Any = RESOURCE) -> list[Any]:
    return compile_path(expression)(resource)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("name.where(given.exists()).use", ["a", "b"]),
        ("name.where(use = 'b' or use = 'c').use", ["b", "c"]),
        ("name.where({}).use", []),
        ("name.where(false)", []),
        ("nothing.where(true)", []),
        ("name.given.where($this = 'z')", ["z"]),
        ("where(n > 11).exists()", [True]),
        ("where(n > 12).exists()", [False]),
        ("name.where(given.where($this = 'y').exists()).use", ["a"]),
        ("name.exists()", [True]),
        ("nothing.exists()", [False]),
        ("empty.exists()", [False]),
        ("flag.exists()", [True]),
        ("name.exists(use = 'c')", [True]),
        ("name.exists(use = 'd')", [False]),
        ("name.empty()", [False]),
        ("nothing.empty()", [True]),
        ("name.given.empty()", [False]),
        ("name.all(use.exists())", [True]),
        ("name.all(given.exists())", [False]),
        ("name.all({})", [False]),
        ("nothing.all(false)", [True]),
        ("name.count()", [3]),
        ("name.given.count()", [3]),
        ("nothing.count()", [0]),
        ("name.first().use", ["a"]),
        ("name.last().use", ["c"]),
        ("nothing.first()", []),
        ("name.tail().use", ["b", "c"]),
        ("name.skip(1).use", ["b", "c"]),
        ("name.skip(-1).use", ["a", "b", "c"]),
        ("name.take(2).use", ["a", "b"]),
        ("name.take(0)", []),
        ("name[0].single().use", ["a"]),
        ("nothing.single()", []),
        ("(n | n).single()", [12]),
        ("name.select(use)", ["a", "b", "c"]),
        ("name.select(given)", ["x", "y", "z"]),
        ("name.select(use & given.first())", ["ax", "bz", "c"]),
        ("name.select(given.count())", [2, 1, 0]),
        ("name.given.distinct().count()", [3]),
        ("name.select(given.exists()).distinct()", [True, False]),
        ("iif(n > 10, 'high', 'low')", ["high"]),
        ("iif(n > 20, 'high', 'low')", ["low"]),
        ("iif(n > 20, 'high')", []),
        ("iif({}, 'high', 'low')", ["low"]),
        ("iif(true, name.use)", ["a", "b", "c"]),
        ("iif(true, 1, name < 3)", [1]),  # only the branch that is chosen is evaluated
        ("name.given.join(', ')", ["x, y, z"]),
        ("name.given.join('')", ["xyz"]),
        ("name.given.join()", ["xyz"]),
        ("name.given.join({})", ["xyz"]),
        ("nothing.join(',')", [""]),
        ("name.select(given.join('+'))", ["x+y", "z", ""]),
        ("text.startsWith('Hb')", [True]),
        ("text.endsWith('L')", [True]),
        ("text.contains('7,2')", [True]),
        ("text.contains('8')", [False]),
        ("text.contains({})", []),
        ("nothing.contains('8')", []),
        ("text.matches('[0-9]+,[0-9]')", [True]),
        ("text.matches('^[0-9]')", [False]),
        ("text.replace(',', '.')", ["Hb 7.2 g/dL"]),
        ("text.substring(3)", ["7,2 g/dL"]),
        ("text.substring(3, 3)", ["7,2"]),
        ("text.substring(3, -1)", [""]),
        ("text.substring(99)", []),
        ("text.substring(-1)", []),
        ("text.lower()", ["hb 7,2 g/dl"]),
        ("text.upper()", ["HB 7,2 G/DL"]),
        ("text.length()", [11]),
        ("' a '.trim()", ["a"]),
        ("n.toString()", ["12"]),
        ("d.toString()", ["1.5"]),
        ("flag.toString()", ["false"]),
        ("'x'.toString()", ["x"]),
        ("'12'.toInteger()", [12]),
        ("'-12'.toInteger()", [-12]),
        ("'1.5'.toInteger()", []),
        ("d.toInteger()", []),
        ("true.toInteger()", [1]),
        ("'1.5'.toDecimal()", [1.5]),
        ("'1,5'.toDecimal()", []),  # a decimal comma is no decimal point: never 15
        ("n.toDecimal()", [12.0]),
        ("name.first().toString()", []),
    ],
)
def test_functions(expression: str, expected: list[Any]) -> None:
    found = evaluate(expression)
    assert found == expected
    assert [type(v) for v in found] == [type(v) for v in expected]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("name.single()", "3 values where one is needed"),
        ("name.where(given)", "2 values where one is needed"),
        ("name.given.lower()", "3 values where one is needed"),
        ("n.lower()", "for texts, found 12"),
        ("name.join()", "takes texts, found an object with use"),
        ("(1 | 2).join()", "takes texts, found 1"),
        ("name.take('a')", "takes a whole number, found 'a'"),
        ("name['a']", "an index is a whole number"),
        ("name.given.join(1)", "takes a text, found 1"),
        ("text.matches('(')", "no regular expression"),
        ("text.lowBoundary()", "for decimals, dates, times and periods"),
        ("flag.highBoundary()", "for decimals, dates, times and periods"),
    ],
)
def test_errors_show_where_a_resource_does_not_fit(expression: str, words: str) -> None:
    path = compile_path(expression)
    with pytest.raises(FHIRPathError, match="FHIRPath") as caught:
        path(RESOURCE)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_counts_its_arguments(name: str) -> None:
    function = FUNCTIONS[name]
    for number in (function.least - 1, function.most + 1):
        if number >= 0:
            with pytest.raises(FHIRPathError, match=r"argument\(s\)"):
                compile_path(f"x.{name}({', '.join(['1'] * number)})")


# -- boundaries of decimals: the examples of the specification ---------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("1.587.lowBoundary()", 1.5865),
        ("1.587.highBoundary()", 1.5875),
        ("1.587.lowBoundary(6)", 1.5865),
        ("1.587.lowBoundary(2)", 1.58),
        ("1.587.highBoundary(2)", 1.59),
        ("1.587.lowBoundary(0)", 1.0),
        ("1.587.highBoundary(0)", 2.0),
        ("(-1.587).lowBoundary()", -1.5875),
        ("(-1.587).highBoundary()", -1.5865),
        ("(-1.587).lowBoundary(2)", -1.59),
        ("(-1.587).highBoundary(2)", -1.58),
        ("(-1.587).lowBoundary(0)", -2.0),
        ("1.587.lowBoundary(-1)", None),
        ("1.587.highBoundary(29)", None),
        ("1.587.highBoundary({})", None),
        ("12.500.highBoundary(4)", 12.5005),
        ("120.highBoundary(2)", 120.5),
        ("120.lowBoundary(2)", 119.5),
        ("1.0.lowBoundary()", 0.95),
        ("1.00.lowBoundary()", 0.995),
        ("1.lowBoundary()", 0.5),
        ("0.0.lowBoundary()", -0.05),
        ("0.0034.lowBoundary(1)", 0.0),
        ("{}.lowBoundary()", None),
        ("%exact.highBoundary()", 1.105),
    ],
)
def test_decimal_boundaries(expression: str, expected: float | None) -> None:
    found = compile_path(expression, {"exact": Decimal("1.10")})({})
    assert [float(value) for value in found] == ([] if expected is None else [expected])


@settings(deadline=None)
@given(st.decimals(-1000, 1000, allow_nan=False, allow_infinity=False, places=3), st.none() | st.integers(0, 8))
def test_boundaries_enclose_a_decimal_and_keep_its_type(value: Decimal, precision: int | None) -> None:
    arguments = "" if precision is None else str(precision)
    low, high = (compile_path(f"x.{name}({arguments})")({"x": value})[0] for name in ("lowBoundary", "highBoundary"))
    assert isinstance(low, Decimal)
    assert low <= value - Decimal("0.0005") < value < value + Decimal("0.0005") <= high
    if precision is None:
        assert high - low == Decimal("0.001")
    floats = compile_path(f"x.lowBoundary({arguments})")({"x": float(value)})
    assert isinstance(floats[0], float)
