"""FHIR R4 (4.0.1) in tables: its resource types, and the elements of those that harmonization reads.

An element is ``name``, ``!`` if required, ``:``, its type, ``*`` if it repeats, ``@`` and its required binding. Choices
(``value[x]``) name all their types; what a Bundle holds is ``any``, and looked at by itself. Elements that every
resource or every type has are added by `elements`.
Source: http://hl7.org/fhir/R4, the page of each resource and data type.
"""

from __future__ import annotations

import re
from typing import NamedTuple

RESOURCE_TYPES = frozenset(
    """
    Account ActivityDefinition AdverseEvent AllergyIntolerance Appointment AppointmentResponse AuditEvent Basic Binary
    BiologicallyDerivedProduct BodyStructure Bundle CapabilityStatement CarePlan CareTeam CatalogEntry ChargeItem
    ChargeItemDefinition Claim ClaimResponse ClinicalImpression CodeSystem Communication CommunicationRequest
    CompartmentDefinition Composition ConceptMap Condition Consent Contract Coverage CoverageEligibilityRequest
    CoverageEligibilityResponse DetectedIssue Device DeviceDefinition DeviceMetric DeviceRequest DeviceUseStatement
    DiagnosticReport DocumentManifest DocumentReference EffectEvidenceSynthesis Encounter Endpoint EnrollmentRequest
    EnrollmentResponse EpisodeOfCare EventDefinition Evidence EvidenceVariable ExampleScenario ExplanationOfBenefit
    FamilyMemberHistory Flag Goal GraphDefinition Group GuidanceResponse HealthcareService ImagingStudy Immunization
    ImmunizationEvaluation ImmunizationRecommendation ImplementationGuide InsurancePlan Invoice Library Linkage List
    Location Measure MeasureReport Media Medication MedicationAdministration MedicationDispense MedicationKnowledge
    MedicationRequest MedicationStatement MedicinalProduct MedicinalProductAuthorization
    MedicinalProductContraindication MedicinalProductIndication MedicinalProductIngredient MedicinalProductInteraction
    MedicinalProductManufactured MedicinalProductPackaged MedicinalProductPharmaceutical
    MedicinalProductUndesirableEffect MessageDefinition MessageHeader MolecularSequence NamingSystem NutritionOrder
    Observation ObservationDefinition OperationDefinition OperationOutcome Organization OrganizationAffiliation
    Parameters Patient PaymentNotice PaymentReconciliation Person PlanDefinition Practitioner PractitionerRole Procedure
    Provenance Questionnaire QuestionnaireResponse RelatedPerson RequestGroup ResearchDefinition
    ResearchElementDefinition ResearchStudy ResearchSubject RiskAssessment RiskEvidenceSynthesis Schedule
    SearchParameter ServiceRequest Slot Specimen SpecimenDefinition StructureDefinition StructureMap Subscription
    Substance SubstanceNucleicAcid SubstancePolymer SubstanceProtein SubstanceReferenceInformation
    SubstanceSourceMaterial SubstanceSpecification SupplyDelivery SupplyRequest Task TerminologyCapabilities TestReport
    TestScript ValueSet VerificationResult VisionPrescription
    """.split()  # noqa: SIM905
)

