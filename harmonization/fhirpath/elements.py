"""What FHIR R4 says of element names that an expression cannot see in JSON.

JSON spells a choice element ``value[x]`` as ``valueQuantity``, ``valueString``, …, and every date as a string. So the
compiler must know which names are choices among which types, and which names hold dates. Names rather than paths are
enough: the tests check the tables against a full model of R4, element by element.
"""

from __future__ import annotations

_OPEN = (
    "Address Age Annotation Attachment Base64Binary Boolean Canonical Code CodeableConcept Coding ContactDetail "
    "ContactPoint Contributor Count DataRequirement Date DateTime Decimal Distance Dosage Duration Expression "
    "HumanName Id Identifier Instant Integer Markdown Meta Money Oid ParameterDefinition Period PositiveInt "
    "Quantity Range Ratio Reference RelatedArtifact SampledData Signature String Time Timing TriggerDefinition "
    "UnsignedInt Uri Url UsageContext Uuid "
)
_CHOICES = {
    "abatement": "Age DateTime Period Range String",
    "additive": "CodeableConcept Reference",
    "age": "Age CodeableConcept Range String",
    "allowed": "Boolean CodeableConcept Money String UnsignedInt",
    "amount": "Quantity Range Ratio String",
    "answer": "Boolean Coding Date DateTime Decimal Integer Quantity Reference String Time",
    "asNeeded": "Boolean CodeableConcept",
    "author": "Reference String",
    "born": "Date Period String",
    "bounds": "Duration Period Range",
    "characteristic": "CodeableConcept Quantity",
    "chargeItem": "CodeableConcept Reference",
    "code": "CodeableConcept Reference",
    "collected": "DateTime Period",
    "content": "Attachment Reference String",
    "created": "DateTime Period",
    "date": "DateTime Period",
    "deceased": "Age Boolean Date DateTime Range String",
    "defaultValue": _OPEN,
    "definingSubstance": "CodeableConcept Reference",
    "definition": "Canonical CodeableConcept DataRequirement Expression Reference TriggerDefinition Uri",
    "detail": "Boolean CodeableConcept Integer Quantity Range Ratio String",
    "diagnosis": "CodeableConcept Reference",
    "dose": "Quantity Range",
    "doseNumber": "PositiveInt String",
    "due": "Date Duration",
    "effective": "DateTime Instant Period Timing",
    "entity": "CodeableConcept Reference",
    "event": "Coding Uri",
    "example": "Boolean Canonical",
    "fastingStatus": "CodeableConcept Duration",
    "fixed": _OPEN,
    "identified": "DateTime Period",
    "indication": "CodeableConcept Reference",
    "item": "CodeableConcept Reference",
    "legallyBinding": "Attachment Reference",
    "location": "Address CodeableConcept Reference",
    "manufacturer": "Reference String",
    "maxValue": "Date DateTime Decimal Instant Integer PositiveInt Quantity Time UnsignedInt",
    "medication": "CodeableConcept Reference",
    "minValue": "Date DateTime Decimal Instant Integer PositiveInt Quantity Time UnsignedInt",
    "minimumVolume": "Quantity String",
    "module": "Canonical CodeableConcept Uri",
    "multipleBirth": "Boolean Integer",
    "name": "Reference Url",
    "occurred": "DateTime Period",
    "occurrence": "DateTime Period String Timing",
    "offset": "Duration Range",
    "onset": "Age DateTime Period Range String",
    "participantEffective": "DateTime Duration Period Timing",
    "pattern": _OPEN,
    "performed": "Age DateTime Period Range String",
    "probability": "Decimal Range",
    "procedure": "CodeableConcept Reference",
    "product": "CodeableConcept Reference",
    "quantity": "Quantity Range Ratio",
    "rate": "Quantity Range Ratio",
    "reported": "Boolean Reference",
    "scheduled": "Period String Timing",
    "seriesDoses": "PositiveInt String",
    "serviced": "Date Period",
    "source": "Attachment Canonical Reference Uri",
    "start": "CodeableConcept Date",
    "statusReason": "CodeableConcept Reference",
    "studyEffective": "DateTime Duration Period Timing",
    "subject": "CodeableConcept Reference",
    "substance": "CodeableConcept Reference",
    "target": "Canonical Identifier Reference Uri",
    "time": "DateTime Period",
    "timing": "Age Date DateTime Duration Period Range Reference Timing",
    "topic": "CodeableConcept Reference",
    "used": "Money String UnsignedInt",
    "value": _OPEN,
    "when": "Period Range",
}

_PRIMITIVES = (
    "base64Binary boolean canonical code date dateTime decimal id instant integer integer64 markdown oid positiveInt "
    "string time unsignedInt uri url uuid xhtml"
)
PRIMITIVES = frozenset(_PRIMITIVES.split())
"""FHIR's primitive types; all others are objects in JSON."""

SUBTYPES: dict[str, tuple[str, ...]] = {
    "string": ("code", "id", "markdown"),
    "uri": ("canonical", "oid", "url", "uuid"),
    "integer": ("positiveInt", "unsignedInt"),
    "Quantity": ("Age", "Count", "Distance", "Duration", "MoneyQuantity", "SimpleQuantity"),
}
"""Types that are also of another type (R4, type hierarchy)."""

SYSTEM_TYPES = {
    "Boolean": "boolean",
    "String": "string",
    "Integer": "integer",
    "Decimal": "decimal",
    "Date": "date",
    "DateTime": "dateTime",
    "Time": "time",
}
"""FHIRPath's own types under the FHIR name of the values they hold."""

TEMPORAL = frozenset({"date", "dateTime", "instant", "time"})


def _fhir_type(suffix: str) -> str:
    lowered = suffix[0].lower() + suffix[1:]
    return lowered if lowered in PRIMITIVES else suffix


CHOICES: dict[str, dict[str, str]] = {
    name: {f"{name}{suffix}": _fhir_type(suffix) for suffix in types.split()} for name, types in _CHOICES.items()
}
"""Choice elements: the JSON keys of each, and the type that a key says."""

DATA_TYPES = frozenset(type_ for keys in CHOICES.values() for type_ in keys.values()) | PRIMITIVES
"""Types that a choice element can have."""

_KINDS = {
    "date": "approvalDate birthDate lastReviewDate lockedDate nextScheduled startDate",
    "time": "availableEndTime availableStartTime closingTime openingTime timeOfDay",
    # dateTime or instant; where a few elements of the same name hold a date, a dateTime has room for it
    "dateTime": (
        "authored authoredOn created creation date dateAsserted dateOfFirstAuthorization dateTime dateWritten detected "
        "effectiveDate effectiveTime end enteredDate event expirationDate expiry ifModifiedSince "
        "internationalBirthDate issued lastModified lastOccurrence lastPerformed lastUpdated manufactureDate onset "
        "paymentDate presentationDate publicationDate received receivedTime recorded recordedDate recordedOn "
        "releaseDate restoreDate sent start started statusDate time timestamp validTo validationDate "
        "verificationDate when whenHandedOver whenPrepared"
    ),
}
_ELEMENT_KINDS = {name: kind for kind, names in _KINDS.items() for name in names.split()}
_KEY_KINDS = {key: type_ for keys in CHOICES.values() for key, type_ in keys.items()}


def kind_of(name: str) -> str | None:
    """The type of the values under a JSON key, where it is a date or time or the key of a choice element."""
    return _ELEMENT_KINDS.get(name) or _KEY_KINDS.get(name)


def family(type_: str) -> frozenset[str]:
    """A type and the types that are also of it."""
    return frozenset((type_, *SUBTYPES.get(type_, ())))
