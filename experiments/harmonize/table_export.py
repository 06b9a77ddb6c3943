"""One hospital's patients as tables in its own language and notation, and the mapping that says what they mean."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from experiments.harmonize.conventions import HEADINGS, WORDS, Convention
from experiments.harmonize.faults import Fault
from experiments.harmonize.fhir_export import in_unit
from experiments.harmonize.genomes import report_karyotype, report_variants
from harmonization.dictionary import DIAGNOSIS, Dictionary, Entry
from harmonization.resources import Call
from harmonization.writing import DEAD, LAST_CONTACT, SURVIVAL, Record

Cell = str | float | date | None


@dataclass
class Sheet:
    """A table to be written.

    Parameters
    ----------
    name
        Of the file, without its suffix.
    header
        Names of the columns.
    rows
        Cells by column.
    mapping
        Its part of the mapping.
    """

    name: str
    header: list[str]
    rows: list[dict[str, Cell]] = field(default_factory=list)
    mapping: dict[str, Any] = field(default_factory=dict)


class TableExport:
    """Makes a hospital's tables.

    Parameters
    ----------
    dictionary
        The features.
    convention
        The hospital's.
    rng
        Draws what differs from patient to patient.
    """

    def __init__(self, dictionary: Dictionary, convention: Convention, rng: np.random.Generator) -> None:
        self.dictionary, self.convention, self.rng = dictionary, convention, rng
        schema = dictionary.schema()
        self.entries = [dictionary[f.name] for f in (*schema.features, *schema.scores)]
        self.locale = convention.locale
        self.units = dict(convention.units)
        self.words, self.headings = WORDS[self.locale.language], HEADINGS[self.locale.language]

    def heading(self, name: str) -> str:
        """What the hospital calls something."""
        return self.headings.get(name, name)

    def sheets(self, records: Sequence[Record]) -> list[Sheet]:
        """All tables of the hospital."""
        how = self.convention
        measured = [e for e in self.entries if e.kind == "continuous" and e.units and e.source == "observation"]
        long = set(e.name for e in measured) if self.locale.long else set()
        wide = self._wide_columns(records, long)
        patients = Sheet("patients", [self.heading("patient"), *(name for name, _ in wide.values())])
        patients.mapping = {
            "layout": "wide",
            "patient": self.heading("patient"),
            "columns": {name: mapped for name, mapped in wide.values()},
        }
        who = self.heading("patient")
        parts = {part: self.heading(part) for part in ("date", "name", "value", "unit")}
        lab = Sheet("lab", [who, *parts.values()])
        lab.mapping = {"layout": "long", "patient": who, **parts}
        lab.mapping["rows"] = {self.heading(e.name): {"feature": e.name} for e in measured}
        found = Sheet("variants", [who, "Gen", "c.HGVS", "p.HGVS", "VAF"])
        found.mapping = {
            "layout": "variants", "patient": who, "gene": "Gen", "coding_change": "c.HGVS", "protein_change": "p.HGVS",
            "allele_frequency": "VAF", "allele_frequency_unit": "%",
        }  # fmt: skip
        for record in records:
            values, calls, tested, karyotype = self._reports(record)
            row: dict[str, Cell] = {who: record.identity}
            for name, (column, _) in wide.items():
                row[column] = self._cell(name, record, values, karyotype, tested, calls)
            patients.rows.append(row)
            for entry in measured if self.locale.long else ():
                if entry.name in values:
                    number, unit = self.measured(entry, float(values[entry.name]))
                    result = (record.identity, record.diagnosed, self.heading(entry.name), number, unit)
                    lab.rows.append(dict(zip(lab.header, result, strict=True)))
            for call in calls if how.genomics == "variants" else ():
                share = round(float(self.rng.uniform(2, 98)), 1)
                change = (call.coding_change or None, call.protein_change or None)
                finding = (record.identity, self._gene(call.gene), *change, share)
                found.rows.append(dict(zip(found.header, finding, strict=True)))
        sheets = [patients]
        sheets += [lab] if self.locale.long else []
        return sheets + ([found] if how.genomics == "variants" else [])

    def _reports(self, record: Record) -> tuple[dict[str, str | float], list[Call], list[str], str | None]:
        """What is stated outright, and what variants, tested genes and the karyotype say."""
        values = dict(record.values)
        mutations = [e for e in self.entries if e.variant]
        for gene in record.tested:
            found = any(call.gene == gene for call in record.calls)
            values |= {e.name: float(found) for e in mutations if e.variant and e.variant.gene == gene}
        calls: list[Call] = []
        tested: list[str] = []
        if self.convention.genomics != "findings":
            calls, tested = report_variants(mutations, values, self.convention.genomics == "variants")
        karyotype = None
        findings = [e for e in self.entries if e.karyotype]
        if self.convention.cytogenetics == "karyotypes":
            karyotype = report_karyotype(self.dictionary, findings, values, record.gender)
        if karyotype is not None:
            for entry in findings:
                del values[entry.name]
        return values, calls, tested, karyotype

    # -- columns of the wide table, and what they mean

    def _wide_columns(self, records: Sequence[Record], long: set[str]) -> dict[str, tuple[str, dict[str, Any]]]:
        """Feature (or part of a report) to its column and the column's mapping."""
        how = self.convention
        columns: dict[str, tuple[str, dict[str, Any]]] = {}
        for name in (DIAGNOSIS, DEAD, LAST_CONTACT):
            columns[name] = (self.heading(name), {"feature": name})
        columns[DEAD][1]["values"] = {self.words["dead"]: 1, self.words["alive"]: 0}
        if any(SURVIVAL in record.values for record in records):
            columns[SURVIVAL] = (self.heading(SURVIVAL), {"feature": SURVIVAL, "unit": "a"})
        if how.cytogenetics == "karyotypes":
            columns["karyotype"] = (self.heading("karyotype"), {"feature": "karyotype"})
        if how.genomics != "findings":
            columns["tested"] = (self.heading("genes_tested"), {"genes": "tested", "separator": ","})
        if how.genomics == "gene lists":
            columns["mutated"] = (self.heading("mutated"), {"genes": "mutated", "separator": ","})
        for entry in self.entries:
            if entry.name in long:
                continue
            mapped: dict[str, Any] = {"feature": entry.name}
            heading = self.heading(entry.name)
            if entry.kind in ("continuous", "count") and entry.units and entry.units.ucum != "1":
                mapped["unit"] = how.units[entry.name]
                heading = f"{heading} [{how.units[entry.name]}]"
            elif entry.patient == "gender":
                mapped["values"] = {self.words["male"]: 1, self.words["female"]: 0}
            elif entry.kind == "binary":
                mapped["values"] = {self.words["yes"]: 1, self.words["no"]: 0}
            elif entry.kind == "categorical":
                mapped["values"] = {f"{i + 1}": category for i, category in enumerate(entry.categories)}
            columns[entry.name] = (heading, mapped)
        # In a wide table the unit is the column's: where it would change a value, the canonical one is taken for all.
        for entry in self.entries:
            mapped = columns[entry.name][1] if entry.name in columns else {}
            if "unit" in mapped and entry.units is not None:
                known = [float(r.values[entry.name]) for r in records if entry.name in r.values]
                if any(in_unit(self.dictionary, entry, v, mapped["unit"])[1] != mapped["unit"] for v in known):
                    self.units[entry.name] = mapped["unit"] = entry.units.ucum
                    columns[entry.name] = (f"{self.heading(entry.name)} [{entry.units.ucum}]", mapped)
        return columns

    def _cell(
        self,
        name: str,
        record: Record,
        values: Mapping[str, str | float],
        karyotype: str | None,
        tested: Sequence[str],
        calls: Sequence[Call],
    ) -> Cell:
        if name == DIAGNOSIS:
            return record.diagnosed
        if name == LAST_CONTACT:
            return record.ended
        if name == DEAD:
            return self.words["dead" if record.dead else "alive"]
        if name == "tested":
            return ", ".join(self._gene(gene) for gene in tested) or None
        if name == "mutated":
            return ", ".join(sorted({self._gene(call.gene) for call in calls})) or None
        if name == "karyotype":
            return karyotype
        entry = self.dictionary[name]
        if entry.patient == "gender":
            return self.words[record.gender] if record.gender else self.locale.missing or None
        if name not in values:
            reported = (entry.variant is not None and entry.variant.gene in tested) or (entry.karyotype and karyotype)
            return None if reported or name == SURVIVAL else self.locale.missing or None
        value = values[name]
        if entry.kind == "binary":
            return self.words["yes" if value else "no"]
        if isinstance(value, str):
            return f"{entry.categories.index(value) + 1}"
        return self.measured(entry, value)[0] if entry.units and entry.units.ucum != "1" else value

    def measured(self, entry: Entry, value: float) -> tuple[float, str]:
        """A number and its unit, from which the reader gets the very same value again."""
        return in_unit(self.dictionary, entry, value, self.units.get(entry.name))

    def _gene(self, gene: str) -> str:
        if self.convention.genes == "former":
            return next((g.formerly[0] for g in self.dictionary.genes if g.symbol == gene and g.formerly), gene)
        if self.convention.genes == "hgnc":
            return next((g.code.code for g in self.dictionary.genes if g.symbol == gene), gene)
        return gene

    # -- faults

    def seed(self, sheets: Sequence[Sheet], center: str, count: int) -> list[Fault]:
        """Add faulty rows at the end of the tables."""
        suffix = ".csv" if self.convention.form == "csv" else ".xlsx"
        faults = []
        makers = [self._bad_number, self._no_such_day, self._unknown_word, self._nobody, self._contradiction]
        makers += [self._unknown_unit, self._unknown_name] if self.locale.long else []
        for i in range(count):
            name, sheet, row, column = makers[(i + int(self.rng.integers(len(makers)))) % len(makers)](sheets)
            sheet.rows.append(row)
            file = sheet.name + suffix
            faults.append(Fault(center, name, "table", file, column, None, len(sheet.rows) + 1))
        return faults

    def _someone(self, sheet: Sheet) -> dict[str, Cell]:
        who = self.heading("patient")
        known = [row[who] for row in sheet.rows if row.get(who)]
        return {who: known[int(self.rng.integers(len(known)))]}

    def _column(self, sheet: Sheet, kind: str) -> str:
        columns = sheet.mapping["columns"]
        names: list[str] = [
            name for name, m in columns.items() if "feature" in m and self.dictionary[m["feature"]].kind == kind
        ]
        return names[int(self.rng.integers(len(names)))]

    def _bad_number(self, sheets: Sequence[Sheet]) -> tuple[str, Sheet, dict[str, Cell], str]:
        column = self._column(sheets[0], "continuous")
        text = "12,5" if self.locale.decimal == "." else "12.5"
        if self.locale.thousands in (",", ".") or self.convention.form == "xlsx":
            text = "1l.5"
        return "not a number", sheets[0], self._someone(sheets[0]) | {column: text}, column

    def _no_such_day(self, sheets: Sequence[Sheet]) -> tuple[str, Sheet, dict[str, Cell], str]:
        column = self.heading(LAST_CONTACT)
        text = self.locale.date.replace("DD", "31").replace("MM", "02").replace("YYYY", "2004")
        return "no such day", sheets[0], self._someone(sheets[0]) | {column: text}, column

    def _unknown_word(self, sheets: Sequence[Sheet]) -> tuple[str, Sheet, dict[str, Cell], str]:
        columns = sheets[0].mapping["columns"]
        column = next(
            c for c, m in columns.items() if m.get("values") and self.dictionary[m["feature"]].patient is None
        )
        return "unknown word", sheets[0], self._someone(sheets[0]) | {column: "???"}, column

    def _nobody(self, sheets: Sequence[Sheet]) -> tuple[str, Sheet, dict[str, Cell], str]:
        column = self._column(sheets[0], "continuous")
        return "no patient", sheets[0], {column: 1.0}, self.heading("patient")

    def _contradiction(self, sheets: Sequence[Sheet]) -> tuple[str, Sheet, dict[str, Cell], str]:
        column = self.heading(DIAGNOSIS)
        row = self._someone(sheets[0]) | {column: date(1985, 6, 15)}
        return "another date of diagnosis", sheets[0], row, column

    def _lab(self, sheets: Sequence[Sheet]) -> tuple[Sheet, dict[str, Cell], str]:
        lab = next(sheet for sheet in sheets if sheet.name == "lab")
        names = list(lab.mapping["rows"])
        name = names[int(self.rng.integers(len(names)))]
        return lab, self._someone(sheets[0]) | {self.heading("value"): 1.5, self.heading("name"): name}, name

    def _unknown_unit(self, sheets: Sequence[Sheet]) -> tuple[str, Sheet, dict[str, Cell], str]:
        lab, row, name = self._lab(sheets)
        return "unknown unit", lab, row | {self.heading("unit"): "drops"}, name

    def _unknown_name(self, sheets: Sequence[Sheet]) -> tuple[str, Sheet, dict[str, Cell], str]:
        lab, row, _ = self._lab(sheets)
        return "name without a mapping", lab, row | {self.heading("name"): "XYZ"}, self.heading("name")

    # -- files

    def write(self, sheets: Sequence[Sheet], directory: Path) -> dict[str, Any]:
        """Write the tables; returns the mapping."""
        locale = self.locale
        suffix = f".{self.convention.form}"
        tables = {}
        for sheet in sheets:
            file = sheet.name + suffix
            if suffix == ".csv":
                (directory / file).write_text(self._csv(sheet), encoding="utf-8")
                tables[file] = {"delimiter": locale.delimiter} | sheet.mapping
            else:
                self._excel(sheet, directory / file)
                tables[file] = sheet.mapping
        mapping: dict[str, Any] = {
            "dictionary": self.dictionary.name,
            "locale": {"decimal": locale.decimal, "thousands": locale.thousands, "date": locale.date},
        }
        if locale.missing:
            mapping["missing"] = {locale.missing: "unknown"}
        return mapping | {"tables": tables}

    def _csv(self, sheet: Sheet) -> str:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.locale.delimiter, lineterminator="\n")
        writer.writerow(sheet.header)
        for row in sheet.rows:
            writer.writerow([self._written(row.get(name)) for name in sheet.header])
        return text.getvalue()

    def _written(self, cell: Cell) -> str:
        if cell is None:
            return ""
        if isinstance(cell, date):
            parts = {"DD": f"{cell.day:02}", "MM": f"{cell.month:02}", "YYYY": f"{cell.year:04}"}
            text = self.locale.date
            for name, part in parts.items():
                text = text.replace(name, part)
            return text
        if isinstance(cell, str):
            return cell
        text = repr(int(cell)) if float(cell).is_integer() and abs(cell) < 2**53 else repr(cell)
        whole, dot, fraction = text.partition(".")
        if self.locale.thousands and "e" not in text and len(whole.lstrip("-")) > 4:
            whole = f"{int(whole):,}".replace(",", self.locale.thousands)
        return whole + (self.locale.decimal if dot else "") + fraction

    def _kept(self, cell: Cell) -> Cell:
        """A cell as Excel keeps it: numbers of more than 15 digits as text, or they would change."""
        return self._written(cell) if isinstance(cell, float) and float(f"{cell:.15g}") != cell else cell

    def _excel(self, sheet: Sheet, path: Path) -> None:
        from datetime import datetime

        from openpyxl import Workbook

        book = Workbook(write_only=True)
        book.properties.created = book.properties.modified = datetime(2000, 1, 1)  # the same bytes every time
        page = book.create_sheet("Export")
        page.append(sheet.header)
        for row in sheet.rows:
            page.append([self._kept(row.get(name)) for name in sheet.header])
        book.save(path)