RESOURCES: dict[str, str] = {
    "Patient": """
        identifier:Identifier* active:boolean name:HumanName* telecom:ContactPoint* gender:code@administrative-gender
        birthDate:date deceased[x]:boolean|dateTime address:Address* maritalStatus:CodeableConcept
        multipleBirth[x]:boolean|integer photo:Attachment* contact:Patient.contact*
        communication:Patient.communication* generalPractitioner:Reference* managingOrganization:Reference
        link:Patient.link*""",
    "Condition": """
        identifier:Identifier* clinicalStatus:CodeableConcept@condition-clinical
        verificationStatus:CodeableConcept@condition-ver-status category:CodeableConcept* severity:CodeableConcept
        code:CodeableConcept bodySite:CodeableConcept* subject!:Reference encounter:Reference
        onset[x]:dateTime|Age|Period|Range|string abatement[x]:dateTime|Age|Period|Range|string recordedDate:dateTime
        recorder:Reference asserter:Reference stage:Condition.stage* evidence:Condition.evidence* note:Annotation*""",
    "Observation": """
        identifier:Identifier* basedOn:Reference* partOf:Reference* status!:code@observation-status
        category:CodeableConcept* code!:CodeableConcept subject:Reference focus:Reference* encounter:Reference
        effective[x]:dateTime|Period|Timing|instant issued:instant performer:Reference*
        value[x]:Quantity|CodeableConcept|string|boolean|integer|Range|Ratio|SampledData|time|dateTime|Period
        dataAbsentReason:CodeableConcept interpretation:CodeableConcept* note:Annotation* bodySite:CodeableConcept
        method:CodeableConcept specimen:Reference device:Reference referenceRange:Observation.referenceRange*
        hasMember:Reference* derivedFrom:Reference* component:Observation.component*""",
    "Procedure": """
        identifier:Identifier* instantiatesCanonical:canonical* instantiatesUri:uri* basedOn:Reference*
        partOf:Reference* status!:code@event-status statusReason:CodeableConcept category:CodeableConcept
        code:CodeableConcept subject!:Reference encounter:Reference performed[x]:dateTime|Period|string|Age|Range
        recorder:Reference asserter:Reference performer:Procedure.performer* location:Reference
        reasonCode:CodeableConcept* reasonReference:Reference* bodySite:CodeableConcept* outcome:CodeableConcept
        report:Reference* complication:CodeableConcept* complicationDetail:Reference* followUp:CodeableConcept*
        note:Annotation* focalDevice:Procedure.focalDevice* usedReference:Reference* usedCode:CodeableConcept*""",
    "MedicationStatement": """
        identifier:Identifier* basedOn:Reference* partOf:Reference* status!:code@medication-statement-status
        statusReason:CodeableConcept* category:CodeableConcept medication[x]!:CodeableConcept|Reference
        subject!:Reference context:Reference effective[x]:dateTime|Period dateAsserted:dateTime
        informationSource:Reference derivedFrom:Reference* reasonCode:CodeableConcept* reasonReference:Reference*
        note:Annotation* dosage:Dosage*""",
    "MedicationAdministration": """
        identifier:Identifier* instantiates:uri* partOf:Reference* status!:code@medication-admin-status
        statusReason:CodeableConcept* category:CodeableConcept medication[x]!:CodeableConcept|Reference
        subject!:Reference context:Reference supportingInformation:Reference* effective[x]!:dateTime|Period
        performer:MedicationAdministration.performer* reasonCode:CodeableConcept* reasonReference:Reference*
        request:Reference device:Reference* note:Annotation* dosage:MedicationAdministration.dosage
        eventHistory:Reference*""",
    "MedicationRequest": """
        identifier:Identifier* status!:code@medicationrequest-status statusReason:CodeableConcept
        intent!:code@medicationrequest-intent category:CodeableConcept* priority:code@request-priority
        doNotPerform:boolean reported[x]:boolean|Reference medication[x]!:CodeableConcept|Reference subject!:Reference
        encounter:Reference supportingInformation:Reference* authoredOn:dateTime requester:Reference
        performer:Reference performerType:CodeableConcept recorder:Reference reasonCode:CodeableConcept*
        reasonReference:Reference* instantiatesCanonical:canonical* instantiatesUri:uri* basedOn:Reference*
        groupIdentifier:Identifier courseOfTherapyType:CodeableConcept insurance:Reference* note:Annotation*
        dosageInstruction:Dosage* dispenseRequest:MedicationRequest.dispenseRequest
        substitution:MedicationRequest.substitution priorPrescription:Reference detectedIssue:Reference*
        eventHistory:Reference*""",
    "Medication": """
        identifier:Identifier* code:CodeableConcept status:code@medication-status manufacturer:Reference
        form:CodeableConcept amount:Ratio ingredient:Medication.ingredient* batch:Medication.batch""",
    "DiagnosticReport": """
        identifier:Identifier* basedOn:Reference* status!:code@diagnostic-report-status category:CodeableConcept*
        code!:CodeableConcept subject:Reference encounter:Reference effective[x]:dateTime|Period issued:instant
        performer:Reference* resultsInterpreter:Reference* specimen:Reference* result:Reference*
        imagingStudy:Reference* media:DiagnosticReport.media* conclusion:string conclusionCode:CodeableConcept*
        presentedForm:Attachment*""",
    "Specimen": """
        identifier:Identifier* accessionIdentifier:Identifier status:code@specimen-status type:CodeableConcept
        subject:Reference receivedTime:dateTime parent:Reference* request:Reference* collection:Specimen.collection
        processing:Specimen.processing* container:Specimen.container* condition:CodeableConcept* note:Annotation*""",
    "Encounter": """
        identifier:Identifier* status!:code@encounter-status statusHistory:Encounter.statusHistory* class!:Coding
        classHistory:Encounter.classHistory* type:CodeableConcept* serviceType:CodeableConcept
        priority:CodeableConcept subject:Reference episodeOfCare:Reference* basedOn:Reference*
        participant:Encounter.participant* appointment:Reference* period:Period length:Duration
        reasonCode:CodeableConcept* reasonReference:Reference* diagnosis:Encounter.diagnosis* account:Reference*
        hospitalization:Encounter.hospitalization location:Encounter.location* serviceProvider:Reference
        partOf:Reference""",
    "Bundle": """
        identifier:Identifier type!:code@bundle-type timestamp:instant total:unsignedInt link:Bundle.link*
        entry:Bundle.entry* signature:Signature""",
}
"""Elements of the resource types that harmonization reads."""

