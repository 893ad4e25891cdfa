"""Networks as tests compare them: in float32 on the processor, whatever this machine would rather take."""

from functools import partial

import featlift

load_backbone = partial(featlift.load_backbone, precision="fp32", device="cpu")
