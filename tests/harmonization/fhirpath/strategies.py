"""Draws small Observations, and expressions over them that FHIRPath engines of the whole language also understand."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Resource = dict[str, Any]
Draw = st.SearchStrategy[Any]

_WORDS = st.sampled_from(["a", "b", "718-7", "final", "", "ä b", "A", "o'k"])
_NUMBERS = st.integers(-3, 12) | st.sampled_from([0.0, 0.1, 0.2, 1.0, 1.5, 2.25, -0.5, 12.5])
DATES = ["2020", "2020-01", "2020-02", "2020-01-31", "2020-02-01"]
MOMENTS = ["2020-02-01T10:00:00Z", "2020-02-01T12:00:00+02:00", "2020-02-01T10:00:00.000Z", "2020-02-01T23:30:00-05:00"]
"""Dates of any precision, and moments with an offset. The oracle mixes the two in its own way (known differences)."""


def _object(required: dict[str, Draw], optional: dict[str, Draw]) -> Draw:
    return st.fixed_dictionaries(required, optional=optional)


_QUANTITIES = _object({"value": _NUMBERS}, {"unit": _WORDS.filter(bool), "code": _WORDS.filter(bool)})
_CODINGS = _object({}, {"system": st.sampled_from(["http://loinc.org", "urn:x"]), "code": _WORDS, "display": _WORDS})
_CONCEPTS = _object({}, {"coding": st.lists(_CODINGS, max_size=3), "text": _WORDS})


@st.composite
def _valued(draw: st.DrawFn, base: dict[str, Draw], times: Draw) -> Resource:
    found = {name: draw(strategy) for name, strategy in base.items() if draw(st.booleans())}
    key, strategy = draw(
        st.sampled_from(
            [
                ("valueQuantity", _QUANTITIES),
                ("valueString", _WORDS),
                ("valueInteger", st.integers(-3, 12)),
                ("valueBoolean", st.booleans()),
                ("valueDateTime", times),
                ("valueCodeableConcept", _CONCEPTS),
                ("valueRange", _object({}, {"low": _QUANTITIES, "high": _QUANTITIES})),
                ("", st.none()),
            ]
        )
    )
    return {**found, key: draw(strategy)} if key else found


_EXTENSIONS = st.one_of(
    _object({"url": st.sampled_from(["urn:a", "urn:b"]), key: values}, {})
    for key, values in {"valueString": _WORDS, "valueInteger": st.integers(0, 3)}.items()
)


@st.composite
def observations(draw: st.DrawFn, times: list[str]) -> Resource:
    """An Observation with a choice of value, dates out of ``times``, codings, components and extensions."""
    moments = st.sampled_from(times)
    base = {
        "id": st.sampled_from(["o1", "o2"]),
        "status": st.sampled_from(["final", "amended"]),
        "code": _CONCEPTS,
        "component": st.lists(_valued({"code": _CONCEPTS}, moments), max_size=3),
        "note": st.lists(_object({"text": _WORDS}, {"time": moments}), max_size=2),
        "extension": st.lists(_EXTENSIONS, max_size=2, unique_by=lambda extension: extension["url"]),
    }
    key, effective = draw(
        st.sampled_from([("effectiveDateTime", moments), ("effectivePeriod", _object({"start": moments}, {}))])
    )
    return {"resourceType": "Observation", **draw(_valued(base, moments)), key: draw(effective)}


# -- expressions -------------------------------------------------------------------------------------------------------

_TEXTS = [
    "id",
    "status",
    "code.text",
    "code.coding.code",
    "code.coding.system",
    "note.text",
    "component.code.text",
    "value.ofType(string)",
    "component.value.ofType(string)",
    "value.ofType(CodeableConcept).coding.display",
    "Observation.component.code.coding.code",
    "extension('urn:a').value.ofType(string)",
]
_AMOUNTS = [
    "value.ofType(Quantity).value",
    "value.ofType(integer)",
    "value.ofType(Range).low.value",
    "component.value.ofType(Quantity).value",
    "component.value.ofType(integer)",
    "component.count()",
]
_TIMES = ["effective.ofType(dateTime)", "effective.ofType(Period).start", "note.time", "value.ofType(dateTime)"]
_OBJECTS = ["code", "code.coding", "component", "note", "component.code", "value.ofType(Quantity)"]
_CRITERIA = [
    "code.exists()",
    "text = 'a'",
    "system = 'http://loinc.org'",
    "$this.code.empty()",
    "text.exists() and text != 'b'",
    "value.exists()",
]


def _cut(path: Draw) -> Draw:
    """A path, or a part of what it gives."""
    cuts = ["", ".first()", ".last()", ".tail()", "[0]", "[1]", ".take(2)", ".skip(1)", ".distinct()"]
    return st.tuples(path, st.sampled_from(cuts)).map("".join)


def _one(paths: list[str]) -> Draw:
    return st.tuples(st.sampled_from(paths), st.sampled_from([".first()", ".last()", "[0]"])).map("".join)


_texts = _cut(st.sampled_from(_TEXTS))
_text = _one(_TEXTS) | st.sampled_from(["'a'", "'b'", "'final'", r"'o\'k'", "{}"])
_amount = _one(_AMOUNTS) | st.sampled_from(["0", "1", "2", "1.5", "0.1", "{}"])
_sums = st.tuples(_amount, st.sampled_from([" + ", " - ", " * ", " / "]), _amount).map("".join)
_number = _amount | _sums | st.tuples(st.just("("), _sums, st.just(")"), st.just(" * "), _amount).map("".join)
_changed = st.tuples(
    _one(_TEXTS),
    st.sampled_from(
        [
            ".lower()",
            ".upper()",
            ".length()",
            ".startsWith('a')",
            ".endsWith('b')",
            ".contains('a')",
            ".matches('^[a-f]')",
            ".replace('a', 'xy')",
            ".substring(1)",
            ".substring(0, 2)",
            ".toInteger()",
            ".toString()",
        ]
    ),
).map("".join)
_objects = _cut(
    st.sampled_from(_OBJECTS)
    | st.tuples(st.sampled_from(_OBJECTS), st.sampled_from(_CRITERIA)).map(lambda pair: f"{pair[0]}.where({pair[1]})")
)
_any = _texts | _objects | _cut(st.sampled_from(_AMOUNTS))
_ORDERS = st.sampled_from([" < ", " <= ", " > ", " >= "])
_SAME = st.sampled_from([" = ", " != "])


def _conditions(times: list[str]) -> Draw:
    written = st.sampled_from([f"@{time}" for time in times])
    moments = st.tuples(_one(_TIMES) | written, _SAME | _ORDERS, written) | st.tuples(written, _ORDERS, _one(_TIMES))
    tests = st.one_of(
        st.tuples(_any, st.sampled_from([".exists()", ".empty()", ".count() > 1", ".count() = 2"])).map("".join),
        st.tuples(_text, _SAME | _ORDERS, _text).map("".join),
        st.tuples(_amount, _SAME | _ORDERS, _amount).map("".join),
        moments.map("".join),
        st.tuples(st.sampled_from(_OBJECTS), st.sampled_from(["exists", "all"]), st.sampled_from(_CRITERIA)).map(
            lambda parts: "{}.{}({})".format(*parts)
        ),
        st.tuples(_text, st.just(" in "), st.sampled_from(_TEXTS)).map("".join),
        st.sampled_from(
            ["true", "false", "{}", "value is Quantity", "value is string", "component[0].value is string"]
        ),
    )
    return st.recursive(
        tests.map(lambda text: f"({text})"),
        lambda inner: (
            st.tuples(inner, st.sampled_from([" and ", " or ", " xor ", " implies "]), inner).map(
                lambda parts: f"({''.join(parts)})"
            )
            | inner.map(lambda text: f"{text}.not()")
        ),
        max_leaves=4,
    )


_joined = st.tuples(st.sampled_from(_TEXTS), st.sampled_from(["', '", "''", "'|'"])).map("{0[0]}.join({0[1]})".format)
_projected = st.tuples(st.sampled_from(_OBJECTS), st.sampled_from(["text", "code", "coding.code", "$this"])).map(
    "{0[0]}.select({0[1]})".format
)
_united = st.tuples(_texts, st.just(" | "), _texts).map("".join)
_mixed = st.tuples(_text, st.just(" & "), _text).map("".join)


def expressions(times: list[str]) -> Draw:
    """Expressions over what `observations` draws, dates out of ``times``."""
    condition = _conditions(times)
    chosen = st.tuples(condition, _text, _text).map("iif({0[0]}, {0[1]}, {0[2]})".format)
    return st.one_of(_any, _number, condition, _joined, chosen, _projected, _united, _mixed, _changed)
