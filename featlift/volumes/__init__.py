"""Find scans, read one with its geometry, orient it, prepare its intensities and grid."""

from featlift.volumes.discovery import find_masks, find_scans
from featlift.volumes.instance_files import write_instances
from featlift.volumes.instances import Instances, read_instances
from featlift.volumes.opening import Reading
from featlift.volumes.preparation import Preparation, Prepared, prepare
from featlift.volumes.reading import read, read_mask
from featlift.volumes.scan import DiscoveredScans, Scan, Selection
from featlift.volumes.source import Skipped, Source
from featlift.volumes.volume import Volume

__all__ = [
    "DiscoveredScans",
    "Instances",
    "Preparation",
    "Prepared",
    "Reading",
    "Scan",
    "Selection",
    "Skipped",
    "Source",
    "Volume",
    "find_masks",
    "find_scans",
    "prepare",
    "read",
    "read_instances",
    "read_mask",
    "write_instances",
]
