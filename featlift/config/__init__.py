"""What an extraction is asked for: one typed object for command line, Python, files and processes. Imports no torch."""

from featlift.config.extract_config import ExtractConfig
from featlift.config.sections import (
    LiftingConfig,
    NetworkConfig,
    OutputConfig,
    PreparationConfig,
    ReadingConfig,
    RunningConfig,
    SelectionConfig,
)

__all__ = [
    "ExtractConfig",
    "LiftingConfig",
    "NetworkConfig",
    "OutputConfig",
    "PreparationConfig",
    "ReadingConfig",
    "RunningConfig",
    "SelectionConfig",
]
