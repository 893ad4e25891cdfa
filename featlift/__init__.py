"""featlift: 3D scans to volumetric embeddings with frozen 2D foundation models."""

__version__ = "0.1.0"
