"""Laws of a time to an event, from what a network says of a patient: likelihood with censoring, survival, causes.

A head turns `size` numbers per patient into a law of the time. Times are in units of a scale that the caller fixes for
everybody (`models.survival.savae`), positive, and at an output of 0 every head is about the unit exponential law.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch.nn.functional import softplus

HeadName = Literal["weibull", "weibull_mixture", "lognormal", "piecewise"]

_ONE = math.log(math.e - 1)  # softplus(_ONE) = 1
_STEEP = 30.0


class TimeHead(ABC):
    """A family of laws of a positive time.

    Attributes
    ----------
    size
        Numbers per patient.
    """

    size: int

    @abstractmethod
    def logs(self, output: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log hazard and log survival at a time.

        Parameters
        ----------
        output
            Shape (..., size).
        time
            Positive; any shape that broadcasts with (...,).
        """

    def log_likelihood(self, output: torch.Tensor, time: torch.Tensor, event: torch.Tensor) -> torch.Tensor:
        """event · log h(t) + log S(t): the log density for an event, the log survival for censoring at t."""
        log_hazard, log_survival = self.logs(output, time)
        return event * log_hazard + log_survival

    def survival(self, output: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """S(t) at each of `times` (t,), shape (..., t); 1 at time 0."""
        _, log_survival = self.logs(output.unsqueeze(-2), times.clamp(min=torch.finfo(times.dtype).tiny))
        return torch.where(times > 0, log_survival.exp(), 1.0)


class WeibullHead(TimeHead):
    """Weibull law, S(t) = exp(−(t/λ)^α), by log λ and a number whose softplus is the shape α.

    Every α > 0 can be reached. Softplus grows like its argument for large shapes, so that no step of an optimizer
    multiplies the shape.
    """

    size = 2

    def logs(self, output: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """log h = log α − log λ + (α − 1)·log(t/λ), log S = −(t/λ)^α."""
        log_scale, raw = output[..., 0], output[..., 1]
        shape = softplus(raw + _ONE)
        log_ratio = time.log() - log_scale
        return shape.log() - log_scale + (shape - 1) * log_ratio, -_exp(shape * log_ratio)


class WeibullMixtureHead(TimeHead):
    """Mixture of Weibull laws: a log weight (up to a constant) and a Weibull law's two numbers for each component.

    At an output of 0 all components would be the same, and their gradients too; so they start with scales
    between e^−½ and e^½.
    """

    def __init__(self, components: int) -> None:
        self.components = components
        self.size = 3 * components
        self._component = WeibullHead()

    def logs(self, output: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From f = Σ πₖ fₖ and S = Σ πₖ Sₖ: log h = log f − log S."""
        weights, scales, shapes = torch.split(output, self.components, dim=-1)
        start = torch.linspace(-0.5, 0.5, self.components).to(output) if self.components > 1 else output.new_zeros(1)
        log_hazard, log_survival = self._component.logs(torch.stack([scales + start, shapes], -1), time.unsqueeze(-1))
        joint = weights.log_softmax(-1) + log_survival
        log_alive = torch.logsumexp(joint, -1)
        return torch.logsumexp(joint + log_hazard, -1) - log_alive, log_alive


class LogNormalHead(TimeHead):
    """Log-normal law: log t has the mean of the first number, and the softplus of the second as standard deviation."""

    size = 2

    def logs(self, output: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """With z = (log t − μ)/σ: log S = log Φ(−z), log h = log φ(z) − log σ − log t − log S."""
        sd = softplus(output[..., 1] + _ONE)
        log_time = time.log()
        z = (log_time - output[..., 0]) / sd
        log_survival = torch.special.log_ndtr(-z)
        return -0.5 * (z * z + math.log(2 * math.pi)) - sd.log() - log_time - log_survival, log_survival


class PiecewiseExponentialHead(TimeHead):
    """A hazard that is constant between cut points: its logarithm in each piece.

    Parameters
    ----------
    cuts
        Increasing and positive; the last piece has no end.
    """

    def __init__(self, cuts: Sequence[float]) -> None:
        self.cuts = tuple(float(c) for c in cuts)
        if list(self.cuts) != sorted(set(self.cuts)) or (self.cuts and not self.cuts[0] > 0):
            raise ValueError(f"cuts are {list(cuts)}; they are positive and increasing")
        self.size = len(self.cuts) + 1

    def logs(self, output: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """log S = −Σ hazard · time spent in the piece."""
        begins = output.new_tensor([0.0, *self.cuts])
        lengths = output.new_tensor([b - a for a, b in zip((0.0, *self.cuts[:-1]), self.cuts, strict=True)])
        within = time.unsqueeze(-1)
        spent = torch.cat([torch.minimum((within - begins[:-1]).clamp(min=0), lengths), within - begins[-1:]], -1)
        begun = within > begins  # a time at a cut belongs to the piece before
        here = begun & ~torch.cat([begun[..., 1:], torch.zeros_like(begun[..., :1])], -1)
        return (output * here).sum(-1), -(_exp(output) * spent.clamp(min=0)).sum(-1)


class CompetingRisksHead:
    """A law of the time to each cause, of which the first to happen is seen.

    Parameters
    ----------
    causes
        One head per cause; cause j (1, 2, …) is the j-th.

    Notes
    -----
    What is estimated are the cause-specific hazards; they are identified by what is observed. That the latent times are
    independent given the output is a way of writing the likelihood, which depends on the hazards alone (Prentice 1978).
    Given a latent variable that the causes share, their times are dependent for a patient.

    References
    ----------
    Prentice et al. (1978), Biometrics 34:541.
    """

    def __init__(self, causes: Sequence[TimeHead]) -> None:
        if not causes:
            raise ValueError("name at least one cause")
        self.causes = tuple(causes)
        self.size = sum(head.size for head in causes)

    def _each(self, output: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Log hazard and log survival of each cause, stacked last."""
        parts = torch.split(output, [head.size for head in self.causes], dim=-1)
        found = [head.logs(part, time) for head, part in zip(self.causes, parts, strict=True)]
        return torch.stack([h for h, _ in found], -1), torch.stack([s for _, s in found], -1)

    def log_likelihood(self, output: torch.Tensor, time: torch.Tensor, cause: torch.Tensor) -> torch.Tensor:
        """Σⱼ 1(cause = j)·log hⱼ(t) + log Sⱼ(t); `cause` holds 0 for censoring."""
        log_hazards, log_survivals = self._each(output, time)
        numbers = torch.arange(1, len(self.causes) + 1, device=output.device)
        mine = (cause.unsqueeze(-1) == numbers).to(output.dtype)
        return (mine * log_hazards + log_survivals).sum(-1)

    def survival(self, output: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Probability that nothing has happened, shape (..., t)."""
        _, log_survivals = self._each(output.unsqueeze(-2), times.clamp(min=torch.finfo(times.dtype).tiny))
        return torch.where(times > 0, log_survivals.sum(-1).exp(), 1.0)

    def incidence(self, output: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        """Cumulative incidence Fⱼ(t) = ∫₀ᵗ hⱼ S of each cause, shape (..., causes, t).

        Between two neighbouring `times` (increasing; the first from 0) the probability of an event, S(a) − S(b), is
        exact, and is divided among the causes as their cumulative hazards there: exact where hazards keep their
        proportions within a step. So the incidences and the survival add up to 1.
        """
        _, log_survivals = self._each(output.unsqueeze(-2), times.clamp(min=torch.finfo(times.dtype).tiny))
        log_survivals = torch.where((times > 0).unsqueeze(-1), log_survivals, 0.0)
        before = torch.cat([torch.zeros_like(log_survivals[..., :1, :]), log_survivals[..., :-1, :]], -2)
        hazards = before - log_survivals
        total = hazards.sum(-1, keepdim=True)
        happened = before.sum(-1, keepdim=True).exp() * -torch.expm1(-total)
        share = torch.where(total > 0, hazards / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)
        return (happened * share).cumsum(-2).transpose(-1, -2)


def build_head(name: str, components: int = 3, cuts: Sequence[float] = ()) -> TimeHead:
    """A head by name.

    Parameters
    ----------
    name
        ``weibull``, ``weibull_mixture`` (of `components`), ``lognormal`` or ``piecewise`` (exponential, at `cuts`).

    Raises
    ------
    ValueError
        If the name is unknown or a number is impossible.
    """
    if components < 1:
        raise ValueError(f"components is {components}; a mixture has at least one")
    heads: dict[str, Callable[[], TimeHead]] = {
        "weibull": WeibullHead,
        "weibull_mixture": lambda: WeibullMixtureHead(components),
        "lognormal": LogNormalHead,
        "piecewise": lambda: PiecewiseExponentialHead(cuts),
    }
    if name not in heads:
        raise ValueError(f"head is {name!r}; use one of {', '.join(heads)}")
    return heads[name]()


def _exp(x: torch.Tensor) -> torch.Tensor:
    """exp(x), going on in a straight line where it would overflow in float32: a survival of exp(−1e13) is 0 anyhow, and
    the gradient still points back."""
    return x.clamp(max=_STEEP).exp() * (1 + (x - _STEEP).clamp(min=0))
