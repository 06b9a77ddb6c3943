"""Generative models over centers: a Bayesian network and Gaussian mixtures, equal to those of the pooled patients, and
VAE-BGM and CTGAN, whose networks are averaged."""

from federation.generative.bayesian_network import FitBayesianNetwork, network_of
from federation.generative.ctgan import FitCTGAN, fit_ctgan
from federation.generative.heldout import JudgeHeldout, SumHeldout
from federation.generative.steps import RunTask
from federation.generative.survival_law import fit_survival_law
from federation.generative.vae_bgm import FitEncoding, FitLatentMixture, encoding_of, fit_vae_bgm
from federation.generative.variational_mixture import FitColumnMixtures, FitMixture, MixtureAlgorithm, mixture_of

__all__ = [
    "FitBayesianNetwork",
    "FitCTGAN",
    "FitColumnMixtures",
    "FitEncoding",
    "FitLatentMixture",
    "FitMixture",
    "JudgeHeldout",
    "MixtureAlgorithm",
    "RunTask",
    "SumHeldout",
    "encoding_of",
    "fit_ctgan",
    "fit_survival_law",
    "fit_vae_bgm",
    "mixture_of",
    "network_of",
]
