"""Dropouts and the quorum: when a round counts although some centers did not answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from federation.contribution import Contribution

logger = logging.getLogger("haemfed")


class QuorumError(RuntimeError):
    """Too few centers answered to go on."""


@dataclass(frozen=True)
class Quorum:
    """When a round counts.

    Parameters
    ----------
    fraction
        Of the roster's centers that must answer.
    on_dropout
        ``continue`` without a center that does not answer, or ``stop`` at the first.
    min_centers
        Fewest centers in a sum; `DisclosurePolicy.min_centers` of the federation counts, too.
    """

    fraction: float = 0.5
    on_dropout: Literal["continue", "stop"] = "continue"
    min_centers: int = 1

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # in configurations

    def check(self, asked: int, dropouts: Mapping[str, str]) -> None:
        """Raise QuorumError unless the round counts."""
        names = by_reason(dropouts)
        if dropouts and self.on_dropout == "stop":
            raise QuorumError(f"stopped, as configured, since a center dropped out: {names}")
        if asked - len(dropouts) < self.fraction * asked:
            raise QuorumError(
                f"only {asked - len(dropouts)} of {asked} centers answered, the quorum is {self.fraction:g}: {names}"
            )


def require_answers(summed: Contribution, centers: int = 1, least: int = 1) -> None:
    """Raise QuorumError if every center withheld its answer, or the sum is over fewer centers than may be seen."""
    if not summed:
        raise QuorumError("no center has enough training patients to contribute; see policy.min_patients")
    if centers < least:
        raise QuorumError(f"rule min_centers: the sum is over {centers} centers, the policy wants {least}")


class DropoutLog:
    """Names each center that drops out, and why, in one line; the same reason is not repeated every round."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def note(self, dropouts: Mapping[str, str], round: int) -> None:
        """Log what is new."""
        new = {name: why for name, why in dropouts.items() if self.reasons.get(name) != why}
        for why in dict.fromkeys(new.values()):
            names = [name for name in new if new[name] == why]
            logger.warning("round %d: dropped out: %s", round, by_reason({name: why for name in names}))
        self.reasons.update(new)


def by_reason(dropouts: Mapping[str, str]) -> str:
    """One line: the reasons, each after the names of (at most five of) its centers."""
    parts = []
    for why in dict.fromkeys(dropouts.values()):
        names = [name for name in dropouts if dropouts[name] == why]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        parts.append(f"{', '.join(names[:5])}{more}: {why}")
    return "; ".join(parts)


def describe(error: BaseException) -> str:
    """An unexpected error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
