"""Dates and times: what partial precision decides, offsets, and the moments that bound a value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harmonization.fhirpath import compile_path
from harmonization.fhirpath.temporal import Temporal, boundary, compare, read_temporal


def read(text: str) -> Temporal:
    found = read_temporal(text)
    assert found is not None, text
    return found


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "202", "2020-1", "2020-13", "2020-00", "2020-02-30", "2019-02-29", "0000", "2020-01-01T", "1.5"),
        *("2020-01-01T24:00:00Z", "2020-01-01T10:60:00Z", "2020-01-01T10:00:61Z", "2020-01-01 10:00:00"),
        *("25:00", "10:61"),
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert read_temporal(text) is None


def test_leap_days_and_leap_seconds_are_dates() -> None:
    assert read("2020-02-29").parts == (2020, 2, 29)
    assert read("2016-12-31T23:59:60Z").parts[5] == 60_000_000


# Examples of the FHIRPath specification (N1, 6.1.1 and 6.2) and of what it says in words; None is empty.
@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("2012", "2012", 0),
        ("2012", "2013", -1),
        ("2012-01", "2012", None),
        ("2018-03", "2018-03-01", None),
        ("2018-03", "2018-02-28", 1),
        ("2018-03-01T10:30:00", "2018-03-01T10:30:00.0", 0),
        ("2012-04-15T15:30:31", "2012-04-15T15:30:31.1", -1),
        ("2012-04-15T15", "2012-04-15T10", 1),
        ("2017-11-05T01:30:00.0-04:00", "2017-11-05T01:15:00.0-05:00", -1),
        ("2017-11-05T01:30:00.0-04:00", "2017-11-05T00:30:00.0-05:00", 0),
        ("2020-01-01T00:30:00+01:00", "2019-12-31T23:30:00Z", 0),
        ("2020-01-01T00:30+01:00", "2019-12-31T23:30Z", 0),
        ("2020-01-01T10:00:00Z", "2020-01-01", None),
        ("2020-01-01T10:00:00Z", "2020-01-02", -1),
        ("10:30", "10:30:00", None),
        ("10:30:00", "10:30:00.000", 0),
        ("10:30", "10:31:59", -1),
        # One side without an offset is read in the offset of the other.
        ("2020-01-01T10:00:00", "2020-01-01T10:00:00+05:00", 0),
    ],
)
def test_order(a: str, b: str, expected: int | None) -> None:
    assert compare(read(a), read(b)) == expected
    assert compare(read(b), read(a)) == (None if expected is None else -expected)
    operators = {"<": {-1}, "<=": {-1, 0}, ">": {1}, ">=": {0, 1}, "=": {0}, "!=": {-1, 1}}
    clock = "T" if ":" in a and "-" not in a else ""
    for operator, signs in operators.items():
        found = compile_path(f"@{clock}{a} {operator} @{clock}{b}")({})
        assert found == ([] if expected is None else [expected in signs]), operator


def test_a_time_and_a_date_have_no_order() -> None:
    with pytest.raises(TypeError):
        compare(read("10:30"), read("2020"))


_AWARE = st.datetimes(
    datetime(1900, 1, 1),
    datetime(2100, 1, 1),
    timezones=st.integers(-14 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters))),
).map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))


@settings(deadline=None)
@given(_AWARE, _AWARE)
def test_full_moments_are_ordered_as_in_python(a: datetime, b: datetime) -> None:
    found = compare(read(a.isoformat(timespec="milliseconds")), read(b.isoformat(timespec="milliseconds")))
    assert found == (a > b) - (a < b)


_TEXTS = st.builds(
    lambda moment, size: moment.isoformat(timespec="seconds")[:size],
    st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    st.sampled_from([4, 7, 10, 13, 16, 19]),
)


@settings(deadline=None)
@given(_TEXTS, _TEXTS)
def test_order_is_decided_just_where_the_intervals_do_not_overlap(a: str, b: str) -> None:
    """A value of some precision is the interval between its boundaries."""
    x, y = read(a), read(b)
    assume(len(x.parts) != len(y.parts))
    low_a, high_a, low_b, high_b = (
        datetime.fromisoformat(str(boundary(v, "dateTime", high, None))).replace(tzinfo=UTC)
        for v in (x, y)
        for high in (False, True)
    )
    expected = -1 if high_a < low_b else (1 if low_a > high_b else None)
    assert compare(x, y) == expected


# Official examples, and those of the specification of lowBoundary() and highBoundary().
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("@2014.lowBoundary()", "2014-01-01"),
        ("@2014.highBoundary()", "2014-12-31"),
        ("@2014.lowBoundary(6)", "2014-01"),
        ("@2014.highBoundary(6)", "2014-12"),
        ("@2014-05-06.lowBoundary(4)", "2014"),
        ("@2019-02.highBoundary()", "2019-02-28"),
        ("@2020-02.highBoundary(8)", "2020-02-29"),
        ("@2014.lowBoundary(5)", None),
        ("@2014.lowBoundary(17)", None),
        ("@2014T.lowBoundary()", "2014-01-01T00:00:00.000+14:00"),
        ("@2014T.highBoundary()", "2014-12-31T23:59:59.999-12:00"),
        ("@2014-01-01T08.lowBoundary(17)", "2014-01-01T08:00:00.000+14:00"),
        ("@2014-01-01T08.highBoundary(17)", "2014-01-01T08:59:59.999-12:00"),
        ("@2014-01-01T08:05+08:00.lowBoundary(17)", "2014-01-01T08:05:00.000+08:00"),
        ("@2014-01-01T08:05-05:30.highBoundary()", "2014-01-01T08:05:59.999-05:30"),
        ("@2014-01-01T08:05:03Z.highBoundary()", "2014-01-01T08:05:03.999Z"),
        ("@2014-01-01T08:05:03.5Z.highBoundary()", "2014-01-01T08:05:03.500Z"),
        ("@2014-01-01T08.lowBoundary(8)", "2014-01-01"),
        ("@2014-01-01T08:05:03.123Z.lowBoundary(12)", "2014-01-01T08:05Z"),
        ("@T10:30.lowBoundary()", "10:30:00.000"),
        ("@T10:30.highBoundary(9)", "10:30:59.999"),
        ("@T10.highBoundary(6)", "10:59:59"),
        ("@T12:34:00.highBoundary()", "12:34:00.999"),
        ("@T10:30.lowBoundary(8)", None),
    ],
)
def test_boundaries(expression: str, expected: str | None) -> None:
    assert compile_path(expression)({}) == ([] if expected is None else [expected])


def test_the_name_of_an_element_says_date_or_datetime() -> None:
    resource = {
        "birthDate": "1970",
        "recordedDate": "1970",
        "deceasedDateTime": "1970-06",
        "period": {"start": "2020", "end": "2020-02"},
        "other": "1970",
    }
    low = {
        "birthDate": "1970-01-01",
        "recordedDate": "1970-01-01T00:00:00.000+14:00",
        "deceased.ofType(dateTime)": "1970-06-01T00:00:00.000+14:00",
        "period.start": "2020-01-01T00:00:00.000+14:00",
        "period": "2020-01-01T00:00:00.000+14:00",
        "other": "1970-01-01T00:00:00.000+14:00",
        "birthDate.select($this)": "1970-01-01",
        "birthDate.where($this > @1960)": "1970-01-01",
    }
    for path, expected in low.items():
        assert compile_path(f"{path}.lowBoundary()")(resource) == [expected], path
    assert compile_path("period.highBoundary()")(resource) == ["2020-02-29T23:59:59.999-12:00"]
    assert compile_path("period.highBoundary()")({"period": {"start": "2020"}}) == []
