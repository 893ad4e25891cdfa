"""Two scans aligned by what is seen in them: MIND, or features of a lifted network. Pure torch, CPU and GPU."""

from featlift.registration.convex_adam import ConvexAdam, convex_adam
from featlift.registration.mind import mind

__all__ = ["ConvexAdam", "convex_adam", "mind"]
