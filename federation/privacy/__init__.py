"""Privacy beyond the wall: sums that nobody sees the terms of."""

from federation.privacy.fixed_point import FixedPoint
from federation.privacy.secure import SecureAggregation

__all__ = ["FixedPoint", "SecureAggregation"]
