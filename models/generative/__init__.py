"""Models that generate patients, and what they are made of. Usable on one table."""

from models.generative.bayesian_network import BayesianNetwork, FittedNetwork
from models.generative.ctgan import CTGANModel, CTGANOptions, FittedCTGAN
from models.generative.drawing import PatientGenerator, with_center, without_center
from models.generative.search import SearchOptions
from models.generative.survival_law import LawOptions, SurvivalLaw
from models.generative.vae_bgm import VAEBGM, FittedVAEBGM, VAEBGMOptions
from models.generative.variational_mixture import FittedMixture, MixtureOptions, fit_mixture

__all__ = [
    "VAEBGM",
    "BayesianNetwork",
    "CTGANModel",
    "CTGANOptions",
    "FittedCTGAN",
    "FittedMixture",
    "FittedNetwork",
    "FittedVAEBGM",
    "LawOptions",
    "MixtureOptions",
    "PatientGenerator",
    "SearchOptions",
    "SurvivalLaw",
    "VAEBGMOptions",
    "fit_mixture",
    "with_center",
    "without_center",
]
