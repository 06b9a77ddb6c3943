"""What a center lets out: the disclosure policy and the audit log."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import traceback
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from federation.contribution import Contribution, Contributions
from federation.privacy.dp.accounting import Spending

NOT_FINITE = "{name!r} has values that are not finite (did the loss turn NaN?)"


LOG = "details are in the center's log (audit/; without one, logger 'haemfed' at DEBUG)"
"""What a center adds to an error of which it keeps something to itself."""


class Refused(RuntimeError):
    """A center does not answer; the message says why in one line.

    Parameters
    ----------
    message
        Leaves the center: the rule, names and public bounds, nothing that was computed from patients.
    details
        What was found; stays in the center's log.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        """Details do not travel."""
        return type(self), self.args


def outside(error: BaseException) -> str:
    """What a center lets out of an error: a refusal's message; of others, whose text may be of patients, the type."""
    if isinstance(error, Refused):
        return f"{error}; {LOG}" if error.details else str(error)
    return f"{type(error).__name__}; {LOG}"


def inside(error: BaseException) -> dict[str, str]:
    """What the center's log has of it."""
    if isinstance(error, Refused):
        return {"refused": str(error)} | ({"details": error.details} if error.details else {})
    where = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f", at {Path(frame.filename).name}:{frame.lineno}" for frame in where)
    return {"failed": type(error).__name__, "details": f"{error}{place}"}


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
    min_cell
        Cells of a table of counts with fewer patients are suppressed, and so many others that the total does not give
        them away (`federation.privacy.disclosure.suppress`). 0 for none.
    min_centers
        Fewest centers in a sum that anybody sees.
    declared_only
        Let out only arrays of which the algorithm says that they are sums, counts, or of a model (`federation.kinds`).
    declared_edges
        Count patients in groups of a number only if the schema declares their ends (`harmonization.Feature.edges`).
    max_parameters_per_patient
        Most parameters of a model per training patient; DataSHIELD has 0.33. None for any number.
    min_difference
        Patients by which the sets behind two answers must differ, unless they are the same set, so that none is the
        difference of two sums; whatever algorithms ask. 0 for no such rule.
    max_questions
        Most answers that a center gives, over all runs that its ledger knows. None for any number.
    noisy_only
        Let out answers under differential privacy only (`federation.privacy.dp`).
    max_epsilon, max_delta
        Privacy budget of a center's patients over all answers that its privacy ledger knows; answers without noise are
        refused. None for no limit.
    secure_noise
        Take noise, and the samples of patients, from the operating system's secure source. Without it they follow from
        the run's seed: for simulation alone, since who knows the seed can take the noise off.
    simulation
        The patients need no protection: what was answered in other runs is not counted, and noise is shared with
        centers for which no registry vouches (`federation.privacy.keys`).
    planned
        What a run is going to spend. A center whose budget does not suffice takes no part from the beginning.
    """

    min_patients: int = 3
    max_bytes: int = 256 * 2**20
    masked_only: bool = False
    min_cell: int = 0
    min_centers: int = 1
    declared_only: bool = False
    declared_edges: bool = False
    max_parameters_per_patient: float | None = None
    min_difference: int = 0
    max_questions: int | None = None
    noisy_only: bool = False
    max_epsilon: float | None = None
    max_delta: float = 1e-5
    secure_noise: bool = True
    simulation: bool = False
    planned: tuple[Spending, ...] = ()

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, int | float) and value < 0:
                raise ValueError(f"{name} is {value}; it cannot be negative")

    @property
    def looks_closer(self) -> bool:
        """Whether there are rules beyond size and number of patients (`federation.privacy.disclosure`)."""
        usual = DisclosurePolicy(
            self.min_patients,
            self.max_bytes,
            self.masked_only,
            max_delta=self.max_delta,
            secure_noise=self.secure_noise,
            simulation=self.simulation,
        )
        return self != usual

    @property
    def counts(self) -> bool:
        """Whether a rule depends on what was answered before."""
        return self.max_epsilon is not None or self.max_questions is not None or self.min_difference > 0

    def stricter(self, other: DisclosurePolicy) -> DisclosurePolicy:
        """The stricter of two policies, rule by rule."""
        rules: dict[str, Any] = {}
        for name in (f.name for f in fields(self) if f.name != "planned"):
            values = [v for policy in (self, other) if (v := getattr(policy, name)) is not None]
            rules[name] = None if not values else min(values) if name.startswith("max_") else max(values)
        simulation = self.simulation and other.simulation
        return DisclosurePolicy(**{**rules, "simulation": simulation, "planned": self.planned or other.planned})

    def check(self, contribution: Contribution) -> None:
        """Raise Refused unless the contribution may leave."""
        if contribution and contribution.patients < self.min_patients:
            raise self._too_few(contribution.patients)
        if contribution.nbytes > self.max_bytes:
            raise self._too_large(contribution.nbytes)
        for name, array in contribution.items():
            if not np.isfinite(array).all():
                raise Refused(NOT_FINITE.format(name=name))

    def check_all(self, contributions: Contributions) -> dict[int, Exception]:
        """Check each of many contributions: why those that may not leave may not, by index."""
        reasons: dict[int, Exception] = dict(contributions.refused)
        for i in np.flatnonzero(contributions.patients < self.min_patients):
            reasons.setdefault(int(i), self._too_few(int(contributions.patients[i])))
        if contributions.nbytes > self.max_bytes:
            return {i: self._too_large(contributions.nbytes) for i in range(len(contributions))}
        for name, array in (*contributions.arrays.items(), *contributions.rows.items()):
            flat = array.reshape(len(array), -1)
            with np.errstate(over="ignore", invalid="ignore"):
                sums = flat.sum(axis=1)
            for i in np.flatnonzero(~np.isfinite(sums)):  # a sum is not finite if a term is not
                if not np.isfinite(flat[i]).all():
                    reasons.setdefault(int(i), Refused(NOT_FINITE.format(name=name)))
        return reasons

    def _too_few(self, patients: int) -> Refused:
        return Refused(
            f"rule min_patients: fewer patients than the policy's {self.min_patients}", f"{patients} patients"
        )

    def _too_large(self, size: int) -> Refused:
        return Refused(f"rule max_bytes: more than the {self.max_bytes} bytes that the policy allows", f"{size} bytes")


class AuditLog:
    """A file of JSON lines: one for everything that left a center, or was withheld or refused.

    Every line has the SHA-256 of the line before it as ``previous``, so that none can be changed, removed or put in
    without changing all that follow (`verify_audit`).

    Parameters
    ----------
    path
        The file, created with its directories; None keeps no log.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: int | None = None
        self._size, self._previous = 0, ""
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, **entry: object) -> None:
        """Append one line with the time; a single write under a lock, so that lines never interleave."""
        if self._file is None:
            return
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            size = os.fstat(self._file).st_size
            if size != self._size:  # there were lines before, or another process has written
                self._previous = _last_hash(self._file, size)
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = json.dumps({"time": time, **entry, "previous": self._previous}).encode()
            if os.write(self._file, line + b"\n") != len(line) + 1:  # as on a full disk
                os.ftruncate(self._file, size)
                raise OSError(f"{self._path}: could not be written whole (is the disk full?)")
            self._size, self._previous = size + len(line) + 1, hashlib.sha256(line).hexdigest()
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _last_hash(file: int, size: int) -> str:
    """Of the last line; empty if there is none."""
    tail, step = b"", 2**16
    while len(tail) < size and b"\n" not in tail[:-1]:
        step = min(2 * step, size)
        tail = os.pread(file, step, size - step)
    line = tail.rstrip(b"\n").rpartition(b"\n")[2]
    return hashlib.sha256(line).hexdigest() if line else ""


