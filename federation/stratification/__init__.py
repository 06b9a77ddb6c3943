"""Genomic stratification without pooling: an exact sampler of the conditional-Bernoulli mixture, as a federation."""

from federation.stratification.memberships import Memberships
from federation.stratification.mixture import SCALARS, FederatedMixture, lesions, trace
from federation.stratification.private_mixture import PrivateMixture

__all__ = ["SCALARS", "FederatedMixture", "Memberships", "PrivateMixture", "lesions", "trace"]
