"""What kind of thing each array of an answer is: an algorithm says so, and a center's rules go by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

ADDITIVE = ("sum", "count", "model")
"""What may leave a center. Minima, maxima, quantiles and single values are of patients, not of sums over them."""


@dataclass(frozen=True)
class Kind:
    """Kind of an array.

    Parameters
    ----------
    what
        ``sum`` over patients; ``count`` of patients by cell; ``model``: a gradient, a change of a model's parameters or
        a matrix over them, as many as its last axis is long. Anything else (``maximum``, ``quantile``, ``value``) is
        said by who is honest, and does not leave a center.
    behind
        Name of the array that counts the patients behind each entry of this one (of its leading axes): what is
        suppressed there is zero here.
    beside
        Of one count: name of the counts that make up all patients with it. It is suppressed as one cell more of theirs,
        since the number of patients is known.
    whole
        Of counts: the algorithm is wrong if some are left out, so a small cell refuses the answer.
    """

    what: str
    behind: str = ""
    beside: str = ""
    whole: bool = False


SUM, COUNT, MODEL = Kind("sum"), Kind("count"), Kind("model")
WHOLE_COUNT = Kind("count", whole=True)


def declare(kinds: Mapping[str, Kind]) -> Mapping[str, Kind]:
    """What an algorithm says of its arrays, as a class attribute."""
    return dict(kinds)


def kind_of(kinds: Mapping[str, Kind], name: str) -> Kind | None:
    """The kind of an array; keys may be patterns (``family*``). None if nothing is said of it."""
    if name in kinds:
        return kinds[name]
    return next((kind for pattern, kind in kinds.items() if fnmatchcase(name, pattern)), None)