TYPES: dict[str, str] = {
    "Patient.contact": """
        relationship:CodeableConcept* name:HumanName telecom:ContactPoint* address:Address
        gender:code@administrative-gender organization:Reference period:Period""",
    "Patient.communication": "language!:CodeableConcept preferred:boolean",
    "Patient.link": "other!:Reference type!:code@link-type",
    "Condition.stage": "summary:CodeableConcept assessment:Reference* type:CodeableConcept",
    "Condition.evidence": "code:CodeableConcept* detail:Reference*",
    "Observation.referenceRange": """
        low:Quantity high:Quantity type:CodeableConcept appliesTo:CodeableConcept* age:Range text:string""",
    "Observation.component": """
        code!:CodeableConcept
        value[x]:Quantity|CodeableConcept|string|boolean|integer|Range|Ratio|SampledData|time|dateTime|Period
        dataAbsentReason:CodeableConcept interpretation:CodeableConcept* referenceRange:Observation.referenceRange*""",
    "Procedure.performer": "function:CodeableConcept actor!:Reference onBehalfOf:Reference",
    "Procedure.focalDevice": "action:CodeableConcept manipulated!:Reference",
    "MedicationAdministration.performer": "function:CodeableConcept actor!:Reference",
    "MedicationAdministration.dosage": """
        text:string site:CodeableConcept route:CodeableConcept method:CodeableConcept dose:Quantity
        rate[x]:Ratio|Quantity""",
    "MedicationRequest.dispenseRequest": """
        initialFill:MedicationRequest.initialFill dispenseInterval:Duration validityPeriod:Period
        numberOfRepeatsAllowed:unsignedInt quantity:Quantity expectedSupplyDuration:Duration performer:Reference""",
    "MedicationRequest.initialFill": "quantity:Quantity duration:Duration",
    "MedicationRequest.substitution": "allowed[x]!:boolean|CodeableConcept reason:CodeableConcept",
    "Medication.ingredient": "item[x]!:CodeableConcept|Reference isActive:boolean strength:Ratio",
    "Medication.batch": "lotNumber:string expirationDate:dateTime",
    "DiagnosticReport.media": "comment:string link!:Reference",
    "Specimen.collection": """
        collector:Reference collected[x]:dateTime|Period duration:Duration quantity:Quantity method:CodeableConcept
        bodySite:CodeableConcept fastingStatus[x]:CodeableConcept|Duration""",
    "Specimen.processing": """
        description:string procedure:CodeableConcept additive:Reference* time[x]:dateTime|Period""",
    "Specimen.container": """
        identifier:Identifier* description:string type:CodeableConcept capacity:Quantity specimenQuantity:Quantity
        additive[x]:CodeableConcept|Reference""",
    "Encounter.statusHistory": "status!:code@encounter-status period!:Period",
    "Encounter.classHistory": "class!:Coding period!:Period",
    "Encounter.participant": "type:CodeableConcept* period:Period individual:Reference",
    "Encounter.diagnosis": "condition!:Reference use:CodeableConcept rank:positiveInt",
    "Encounter.hospitalization": """
        preAdmissionIdentifier:Identifier origin:Reference admitSource:CodeableConcept reAdmission:CodeableConcept
        dietPreference:CodeableConcept* specialCourtesy:CodeableConcept* specialArrangement:CodeableConcept*
        destination:Reference dischargeDisposition:CodeableConcept""",
    "Encounter.location": """
        location!:Reference status:code@encounter-location-status physicalType:CodeableConcept period:Period""",
    "Bundle.link": "relation!:string url!:uri",
    "Bundle.entry": """
        link:Bundle.link* fullUrl:uri resource:any search:Bundle.search request:Bundle.request
        response:Bundle.response""",
    "Bundle.search": "mode:code@search-entry-mode score:decimal",
    "Bundle.request": """
        method!:code@http-verb url!:uri ifNoneMatch:string ifModifiedSince:instant ifMatch:string ifNoneExist:string""",
    "Bundle.response": "status!:string location:uri etag:string lastModified:instant outcome:Resource",
    # data types
    "Meta": "versionId:id lastUpdated:instant source:uri profile:canonical* security:Coding* tag:Coding*",
    "Narrative": "status!:code@narrative-status div!:string",
    "Identifier": """
        use:code@identifier-use type:CodeableConcept system:uri value:string period:Period assigner:Reference""",
    "HumanName": """
        use:code@name-use text:string family:string given:string* prefix:string* suffix:string* period:Period""",
    "ContactPoint": """
        system:code@contact-point-system value:string use:code@contact-point-use rank:positiveInt period:Period""",
    "Address": """
        use:code@address-use type:code@address-type text:string line:string* city:string district:string state:string
        postalCode:string country:string period:Period""",
    "Attachment": """
        contentType:code language:code data:base64Binary url:uri size:unsignedInt hash:base64Binary title:string
        creation:dateTime""",
    "Coding": "system:uri version:string code:code display:string userSelected:boolean",
    "CodeableConcept": "coding:Coding* text:string",
    "Reference": "reference:reference type:uri identifier:Identifier display:string",
    "Quantity": "value:decimal comparator:code@quantity-comparator unit:string system:uri code:code",
    "Age": "value:decimal comparator:code@quantity-comparator unit:string system:uri code:code",
    "Duration": "value:decimal comparator:code@quantity-comparator unit:string system:uri code:code",
    "Range": "low:Quantity high:Quantity",
    "Ratio": "numerator:Quantity denominator:Quantity",
    "Period": "start:dateTime end:dateTime",
    "SampledData": """
        origin!:Quantity period!:decimal factor:decimal lowerLimit:decimal upperLimit:decimal
        dimensions!:positiveInt data:string""",
    "Annotation": "author[x]:Reference|string time:dateTime text!:string",
    "Signature": """
        type!:Coding* when!:instant who!:Reference onBehalfOf:Reference targetFormat:code sigFormat:code
        data:base64Binary""",
    "Timing": "event:dateTime* repeat:Timing.repeat code:CodeableConcept",
    "Timing.repeat": """
        bounds[x]:Duration|Range|Period count:positiveInt countMax:positiveInt duration:decimal durationMax:decimal
        durationUnit:code@units-of-time frequency:positiveInt frequencyMax:positiveInt period:decimal
        periodMax:decimal periodUnit:code@units-of-time dayOfWeek:code*@days-of-week timeOfDay:time*
        when:code*@event-timing offset:unsignedInt""",
    "Dosage": """
        sequence:integer text:string additionalInstruction:CodeableConcept* patientInstruction:string timing:Timing
        asNeeded[x]:boolean|CodeableConcept site:CodeableConcept route:CodeableConcept method:CodeableConcept
        doseAndRate:Dosage.doseAndRate* maxDosePerPeriod:Ratio maxDosePerAdministration:Quantity
        maxDosePerLifetime:Quantity""",
    "Dosage.doseAndRate": "type:CodeableConcept dose[x]:Range|Quantity rate[x]:Ratio|Range|Quantity",
}
"""Elements of their backbone elements, and of the data types in them."""

