"""3DME: a transformer and a convolutional branch over a volume, joined by deformable cross-attention.

Equations 1 to 8 of the paper; what it leaves open is an option of `ThreeDMEConfig`, see
docs/explanation/3dme.md.
"""

from featlift.encoders.threedme.config import ThreeDMEConfig
from featlift.encoders.threedme.folder import Pretrained, read_encoder, write_encoder
from featlift.encoders.threedme.network import ThreeDME

__all__ = ["Pretrained", "ThreeDME", "ThreeDMEConfig", "read_encoder", "write_encoder"]
