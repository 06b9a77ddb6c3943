"""The conditional-Bernoulli Dirichlet mixture: which lesions a patient has, given how many, by component."""

from clustering.mixture.estimator import ConditionalBernoulliMixture
from clustering.mixture.sampler import MixtureSampler
from clustering.mixture.tempering import TemperedMixtureSampler, geometric_heats

__all__ = ["ConditionalBernoulliMixture", "MixtureSampler", "TemperedMixtureSampler", "geometric_heats"]