class AuditError(ValueError):
    """An audit log was tampered with; the message names file and line."""


def verify_audit(path: Path) -> tuple[int, str]:
    """Check the chain of an audit log's lines.

    Returns
    -------
    tuple
        Number of lines, and the SHA-256 of the last. Lines cut off at the end leave a shorter chain that holds: who
        keeps this hash elsewhere notices that too.

    Raises
    ------
    AuditError
        At the first line that does not follow from the one before.
    """
    previous, number = "", 0
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            said = json.loads(line)["previous"]
        except (ValueError, KeyError, TypeError):
            raise AuditError(f"{path}, line {number}: no line of an audit log") from None
        if said != previous:
            raise AuditError(
                f"{path}, line {number}: does not follow line {number - 1}: lines were changed, removed or put in"
            )
        previous = hashlib.sha256(line).hexdigest()
    return number, previous


def read_audit(directory: Path) -> dict[str, list[dict[str, Any]]]:
    """What left which center: the lines of all audit logs in a directory, by center and in the order written.

    A line that a host wrote for many centers becomes one entry for each.

    Raises
    ------
    AuditError
        At the first line that is none.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(directory.glob("*.jsonl")):
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                entry = json.loads(line)
                if "center" not in entry and "centers" not in entry:
                    raise KeyError
            except (ValueError, KeyError, TypeError):
                raise AuditError(f"{path}, line {number}: no line of an audit log (torn, or changed)") from None
            if "center" in entry:
                found.setdefault(entry["center"], []).append(entry)
                continue
            common = {key: entry[key] for key in ("time", "task", "round", "algorithm", "masked") if key in entry}
            for name, patients in entry["centers"].items():
                sent = {"patients": patients, "arrays": entry["arrays"], "bytes": entry["bytes"]}
                found.setdefault(name, []).append({**common, "center": name, **sent})
            details = entry.get("details", {})
            for kind in ("withheld", "refused", "failed"):
                for name, why in entry.get(kind, {}).items():
                    more = {"details": details[name]} if name in details else {}
                    found.setdefault(name, []).append({**common, "center": name, kind: why, **more})
    return found
