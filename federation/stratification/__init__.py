"""Genomic stratification without pooling: an exact sampler of the conditional-Bernoulli mixture, as a federation."""

from federation.stratification.memberships import Memberships
from federation.stratification.mixture import SCALARS, FederatedMixture, lesions, trace

__all__ = ["SCALARS", "FederatedMixture", "Memberships", "lesions", "trace"]