EXTENSION_VALUES = frozenset(
    """
    base64Binary boolean canonical code date dateTime decimal id instant integer markdown oid positiveInt string time
    unsignedInt uri url uuid Address Age Annotation Attachment CodeableConcept Coding ContactPoint Count Distance
    Duration HumanName Identifier Money Period Quantity Range Ratio Reference SampledData Signature Timing ContactDetail
    Contributor DataRequirement Expression ParameterDefinition RelatedArtifact TriggerDefinition UsageContext Dosage
    Meta
    """.split()  # noqa: SIM905
)
"""Types of an extension's value[x]."""

BINDINGS: dict[str, frozenset[str]] = {
    name: frozenset(codes.split())
    for name, codes in {
        "address-type": "postal physical both",
        "address-use": "home work temp old billing",
        "administrative-gender": "male female other unknown",
        "bundle-type": "document message transaction transaction-response batch batch-response history searchset "
        "collection",
        "condition-clinical": "active recurrence relapse inactive remission resolved",
        "condition-ver-status": "unconfirmed provisional differential confirmed refuted entered-in-error",
        "contact-point-system": "phone fax email pager url sms other",
        "contact-point-use": "home work temp old mobile",
        "days-of-week": "mon tue wed thu fri sat sun",
        "diagnostic-report-status": "registered partial preliminary final amended corrected appended cancelled "
        "entered-in-error unknown",
        "encounter-location-status": "planned active reserved completed",
        "encounter-status": "planned arrived triaged in-progress onleave finished cancelled entered-in-error unknown",
        "event-status": "preparation in-progress not-done on-hold stopped completed entered-in-error unknown",
        "event-timing": "MORN MORN.early MORN.late NOON AFT AFT.early AFT.late EVE EVE.early EVE.late NIGHT PHS HS "
        "WAKE C CM CD CV AC ACM ACD ACV PC PCM PCD PCV",
        "http-verb": "GET HEAD POST PUT DELETE PATCH",
        "identifier-use": "usual official temp secondary old",
        "link-type": "replaced-by replaces refer seealso",
        "medication-admin-status": "in-progress not-done on-hold completed entered-in-error stopped unknown",
        "medication-statement-status": "active completed entered-in-error intended stopped on-hold unknown not-taken",
        "medication-status": "active inactive entered-in-error",
        "medicationrequest-intent": "proposal plan order original-order reflex-order filler-order instance-order "
        "option",
        "medicationrequest-status": "active on-hold cancelled completed entered-in-error stopped draft unknown",
        "name-use": "usual official temp nickname anonymous old maiden",
        "narrative-status": "generated extensions additional empty",
        "observation-status": "registered preliminary final amended corrected cancelled entered-in-error unknown",
        "quantity-comparator": "< <= >= >",
        "request-priority": "routine urgent asap stat",
        "search-entry-mode": "match include outcome",
        "specimen-status": "available unavailable unsatisfactory entered-in-error",
        "units-of-time": "s min h d wk mo a",
    }.items()
}
"""Codes of the required bindings."""

