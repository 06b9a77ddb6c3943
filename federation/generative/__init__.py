"""Generative models over centers: a Bayesian network and Gaussian mixtures, equal to those of the pooled patients."""

from federation.generative.bayesian_network import FitBayesianNetwork, network_of
from federation.generative.survival_law import fit_survival_law
from federation.generative.variational_mixture import FitColumnMixtures, FitMixture, MixtureAlgorithm, mixture_of

__all__ = [
    "FitBayesianNetwork",
    "FitColumnMixtures",
    "FitMixture",
    "MixtureAlgorithm",
    "fit_survival_law",
    "mixture_of",
    "network_of",
]
