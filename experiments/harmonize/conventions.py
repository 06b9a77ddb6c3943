"""The conventions of a hospital, drawn from a seed: how it codes, counts, dates, orders and leaves out.

Everything is drawn from what the data dictionary allows (its codes, unit spellings, answers, former gene symbols), so
that a dictionary with more of them makes more different hospitals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from harmonization.codes import Code
from harmonization.dictionary import Dictionary, Entry

Form = Literal["ndjson", "ndjson.gz", "bundles", "csv", "xlsx"]
Profile = Literal["plain", "us-core", "mii"]
Genes = Literal["hgnc", "symbol", "former"]
Genomics = Literal["variants", "gene lists", "findings"]
Cytogenetics = Literal["karyotypes", "findings"]
Missing = Literal["absent", "reason", "below detection"]
Dates = Literal["day", "local time", "utc", "period"]
Order = Literal["by type", "by patient", "shuffled"]
Answers = Literal["coded", "boolean", "interpretation"]

LANGUAGES = ("en", "de", "it", "es", "fr")

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Locale:
    """How a hospital writes tables.

    Parameters
    ----------
    language
        Of names and words.
    delimiter, decimal, thousands, date
        Notation, as in `harmonization.tables`.
    long
        Whether laboratory values are a table of their own, one result a row.
    missing
        Word in place of a missing value; empty: an empty cell.
    """

    language: str
    delimiter: str
    decimal: str
    thousands: str
    date: str
    long: bool
    missing: str


@dataclass(frozen=True)
class Convention:
    """How one hospital exports.

    Parameters
    ----------
    form
        Kind of files.
    profile
        Of FHIR resources: what stands in them beside what is needed.
    codes
        Code of each feature.
    local
        Prefix of the hospital's own codes; features in `local_features` have no other.
    local_features
        Those with a local code, which the mapping beside the export declares.
    units
        Spelling of each unit.
    answers
        Code of each value, by feature and value.
    flags
        How present and absent are said where no code is drawn.
    genes, genomics, cytogenetics
        How genes are named, and what the laboratory of each sends.
    missing
        What becomes of a missing value.
    dates, order
        Of records and of resources.
    references
        Of a resource to its patient.
    locale
        Of tables.
    """

    form: Form
    profile: Profile
    codes: Mapping[str, Code]
    local: str
    local_features: tuple[str, ...]
    units: Mapping[str, str]
    answers: Mapping[tuple[str, str | float], Code]
    flags: Answers
    genes: Genes
    genomics: Genomics
    cytogenetics: Cytogenetics
    missing: Missing
    dates: Dates
    order: Order
    references: Literal["relative", "absolute", "urn"]
    locale: Locale

    @property
    def tables(self) -> bool:
        """Whether the export is tables rather than FHIR."""
        return self.form in ("csv", "xlsx")

    def summary(self) -> dict[str, Any]:
        """What a person wants to know of it, as plain data."""
        plain = asdict(self)
        for key in ("codes", "answers", "local"):
            del plain[key]
        return {**plain, "local_features": list(self.local_features), "units": dict(self.units)}


def draw_convention(dictionary: Dictionary, rng: np.random.Generator, form: Form | None = None) -> Convention:
    """Draw a hospital.

    Parameters
    ----------
    dictionary
        What may be drawn from.
    rng
        The same state draws the same hospital.
    form
        To fix the kind of files.
    """
    forms: tuple[Form, ...] = ("ndjson", "ndjson.gz", "bundles", "csv", "xlsx")
    drawn: Form = _pick(rng, forms, (0.3, 0.15, 0.25, 0.2, 0.1))
    form = form or drawn
    schema = dictionary.schema()
    entries = [dictionary[f.name] for f in (*schema.features, *schema.scores)]
    stated = [e for e in entries if e.patient is None and e.source != "condition"]
    units = {e.name: _pick(rng, [s.text for s in e.units.spellings]) for e in entries if e.units and e.kind != "binary"}
    local = rng.random() < 0.3
    local_features = tuple(e.name for e in stated if local and rng.random() < 0.5)
    return Convention(
        form,
        _pick(rng, ("plain", "us-core", "mii")),
        {e.name: _code(rng, e, units.get(e.name, "")) for e in stated},
        f"https://hospital-{rng.integers(10_000)}.example/codes",
        local_features,
        units,
        {
            (e.name, value): _pick(rng, [a.code for a in e.answers if a.value == value])
            for e in stated
            for value in dict.fromkeys(answer.value for answer in e.answers)
        },
        _pick(rng, ("coded", "boolean", "interpretation"), (0.6, 0.2, 0.2)),
        _pick(rng, ("hgnc", "symbol", "former")),
        _pick(rng, ("variants", "gene lists", "findings")),
        _pick(rng, ("karyotypes", "findings")),
        _pick(rng, ("absent", "reason", "below detection")),
        _pick(rng, ("day", "local time", "utc", "period")),
        _pick(rng, ("by type", "by patient", "shuffled")),
        _pick(rng, ("urn", "absolute", "relative") if form == "bundles" else ("relative",)),
        _locale(rng),
    )


def _code(rng: np.random.Generator, entry: Entry, unit: str) -> Code:
    """One of the feature's codes; one of amounts for a unit of amounts, one of masses for a unit of mass."""
    other = "[Mass/" if "mol" in unit else "[Moles/"
    fitting = [code for code in entry.codes if other not in code.display]
    return _pick(rng, [*fitting, entry.own_code] if rng.random() < 0.2 or not fitting else fitting)


