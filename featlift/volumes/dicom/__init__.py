"""DICOM: find the series below a folder or in a .zip, and open each as one volume, or not at all.

A series is refused where its slices do not make one regular grid, with the defect and its place; nothing is guessed.
The only tags that are read are those of `headers.TAGS`: none of the patient's.
"""

from featlift.volumes.dicom.finding import Series, find_series
from featlift.volumes.dicom.members import dicom_in_zip, looks_like_dicom
from featlift.volumes.dicom.opening import open_series
from featlift.volumes.dicom.structures import Structures, open_structures, structures_in

__all__ = [
    "Series",
    "Structures",
    "dicom_in_zip",
    "find_series",
    "looks_like_dicom",
    "open_series",
    "open_structures",
    "structures_in",
]
