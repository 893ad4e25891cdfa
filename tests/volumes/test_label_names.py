"""Names of labels, in the files that people have."""

import json

import nibabel as nib
import nrrd
import numpy as np
import pytest

from featlift.errors import InputError
from featlift.volumes.label_names import label_names, label_names_in

LIVER = {1: "Liver", 12: "Left kidney"}
ITK_SNAP = """################################################
# ITK-SnAP Label Description File
################################################
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "Liver"
   12     0  255    0      0.5  1  1    "Left kidney"
"""
FREESURFER = """#No. Label Name:                R   G   B   A
0   Unknown                         0   0   0   0

1   Liver                          70 130 180   0
12  Left kidney                   245 245 245   0
"""
CARET = """<?xml version="1.0" encoding="UTF-8"?> <CaretExtension>  <VolumeInformation Index="0">   <LabelTable>
<Label Key="1" Red="0.0" Green="1.0" Blue="0.0" Alpha="1"><![CDATA[Liver]]></Label>
<Label Key="12" Red="0.0" Green="0.0" Blue="1.0" Alpha="1"><![CDATA[Left kidney]]></Label>
  </LabelTable>  </VolumeInformation></CaretExtension>"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.csv", "label,name\n1,Liver\n12,Left kidney\n"),
        ("names.csv", "Index;Structure;volume\n1;Liver;3\n12;Left kidney;4\n"),
        ("names.json", json.dumps({"1": "Liver", "12": "Left kidney"})),
        ("dataset.json", json.dumps({"labels": {"Liver": 1, "Left kidney": 12, "both": [1, 12]}, "name": "x"})),
        ("snap.txt", ITK_SNAP),
        ("lut.txt", FREESURFER),
        ("slicer.ctbl", FREESURFER.replace("#No", "# Color table file\n#No")),
    ],
)
def test_files(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    found = label_names(tmp_path / name)
    assert {label: of for label, of in found.items() if label} == LIVER


def test_text():
    assert label_names("1=Liver, 12=Left kidney") == LIVER


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("names.csv", "a,b\n1,2\n", "it has a, b"),
        ("names.csv", "label,name\none,Liver\n", "'one' is no whole number"),
        ("names.csv", "label,name\n1,Liver\n1,Spleen\n", "label 1 has two names"),
        ("names.json", "[1, 2]", "maps no labels"),
        ("names.json", '{"1": 2.5}', "neither the name"),
        ("names.json", "{", "names of labels"),
        ("names.txt", "Liver\n", "'Liver' is no line"),
        ("names.txt", "", "no label in it"),
    ],
)
def test_files_that_will_not_do(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says):
        label_names(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        label_names(tmp_path / "nowhere.txt")
    with pytest.raises(InputError, match="names no label"):
        label_names("1=Liver,spleen=2")


def test_headers_of_masks(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    nib.save(image, tmp_path / "plain.nii.gz")
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, CARET.encode()))
    nib.save(image, tmp_path / "organs.nii.gz")
    assert label_names_in(tmp_path / "organs.nii.gz") == LIVER
    assert label_names_in(tmp_path / "plain.nii.gz") == {}
    segments = {"Segment0_Name": "Liver", "Segment0_LabelValue": "1"}
    segments |= {"Segment1_Name": "Left kidney", "Segment1_LabelValue": "12", "Segment2_Name": "no value"}
    nrrd.write(str(tmp_path / "organs.seg.nrrd"), np.zeros((3, 3, 3), np.uint8), segments)
    assert label_names_in(tmp_path / "organs.seg.nrrd") == LIVER
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    assert label_names_in(tmp_path / "broken.nii.gz") == {}


def test_a_mask_of_totalsegmentator(shared):
    names = label_names_in(shared / "totalseg" / "example_seg.nii.gz")
    assert (names[1], names[5], len(names)) == ("spleen", "liver", 117)
