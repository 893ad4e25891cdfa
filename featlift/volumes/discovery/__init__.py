"""Which scans there are: files, folders, manifests and URLs to `Scan`s, with masks and regions. Nothing asks back."""

from featlift.volumes.discovery.finding import find_scans
from featlift.volumes.discovery.masks import find_masks
from featlift.volumes.discovery.series import source_of

__all__ = ["find_masks", "find_scans", "source_of"]
