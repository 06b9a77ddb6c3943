"""A center's ledger: which sets of patients it has answered about, so that no two answers differ by a few of them."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from federation.policy import DisclosurePolicy, Refused


class LedgerError(ValueError):
    """A ledger cannot be read; the message names file and line."""


class Ledger:
    """Answers given so far, and the patients behind them.

    The file has two kinds of JSON lines: ``set`` (a digest, and a hash of each patient's id) once for each set of
    patients, and ``asked`` for each answer. It is read and written under a lock, and an answer is entered before it is
    computed, so that none is missing from it. It never leaves the center, and is readable to its owner alone.

    Parameters
    ----------
    path
        The file, created with its directories; None remembers within this process only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._file, self._read, self._lines = path, -1, 0, 0
        self._sets: dict[str, frozenset[int]] = {}
        self.answers = 0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)

    def admit(
        self, algorithm: str, parts: Mapping[str, NDArray[np.str_]], policy: DisclosurePolicy, **about: object
    ) -> None:
        """Enter an answer that is about to be given.

        Parameters
        ----------
        algorithm
            Name of the algorithm that asks.
        parts
            Ids of the patients of each part of the split; empty parts do not count.
        policy
            Its `min_difference` and `max_questions`.
        about
            What else to write down.

        Raises
        ------
        Refused
            If a rule forbids it; then nothing is entered.
        LedgerError
            If the file is damaged: without it the center answers nothing.
        """
        if self._file >= 0:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            self._catch_up()
            if policy.max_questions is not None and self.answers >= policy.max_questions:
                raise Refused(
                    f"rule max_questions: {policy.max_questions} answers were given, the policy allows no more"
                )
            lines: list[dict[str, Any]] = []
            places: dict[str, str] = {}
            for part, ids in parts.items():
                if len(ids) == 0:
                    continue
                digest = hashlib.sha256("\0".join(sorted(map(str, ids))).encode()).hexdigest()
                if digest not in self._sets:
                    members = frozenset(map(_hash, ids))
                    self._require_difference(part, members, policy.min_difference)
                    lines.append({"set": digest, "patients": sorted(members)})
                places[part] = digest
            time = datetime.now(UTC).isoformat(timespec="milliseconds")
            lines.append({"time": time, "asked": algorithm, "sets": places, **about})
            if self._file < 0:
                for line in lines:
                    self._take(line)
                return
            text = "".join(json.dumps(line) + "\n" for line in lines).encode()
            if os.write(self._file, text) != len(text):
                raise OSError(f"{self._path}: could not be written whole (is the disk full?)")
            os.fsync(self._file)
            self._catch_up()
        finally:
            if self._file >= 0:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _require_difference(self, part: str, members: frozenset[int], least: int) -> None:
        """Whatever asked: another algorithm may have given the same sums, and who trained may be tested."""
        for earlier in self._sets.values():
            differing = len(members ^ earlier)
            if 0 < differing < least:
                raise Refused(
                    f"rule min_difference: the patients are neither those of an earlier answer nor differ by the "
                    f"policy's {least}",
                    f"{part}: they differ by {differing}",
                )

    def _catch_up(self) -> None:
        """Read what was written since, by whatever process."""
        if self._file < 0:
            return
        size = os.fstat(self._file).st_size
        if size < self._read:
            raise LedgerError(f"{self._path}: shorter than it was; put the whole file back")
        new = os.pread(self._file, size - self._read, self._read)
        for line in new.splitlines(keepends=True):
            self._lines += 1
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("cut off")
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                where = f"{self._path}, line {self._lines}"
                self._lines -= 1
                raise LedgerError(f"{where}: no line of a ledger; put the whole file back, or mend the line") from None
            self._read += len(line)

    def _take(self, line: dict[str, Any]) -> None:
        if "set" in line:
            self._sets[line["set"]] = frozenset(line["patients"])
            return
        if not self._sets.keys() >= set(line["sets"].values()):
            raise ValueError("a set that was not told")
        self.answers += 1


def _hash(patient: str) -> int:
    return int.from_bytes(hashlib.blake2b(str(patient).encode(), digest_size=8).digest(), "big")
