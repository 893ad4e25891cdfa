"""Masks as other tools write them, each to one array of labels: a file a structure, one-hot, 3D Slicer, DICOM."""

from featlift.volumes.mask_files.opening import name_of_structure, open_labels
from featlift.volumes.mask_files.slicer import segments_in

__all__ = ["name_of_structure", "open_labels", "segments_in"]
