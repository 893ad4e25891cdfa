"""A BIDS folder is an input as it is: names say whose a scan is, participants.tsv what is known of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featlift.errors import InputError
from featlift.volumes import Selection, find_masks, find_scans, read
from tests.support.files import noise, save

SCANS = (
    "sub-01/ses-pre/anat/sub-01_ses-pre_acq-mprage_run-1_T1w.nii.gz",
    "sub-01/ses-post/anat/sub-01_ses-post_T1w.nii.gz",
    "sub-02/anat/sub-02_T1w.nii.gz",
    "sub-02/anat/sub-02_FLAIR.nii.gz",
)
PARTICIPANTS = "participant_id\tage\tdiagnosis\tscore\nsub-01\t34\tcontrol\tn/a\nsub-02\tn/a\tpatient\tn/a\n"


def describe(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "x", "BIDSVersion": "1.9.0"}))
    return folder


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    root = describe(tmp_path / "ds")
    for name in (*SCANS, "derivatives/x/sub-02/anat/sub-02_desc-brain_T1w.nii.gz", "sourcedata/sub-01_T1w.nii.gz"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        save(root / name, noise())
        (root / name.replace(".nii.gz", ".json")).write_text("{}")
    (root / "participants.tsv").write_text(PARTICIPANTS)
    return root


def test_subject_session_run_and_suffix_are_id_and_columns(bids):
    found = find_scans([bids])
    scans = {scan.id: scan for scan in found.scans}
    assert sorted(scans) == sorted(Path(name).name.removesuffix(".nii.gz") for name in SCANS)
    first = scans["sub-01_ses-pre_acq-mprage_run-1_T1w"]
    own = {"patient": "sub-01", "session": "pre", "acquisition": "mprage", "run": "1", "suffix": "T1w"}
    assert first.labels == {"age": 34, "diagnosis": "control", **own}
    assert scans["sub-02_FLAIR"].labels == {"diagnosis": "patient", "patient": "sub-02", "suffix": "FLAIR"}
    assert read(first.sources[0].path).array.shape == noise().shape
    assert "2 images that are of no subject by their place" in found.skipped[0].reason
    assert [scan.id for scan in find_scans([bids], Selection(glob=["*/ses-*/*"])).scans] == sorted(scans)[:2]


def test_only_where_the_folder_says_so(bids):
    (bids / "dataset_description.json").write_text('{"name": "another thing"}')
    ids = {scan.id for scan in find_scans([bids]).scans}
    assert "sub-02__anat__sub-02_FLAIR" in ids
    assert "sourcedata__sub-01_T1w" in ids


def test_masks_of_derivatives_belong_to_their_subject_and_session(bids):
    masks = describe(bids / "derivatives/lesions")
    for name in ("sub-01/ses-post/anat/sub-01_ses-post", "sub-02/anat/sub-02"):
        (masks / name).parent.mkdir(parents=True)
        save(masks / f"{name}_label-lesion_mask.nii.gz", (noise() > 50).astype("uint8"))
    found = find_masks([scan.id for scan in find_scans([bids]).scans], masks, "*_label-lesion_mask.nii.gz")
    assert sorted(found) == ["sub-01_ses-post_T1w", "sub-02_FLAIR", "sub-02_T1w"]
    assert found["sub-02_T1w"] == masks / "sub-02/anat/sub-02_label-lesion_mask.nii.gz"


def test_participants_that_will_not_do(bids):
    (bids / "participants.tsv").write_text("subject\tage\nsub-01\t34\n")
    with pytest.raises(InputError, match=r"participants.tsv: no column participant_id; it has subject, age"):
        find_scans([bids])
