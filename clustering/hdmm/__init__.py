"""The hierarchical Dirichlet process mixture of multinomials on binary lesions, as the field publishes it."""

from clustering.hdmm.sampler import HDMMSampler
from clustering.hdmm.tokens import Tokens

__all__ = ["HDMMSampler", "Tokens"]
