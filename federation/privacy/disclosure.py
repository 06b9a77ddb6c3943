"""Disclosure control: a center's own policy, and what it means for a question and for an answer.

The rules are those of DataSHIELD (dsBase: smallest cell, parameters per patient), of ACRO (thresholds, differencing)
and of table suppression (Hundepool et al. 2012, Statistical Disclosure Control, section 4.4): a cell that is too small
is hidden, and with it others, lest the total give it away. Every refusal names its rule; the center then abstains, and
the round goes on without it as without any other that does not answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from federation.contribution import Contribution, Floats
from federation.kinds import ADDITIVE, Kind, kind_of
from federation.policy import DisclosurePolicy, Refused
from federation.state import file_name
from harmonization import Schema

POLICY, LEDGERS = "HAEMFED_POLICY", "HAEMFED_LEDGERS"
"""Environment variables of a center's node: its own policy file, or a directory with one for each center
(``Ulm.yaml``); and the directory of its ledgers."""

USUAL_LEDGERS = "~/.haemfed/ledgers"
"""Where ledgers are that outlive a run, if the node does not say."""

NO_RULES = DisclosurePolicy(min_patients=0, max_bytes=sys.maxsize, max_delta=1.0, secure_noise=False, simulation=True)
"""Of which any other policy is stricter."""


class PolicyError(ValueError):
    """A center's policy file is wrong; the message names file and field."""


@dataclass(frozen=True)
class OwnPolicy:
    """What a center's own file says.

    Parameters
    ----------
    policy
        Its rules; those of the federation hold too.
    ledger
        Directory of the ledgers of this operator's centers, kept over all runs; None if the operator names none.
    """

    policy: DisclosurePolicy = NO_RULES
    ledger: Path | None = None

    @classmethod
    def read(cls, path: Path) -> OwnPolicy:
        """From a YAML file: fields of `DisclosurePolicy`, and ``ledger``.

        Raises
        ------
        PolicyError
            If the file cannot be read or says what is no rule: a center without its rules does not start.
        """
        try:
            said = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise PolicyError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from None
        if not isinstance(said, dict):
            raise PolicyError(f"{path}: holds no rules; write for instance 'min_patients: 10'")
        ledger = said.pop("ledger", None)
        if ledger is not None and not isinstance(ledger, str):
            raise PolicyError(f"{path}: ledger is {ledger!r}; give the path of a directory")
        try:
            # Who writes rules means them for patients, whatever the federation says of a simulation.
            policy = TypeAdapter(DisclosurePolicy).validate_python({**asdict(NO_RULES), "simulation": False, **said})
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "policy"
            raise PolicyError(f"{path}: {where}: {first['msg']} (it says {first['input']!r})") from None
        return cls(policy, None if ledger is None else path.parent / ledger)

    @classmethod
    def of_this_node(cls, center: str) -> OwnPolicy:
        """What the operator of this machine has set (`POLICY`, `LEDGERS`); no rules of its own if nothing is set.

        Raises
        ------
        PolicyError
            If the file is wrong, or there is a directory of them and none is this center's: it may be misspelt.
        """
        said, ledgers = os.environ.get(POLICY, ""), os.environ.get(LEDGERS, "")
        path = Path(said)
        if said and path.is_dir():
            path /= f"{file_name(center)}.yaml"
            if not path.exists():
                raise PolicyError(f"{path}: there is no policy of {center!r}; write one, {{}} for no rules of its own")
        own = cls.read(path) if said else cls()
        return own if own.ledger or not ledgers else replace(own, ledger=Path(ledgers).expanduser().absolute())

    def keeping(self, federation: DisclosurePolicy, run: Path | None) -> OwnPolicy:
        """With the directory of its ledgers.

        The one that the operator named; else, if a rule counts what was answered before and nobody calls this a
        simulation, `USUAL_LEDGERS`, so that no run begins anew; else one within the run.

        Parameters
        ----------
        federation
            Its rules.
        run
            Directory of the run; None keeps ledgers of a run in memory.
        """
        if self.ledger is not None:
            return self
        rules = self.policy.stricter(federation)
        if rules.counts and not rules.simulation:
            return replace(self, ledger=Path(USUAL_LEDGERS).expanduser())
        return replace(self, ledger=None if run is None else run / "ledger")


def require_declared(cuts: Mapping[str, Sequence[float]], schema: Schema) -> None:
    """Raise Refused unless the schema declares the ends of all groups in which patients are to be counted."""
    declared = {feature.name: feature.edges for feature in schema.features}
    for name, asked in cuts.items():
        for cut in asked:
            if cut not in declared.get(name, ()):
                there = ", ".join(f"{edge:g}" for edge in declared.get(name, ())) or "none"
                raise Refused(
                    f"rule declared_edges: patients are to be counted by {name!r} up to {cut:.6g}; the schema declares "
                    f"{there}"
                )


