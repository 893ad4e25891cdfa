"""The words that options of an extraction can be.

They are those of the functions behind them, which cannot be imported for ``--help``; a test compares.
"""

LIFTED_MODES = ("pcg", "pcm", "2d", "3d")
MODES = (*LIFTED_MODES, "native")
PLANES = ("HW", "DW", "DH")
TOKEN_POOLINGS = ("depth", "direct")
ROPE_PERIODS = ("auto", "file", "fp32", "bf16")
POSITION_RESIZES = ("timm", "transformers", "dinov2")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
ORIENTATIONS = ("LPS", "native")
RESAMPLINGS = ("linear", "cubic")
DEPTHS = ("axial", "coronal", "sagittal")
FUSES = ("concat", "mean")
SAVED = ("scan", "dense", "tokens", "slice_mean", "embedding")
DTYPES = ("float16", "float32", "int8")
EMBEDDINGS = ("cls-mean", "patch-mean", "cls-mean+patch-mean")
ENGINES = ("local", "ray")
