"""Speed and memory of harmonization, beside fhirpathpy and beside orjson alone.

The source is bulk-export NDJSON as hospital servers write it: laboratory Observations of some 700 bytes (meta,
category, codes with display, time with zone, reference range), all of them of codes that the dictionary knows, some in
other units than its own, in no order. It is generated in a temporary directory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from harmonization.codes import LOINC, UCUM
from harmonization.dictionary import Dictionary
from harmonization.extraction import Extractor
from harmonization.extraction.pieces import view
from harmonization.reading import chunks

PER_PATIENT = 400
PEER = 300
"""Observations for fhirpathpy, which needs milliseconds for each."""

UNITS = {"hemoglobin": "g/L", "platelets": "10*3/uL", "wbc": "/nL", "creatinine": "umol/L"}
"""What is not reported in the canonical unit."""


def harmonize_benchmark(observations: int = 100_000, large: int = 1_000_000, repeats: int = 3) -> dict[str, float]:
    """Observations per second of one core, best of ``repeats`` rounds that take the competitors in turn.

    Seconds are those in which the process had the core: another one that runs beside it takes nothing from the figures.

    Returns
    -------
    dict
        ``observations_per_s`` from NDJSON to feature rows with structural checks; ``harmonized_per_s`` to the cohort,
        with provenance and report; ``fhirpathpy_per_s`` flattening alone, by the same view (0 if it is not installed);
        ``orjson_per_s`` parsing alone; ``peak_rss_mb`` of a process that harmonizes ``large`` Observations, and
        ``large_per_s`` its speed.
    """
    dictionary = Dictionary.read("aml")
    with tempfile.TemporaryDirectory() as directory:
        small = Path(directory) / "small"
        write_export(small, observations, dictionary)
        competitors: dict[str, Callable[[], float]] = {
            "observations_per_s": lambda: observations / _seconds_to_rows(small, dictionary, observations),
            "orjson_per_s": lambda: observations / _seconds_of_orjson(small),
        }
        if find_spec("fhirpathpy") is not None:
            competitors["fhirpathpy_per_s"] = lambda: _fhirpathpy_per_s(small)
        rounds = [{name: measure() for name, measure in competitors.items()} for _ in range(repeats)]
        found = {name: max(one[name] for one in rounds) for name in competitors}
        found.setdefault("fhirpathpy_per_s", 0.0)
        found["harmonized_per_s"] = _whole(small)["per_s"]
        write_export(Path(directory) / "large", large, dictionary)
        whole = _whole(Path(directory) / "large")
    return {**found, "large_per_s": whole["per_s"], "peak_rss_mb": whole["peak_rss_mb"]}


def write_export(directory: Path, observations: int, dictionary: Dictionary, seed: int = 0) -> None:
    """Write ``Patient.ndjson``, ``Condition.ndjson`` and ``Observation.ndjson`` of simulated patients."""
    directory.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    patients = max(observations // PER_PATIENT, 1)
    diagnosed = [date(2015, 1, 1) + timedelta(days=int(d)) for d in rng.integers(0, 2000, patients)]
    with (directory / "Patient.ndjson").open("wb") as people, (directory / "Condition.ndjson").open("wb") as conditions:
        for i, day in enumerate(diagnosed):
            people.write(orjson.dumps(_patient(i, day), option=orjson.OPT_APPEND_NEWLINE))
            conditions.write(orjson.dumps(_condition(i, day, dictionary), option=orjson.OPT_APPEND_NEWLINE))
    with (directory / "Observation.ndjson").open("wb") as file:
        for resource in _observations(observations, diagnosed, dictionary, rng):
            file.write(orjson.dumps(resource, option=orjson.OPT_APPEND_NEWLINE))


def _patient(i: int, diagnosed: date) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": f"patient-{i:06}",
        "gender": ("male", "female")[i % 2],
        "birthDate": (diagnosed - timedelta(days=20000)).isoformat(),
        "deceasedDateTime": (diagnosed + timedelta(days=500)).isoformat(),
    }


def _condition(i: int, diagnosed: date, dictionary: Dictionary) -> dict[str, Any]:
    code = dictionary["diagnosis"].concept
    return {
        "resourceType": "Condition",
        "id": f"condition-{i:06}",
        "subject": {"reference": f"Patient/patient-{i:06}"},
        "code": {"coding": [{"system": code.system, "code": code.code, "display": code.display}]},
        "onsetDateTime": diagnosed.isoformat(),
    }


def _observations(
    number: int, diagnosed: list[date], dictionary: Dictionary, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    measured = [e for e in dictionary.entries if e.kind == "continuous" and e.source == "observation" and e.codes]
    coded: list[dict[str, Any]] = []
    for entry in measured:
        assert entry.units is not None
        unit = UNITS.get(entry.name, entry.units.ucum)
        coded.append(
            {
                "code": {"coding": [_coding(entry.concept.code, entry.concept.display)], "text": entry.label},
                "unit": unit,
                "factor": dictionary.factors[entry.name, unit],
                "value": entry.reference or 1.0,
            }
        )
    which = rng.integers(0, len(coded), number)
    who = rng.integers(0, len(diagnosed), number)
    after = rng.integers(-60, 400, number)
    spread = rng.uniform(0.6, 1.4, number)
    minute = rng.integers(0, 24 * 60, number)
    category = [
        {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}
    ]
    meta = {"versionId": "1", "lastUpdated": "2021-05-04T10:00:00.000+02:00", "source": "#lab"}
    for n in range(number):
        one = coded[which[n]]
        day = (diagnosed[who[n]] + timedelta(days=int(after[n]))).isoformat()
        factor = one["factor"]
        value = round(one["value"] * float(spread[n]) * factor.divisor / factor.multiplier, 2)
        quantity = {"value": value, "unit": one["unit"], "system": UCUM, "code": one["unit"]}
        clock = f"T{minute[n] // 60:02}:{minute[n] % 60:02}:00+01:00"
        yield {
            "resourceType": "Observation",
            "id": f"observation-{n:08}",
            "meta": meta,
            "status": "final",
            "category": category,
            "code": one["code"],
            "subject": {"reference": f"Patient/patient-{who[n]:06}"},
            "effectiveDateTime": day + clock,
            "issued": day + clock,
            "valueQuantity": quantity,
            "referenceRange": [{"high": {**quantity, "value": round(value * 1.5, 1)}}],
        }


def _coding(code: str, display: str) -> dict[str, str]:
    return {"system": LOINC, "code": code, "display": display}


def _seconds_to_rows(source: Path, dictionary: Dictionary, observations: int) -> float:
    extractor = Extractor(dictionary)
    began = time.process_time()
    rows = sum(len(extractor.read(chunk).records) for chunk in chunks(source / "Observation.ndjson"))
    seconds = time.process_time() - began
    assert rows >= observations, rows
    return seconds


def _seconds_of_orjson(source: Path) -> float:
    began = time.process_time()
    with (source / "Observation.ndjson").open("rb") as file:
        for line in file:
            orjson.loads(line)
    return time.process_time() - began


def _fhirpathpy_per_s(source: Path) -> float:
    from fhirpathpy import compile as compile_path  # an optional peer
    from fhirpathpy.models import models

    columns = [column for column in view("observations").columns if "getResourceKey" not in column.path]
    paths = [compile_path(column.path, models["r4"]) for column in columns]
    with (source / "Observation.ndjson").open("rb") as file:
        resources = [orjson.loads(line) for line in islice(file, PEER)]
    began = time.process_time()
    for resource in resources:
        for path in paths:
            path(resource, {})
    return len(resources) / (time.process_time() - began)


_WHOLE = """
import json, resource, sys, time
from harmonization.harmonize import harmonize
began = time.process_time()
found = harmonize(sys.argv[1], "aml")
seconds = time.process_time() - began
assert found.quarantine.refused == 0, found.quarantine
number = found.counts["resources"]["Observation"]
print(json.dumps({"per_s": number / seconds,
                  "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def _whole(source: Path) -> dict[str, float]:
    """Speed and memory of a process of its own that harmonizes a source."""
    done = subprocess.run([sys.executable, "-c", _WHOLE, str(source)], capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found
