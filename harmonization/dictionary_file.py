"""Reading a data dictionary from YAML: what a file extends is merged in, every key and value is checked.

The format is described in docs/dictionary.md. Whatever is wrong is a DictionaryError that names the file, the feature,
the key and the value, and where a word is misspelt the nearest one that would do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fractions import Fraction
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NoReturn, get_args

import yaml

from harmonization import dictionary as model
from harmonization.codes import SYSTEMS, Code
from harmonization.dictionary import DIAGNOSIS, Answer, Dictionary, Entry, Gene, Spelling, Units, Variant, Window
from harmonization.errors import CodeError, DictionaryError, SchemaError, UnitError
from harmonization.karyotype.flags import FLAGS
from harmonization.schema import DAYS_PER, Implication, Modality, implication_of
from harmonization.units import factor

_TOP = (
    "name", "version", "extends", "without", "sources", "systems", "units", "answers", "genes", "concepts", "templates",
    "features", "cohort",
)  # fmt: skip
_COHORT = ("name", "version", "time_unit", "endpoint", "columns", "scores", "implications")
_FEATURE = (
    "like", "label", "kind", "modality", "source", "codes", "units", "low", "high", "categories", "reference", "window",
    "aggregate", "absence", "answers", "patient", "variant", "gene", "karyotype", "derive", "present_from",
    "edges",
)  # fmt: skip
_MERGED = ("sources", "systems", "units", "answers", "genes", "concepts", "templates")

_FINDINGS = ("complex", "complex_eln", "monosomal", "ipss_r", "ring", *FLAGS)
_CHROMOSOME = r"(?:[1-9]|1\d|2[0-2]|X|Y)"
_FINDING = re.compile(rf"(?:gain|loss)\({_CHROMOSOME}[pq]?\)|rearranged\({_CHROMOSOME};{_CHROMOSOME}\)")

_ROUNDING = 1e-3
"""Factors are declared as laboratories round them (1.611, 88.4)."""


def read_dictionary(name_or_path: str | Path) -> Dictionary:
    """Read a dictionary of this package by name, or a file.

    Raises
    ------
    DictionaryError
        Naming file, feature, key and value, and the nearest allowed one.
    """
    merged = _load(name_or_path)
    return _Reader(merged).dictionary()


def available() -> tuple[str, ...]:
    """Names of the dictionaries that come with this package."""
    folder = files("harmonization") / "dictionaries"
    return tuple(sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml")))


@dataclass
class _File:
    """The content of a file, with what it extends merged in, and which file each feature was last touched by."""

    path: str
    data: dict[str, Any]
    touched: dict[str, str]


def _load(name_or_path: str | Path, beside: Path | None = None, seen: tuple[str, ...] = ()) -> _File:
    name = str(name_or_path)
    candidates = [Path(name)] if name.endswith((".yaml", ".yml")) else []
    if beside is not None:
        candidates += [beside / name, beside / f"{name}.yaml"]
    for path in candidates:
        if path.is_file():
            return _merged(path, seen)
    if name in available():
        with as_file(files("harmonization") / "dictionaries" / f"{name}.yaml") as path:
            return _merged(path, seen)
    if candidates and not beside:
        raise DictionaryError("no such file", source=name)
    raise DictionaryError(f"no such dictionary; {_nearest(name, available())}", value=name)


def _merged(path: Path, seen: tuple[str, ...]) -> _File:
    if str(path) in seen:
        raise DictionaryError("extends itself", source=str(path), key="extends")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise DictionaryError(f"not YAML: {error}", source=str(path)) from None
    where = _Where(str(path))
    data = where.mapping(data, "the file", _TOP)
    features = where.mapping(data.get("features", {}), "features")
    if "extends" not in data:
        return _File(str(path), data, dict.fromkeys(features, str(path)))
    base = _load(where.text(data["extends"], "extends"), path.parent, (*seen, str(path)))
    for name in where.words(data.get("without", []), "without"):
        if name not in base.data["features"]:
            where.fail(f"no such feature in {base.path}; {_nearest(name, base.data['features'])}", "without", name)
        del base.data["features"][name]
    for block in _MERGED:
        data[block] = {**base.data.get(block, {}), **where.mapping(data.get(block, {}), block)}
    data["features"] = dict(base.data["features"])
    for name, own in features.items():
        data["features"][name] = {**data["features"].get(name, {}), **where.of(name).mapping(own, "", _FEATURE)}
    data.setdefault("cohort", base.data.get("cohort", {}))
    return _File(str(path), data, {**base.touched, **dict.fromkeys(features, str(path))})


class _UniqueKeys(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """YAML lets a later key overwrite an earlier one in silence; a dictionary must not lose a feature so."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key!r} is given twice, line {node.start_mark.line + 1}")
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


