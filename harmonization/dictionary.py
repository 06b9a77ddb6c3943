"""The data dictionary: what each feature of a disease is called, measured in, and how it is found in FHIR.

A dictionary is a YAML file (docs/dictionary.md); what one file extends is merged into it when it is read. Its hash is
that of the merged content, so two hospitals with the same hash harmonize by the same rules.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harmonization.codes import ALIASES, FEATURE, VALUE, Code
from harmonization.errors import DictionaryError
from harmonization.schema import Feature, Implication, Modality, Schema, TimeUnit, implications_among

Kind = Literal["continuous", "count", "binary", "categorical", "date", "text"]
Source = Literal["observation", "condition", "procedure", "medication", "patient", "variant", "karyotype", "derived"]
Aggregation = Literal["last_before_treatment", "closest", "first", "any", "count"]
Absence = Literal["missing", "no", "wild_type_if_tested", "absent_if_karyotyped"]
PatientElement = Literal["gender", "deceased"]
Derivation = Literal["age_at_diagnosis", "last_contact", "overall_survival", "leukaemia_free_survival"]
Alteration = Literal["any", "sequence", "internal_tandem_duplication", "partial_tandem_duplication"]
Hits = Literal["any", "one", "several"]

DIAGNOSIS = "diagnosis"
"""Every dictionary has this feature: time windows count from its date."""


class Factor(NamedTuple):
    """How a value in one unit becomes one in the canonical unit: multiplier over divisor."""

    multiplier: float
    divisor: float

    def convert(self, value: float) -> float:
        """The value in the canonical unit.

        Rounded to 15 significant digits: reading the number, two operations and a division by the inverse factor at the
        sender each err by at most 1.1e-16, so that a decimal of up to 15 digits that was converted on the way here
        comes back as the very same float.
        """
        if self.multiplier == self.divisor:
            return value
        return float(f"{value * self.multiplier / self.divisor:.15g}")


@dataclass(frozen=True)
class Spelling:
    """One way in which hospitals write a unit.

    Parameters
    ----------
    text
        As in ``Quantity.code`` or ``Quantity.unit``.
    factor
        What a value is multiplied by to be in the canonical unit.
    ucum
        Whether the text is UCUM, and so the factor checked against the standard.
    """

    text: str
    factor: Fraction
    ucum: bool


@dataclass(frozen=True)
class Units:
    """The units in which a feature may be reported.

    Parameters
    ----------
    unit
        Canonical unit, as in the cohort's schema.
    ucum
        The same as UCUM, as it is written to FHIR.
    spellings
        Everything that is accepted.
    molar_mass
        Of the substance, in g/mol, where mass is converted to amount.
    """

    unit: str
    ucum: str
    spellings: tuple[Spelling, ...]
    molar_mass: float | None = None


@dataclass(frozen=True)
class Window:
    """Days around the diagnosis in which a record counts; None is no limit."""

    before: int | None
    after: int | None


@dataclass(frozen=True)
class Gene:
    """A gene by its approved symbol, its HGNC code, and the symbols it had before."""

    symbol: str
    code: Code
    formerly: tuple[str, ...] = ()


@dataclass(frozen=True)
class Variant:
    """Which somatic variants make a mutation feature 1.

    Parameters
    ----------
    gene
        Approved symbol.
    alteration
        ``any``; ``sequence`` is none of the two duplications.
    codons
        Of the protein, one of which must be changed; empty for any.
    except_codons
        Changes of these do not count.
    hits
        ``one`` is exactly one variant of the gene, ``several`` two or more.
    loss
        Chromosome arm whose loss in the karyotype is a hit as well (``17p``).
    """

    gene: str
    alteration: Alteration = "any"
    codons: tuple[int, ...] = ()
    except_codons: tuple[int, ...] = ()
    hits: Hits = "any"
    loss: str | None = None


@dataclass(frozen=True)
class Answer:
    """A coded value and the category or number it stands for."""

    code: Code
    value: str | float


@dataclass(frozen=True)
class Entry:
    """One feature of a dictionary.

    Parameters
    ----------
    name
        Column name.
    label
        For people.
    kind, modality, low, high, categories, reference, edges
        As in `harmonization.schema.Feature`; a ``date`` or ``text`` is no column of a cohort.
    source
        Kind of FHIR resource that says it. `variant`, `karyotype` and `derived` features may also be stated outright,
        by an Observation with one of the codes.
    codes
        Concepts, the first is the one to write. The feature's own code (`own_code`) is always understood, too.
    units
        Of numbers; for a binary feature, of the number that is compared with `present_from`.
    window, aggregate
        Which records count, and which of several is taken.
    absence
        What no record means.
    answers
        Coded values.
    patient
        Element of the Patient resource.
    variant
        Variants that a mutation is.
    karyotype
        Finding in the karyotype: ``complex``, ``complex_eln``, ``monosomal``, ``ipss_r``, one of
        `harmonization.karyotype.flags.FLAGS`, or ``gain(8)``, ``loss(5q)`` (part of the arm), ``loss(7)`` (the whole
        chromosome), ``rearranged(1;7)``, ``ring``.
    derive
        Rule of a derived feature.
    present_from
        A binary feature reported as a number is present from this value on (cells in per cent, by FISH).
    """

    name: str
    kind: Kind
    source: Source
    label: str = ""
    modality: Modality = "clinical"
    codes: tuple[Code, ...] = ()
    units: Units | None = None
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] = ()
    reference: float = 0.0
    window: Window = Window(None, None)
    aggregate: Aggregation = "closest"
    absence: Absence = "missing"
    answers: tuple[Answer, ...] = ()
    patient: PatientElement | None = None
    variant: Variant | None = None
    karyotype: str | None = None
    derive: Derivation | None = None
    present_from: float | None = None
    edges: tuple[float, ...] = ()

    @property
    def own_code(self) -> Code:
        """The code by which this project itself names the feature."""
        return Code(FEATURE, self.name, self.label, "this dictionary")

    @property
    def concept(self) -> Code:
        """The code to write it with."""
        return self.codes[0] if self.codes else self.own_code

    def feature(self) -> Feature:
        """The column of a cohort.

        Raises
        ------
        DictionaryError
            If it is a date or a text.
        """
        if self.kind == "date" or self.kind == "text":
            raise DictionaryError(f"a {self.kind} is no column of a cohort", feature=self.name)
        # The number that a binary feature may be reported as is not its unit.
        unit = self.units.unit if self.units and self.kind != "binary" else ""
        limits = self.low, self.high, self.categories, self.reference, self.edges
        return Feature(self.name, self.kind, self.modality, unit, *limits)

    def answer(self, value: str | float) -> Code:
        """The code to write a value with.

        Raises
        ------
        DictionaryError
            If the feature has no such value.
        """
        for answer in self.answers:
            if answer.value == value:
                return answer.code
        if value not in self.categories:
            raise DictionaryError("no such value", feature=self.name, value=value)
        return Code(VALUE, f"{self.name}:{value}", str(value), "this dictionary")

    @cached_property
    def meaning(self) -> Mapping[tuple[str, str], str | float]:
        """Coded value (system, code) to what it stands for; systems also by their other names."""
        own = (Answer(Code(VALUE, f"{self.name}:{category}"), category) for category in self.categories)
        return {key: answer.value for answer in (*own, *self.answers) for key in _keys(answer.code)}


@dataclass(frozen=True)
class Dictionary:
    """The features of one disease.

    Parameters
    ----------
    name, version
        Identify it.
    entries
        All features, in the files' order.
    genes
        Genes that mutations refer to.
    concepts
        Codes of the parts of a genomics report, by role (``variant``, ``gene``, ``allele_frequency``, …).
    columns, scores
        Names of the features that make up a cohort, in this order, and of the prognostic scores beside them.
    schema_name, schema_version, time_unit, endpoint, implications
        As in `harmonization.schema.Schema`.
    source
        The file it was read from; no part of the content.
    """

    name: str
    version: str
    entries: tuple[Entry, ...]
    genes: tuple[Gene, ...] = ()
    concepts: Mapping[str, tuple[Code, ...]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    schema_name: str = ""
    schema_version: str = ""
    time_unit: TimeUnit = "years"
    endpoint: str = "overall survival"
    implications: tuple[Implication, ...] = ()
    source: str = ""

    @classmethod
    def read(cls, name_or_path: str | Path) -> Dictionary:
        """Read a dictionary that comes with this package, by name, or a file.

        Raises
        ------
        DictionaryError
            Naming file, feature, key and value, and the nearest allowed one.
        """
        from harmonization.dictionary_file import read_dictionary

        return read_dictionary(name_or_path)

    def __getitem__(self, name: str) -> Entry:
        """A feature by name; raises DictionaryError if there is none."""
        try:
            return self.by_name[name]
        except KeyError:
            raise DictionaryError("no such feature", source=self.source or self.name, feature=name) from None

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def schema(self) -> Schema:
        """The schema of the cohorts that this dictionary makes.

        Raises
        ------
        DictionaryError
            If it has no columns (the core).
        """
        if not self.columns:
            raise DictionaryError(
                "names no columns; a dictionary that extends it does", source=self.source or self.name
            )
        return Schema(
            self.schema_name or self.name,
            self.schema_version or self.version,
            tuple(self[name].feature() for name in self.columns),
            tuple(self[name].feature() for name in self.scores),
            self.time_unit,
            self.endpoint,
            implications=implications_among(self.implications, self.columns),
        )

    @cached_property
    def by_name(self) -> Mapping[str, Entry]:
        """Features by name."""
        return {entry.name: entry for entry in self.entries}

    @cached_property
    def by_code(self) -> Mapping[tuple[str, str], tuple[Entry, ...]]:
        """Features by concept (system, code); systems also by their other names."""
        found: dict[tuple[str, str], list[Entry]] = {}
        for entry in self.entries:
            for code in (*entry.codes, entry.own_code):
                for key in _keys(code):
                    found.setdefault(key, []).append(entry)
        return {key: tuple(entries) for key, entries in found.items()}

    @cached_property
    def by_gene(self) -> Mapping[str, tuple[Entry, ...]]:
        """Mutation features by symbol, former symbol or HGNC code of their gene."""
        found: dict[str, tuple[Entry, ...]] = {}
        for gene in self.genes:
            entries = tuple(e for e in self.entries if e.variant and e.variant.gene == gene.symbol)
            found |= dict.fromkeys((gene.symbol, gene.code.code, *gene.formerly), entries)
        return found

    @cached_property
    def factors(self) -> Mapping[tuple[str, str], Factor]:
        """Conversion to the canonical unit by (feature, unit as written); µ in both of its characters."""
        return {
            (entry.name, text): Factor(float(spelling.factor.numerator), float(spelling.factor.denominator))
            for entry in self.entries
            if entry.units
            for spelling in entry.units.spellings
            for text in {spelling.text, spelling.text.replace("µ", "μ"), spelling.text.replace("μ", "µ")}
        }

    def codes(self) -> Iterator[tuple[str, Code]]:
        """Every code of a terminology, and the feature, gene or role that it belongs to."""
        for entry in self.entries:
            yield from ((entry.name, code) for code in entry.codes)
            yield from ((entry.name, answer.code) for answer in entry.answers)
        yield from ((gene.symbol, gene.code) for gene in self.genes)
        yield from ((role, code) for role, codes in self.concepts.items() for code in codes)

    def unverified(self) -> tuple[tuple[str, Code], ...]:
        """The codes whose meaning nobody has verified, each once, with the first place where it is used."""
        found = {code.key: (where, code) for where, code in reversed(list(self.codes())) if code.source is None}
        return tuple(reversed(found.values()))

    @cached_property
    def hash(self) -> str:
        """Hexadecimal SHA-256 of the canonical JSON form: equal if and only if the dictionaries are."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Plain data (lists, strings, numbers), without where it was read from."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(replace(self, source="")), default=_plain))
        if not self.implications:  # so that dictionaries without any keep their hash
            del plain["implications"]
        for entry in plain["entries"]:
            if not entry["edges"]:
                del entry["edges"]
        return plain

    def difference(self, other: Dictionary) -> str | None:
        """Name the first difference to another dictionary, or None if they are equal."""
        mine, theirs = self.to_dict(), other.to_dict()
        blocks = ("entries", "genes", "concepts")
        for key in sorted((mine.keys() | theirs.keys()) - set(blocks)):
            if mine.get(key) != theirs.get(key):
                return f"{key} is {mine.get(key)!r} here and {theirs.get(key)!r} there"
        for key in blocks:
            a, b = _by_name(mine[key]), _by_name(theirs[key])
            for name in sorted(a.keys() ^ b.keys()):
                return f"{key}: {name!r} exists {'here' if name in a else 'there'} only"
            for name in a:
                for part in {**a[name], **b[name]}:
                    if (here := a[name].get(part)) != (there := b[name].get(part)):
                        return f"{name!r}: {part} is {here!r} here and {there!r} there"
            if list(a) != list(b):
                return f"{key} are in another order"
        return None


def _keys(code: Code) -> Iterator[tuple[str, str]]:
    """System and code under every name of the system."""
    yield code.key
    yield from ((alias, code.code) for alias, system in ALIASES.items() if system == code.system)


def _plain(value: object) -> str:
    if isinstance(value, Fraction):
        return str(value)
    raise TypeError(f"{value!r} is no plain data")


def _by_name(block: Any) -> dict[str, dict[str, Any]]:
    """Plain features, genes or roles by name."""
    if isinstance(block, dict):
        return {role: {"codes": codes} for role, codes in block.items()}
    return {item.get("name") or item["symbol"]: item for item in block}
