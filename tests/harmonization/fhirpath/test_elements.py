"""The tables of element names against a full model of FHIR R4 (the one fhirpathpy ships)."""

from __future__ import annotations

from collections import defaultdict

import pytest

from harmonization.fhirpath.elements import CHOICES, DATA_TYPES, PRIMITIVES, SUBTYPES, TEMPORAL, kind_of

models = pytest.importorskip("fhirpathpy.models").models
R4 = models["r4"]


def test_choice_elements_and_their_types_are_those_of_r4() -> None:
    expected: dict[str, set[str]] = defaultdict(set)
    for path, types in R4["choiceTypePaths"].items():
        name = path.rpartition(".")[2]
        expected[name] |= {f"{name}{type_}" for type_ in types}
    assert {name: set(keys) for name, keys in CHOICES.items()} == expected


def test_no_choice_key_is_an_ordinary_element_of_the_same_object() -> None:
    """Where ``value`` is looked for among the keys ``value…``, none of them may be there for another reason."""
    choices = {f"{path.rpartition('.')[0]}.{key}" for path in R4["choiceTypePaths"] for key in CHOICES[_name(path)]}
    by_parent: dict[str, set[str]] = defaultdict(set)
    for path in R4["path2Type"]:
        by_parent[path.rpartition(".")[0]].add(_name(path))
    for parent, names in by_parent.items():
        for name in names & CHOICES.keys():  # an element with the name of a choice elsewhere
            assert not {key for key in names & CHOICES[name].keys() if f"{parent}.{key}" not in choices}, parent


def _name(path: str) -> str:
    return str(path.rpartition(".")[2])


def test_names_of_dates_have_the_type_of_r4() -> None:
    types: dict[str, set[str]] = defaultdict(set)
    for path, type_ in R4["path2Type"].items():
        types[_name(path)].add(type_)
    for name, found in types.items():
        told = found & TEMPORAL
        kind = kind_of(name)
        if not told:
            assert kind not in TEMPORAL, name
        elif name == "value":  # of one Parameters-like element in 20: the others are texts
            assert kind is None
        elif told == {"time"} or told == {"date"}:
            assert kind == next(iter(told)), name
        else:
            assert kind in ({"dateTime"} | told), name


def test_types() -> None:
    assert {type_ for path, type_ in R4["path2Type"].items() if type_[0].islower()} <= PRIMITIVES
    subtypes = {(child, parent) for parent, children in SUBTYPES.items() for child in children}
    parents = {(c, p) for c, p in R4["type2Parent"].items() if p in SUBTYPES}
    assert subtypes == parents
    assert {"Quantity", "CodeableConcept", "dateTime", "base64Binary"} <= DATA_TYPES
