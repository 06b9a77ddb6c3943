"""The tables of R4 against the models of fhir.resources: the same elements, types, repetitions and codes."""

from __future__ import annotations

import re
from typing import Any

import pytest

from harmonization.r4 import BINDINGS, RESOURCE_TYPES, RESOURCES, TYPES, elements

r4b = pytest.importorskip("fhir.resources.R4B")

PRIMITIVE = {"markdown": "string", "xhtml": "string", "encodedBytes": "base64Binary", "url": "uri", "uuid": "id"}
OF_THE_MODEL_ALONE = {"fhir_comments", "resource_type"}


def model(kind: str) -> Any:
    """The model of a type of ours: ``Observation.component`` is ObservationComponent."""
    for module in (kind.split(".")[0].lower(), kind.lower()):
        try:
            found = __import__(f"fhir.resources.R4B.{module}", fromlist=["*"])
        except ModuleNotFoundError:
            continue
        name = "".join(part[0].upper() + part[1:] for part in kind.split("."))
        nested = {
            "MedicationRequest.initialFill": "MedicationRequestDispenseRequestInitialFill",
            "Bundle.search": "BundleEntrySearch",
            "Bundle.request": "BundleEntryRequest",
            "Bundle.response": "BundleEntryResponse",
        }
        return getattr(found, nested.get(kind, name))
    raise AssertionError(kind)


def type_of(annotation: str) -> str:
    if found := re.search(r"abc\.(\w+)Type", annotation):
        return found[1]
    if "Xhtml" in annotation:
        return "string"
    if found := re.search(r"Annotated\[.*?, (\w+)\(", annotation):
        name = found[1][0].lower() + found[1][1:]
        return PRIMITIVE.get(name, name)
    return "boolean"


@pytest.mark.parametrize("kind", [*RESOURCES, *TYPES])
def test_elements_are_those_of_the_model(kind: str) -> None:
    theirs = {
        field.alias or name: (str(field.annotation), field.json_schema_extra)
        for name, field in model(kind).model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("element_property")
    }
    ours = {name: (element, of) for element in elements(kind) for name, of in element.json_names.items()}
    assert set(ours) - {"resourceType"} == set(theirs) - OF_THE_MODEL_ALONE
    for name, (annotation, extra) in theirs.items():
        element, of = ours[name]
        assert element.repeats == ("List[" in annotation), name
        if of not in ("any", "reference") and not annotation.startswith("abc.BackboneElement"):
            their_type = type_of(annotation)
            backbone = their_type.startswith(kind.split(".")[0]) and their_type not in TYPES
            assert backbone or of == their_type or (of, their_type) == ("Resource", "Resource"), (name, annotation)
        if not name.startswith(element.name.removesuffix("[x]")) or not element.name.endswith("[x]"):
            required = bool(extra.get("element_required")) or not ("Optional" in annotation or "None" in annotation)
            assert element.required == required, name
        codes = [code for code in extra.get("enum_values", ()) if code != "+"]
        if codes:
            assert set(codes) <= BINDINGS[element.binding], name
            if "+" not in extra["enum_values"]:
                assert set(codes) == BINDINGS[element.binding], name


def test_resource_types_are_those_of_r4() -> None:
    """The models are of R4B: it has all resource types of R4 but some that it gave up, and few of its own."""
    assert len(RESOURCE_TYPES) == 146  # http://hl7.org/fhir/R4/valueset-resource-types.html less two abstract ones
    missing = set()
    for kind in RESOURCE_TYPES:
        try:
            r4b.get_fhir_model_class(kind)
        except ValueError:
            missing.add(kind)
    given_up = {kind for kind in RESOURCE_TYPES if kind.startswith(("MedicinalProduct", "Substance"))} - {
        "Substance",
        "SubstanceSpecification",
    } | {"EffectEvidenceSynthesis", "RiskEvidenceSynthesis", "SubstanceSpecification"}
    assert missing <= given_up
    for kind in ("Citation", "SubscriptionTopic", "NutritionProduct", "Ingredient"):  # of R4B and R5
        assert kind not in RESOURCE_TYPES
