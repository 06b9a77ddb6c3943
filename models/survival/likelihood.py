"""Cox's partial likelihood with Breslow or Efron ties, optionally stratified, differentiable in torch.

References
----------
Cox (1972), J R Stat Soc B 34:187. Breslow (1974), Biometrics 30:89. Efron (1977), JASA 72:557.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Ties = Literal["breslow", "efron"]


@dataclass(frozen=True)
class RiskSets:
    """Everything about times, events and strata that the partial likelihood needs, computed once.

    Patients are laid out as one row per stratum, latest time first, so that a risk set is a prefix of its
    row; short rows are padded at the end. All tensors have shape (strata, longest stratum) unless noted.

    Parameters
    ----------
    order
        Position of each patient in the original arrays (0 in the padding).
    last
        Position in the row of the last patient with the same time: the end of the risk set.
    event
        1 where the patient had the event, 0 for censoring and padding.
    group
        Index of the patient's tie group (stratum and time), over the whole layout.
    fraction
        Efron's l/d for the l-th of d tied events; all zero for Breslow.
    """

    order: torch.Tensor
    last: torch.Tensor
    event: torch.Tensor
    group: torch.Tensor
    fraction: torch.Tensor

    @classmethod
    def of(
        cls,
        time: ArrayLike,
        event: ArrayLike,
        strata: ArrayLike | None = None,
        ties: Ties = "efron",
        dtype: torch.dtype = torch.float32,
    ) -> RiskSets:
        """Lay out patients by stratum and descending time.

        Parameters
        ----------
        time, event
            Shape (n,).
        strata
            Labels of shape (n,); one stratum by default.
        """
        t = np.asarray(time, dtype=np.float64)
        d = np.asarray(event, dtype=bool)
        n = len(t)
        row = np.zeros(n, dtype=np.int64) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
        by = np.lexsort((-t, row))  # row first, then latest time first
        row, t, d = row[by], t[by], d[by]
        sizes = np.bincount(row)
        column = np.arange(n) - np.repeat(np.cumsum(sizes) - sizes, sizes)

        new_group = np.ones(n, dtype=bool)
        new_group[1:] = (row[1:] != row[:-1]) | (t[1:] != t[:-1])
        group = np.cumsum(new_group) - 1
        ends = np.append(np.flatnonzero(new_group)[1:] - 1, n - 1)
        fraction = np.zeros(n)
        if ties == "efron":
            tied = np.bincount(group, weights=d)
            before = np.cumsum(d) - d  # events up to, not including, this patient
            rank = before - before[np.flatnonzero(new_group)][group]
            fraction = np.where(d, rank / np.maximum(tied[group], 1), 0.0)

        def lay_out(values: NDArray[np.generic], kind: torch.dtype) -> torch.Tensor:
            table = np.zeros((len(sizes), sizes.max()), dtype=values.dtype)
            table[row, column] = values
            return torch.as_tensor(table, dtype=kind)

        return cls(
            lay_out(by, torch.int64),
            lay_out(column[ends[group]], torch.int64),
            lay_out(d, dtype),
            lay_out(group, torch.int64),
            lay_out(fraction, dtype),
        )


def log_partial_likelihood(log_hazard: torch.Tensor, risk_sets: RiskSets) -> torch.Tensor:
    """Log partial likelihood, summed over events and strata.

    Parameters
    ----------
    log_hazard
        Log relative hazard of each patient, shape (n,).

    Returns
    -------
    scalar tensor
        0 if there is no event.

    Notes
    -----
    With strata the value is that of the *stratified* Cox model: one baseline hazard per stratum. The sum over
    centers of each center's own partial likelihood is the stratified likelihood with centers as strata, not the
    pooled one: it estimates the same hazard ratios while letting each hospital keep its own baseline hazard.
    """
    eta = log_hazard[risk_sets.order]
    log_risk = torch.logcumsumexp(eta, dim=-1).gather(-1, risk_sets.last)
    share = risk_sets.event * torch.exp(eta - log_risk)  # of the risk set's hazard that events carry
    tied = torch.zeros(share.numel(), dtype=share.dtype, device=share.device)
    tied = tied.index_add(0, risk_sets.group.flatten(), share.flatten())[risk_sets.group]
    denominator = log_risk + torch.log1p(-risk_sets.fraction * tied)
    return (risk_sets.event * (eta - denominator)).sum()
