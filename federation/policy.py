"""What a center lets out: the disclosure policy and the audit log."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from federation.contribution import Contribution, Contributions

NOT_FINITE = "{name!r} has values that are not finite (did the loss turn NaN?)"


class Refused(RuntimeError):
    """A center does not answer; the message says why in one line."""


@dataclass(frozen=True)
class DisclosurePolicy:
    """Rules that every contribution must meet before it leaves.

    Parameters
    ----------
    min_patients
        A center with fewer training patients withholds its contribution, and a validation part smaller than this is
        not looked at. 3 is DataSHIELD's smallest cell.
    max_bytes
        Largest contribution.
    masked_only
        Let contributions out under secure aggregation only.
    """

    min_patients: int = 3
    max_bytes: int = 256 * 2**20
    masked_only: bool = False

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def check(self, contribution: Contribution) -> None:
        """Raise Refused unless the contribution may leave."""
        if contribution and contribution.patients < self.min_patients:
            raise Refused(f"{contribution.patients} patients are fewer than the policy's {self.min_patients}")
        if contribution.nbytes > self.max_bytes:
            raise Refused(f"the contribution has {contribution.nbytes} bytes, the policy allows {self.max_bytes}")
        for name, array in contribution.items():
            if not np.isfinite(array).all():
                raise Refused(NOT_FINITE.format(name=name))

    def check_all(self, contributions: Contributions) -> dict[int, str]:
        """Check each of many contributions: why those that may not leave may not, by index."""
        reasons = dict(contributions.refused)
        for i in np.flatnonzero(contributions.patients < self.min_patients):
            reasons.setdefault(
                int(i), f"{contributions.patients[i]} patients are fewer than the policy's {self.min_patients}"
            )
        if contributions.nbytes > self.max_bytes:
            why = f"the contribution has {contributions.nbytes} bytes, the policy allows {self.max_bytes}"
            return dict.fromkeys(range(len(contributions)), why)
        for name, array in (*contributions.arrays.items(), *contributions.rows.items()):
            flat = array.reshape(len(array), -1)
            with np.errstate(over="ignore", invalid="ignore"):
                sums = flat.sum(axis=1)
            for i in np.flatnonzero(~np.isfinite(sums)):  # a sum is not finite if a term is not
                if not np.isfinite(flat[i]).all():
                    reasons.setdefault(int(i), NOT_FINITE.format(name=name))
        return reasons


class AuditLog:
    """A file of JSON lines: one for everything that left a center, or was withheld or refused.

    Parameters
    ----------
    path
        The file, created with its directories; None keeps no log.
    """

    def __init__(self, path: Path | None) -> None:
        self._file: int | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, **entry: object) -> None:
        """Append one line with the time; a single write, so that lines never interleave."""
        if self._file is not None:
            line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **entry})
            os.write(self._file, line.encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def read_audit(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """What left which center: the lines of all audit logs in a directory, by center and in the order written.

    A line that a host wrote for many centers becomes one entry for each.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(directory.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if "center" in entry:
                found.setdefault(entry["center"], []).append(entry)
                continue
            common = {key: entry[key] for key in ("time", "task", "round", "algorithm", "masked") if key in entry}
            for name, patients in entry["centers"].items():
                sent = {"patients": patients, "arrays": entry["arrays"], "bytes": entry["bytes"]}
                found.setdefault(name, []).append({**common, "center": name, **sent})
            for kind in ("withheld", "refused"):
                for name, why in entry.get(kind, {}).items():
                    found.setdefault(name, []).append({**common, "center": name, kind: why})
    return found
