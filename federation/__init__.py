"""Floor 3: federated algorithms. Plain Python, no Ray: the loop, contributions, the center's wall, strategies."""

from federation.algorithm import Algorithm, Roster, build, register, rounds, run
from federation.averaging import ParameterAveraging, Selection, result, validation_metrics
from federation.baseline import FitBaseline
from federation.buffered import BufferedAveraging
from federation.center import Center, Question
from federation.checkpoint import Checkpoint, load_state, save_state
from federation.conformance import CompareCenters
from federation.contribution import Contribution
from federation.explanation import PartialDependence, PermutationImportance
from federation.generative import FitBayesianNetwork, FitColumnMixtures, FitMixture, mixture_of, network_of
from federation.in_process import InProcessFederation
from federation.memory import Memory
from federation.patients import Patients
from federation.pca import FitPCA
from federation.policy import DisclosurePolicy, Refused
from federation.preprocessing import FitPreprocessor, FitTimeGrid, preprocessor_of
from federation.privacy.dp.statistics import Noisy
from federation.privacy.dp.training import PrivateAveraging, PrivateGradients
from federation.quorum import Quorum, QuorumError
from federation.robust_averaging import RobustAveraging
from federation.splits import Split
from federation.state import State
from federation.strategies import STRATEGIES, Strategy, build_strategy
from federation.stratification import FederatedMixture, PrivateMixture
from federation.survival import FitCox, FitCurves, cox_fit, curves_of, log_rank_of

__all__ = [
    "STRATEGIES",
    "Algorithm",
    "BufferedAveraging",
    "Center",
    "Checkpoint",
    "CompareCenters",
    "Contribution",
    "DisclosurePolicy",
    "FederatedMixture",
    "FitBaseline",
    "FitBayesianNetwork",
    "FitColumnMixtures",
    "FitCox",
    "FitCurves",
    "FitMixture",
    "FitPCA",
    "FitPreprocessor",
    "FitTimeGrid",
    "InProcessFederation",
    "Memory",
    "Noisy",
    "ParameterAveraging",
    "PartialDependence",
    "Patients",
    "PermutationImportance",
    "PrivateAveraging",
    "PrivateGradients",
    "PrivateMixture",
    "Question",
    "Quorum",
    "QuorumError",
    "Refused",
    "RobustAveraging",
    "Roster",
    "Selection",
    "Split",
    "State",
    "Strategy",
    "build",
    "build_strategy",
    "cox_fit",
    "curves_of",
    "load_state",
    "log_rank_of",
    "mixture_of",
    "network_of",
    "preprocessor_of",
    "register",
    "result",
    "rounds",
    "run",
    "save_state",
    "validation_metrics",
]