VITAL_SIGN_UNITS: dict[str, frozenset[str]] = {
    code: frozenset(units.split())
    for code, units in {
        "9279-1": "/min",
        "8867-4": "/min",
        "2708-6": "%",
        "8310-5": "Cel [degF]",
        "8302-2": "cm [in_i]",
        "9843-4": "cm [in_i]",
        "29463-7": "g kg [lb_av]",
        "39156-5": "kg/m2",
        "8480-6": "mm[Hg]",
        "8462-4": "mm[Hg]",
    }.items()
}
"""LOINC code to the UCUM units that the vital signs profiles require (http://hl7.org/fhir/R4/observation-vitalsigns)."""


class Element(NamedTuple):
    """One element of a type: a choice such as ``value[x]`` has several types and no name of its own in JSON."""

    name: str
    types: tuple[str, ...]
    required: bool
    repeats: bool
    binding: str

    @property
    def json_names(self) -> dict[str, str]:
        """Names in JSON, and the type that each means: ``valueQuantity`` -> ``Quantity``."""
        if not self.name.endswith("[x]"):
            return {self.name: self.types[0]}
        return {self.name[:-3] + kind[0].upper() + kind[1:]: kind for kind in self.types}


_ELEMENT = re.compile(r"([a-zA-Z]+(?:\[x\])?)(!?):([\w|.]+)(\*?)(?:@([\w-]+))?")

_OF_ALL_RESOURCES = "resourceType!:code id:id meta:Meta implicitRules:uri language:code"
_OF_DOMAIN_RESOURCES = """
    text:Narrative contained:Resource* extension:Extension* modifierExtension:Extension*"""
_OF_ALL_TYPES = "id:string extension:Extension*"
_OF_BACKBONES = "modifierExtension:Extension*"
_BACKBONES = ({kind for kind in TYPES if "." in kind} | {"Timing", "Dosage"}) - {"Timing.repeat", "Dosage.doseAndRate"}


def elements(kind: str) -> list[Element]:
    """All elements of a resource type of `RESOURCES` or a type of `TYPES`, those that every one has included."""
    if kind in RESOURCES:
        text = f"{RESOURCES[kind]} {_OF_ALL_RESOURCES} {'' if kind == 'Bundle' else _OF_DOMAIN_RESOURCES}"
    else:
        text = f"{TYPES[kind]} {_OF_ALL_TYPES} {_OF_BACKBONES if kind in _BACKBONES else ''}"
    found = []
    for word in text.split():
        match = _ELEMENT.fullmatch(word)
        assert match, word
        name, required, types, repeats, binding = match.groups()
        found.append(Element(name, tuple(types.split("|")), bool(required), bool(repeats), binding or ""))
    return found