def release(
    policy: DisclosurePolicy, kinds: Mapping[str, Kind], contribution: Contribution
) -> tuple[Contribution, dict[str, int]]:
    """What may leave of an answer, and how many cells of which array were suppressed.

    Raises
    ------
    Refused
        If nothing may.
    """
    found = {name: kind_of(kinds, name) for name in contribution}
    for name, kind in found.items():
        if policy.declared_only and (kind is None or kind.what not in ADDITIVE):
            said = "of no declared kind" if kind is None else f"a {kind.what}"
            raise Refused(f"rule declared_only: {name!r} is {said}; only {', '.join(ADDITIVE)} leave")
        if policy.max_parameters_per_patient is not None and kind is not None and kind.what == "model":
            size = contribution[name].shape[-1] if contribution[name].ndim else 1
            if size > policy.max_parameters_per_patient * contribution.patients:
                raise Refused(
                    f"rule max_parameters_per_patient: {name!r} is of {size} parameters, the policy allows "
                    f"{policy.max_parameters_per_patient:g} for each patient",
                    f"{contribution.patients} patients",
                )
    if policy.min_cell <= 1:
        return contribution, {}
    hidden: dict[str, NDArray[np.bool_]] = {}
    for name, kind in found.items():
        if kind is not None and kind.what == "count" and name not in hidden:
            own = suppress(contribution[name], policy.min_cell)
            rest = next((r for r, other in found.items() if other is not None and other.beside == name), None)
            if rest is not None:
                own, hidden[rest] = _suppress_with(contribution[name], contribution[rest], policy.min_cell)
            if kind.whole and own.any():
                raise Refused(
                    f"rule min_cell: {name!r} has cells of fewer than {policy.min_cell} patients, and the algorithm "
                    "cannot do without them",
                    f"{int(own.sum())} cells are too small or would give a small one away",
                )
            hidden[name] = own
    arrays: dict[str, Any] = {}
    for name, kind in found.items():
        out: Floats = contribution[name]
        mask = hidden.get(name)
        if kind is not None and kind.behind:
            behind = hidden.get(kind.behind)
            if behind is None or out.shape[: behind.ndim] != behind.shape:
                raise Refused(f"rule min_cell: {name!r} came without the counts {kind.behind!r} behind it")
            behind = np.broadcast_to(behind.reshape(behind.shape + (1,) * (out.ndim - behind.ndim)), out.shape)
            mask = behind if mask is None else mask | behind
        if mask is not None and mask.any():
            hidden[name] = mask
            out = np.where(mask, 0.0, out)
        arrays[name] = out
    return Contribution.of(contribution.patients, arrays), {n: int(m.sum()) for n, m in hidden.items() if m.any()}


def _suppress_with(counts: Floats, rest: Floats, least: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """`suppress` of a table and of the one count that is not in it, in a line of its own."""
    line = np.zeros_like(counts[:1])
    line.flat[0] = rest
    own = suppress(np.concatenate([counts, line]), least)
    return own[:-1], own[-1].flat[0].reshape(np.shape(rest))


def suppress(counts: Floats, least: int) -> NDArray[np.bool_]:
    """Which cells of a table are not shown.

    Primary: cells of 1 to ``least`` - 1 patients. Secondary: where the hidden cells of a line (along any axis, or of
    the whole table) are one, or together fewer than ``least``, the smallest shown cell is hidden too, again and again,
    so that a known total gives no hidden cell away. A hidden cell looks like an empty one.

    Parameters
    ----------
    counts
        Patients by cell, of any shape; not negative.

    Returns
    -------
    array
        True where hidden, of the same shape.
    """
    table = np.atleast_1d(counts)
    hidden: NDArray[np.bool_] = (table > 0) & (table < least)
    changed = bool(hidden.any())
    while changed:
        changed = False
        for axis in [*(range(table.ndim) if table.ndim > 1 else ()), None]:  # None: all cells as one line
            turned, length = (table, table.size) if axis is None else (np.moveaxis(table, axis, -1), table.shape[axis])
            lines = turned.reshape(-1, length)
            mine = (hidden if axis is None else np.moveaxis(hidden, axis, -1)).reshape(lines.shape)
            number, behind = mine.sum(axis=1), np.where(mine, lines, 0.0).sum(axis=1)
            shown = np.where(mine | (lines <= 0), np.inf, lines)
            smallest = shown.argmin(axis=1)
            weak = (number > 0) & ((number < 2) | (behind < least)) & np.isfinite(shown.min(axis=1))
            if weak.any():
                wider = mine.copy()
                wider[np.flatnonzero(weak), smallest[weak]] = True
                back: NDArray[np.bool_] = wider.reshape(turned.shape)
                hidden = back if axis is None else np.moveaxis(back, -1, axis)
                changed = True
    return hidden.reshape(np.shape(counts))