@dataclass(frozen=True)
class _Where:
    """Where in which file something is read, for errors."""

    path: str
    feature: str | None = None

    def of(self, feature: str) -> _Where:
        return replace(self, feature=feature)

    def fail(self, problem: str, key: str | None = None, value: object = None) -> NoReturn:
        raise DictionaryError(problem, source=self.path, feature=self.feature, key=key or None, value=value)

    def mapping(self, value: Any, key: str, allowed: Iterable[str] | None = None) -> dict[str, Any]:
        if not isinstance(value, dict):
            self.fail("must be a mapping (key: value)", key, value)
        for name in value:
            if not isinstance(name, str | int | float) or isinstance(name, bool):
                self.fail("this key is not text; put it in quotes", key, name)
            if allowed is not None and str(name) not in allowed:
                self.fail(f"unknown key; {_nearest(str(name), allowed)}", str(name))
        return value

    def sequence(self, value: Any, key: str) -> list[Any]:
        if not isinstance(value, list):
            self.fail("must be a list", key, value)
        return value

    def text(self, value: Any, key: str) -> str:
        if not isinstance(value, str) or value != value.strip():
            self.fail("must be text without blanks around it; put it in quotes", key, value)
        return value

    def words(self, value: Any, key: str) -> tuple[str, ...]:
        return tuple(self.text(word, key) for word in self.sequence(value, key))

    def one_of(self, value: Any, key: str, allowed: Iterable[str]) -> Any:
        if value not in (allowed := tuple(allowed)):
            self.fail(_nearest(str(value), allowed), key, value)
        return value

    def number(self, value: Any, key: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.fail("must be a finite number (write 1000 rather than 1e3)", key, value)
        return float(value)

    def whole(self, value: Any, key: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.fail("must be a whole number, not negative", key, value)
        return value

    def ratio(self, value: Any, key: str) -> Fraction:
        """A factor: a number, or a fraction as text (``1/88.4``)."""
        try:
            parts = [Fraction(part) for part in (value.split("/") if isinstance(value, str) else [str(value)])]
            result = parts[0] / parts[1] if len(parts) == 2 else parts[0]
        except (ValueError, ZeroDivisionError, AttributeError):
            result = Fraction(0)
        if isinstance(value, bool) or result <= 0 or len(parts) > 2:
            self.fail('a factor is a positive number or a fraction in quotes ("1/88.4")', key, value)
        return result


class _Reader:
    """From merged plain data to the dataclasses."""

    def __init__(self, file: _File) -> None:
        self.file, self.data, self.where = file, file.data, _Where(file.path)
        self.sources = self.where.mapping(self.data.get("sources", {}), "sources")
        self.systems = {**SYSTEMS, **self.where.mapping(self.data.get("systems", {}), "systems")}
        self.units = {
            name: self._units(value, self.where, f"units: {name}")
            for name, value in self.where.mapping(self.data.get("units", {}), "units").items()
        }
        self.answers = self.where.mapping(self.data.get("answers", {}), "answers")
        self.templates = self.where.mapping(self.data.get("templates", {}), "templates")
        for name, template in self.templates.items():
            self.where.mapping(template, f"templates: {name}", [key for key in _FEATURE if key != "like"])
        self.genes = {
            symbol: self._gene(symbol, value)
            for symbol, value in self.where.mapping(self.data.get("genes", {}), "genes").items()
        }

    def dictionary(self) -> Dictionary:
        where, data = self.where, self.data
        for key in ("name", "version", "features"):
            if key not in data:
                where.fail("is missing", key)
        cohort = where.mapping(data.get("cohort", {}), "cohort", _COHORT)
        entries = tuple(self._entry(name, raw) for name, raw in data["features"].items())
        named = {gene for e in entries if e.variant for gene in [e.variant.gene]}
        result = Dictionary(
            where.text(data["name"], "name"),
            where.text(data["version"], "version"),
            entries,
            tuple(gene for symbol, gene in self.genes.items() if symbol in named),
            {
                role: self._codes(codes, where, f"concepts: {role}")
                for role, codes in where.mapping(data.get("concepts", {}), "concepts").items()
            },
            where.words(cohort.get("columns", []), "columns"),
            where.words(cohort.get("scores", []), "scores"),
            where.text(cohort.get("name", data["name"]), "cohort: name"),
            where.text(cohort.get("version", data["version"]), "cohort: version"),
            where.one_of(cohort.get("time_unit", "years"), "time_unit", DAYS_PER),
            where.text(cohort.get("endpoint", "overall survival"), "endpoint"),
            self._implications(cohort.get("implications", []), where),
            source=self.file.path,
        )
        for name in (DIAGNOSIS, *result.columns, *result.scores):
            if name not in result:
                where.fail(f"no such feature; {_nearest(name, result.by_name)}", "columns", name)
        if result.columns:
            try:
                result.schema()
            except (SchemaError, DictionaryError) as error:
                where.fail(str(error), "cohort")
        return result

    def _implications(self, raw: Any, where: _Where) -> tuple[Implication, ...]:
        try:
            return tuple(implication_of(item) for item in where.sequence(raw, "implications"))
        except SchemaError as error:
            where.fail(str(error), "implications")

    def _entry(self, name: str, raw: Any) -> Entry:
        where = _Where(self.file.touched[name], name)
        own = where.mapping(raw, "", _FEATURE)
        raw = dict(own)
        if "like" in raw:
            template = where.one_of(raw.pop("like"), "like", self.templates)
            raw = {**self.templates[template], **raw}
        for key in ("kind", "source"):
            if key not in raw:
                where.fail("is missing", key)
        kind = where.one_of(raw["kind"], "kind", get_args(model.Kind))
        source = where.one_of(raw["source"], "source", get_args(model.Source))
        categories = where.words(raw.get("categories", []), "categories")
        units = self._units(raw["units"], where, "units") if "units" in raw else None
        codes = self._codes(raw.get("codes", []), where, "codes")
        answers = self._answers(raw.get("answers", {}), where, kind, categories)
        if kind == "categorical" and source == "condition" and not codes:  # the diagnosis is itself the answer
            codes = tuple(answer.code for answer in answers)
        entry = Entry(
            name,
            kind,
            source,
            where.text(raw.get("label", ""), "label"),
            where.one_of(raw.get("modality", "clinical"), "modality", get_args(Modality)),
            codes,
            units,
            where.number(raw["low"], "low") if "low" in raw else None,
            where.number(raw["high"], "high") if "high" in raw else None,
            categories,
            where.number(raw.get("reference", 0), "reference"),
            self._window(raw.get("window", {}), where),
            where.one_of(raw.get("aggregate", "closest"), "aggregate", get_args(model.Aggregation)),
            where.one_of(raw.get("absence", "missing"), "absence", get_args(model.Absence)),
            answers,
            where.one_of(raw["patient"], "patient", get_args(model.PatientElement)) if "patient" in raw else None,
            self._variant(raw, where),
            self._finding(raw["karyotype"], where) if "karyotype" in raw else None,
            where.one_of(raw["derive"], "derive", get_args(model.Derivation)) if "derive" in raw else None,
            where.number(raw["present_from"], "present_from") if "present_from" in raw else None,
            tuple(where.number(edge, "edges") for edge in where.sequence(raw.get("edges", []), "edges")),
        )
        self._consistent(entry, where)
        return entry

    def _consistent(self, entry: Entry, where: _Where) -> None:
        """What a feature says must fit together."""
        for source, key, value in (
            ("patient", "patient", entry.patient),
            ("variant", "variant", entry.variant),
            ("karyotype", "karyotype", entry.karyotype),
            ("derived", "derive", entry.derive),
        ):
            if (entry.source == source) != (value is not None):
                where.fail(f"goes with source {source}; the source is {entry.source}", key)
        if entry.source in ("condition", "procedure", "medication") and not entry.codes:
            where.fail(f"a {entry.source} needs codes to be found by", "codes")
        if entry.kind == "continuous" and entry.units is None:
            where.fail("a continuous feature needs units", "units")
        if entry.kind == "binary" and (entry.units is None) != (entry.present_from is None):
            where.fail("a binary feature reported as a number needs both units and present_from", "present_from")
        if (entry.aggregate == "count") != (entry.kind == "count" and entry.source in ("procedure", "medication")):
            where.fail("count counts procedures or medications, into a feature of kind count", "aggregate")
        if entry.kind not in ("date", "text"):
            try:
                entry.feature()
            except SchemaError as error:
                where.fail(str(error))

    def _code(self, raw: Any, where: _Where, key: str) -> Code:
        data = where.mapping(raw, key, (*self.systems, "display", "source"))
        systems = [system for system in self.systems if system in data]
        if len(systems) != 1:
            where.fail(f"a code names one system of {', '.join(self.systems)}", key, raw)
        if "source" not in data:
            where.fail("a code says where it was verified; write source: null if nowhere", key, raw)
        source = data["source"]
        if source is not None:
            source = self.sources[where.one_of(source, f"{key}: source", self.sources)]
        (system,) = systems
        display = where.text(data.get("display", ""), f"{key}: display")
        try:
            return Code(self.systems[system], where.text(data[system], f"{key}: {system}"), display, source)
        except CodeError as error:
            where.fail(str(error), key)

    def _codes(self, raw: Any, where: _Where, key: str) -> tuple[Code, ...]:
        codes = tuple(self._code(item, where, key) for item in where.sequence(raw, key))
        for code in codes:
            if [c.key for c in codes].count(code.key) > 1:
                where.fail("is listed twice", key, code.code)
        return codes

    def _gene(self, symbol: str, raw: Any) -> Gene:
        where = self.where.of(symbol)
        data = dict(where.mapping(raw, "genes", ("hgnc", "source", "formerly")))
        formerly = where.words(data.pop("formerly", []), "formerly")
        return Gene(symbol, self._code({**data, "display": symbol}, where, "genes"), formerly)

    def _units(self, raw: Any, where: _Where, key: str) -> Units:
        if isinstance(raw, str):
            return self.units[where.one_of(raw, key, self.units)]
        data = where.mapping(raw, key, ("unit", "ucum", "molar_mass", "spellings", "local"))
        unit = where.text(data.get("unit", ""), f"{key}: unit")
        ucum = where.text(data.get("ucum", unit), f"{key}: ucum")
        molar_mass = where.number(data["molar_mass"], "molar_mass") if "molar_mass" in data else None
        spellings = []
        for block in ("spellings", "local"):
            for text, value in where.mapping(data.get(block, {}), f"{key}: {block}").items():
                text = str(text)  # 1 is a unit, too
                ratio = where.ratio(value, text)
                self._check_factor(text, ratio, ucum, molar_mass, block, where)
                spellings.append(Spelling(text, ratio, block == "spellings"))
        if Spelling(ucum, Fraction(1), True) not in spellings:
            where.fail(f"the canonical unit {ucum!r} must be a spelling with factor 1", f"{key}: spellings")
        return Units(unit, ucum, tuple(spellings), molar_mass)

    @staticmethod
    def _check_factor(
        text: str, declared: Fraction, ucum: str, molar_mass: float | None, block: str, where: _Where
    ) -> None:
        """UCUM has the last word on every factor that it knows."""
        try:
            computed = factor(text, ucum, molar_mass)
        except UnitError as error:
            if block == "spellings":
                where.fail(f"{error}; or list it under local", "spellings", text)
            return
        if block == "local":
            where.fail(f"is UCUM and means {computed:g} {ucum}; list it under spellings", "local", text)
        if not math.isclose(computed, declared, rel_tol=_ROUNDING):
            where.fail(f"the factor is {float(declared):g} here and {computed:.6g} by UCUM", "spellings", text)

    def _window(self, raw: Any, where: _Where) -> Window:
        data = where.mapping(raw, "window", ("before", "after"))
        days = {k: None if v is None else where.whole(v, f"window: {k}") for k, v in data.items()}
        return Window(days.get("before"), days.get("after"))

    def _answers(self, raw: Any, where: _Where, kind: str, categories: tuple[str, ...]) -> tuple[Answer, ...]:
        if isinstance(raw, str):
            raw = self.answers[where.one_of(raw, "answers", self.answers)]
        answers = []
        for value, codes in where.mapping(raw, "answers").items():
            if kind == "categorical":
                where.one_of(value, "answers", categories)
            elif isinstance(value, str):
                where.fail("the values of a feature of this kind are numbers", "answers", value)
            meaning = value if isinstance(value, str) else float(value)
            answers += [Answer(code, meaning) for code in self._codes(codes, where, f"answers: {value}")]
        keys = [answer.code.key for answer in answers]
        for key in keys:
            if keys.count(key) > 1:
                where.fail("is the code of two values", "answers", key[1])
        return tuple(answers)

    def _variant(self, raw: Mapping[str, Any], where: _Where) -> Variant | None:
        if "gene" in raw and "variant" in raw:
            where.fail("gene: X is short for variant: {gene: X}; give one of them", "gene")
        if "gene" not in raw and "variant" not in raw:
            return None
        allowed = ("gene", "alteration", "codons", "except_codons", "hits", "loss")
        data = where.mapping(raw.get("variant", {"gene": raw.get("gene")}), "variant", allowed)
        if (loss := data.get("loss")) is not None and not re.fullmatch(rf"{_CHROMOSOME}[pq]", str(loss)):
            where.fail("must be a chromosome arm such as 17p", "loss", loss)
        codons, but = (
            tuple(where.whole(c, key) for c in where.sequence(data.get(key, []), key))
            for key in ("codons", "except_codons")
        )
        return Variant(
            where.one_of(data.get("gene"), "gene", self.genes),
            where.one_of(data.get("alteration", "any"), "alteration", get_args(model.Alteration)),
            codons,
            but,
            where.one_of(data.get("hits", "any"), "hits", get_args(model.Hits)),
            loss,
        )

    def _finding(self, raw: Any, where: _Where) -> str:
        finding = where.text(raw, "karyotype")
        if not _FINDING.fullmatch(finding):
            where.one_of(finding, "karyotype", _FINDINGS)
        return finding


def _nearest(word: str, allowed: Iterable[str]) -> str:
    allowed = tuple(map(str, allowed))
    close = get_close_matches(word, allowed, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"use one of {', '.join(allowed)}" if len(allowed) <= 30 else "none is like it"
