"""Find scans, read one with its geometry, orient it, prepare its intensities and grid."""

from featlift.volumes.finding import Scan, find_scans
from featlift.volumes.preparation import Preparation, Prepared, prepare
from featlift.volumes.reading import read
from featlift.volumes.volume import Volume

__all__ = ["Preparation", "Prepared", "Scan", "Volume", "find_scans", "prepare", "read"]
