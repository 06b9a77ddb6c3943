"""Where resources go that cannot be used: a file that says of each what is wrong and where, and the counts.

One line of the file is one refused resource, with the fields of `harmonization.reading.Refusal`: file, line, path,
kind, reason, value, the resource itself, and what else is wrong with it. The file holds patients' data and stays in the
center.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import orjson

from harmonization.checks import Problem
from harmonization.errors import QuarantineError
from harmonization.reading import Located, Refusal

EXAMPLES = 3
"""Problems named in an error message."""


@dataclass(frozen=True)
class Summary:
    """What was read and what was set aside.

    Parameters
    ----------
    read
        Resources, lines that are none included.
    refused
        How many of them were set aside.
    kinds
        Refused ones by kind of their first problem.
    reasons
        Refused ones by kind, resource type and element: ``unit Observation.valueQuantity.code``.
    file
        The quarantine file; None if nothing was refused.
    """

    read: int
    refused: int
    kinds: Mapping[str, int]
    reasons: Mapping[str, int]
    file: str | None

    @property
    def fraction(self) -> float:
        """Of all that was read, what was refused."""
        return self.refused / self.read if self.read else 0.0


def refusal(located: Located, problems: Sequence[Problem]) -> Refusal:
    """What is set aside of a resource.

    Parameters
    ----------
    located
        The resource.
    problems
        What is wrong with it, at least one.
    """
    first, *others = ((_place(located, problem), problem) for problem in problems)
    path, problem = first
    return Refusal(
        located.file,
        located.line,
        path,
        problem.kind,
        problem.reason,
        problem.value,
        located.resource,
        tuple((path, problem.reason) for path, problem in others),
    )


def _place(located: Located, problem: Problem) -> str:
    """The problem's path within the line or document, not within the resource."""
    if not located.path:
        return problem.path
    _, dot, rest = problem.path.partition(".")
    return f"{located.path}{dot}{rest}"


class Quarantine:
    """Writes refused resources, and counts them; a context manager.

    The file appears when all is written, under a temporary name until then. There is none if nothing was refused, and
    an old one of this name is removed.

    Parameters
    ----------
    path
        The NDJSON file to write.
    threshold
        Largest fraction of refused resources that is not an error.
    """

    def __init__(self, path: str | Path, threshold: float = 1.0) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"the threshold of the quarantine is {threshold}; use a fraction of 0 to 1")
        self.path, self.threshold = Path(path), threshold
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self._file: BinaryIO | None = None
        self._accepted = 0
        self._kinds: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._examples: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
            self.require()
        else:
            self._discard()

    def accept(self, count: int = 1) -> None:
        """Count resources in which nothing is wrong."""
        self._accepted += count

    def refuse(self, refusal: Refusal) -> None:
        """Set a resource aside, or what could not be read."""
        self._kinds[refusal.kind] += 1
        self._reasons[f"{refusal.kind} {_element(refusal)}".rstrip()] += 1
        if len(self._examples) < EXAMPLES:
            line = f", line {refusal.line}" if refusal.line else ""
            path = f", {refusal.path}" if refusal.path else ""
            self._examples.append(f"{refusal.file}{line}{path}: {refusal.reason}")
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._temporary.open("wb")
        self._file.write(orjson.dumps(refusal._asdict(), default=str, option=orjson.OPT_APPEND_NEWLINE))

    @property
    def summary(self) -> Summary:
        """The counts so far."""
        refused = self._kinds.total()
        file = str(self.path) if refused else None
        most = dict(self._reasons.most_common())
        return Summary(self._accepted + refused, refused, dict(self._kinds.most_common()), most, file)

    def close(self) -> None:
        """Give the file its name."""
        if self._file is None:
            self.path.unlink(missing_ok=True)
        else:
            self._file.close()
            self._file = None
            os.replace(self._temporary, self.path)

    def require(self) -> None:
        """Raise if more was refused than the threshold allows.

        Raises
        ------
        QuarantineError
            With the counts, the file and the first problems.
        """
        summary = self.summary
        if summary.fraction > self.threshold:
            counts = ", ".join(f"{count} {reason}" for reason, count in list(summary.reasons.items())[:10])
            raise QuarantineError(
                f"{summary.refused} of {summary.read} resources were refused, more than {self.threshold:.1%} "
                f"({counts}); all of them are in {summary.file}, the first: {'; '.join(self._examples)}"
            )

    def _discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        self._temporary.unlink(missing_ok=True)


def _element(refusal: Refusal) -> str:
    """Resource type and element, without indexes: what refused resources have in common."""
    kind = (refusal.resource or {}).get("resourceType", "")
    path = re.sub(r"\[\d+\]", "", refusal.path)
    inside = path.rpartition("Bundle.entry.resource")[2]
    return f"{kind}{inside}" if path != inside else path
