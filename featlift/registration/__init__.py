"""Two scans aligned by what is seen in them: MIND, or features of a lifted network. Pure torch, CPU and GPU."""

from featlift.registration.convex_adam import ConvexAdam, convex_adam
from featlift.registration.field import DisplacementField
from featlift.registration.mind import mind
from featlift.registration.pairs import Registered, register
from featlift.registration.settings import PairSettings

__all__ = [
    "ConvexAdam",
    "DisplacementField",
    "PairSettings",
    "Registered",
    "convex_adam",
    "mind",
    "register",
]
