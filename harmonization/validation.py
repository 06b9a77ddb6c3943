"""Full validation of FHIR R4 resources by fhir.resources, of all of them or of a sample: some 100 microseconds each.

It knows every resource type, its elements, how often each stands and its choices, but neither required bindings nor
units nor references, which `harmonization.checks` looks at. Only the sub-package ``R4B`` reads R4; the package's
default is R5, which refuses most of it.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from harmonization.checks import Problem
from harmonization.r4 import RESOURCE_TYPES
from harmonization.reading import Located


def validate(resource: Mapping[str, Any]) -> list[Problem]:
    """What the R4 models of fhir.resources refuse in a resource.

    Parameters
    ----------
    resource
        Parsed JSON.

    Returns
    -------
    list of Problem
        Empty if nothing is wrong.

    Raises
    ------
    ImportError
        If fhir.resources is not installed.
    """
    kind = resource.get("resourceType")
    if kind not in RESOURCE_TYPES:
        return [Problem("resourceType", kind, "no resource type of R4", "version")]
    model = _model(kind)
    if model is None:
        return []
    try:
        model.model_validate(resource)
    except ValidationError as error:
        return [
            Problem(_path(kind, problem["loc"]), _short(problem.get("input")), problem["msg"])
            for problem in error.errors()
        ]
    return []


def is_sampled(located: Located, fraction: float) -> bool:
    """Whether a resource is in a sample: by its place alone, so the same ones however the source is cut.

    Parameters
    ----------
    located
        The resource.
    fraction
        0 for none to 1 for all.
    """
    return zlib.crc32(repr(located.place).encode()) < fraction * 2**32


@cache
def _model(kind: str) -> Any:
    try:
        from fhir.resources.R4B import get_fhir_model_class
    except ImportError:
        raise ImportError("validation needs the package fhir.resources: pip install 'haemfed[harmonization]'") from None
    try:
        return get_fhir_model_class(kind)
    except ValueError:
        return None  # a type of R4 that R4B gave up (MedicinalProduct)


def _path(kind: Any, location: tuple[int | str, ...]) -> str:
    return str(kind) + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)


def _short(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else type(value).__name__
