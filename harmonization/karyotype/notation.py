"""What a karyotype says: clones, and the abnormalities of each, in the terms of the ISCN (2016, 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

AUTOSOMES = tuple(str(number) for number in range(1, 23))
CHROMOSOMES = (*AUTOSOMES, "X", "Y")


class KaryotypeError(ValueError):
    """A text is no karyotype.

    Parameters
    ----------
    text
        The whole text.
    position
        0-based index of the first character that does not fit.
    expected
        What should stand there.
    """

    def __init__(self, text: str, position: int, expected: str) -> None:
        found = repr(text[position : position + 12]) if position < len(text) else "the end"
        super().__init__(
            f"karyotype {text!r}, character {position + 1}: {found} where {expected} is expected; "
            "correct it in the source, or give it as missing with a reason"
        )
        self.text, self.position, self.expected = text, position, expected

    def __reduce__(self) -> tuple[object, ...]:
        return (KaryotypeError, (self.text, self.position, self.expected))


@dataclass(frozen=True, slots=True)
class Abnormality:
    """One item of a clone's list.

    Parameters
    ----------
    kind
        ``gain`` and ``loss`` of a whole chromosome; otherwise the ISCN symbol: ``del``, ``dup``, ``inv``, ``t``,
        ``der``, ``add``, ``i``, ``idic``, ``dic``, ``ins``, ``mar``, ``r``, ``dmin``, ``hsr``, ...
    chromosomes
        In the order written, ``"?"`` where unknown; empty for markers.
    breaks
        Breakpoints of each chromosome (``"q13"``), an empty tuple where none is given.
    parts
        What a derivative chromosome is made of: its translocations, deletions, ...
    sign
        1 for an additional chromosome (``+der(1)``), -1 for one that is lost again (``-mar`` after ``idem``).
    copies
        How often, lowest and highest: ``+1~3mar`` is (1, 3).
    label
        Distinguishes markers: ``mar1``.
    cells
        Cells with this abnormality, if a composite karyotype gives them one by one.
    uncertain
        Marked by ``?``, or by ``or``.
    constitutional
        Marked by ``c``, or a heteromorphism: inborn, no part of the disease.
    """

    kind: str
    chromosomes: tuple[str, ...] = ()
    breaks: tuple[tuple[str, ...], ...] = ()
    parts: tuple[Abnormality, ...] = ()
    sign: int = 0
    copies: tuple[int, int] = (1, 1)
    label: str = ""
    cells: int | None = field(default=None, compare=False)
    uncertain: bool = field(default=False, compare=False)
    constitutional: bool = field(default=False, compare=False)

    @property
    def identity(self) -> Abnormality:
        """Equal for the same abnormality in two clones, however often each has it."""
        return replace(self, copies=(1, 1))

    def with_parts(self) -> Iterator[Abnormality]:
        """The abnormality and what it is made of."""
        yield self
        for part in self.parts:
            yield from part.with_parts()

    def arms(self, chromosome: str) -> set[str]:
        """Arms of a chromosome with a breakpoint here (not in its parts): of ``p`` and ``q``."""
        pairs = zip(self.chromosomes, self.breaks, strict=True)
        return {band[0] for name, bands in pairs if name == chromosome for band in bands if band[0] in "pq"}

    def bands(self, chromosome: str) -> tuple[str, ...]:
        """Breakpoints on a chromosome."""
        pairs = zip(self.chromosomes, self.breaks, strict=True)
        return tuple(band for name, bands in pairs if name == chromosome for band in bands)


@dataclass(frozen=True, slots=True)
class Clone:
    """Cells with the same karyotype.

    Parameters
    ----------
    chromosomes
        Lowest and highest number of chromosomes.
    sex
        Sex chromosomes as written: ``XY``, ``X``, ``XXYY``; empty if it is not written.
    abnormalities
        All of them, those of the stemline (``idem``, ``sl``) included.
    cells
        Number of cells, None if not given.
    composite
        Whether the cells do not all have all abnormalities (``cp``).
    """

    chromosomes: tuple[int, int]
    sex: str
    abnormalities: tuple[Abnormality, ...]
    cells: int | None = None
    composite: bool = False

    @property
    def polyploid(self) -> bool:
        """Near-triploid or more: 58 chromosomes and above (ISCN 8.1)."""
        return self.chromosomes[0] >= 58


@dataclass(frozen=True, slots=True)
class Karyotype:
    """The result of a chromosome analysis.

    Parameters
    ----------
    text
        As it was reported.
    clones
        In the order reported; none if the analysis failed or was not done.
    unread
        Results of other methods in the same text (``ish``, ``nuc ish``, ``arr``), which are kept but not interpreted.
    incomplete
        Marked by ``inc``: there are further abnormalities that could not be described.
    """

    text: str
    clones: tuple[Clone, ...]
    unread: str = ""
    incomplete: bool = False
    failed: bool = False

    @property
    def cells(self) -> int | None:
        """Metaphases analysed, None if a clone has no count."""
        counts = [clone.cells for clone in self.clones]
        return None if not counts or None in counts else sum(c for c in counts if c is not None)
