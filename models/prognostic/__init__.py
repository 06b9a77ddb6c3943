"""Published prognostic scores that clinicians use, each from its publication, computed for a whole table at once."""

from models.prognostic.cpss import CPSS
from models.prognostic.cpss_mol import CPSS_MOL
from models.prognostic.eln_2017 import ELN_2017
from models.prognostic.eln_2022 import ELN_2022
from models.prognostic.ipss_m import IPSS_M
from models.prognostic.ipss_r import IPSS_R
from models.prognostic.iss import ISS
from models.prognostic.r2_iss import R2_ISS
from models.prognostic.r_iss import R_ISS
from models.prognostic.score import Input, Score, ScoreError

SCORES = {score.name: score for score in (IPSS_R, IPSS_M, ELN_2017, ELN_2022, CPSS, CPSS_MOL, ISS, R_ISS, R2_ISS)}
"""All of them, by name."""

__all__ = [
    "CPSS",
    "CPSS_MOL",
    "ELN_2017",
    "ELN_2022",
    "IPSS_M",
    "IPSS_R",
    "ISS",
    "R2_ISS",
    "R_ISS",
    "SCORES",
    "Input",
    "Score",
    "ScoreError",
]
