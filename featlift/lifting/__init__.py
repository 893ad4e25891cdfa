"""A 2D network applied to a volume: PlaneCycle (PCg, PCm), slice by slice (2D), or flattened (3D). Pure torch."""

from featlift.backbones.sampling import FeatureLayer
from featlift.lifting.encoder import VolumeEncoder
from featlift.lifting.features import Features, LayerFeatures
from featlift.lifting.lift import lift
from featlift.lifting.lifted import LiftedBackbone
from featlift.lifting.magnified import MagnifiedBackbone
from featlift.lifting.orientations import OrientedBackbone

__all__ = [
    "FeatureLayer",
    "Features",
    "LayerFeatures",
    "LiftedBackbone",
    "MagnifiedBackbone",
    "OrientedBackbone",
    "VolumeEncoder",
    "lift",
]
