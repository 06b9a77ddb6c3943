"""The conditional-Bernoulli Dirichlet mixture: which lesions a patient has, given how many, by component."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clustering.mixture.sampler import MixtureSampler
from clustering.mixture.tempering import TemperedMixtureSampler, geometric_heats

if TYPE_CHECKING:
    from clustering.mixture.estimator import ConditionalBernoulliMixture

__all__ = ["ConditionalBernoulliMixture", "MixtureSampler", "TemperedMixtureSampler", "geometric_heats"]


def __getattr__(name: str) -> Any:
    """The estimator is imported when asked for: the processes of centers need no scikit-learn."""
    if name == "ConditionalBernoulliMixture":
        from clustering.mixture.estimator import ConditionalBernoulliMixture

        return ConditionalBernoulliMixture
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
