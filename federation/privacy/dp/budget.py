"""A center's privacy ledger: what all answers it ever gave have cost its patients."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from federation.policy import DisclosurePolicy, Refused
from federation.privacy.dp.accounting import Spending, spent_epsilon
from federation.privacy.ledger import LedgerError

VERSION = 1

BUDGET = "privacy budget:"
"""How the message of `BudgetExceeded` begins."""


class BudgetExceeded(Refused):
    """A question, or a run, would cost more than the center has left; the message names budget, spent and cost."""


@dataclass(frozen=True)
class Entry:
    """Answers of one kind to one task.

    Parameters
    ----------
    task, algorithm
        Who asked.
    spending
        What the answers cost.
    """

    task: str
    algorithm: str
    spending: Spending


class PrivacyLedger:
    """Answers given so far and their cost, over all runs.

    The file is JSON, one entry for all answers of one kind to one task. It is read, changed and replaced as a whole
    under a lock before the answer is computed, so that a crash costs an answer and never an entry. A question that is
    asked again costs again, since its noise is drawn anew.

    Parameters
    ----------
    path
        The file, created with its directories; None remembers within this process only.
    center
        Whose it is, for messages.
    """

    def __init__(self, path: Path | None, center: str) -> None:
        self._path, self._center = path, center
        self._entries: dict[tuple[str, str, str, float, float], Entry] = {}

    def entries(self) -> list[Entry]:
        """All entries, oldest first."""
        with self._locked():
            return list(self._entries.values())

    def require(self, planned: Sequence[Spending], policy: DisclosurePolicy, what: str = "this run") -> None:
        """Raise BudgetExceeded if the budget (`max_epsilon` at `max_delta`) is not enough for so much more."""
        if planned and policy.max_epsilon is not None:
            with self._locked():
                self._require(planned, policy, what)

    def charge(self, task: str, algorithm: str, spending: Spending, policy: DisclosurePolicy) -> None:
        """Enter an answer that is about to be given.

        Raises
        ------
        BudgetExceeded
            If it would exceed the budget; then nothing is entered.
        LedgerError
            If the file is damaged: without it the center answers nothing.
        """
        with self._locked():
            self._require([spending], policy, "this question")
            key = (task, algorithm, spending.unit, spending.noise, spending.sampling)
            before = self._entries.get(key)
            count = spending.count + (before.spending.count if before else 0)
            changed = Spending(spending.unit, spending.noise, spending.sampling, count)
            self._entries[key] = Entry(task, algorithm, changed)
            if self._path is not None:
                self._write(self._path)

    def _require(self, planned: Sequence[Spending], policy: DisclosurePolicy, what: str) -> None:
        if policy.max_epsilon is None:
            return
        spent = [entry.spending for entry in self._entries.values()]
        delta = policy.max_delta
        # Rényi's bound is quick; only where it does not fit the exact one is worth its time.
        if spent_epsilon([*spent, *planned], delta, "rdp") <= policy.max_epsilon:
            return
        total = spent_epsilon([*spent, *planned], delta)
        if total > policy.max_epsilon:
            before, cost = spent_epsilon(spent, delta), spent_epsilon(planned, delta)
            raise BudgetExceeded(
                f"{BUDGET} epsilon {policy.max_epsilon:g} (delta {delta:g}), of which {before:.3g} is spent; "
                f"{what} would cost {cost:.3g}, together {total:.3g}"
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """With the file's content, and nobody else changing it."""
        if self._path is None:
            yield
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._entries = self._read(self._path)
            yield
        finally:
            os.close(lock)

    def _read(self, path: Path) -> dict[tuple[str, str, str, float, float], Entry]:
        if not path.exists():
            return {}
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            if said["version"] != VERSION:
                raise ValueError(f"version {said['version']}, this program writes {VERSION}")
            entries = TypeAdapter(list[Entry]).validate_python(said["entries"])
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise LedgerError(f"{path}: no privacy ledger ({str(error).splitlines()[0]}); put the file back") from None
        return {(e.task, e.algorithm, e.spending.unit, e.spending.noise, e.spending.sampling): e for e in entries}

    def _write(self, path: Path) -> None:
        said: dict[str, Any] = {
            "version": VERSION,
            "center": self._center,
            "entries": [asdict(entry) for entry in self._entries.values()],
        }
        new = path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump(said, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
