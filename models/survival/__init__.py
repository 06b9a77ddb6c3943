"""Survival models: linear Cox and DeepSurv, their likelihood, baseline hazard and metrics."""
