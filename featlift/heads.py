"""The former name of `featlift.segmentation`."""

from featlift.segmentation import *  # noqa: F403
from featlift.segmentation import __all__ as __all__
