"""Likelihoods of a table whose columns are of different kinds, missing values left out: what a decoder's output means.

Variational autoencoders share it: `Likelihoods` says how many numbers a decoder must give, scores patients under them,
and draws patients from them. A missing value has no term in the score; nothing is imputed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.functional import logsigmoid, softplus

VariableKind = Literal["gaussian", "lognormal", "bernoulli", "categorical", "count"]

LEAST_DEVIATION = 0.05
"""Standard deviations (of standardized values, or of logarithms) are at least this: a density would otherwise grow
without bound where a column repeats a value."""

_UNIT = math.log(math.expm1(1.0 - LEAST_DEVIATION))
"""What the positive parameters' outputs are shifted by, so that an output of 0 is a standard deviation of 1."""


@dataclass(frozen=True)
class Variable:
    """One variable of a design matrix, in one column or several.

    Parameters
    ----------
    kind
        ``gaussian``: mean and standard deviation of the column as it is. ``lognormal``: of the logarithm of the value,
        which must be positive. ``bernoulli``: a column of two values, of which the one above 0 is a success.
        ``categorical``: a column per category but the first, above 0 for patients in it. ``count``: a negative
        binomial by log mean and dispersion (at dispersion 0 the Poisson law), for whole numbers from 0 on.
    columns
        Positions in the design matrix: one, or a categorical variable's all.
    shift, scale
        The value is shift + scale · column: undoes standardization for ``lognormal`` and ``count``.
    """

    kind: VariableKind
    columns: tuple[int, ...]
    shift: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(VariableKind):
            raise ValueError(f"a variable's kind is {self.kind!r}; use one of {', '.join(get_args(VariableKind))}")
        object.__setattr__(self, "columns", tuple(int(c) for c in self.columns))
        if not self.columns or (len(self.columns) > 1 and self.kind != "categorical"):
            raise ValueError(f"a {self.kind} variable has columns {list(self.columns)}; only a categorical has several")
        if not self.scale > 0:
            raise ValueError(f"a variable's scale is {self.scale}; it must be positive")

    @property
    def size(self) -> int:
        """Numbers that a decoder gives for it."""
        return {"bernoulli": 1, "categorical": len(self.columns)}.get(self.kind, 2)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that ``Variable(**data)`` takes back."""
        return {**asdict(self), "columns": list(self.columns)}


class Likelihoods:
    """The joint log density of all variables, given a decoder's output.

    Columns of one kind are scored together; the variables are independent given the output.

    Parameters
    ----------
    variables
        They cover the columns 0 … p-1 of the design matrix, each once.

    Raises
    ------
    ValueError
        If they do not.

    References
    ----------
    Nazábal et al. (2020), Handling incomplete heterogeneous data using VAEs, Pattern Recognition 107:107501.
    """

    def __init__(self, variables: Sequence[Variable | Mapping[str, Any]]) -> None:
        self.variables = tuple(v if isinstance(v, Variable) else Variable(**v) for v in variables)
        covered = sorted(c for v in self.variables for c in v.columns)
        if covered != list(range(len(covered))):
            raise ValueError(f"the variables cover columns {covered}; each of 0 … {len(covered) - 1} once is needed")
        self.n_columns = len(covered)
        starts = [0]
        for v in self.variables:
            starts.append(starts[-1] + v.size)
        self.size = starts[-1]
        """Numbers that a decoder gives per patient."""
        self._groups = {k: g for k in get_args(VariableKind) if k != "categorical" and (g := self._group(k, starts))}
        self._categorical = [
            (torch.tensor(v.columns), slice(start, start + v.size))
            for v, start in zip(self.variables, starts, strict=False)
            if v.kind == "categorical"
        ]

    def _group(self, kind: str, starts: list[int]) -> _Group | None:
        chosen = [(v, start) for v, start in zip(self.variables, starts, strict=False) if v.kind == kind]
        if not chosen:
            return None
        first = torch.tensor([start for _, start in chosen])
        natural = kind in ("lognormal", "count")  # scored as values, not as columns
        return _Group(
            torch.tensor([v.columns[0] for v, _ in chosen]),
            first,
            first + (chosen[0][0].size - 1),
            torch.tensor([v.shift if natural else 0.0 for v, _ in chosen], dtype=torch.float64),
            torch.tensor([v.scale if natural else 1.0 for v, _ in chosen], dtype=torch.float64),
        )

    def log_density(self, output: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Log density of each patient's known values, shape (...,).

        Parameters
        ----------
        output
            Of a decoder, shape (..., size).
        x
            Design matrix, shape (..., p); NaN is missing.

        Returns
        -------
        tensor
            Of values for ``lognormal`` and ``count``, of standardized columns for ``gaussian``; 0 for a patient of whom
            nothing is known.
        """
        known = ~torch.isnan(x)
        filled = torch.where(known, x, 0.0)
        total = torch.zeros_like(output[..., 0])
        for kind, group in self._groups.items():
            columns = group.columns.to(x.device)
            terms = _DENSITIES[kind](*group.parameters(output), group.values(filled))
            total = total + torch.where(known[..., columns], terms, 0.0).sum(-1)
        for columns, place in self._categorical:
            columns = columns.to(x.device)
            terms = _categorical(output[..., place], filled[..., columns])
            total = total + torch.where(known[..., columns].all(-1), terms, 0.0)
        return total

    def sample(self, output: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Draw design matrices, shape (..., p); categories and successes are 1 against 0, other columns as in `x`."""
        x = output.new_zeros((*output.shape[:-1], self.n_columns))
        for kind, group in self._groups.items():
            values = _SAMPLERS[kind](*group.parameters(output), generator)
            x[..., group.columns.to(x.device)] = (values - group.shift.to(values)) / group.scale.to(values)
        for columns, place in self._categorical:
            x[..., columns.to(x.device)] = _draw_category(output[..., place], generator)
        return x


@dataclass(frozen=True)
class _Group:
    """Variables of one kind: column, first and last output, shift and scale of each."""

    columns: torch.Tensor
    first: torch.Tensor
    last: torch.Tensor
    shift: torch.Tensor
    scale: torch.Tensor

    def parameters(self, output: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return output[..., self.first.to(output.device)], output[..., self.last.to(output.device)]

    def values(self, x: torch.Tensor) -> torch.Tensor:
        return self.shift.to(x) + self.scale.to(x) * x[..., self.columns.to(x.device)]


def deviation(output: torch.Tensor) -> torch.Tensor:
    """A standard deviation from a decoder's output: softplus above `LEAST_DEVIATION`, 1 at 0."""
    return LEAST_DEVIATION + softplus(output + _UNIT)


def _size_parameter(output: torch.Tensor) -> torch.Tensor:
    """1 / dispersion; so near the Poisson law that differences of logarithms of Γ keep their digits in float32."""
    return 1 / softplus(output).clamp(min=1e-3)


def _gaussian(mean: torch.Tensor, raw: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    sd = deviation(raw)
    return -0.5 * ((x - mean) / sd) ** 2 - sd.log() - 0.5 * math.log(2 * math.pi)


def _lognormal(mean: torch.Tensor, raw: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    log_x = x.clamp(min=1e-30).log()  # only for what stands for a missing value
    return _gaussian(mean, raw, log_x) - log_x


def _bernoulli(logit: torch.Tensor, _: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return logsigmoid(torch.where(x > 0, logit, -logit))


def _count(log_mean: torch.Tensor, raw: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Negative binomial with mean m and variance m + m²·dispersion."""
    k, r = x.round().clamp(min=0), _size_parameter(raw)
    log_r = r.log()
    log_total = torch.logaddexp(log_r, log_mean)
    choose = torch.lgamma(k + r) - torch.lgamma(r) - torch.lgamma(k + 1)
    return choose + r * (log_r - log_total) + k * (log_mean - log_total)


def _categorical(logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The first category, which has no column, has logit 0."""
    normalizer = torch.logaddexp(torch.logsumexp(logits, -1), torch.zeros_like(logits[..., 0]))
    return torch.where(x > 0, logits, 0.0).sum(-1) - normalizer


def _normal(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _draw_gaussian(mean: torch.Tensor, raw: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return mean + deviation(raw) * _normal(mean, generator)


def _draw_lognormal(mean: torch.Tensor, raw: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return _draw_gaussian(mean, raw, generator).exp()


def _draw_bernoulli(logit: torch.Tensor, _: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.bernoulli(torch.sigmoid(logit), generator=generator)


def _draw_count(log_mean: torch.Tensor, raw: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A Poisson number whose mean is drawn from a gamma law."""
    r = _size_parameter(raw)
    gamma = torch._standard_gamma(r, generator=generator)
    return torch.poisson(gamma * log_mean.exp() / r, generator=generator)


def _draw_category(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """0/1 columns of all categories but the first."""
    full = torch.cat([torch.zeros_like(logits[..., :1]), logits], -1).softmax(-1)
    drawn = torch.multinomial(full.reshape(-1, full.shape[-1]), 1, generator=generator).reshape(full.shape[:-1])
    return nn.functional.one_hot(drawn, full.shape[-1])[..., 1:].to(logits.dtype)


_DENSITIES = {"gaussian": _gaussian, "lognormal": _lognormal, "bernoulli": _bernoulli, "count": _count}
_SAMPLERS = {
    "gaussian": _draw_gaussian,
    "lognormal": _draw_lognormal,
    "bernoulli": _draw_bernoulli,
    "count": _draw_count,
}
