"""The conditional-Bernoulli Dirichlet mixture: which lesions a patient has, given how many, by component."""

from clustering.mixture.sampler import MixtureSampler

__all__ = ["MixtureSampler"]
