"""Survival analysis that equals the pooled one: the exact Cox model and descriptive curves, from sums over centers."""

from federation.survival.cox import FitCox, cox_fit
from federation.survival.curves import FitCurves, curves_of, log_rank_of

__all__ = ["FitCox", "FitCurves", "cox_fit", "curves_of", "log_rank_of"]
