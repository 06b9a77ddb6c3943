"""Cells: what a number or a date is in a locale, and that nothing else is one."""

from __future__ import annotations

import math
from datetime import date, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harmonization.tables.cells import CellError, Locale, Words

GERMAN = Locale(",", ".", "DD.MM.YYYY")
AMERICAN = Locale(".", ",", "MM/DD/YYYY")
MARKS = st.sampled_from([(".", ""), (".", ","), (",", ""), (",", "."), (",", " "), (".", "'")])


@pytest.mark.parametrize(
    ("text", "value"),
    [("12,5", 12.5), ("1.234,5", 1234.5), ("1234,5", 1234.5), ("-3", -3.0), ("−3", -3.0), ("1,5e-3", 0.0015)],
)
def test_numbers_of_a_locale(text: str, value: float) -> None:
    assert GERMAN.number(text) == value


@pytest.mark.parametrize(
    "text",
    ["12.5", "1.23", "1.2345,0", "1,2,3", "12,5 g/dl", "1 234", "", "nan", "inf", "1_000", "٣", "12,", ",5", "1e999"],
)
def test_no_numbers_of_that_locale(text: str) -> None:
    """Least of all 12.5, which another reader takes for 125."""
    with pytest.raises(CellError):
        GERMAN.number(text)


@given(st.floats(-1e12, 1e12), MARKS)
def test_numbers_come_back(value: float, marks: tuple[str, str]) -> None:
    decimal, thousands = marks
    text = repr(value)
    whole, dot, fraction = text.partition(".")
    if thousands and "e" not in text:
        whole = f"{'-' if whole.startswith('-') else ''}{abs(int(whole)):,}".replace(",", thousands)
    assert Locale(decimal, thousands).number(whole + (decimal if dot else "") + fraction) == value


@given(st.integers(1, 9999), st.integers(0, 999999), MARKS, MARKS)
def test_another_locale_never_reads_another_number(
    whole: int, part: int, mine: tuple[str, str], other: tuple[str, str]
) -> None:
    """A decimal is that number or none in another locale, but for what no reader can tell: three digits."""
    assume(len(str(part)) != 3 or mine[0] != other[1])
    text = f"{whole}{mine[0]}{part}"
    try:
        read = Locale(*other).number(text)
    except CellError:
        return
    assert read == float(f"{whole}.{part}")


def test_numbers_of_excel() -> None:
    assert GERMAN.number(12.5) == 12.5
    for value in (True, date(2020, 5, 3), math.inf):
        with pytest.raises(CellError):
            GERMAN.number(value)


@given(
    st.dates(date(1850, 1, 1), date(2100, 1, 1)),
    st.sampled_from(["DD.MM.YYYY", "MM/DD/YYYY", "YYYY-MM-DD", "YYYYMMDD"]),
)
def test_dates_come_back(day: date, order: str) -> None:
    text = order.replace("DD", f"{day.day:02}").replace("MM", f"{day.month:02}").replace("YYYY", f"{day.year:04}")
    assert Locale(order=order).day(text) == day
    assert Locale(order=order).day(day) == day


@pytest.mark.parametrize("text", ["31.02.2004", "2004-02-01", "1.2.04", "02/13/2004", "1.13.2004", "01.02.2004 x"])
def test_no_dates_of_a_locale(text: str) -> None:
    with pytest.raises(CellError):
        GERMAN.day(text)


def test_time_of_day_is_left_away() -> None:
    assert GERMAN.day("3.2.2004 07:15") == date(2004, 2, 3)
    assert GERMAN.day(datetime(2004, 2, 3, 23, 59)) == date(2004, 2, 3)
    assert AMERICAN.day("2/3/2004") == date(2004, 2, 3)


@pytest.mark.parametrize(
    ("locale", "word"),
    [
        (Locale(";"), "decimal"),
        (Locale(",", ","), "thousands"),
        (Locale(order="DD.MM.YY"), "date"),
        (Locale(order="DD.YYYY"), "date"),
    ],
)
def test_locales_that_are_none(locale: Locale, word: str) -> None:
    assert word in (locale.problem or "")
    assert GERMAN.problem is None


def test_words_for_missing() -> None:
    words = Words({"n.d.": "not_done"})
    assert words.missing("N.D.") == "not_done"
    assert words.missing("x") is None
    assert words.missing(3.0) is None
