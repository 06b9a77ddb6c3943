"""Survival analysis that equals the pooled one: the exact Cox model and descriptive curves, from sums over centers."""

from federation.survival.cox import FitCox, cox_fit

__all__ = ["FitCox", "cox_fit"]