def _locale(rng: np.random.Generator) -> Locale:
    language = _pick(rng, LANGUAGES)
    english = language == "en"
    decimal = "." if english else ","
    dates = ("YYYY-MM-DD", "MM/DD/YYYY", "DD/MM/YYYY") if english else ("DD.MM.YYYY", "DD/MM/YYYY", "YYYY-MM-DD")
    thousands = _pick(rng, ("", "," if english else "."))
    delimiter = _pick(rng, (",", "\t") if english and not thousands else (";", "\t"))
    word = _pick(rng, ("", *MISSING_WORDS[language]))
    return Locale(language, delimiter, decimal, thousands, _pick(rng, dates), bool(rng.random() < 0.5), word)


def _pick(rng: np.random.Generator, choices: Sequence[Choice], weights: Sequence[float] | None = None) -> Choice:
    return choices[int(rng.choice(len(choices), p=weights))]


MISSING_WORDS: dict[str, tuple[str, ...]] = {
    "en": ("n/a", "unknown", "NA"),
    "de": ("k.A.", "unbekannt", "n.b."),
    "it": ("n.d.", "non noto"),
    "es": ("sin dato", "n.c."),
    "fr": ("inconnu", "NC"),
}

WORDS: dict[str, dict[str, str]] = {
    "en": {"yes": "yes", "no": "no", "male": "male", "female": "female", "dead": "dead", "alive": "alive"},
    "de": {"yes": "ja", "no": "nein", "male": "männlich", "female": "weiblich", "dead": "verstorben", "alive": "lebt"},
    "it": {"yes": "sì", "no": "no", "male": "M", "female": "F", "dead": "deceduto", "alive": "vivo"},
    "es": {"yes": "sí", "no": "no", "male": "varón", "female": "mujer", "dead": "fallecido", "alive": "vivo"},
    "fr": {"yes": "oui", "no": "non", "male": "homme", "female": "femme", "dead": "décédé", "alive": "vivant"},
}
"""What is written for 1 and 0."""

HEADINGS: dict[str, dict[str, str]] = {
    "en": {
        "patient": "Patient ID", "male": "Sex", "diagnosis": "Date of diagnosis", "age": "Age",
        "vital_status": "Vital status", "last_contact": "Last contact", "overall_survival": "OS",
        "name": "Test", "value": "Result", "unit": "Unit", "date": "Date", "hemoglobin": "Hemoglobin",
        "platelets": "Platelets", "wbc": "White blood cells", "bone_marrow_blasts": "BM blasts",
        "peripheral_blasts": "PB blasts", "karyotype": "Karyotype", "genes_tested": "Panel", "mutated": "Mutations",
    },
    "de": {
        "patient": "PatNr", "male": "Geschlecht", "diagnosis": "ED-Datum", "age": "Alter",
        "vital_status": "Vitalstatus", "last_contact": "Letzter Kontakt", "overall_survival": "Überleben",
        "name": "Parameter", "value": "Wert", "unit": "Einheit", "date": "Abnahmedatum", "hemoglobin": "Hb",
        "platelets": "Thrombozyten", "wbc": "Leukozyten", "bone_marrow_blasts": "Blasten KM",
        "peripheral_blasts": "Blasten PB", "karyotype": "Karyotyp", "genes_tested": "Getestete Gene",
        "mutated": "Mutationen",
    },
    "it": {
        "patient": "Codice paziente", "male": "Sesso", "diagnosis": "Data diagnosi", "age": "Età",
        "vital_status": "Stato vitale", "last_contact": "Ultimo contatto", "overall_survival": "Sopravvivenza",
        "name": "Esame", "value": "Valore", "unit": "Unità", "date": "Data prelievo", "hemoglobin": "Emoglobina",
        "platelets": "Piastrine", "wbc": "Globuli bianchi", "bone_marrow_blasts": "Blasti midollo",
        "peripheral_blasts": "Blasti sangue", "karyotype": "Cariotipo", "genes_tested": "Geni testati",
        "mutated": "Mutazioni",
    },
    "es": {
        "patient": "ID paciente", "male": "Sexo", "diagnosis": "Fecha diagnóstico", "age": "Edad",
        "vital_status": "Estado vital", "last_contact": "Último contacto", "overall_survival": "Supervivencia",
        "name": "Prueba", "value": "Resultado", "unit": "Unidad", "date": "Fecha muestra", "hemoglobin": "Hemoglobina",
        "platelets": "Plaquetas", "wbc": "Leucocitos", "bone_marrow_blasts": "Blastos médula",
        "peripheral_blasts": "Blastos sangre", "karyotype": "Cariotipo", "genes_tested": "Genes estudiados",
        "mutated": "Mutaciones",
    },
    "fr": {
        "patient": "IPP", "male": "Sexe", "diagnosis": "Date diagnostic", "age": "Âge",
        "vital_status": "Statut vital", "last_contact": "Dernières nouvelles", "overall_survival": "Survie",
        "name": "Analyse", "value": "Résultat", "unit": "Unité", "date": "Date prélèvement",
        "hemoglobin": "Hémoglobine", "platelets": "Plaquettes", "wbc": "Globules blancs",
        "bone_marrow_blasts": "Blastes moelle", "peripheral_blasts": "Blastes sanguins", "karyotype": "Caryotype",
        "genes_tested": "Genes testés", "mutated": "Gènes mutés",
    },
}  # fmt: skip
"""Names of columns; any other feature has its own name."""
