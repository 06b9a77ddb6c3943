"""The files of runs, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harmonization.files import replacing


def write_text(text: str, path: Path) -> None:
    """Write text as UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(results: Mapping[str, Any], path: Path) -> None:
    """Write plain data; raises ValueError for NaN or infinity, which JSON does not have."""
    write_text(json.dumps(results, indent=1, allow_nan=False), path)


def read_json(path: Path) -> dict[str, Any] | None:
    """What `write_json` wrote, if it did."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
