"""Cases whose ids differ only in case or Unicode form: each has files of its own on any disk, which are found again."""

from __future__ import annotations

import json
import unicodedata

import nibabel as nib
import numpy as np
import pytest

from featlift import find_masks, open_store
from featlift.errors import InputError
from featlift.segmentation import Plan, Split, predict, score, train_head
from featlift.segmentation.inference.grids import grids_of
from featlift.segmentation.inference.prediction import open_trained
from featlift.store.layout import sha256_of
from featlift.volumes import Selection, find_scans
from tests.support.scans import patch_mean_options, write_nifti

SHAPE = (16, 16, 6)
COMPOSED, DECOMPOSED = unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")
IDS = ["Case", "case", COMPOSED, DECOMPOSED, "other"]


def labels_of(case_id):
    labels = np.zeros(SHAPE, np.uint8)
    at = IDS.index(case_id)
    labels[2 : 4 + 2 * at, 4:12, 1:5] = 1
    return labels


@pytest.fixture
def store(featlift, tmp_path):
    for case_id in IDS:
        write_nifti(tmp_path / f"scans/{case_id}.nii.gz", (100 * labels_of(case_id)).astype(np.int16))
        write_nifti(tmp_path / f"labels/{case_id}.nii.gz", labels_of(case_id))
    given = patch_mean_options(tmp_path, constant=0.5)
    done = featlift("extract", "scans", *given, "--mode", "2d", "--intensity", "window:-50,250")
    assert done.returncode == 0, done.stderr
    return open_store(tmp_path / "features.zarr")


def names_in(folder, ending):
    """What stands before this ending of the files in a folder, which differ on a disk that ignores case and form."""
    names = [path.name.removesuffix(ending) for path in folder.iterdir() if path.name.endswith(ending)]
    assert len({unicodedata.normalize("NFD", name).casefold() for name in names}) == len(names) == len(IDS)
    assert "other" in names
    assert sorted(name.partition("~")[0] for name in names) == sorted(IDS)
    return sorted(names)


def test_ids_that_look_alike_are_pointed_out(tmp_path):
    for case_id in IDS:
        (tmp_path / f"{case_id}.npy").touch()
    (notice,) = find_scans([tmp_path]).notices
    assert notice.startswith("4 case ids differ from another only in case or Unicode form (such as Case and case): ")
    assert not find_scans([tmp_path], Selection(exclude=["c*", DECOMPOSED + "*"])).notices


def test_exports_and_pictures(featlift, store, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra pictures)")
    for to, ending in [("nifti", "__colours.nii.gz"), ("npy", "__features.npy"), ("npy", "__features.json")]:
        done = featlift("export", "features.zarr", "--to", to, "-o", to)
        assert done.returncode == 0, done.stderr
        names = names_in(tmp_path / to, ending)
    one = featlift("export", "features.zarr", "--to", "nifti", "-o", "one", "--case", "case")
    assert one.returncode == 0, one.stderr
    assert [path.name for path in (tmp_path / "one").glob("*.nii.gz")] == [
        f"{next(name for name in names if name.startswith('case~'))}__colours.nii.gz"
    ]
    assert featlift("pca", "features.zarr", "-o", "pca").returncode == 0
    assert names_in(tmp_path / "pca", ".png") == names


def test_maps(featlift, store, tmp_path):
    given = ("--masks", "labels", "--protocol", "prototype", "--save-maps", "maps")
    done = featlift("featdice", "features.zarr", *given)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "maps").iterdir()
    names_in(folder, "__prediction.nii.gz")
    names_in(folder, "__map1.nii.gz")


def test_predictions_are_scored_and_found_as_masks(store, tmp_path):
    masks = find_masks(store, tmp_path / "labels")
    assert list(masks) == sorted(IDS)
    split = Split(["other"], ["other"], IDS[:4])
    train_head(store, masks, split, Plan("linear", epochs=20, rate=0.1, batch=1), tmp_path / "head", {1: "block"})
    trained = open_trained(tmp_path / "head")
    predict(store, trained, tmp_path / "predicted", ["case"])
    written = predict(store, trained, tmp_path / "predicted")
    names_in(tmp_path / "predicted", ".nii.gz")
    assert len(list((tmp_path / "predicted").glob("case*"))) == 1
    again = find_masks(store, tmp_path / "predicted")
    assert again == dict(zip(store, written, strict=True))
    for case_id in IDS[:4]:
        (found,) = score(store, tmp_path / "predicted", {case_id: again[case_id]}, [case_id])
        assert found.labels[1].dice == 1  # so each is compared with its own
    sizes = {case_id: int(np.asarray(nib.load(again[case_id]).dataobj).sum()) for case_id in IDS}
    assert len(set(sizes.values())) == len(IDS)


def test_a_prediction_from_before_a_case_that_looks_alike(store, tmp_path):
    masks = find_masks(store, tmp_path / "labels")
    split = Split(["other"], ["other"], IDS[:4])
    train_head(store, masks, split, Plan("linear", epochs=1, batch=1), tmp_path / "head", {1: "block"})
    (written,) = predict(store, open_trained(tmp_path / "head"), tmp_path / "predicted", ["Case"])
    written.rename(tmp_path / "predicted" / "Case.nii.gz")
    assert [found.id for found in score(store, tmp_path / "predicted", masks, ["Case"])] == ["Case"]


def test_a_disk_that_takes_two_ids_for_one_keeps_the_first(featlift, store, tmp_path):
    """As such a disk shows the store to whoever asks by the other id: what stands there is the first."""
    case = tmp_path / "features.zarr" / "volumes" / "case"
    kept = {path: path.read_bytes() for path in (case.parent / "Case").rglob("*") if path.is_file()}
    for path in sorted(case.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    case.rmdir()
    case.symlink_to("Case")
    done = featlift("extract", "scans", *patch_mean_options(tmp_path, constant=0.5), "--mode", "2d", "--intensity",
                    "window:-50,250")  # fmt: skip
    assert done.returncode == 1
    assert "case: this disk takes its id for Case, which is in the store: rename one of the scans" in done.stderr
    assert {path: path.read_bytes() for path in kept} == kept
    assert case.is_symlink()
    assert not list((tmp_path / "features.zarr" / ".staging").iterdir())


def test_a_scan_that_a_store_names_elsewhere_is_not_read(store, tmp_path):
    """Whoever made the store could name any image of this machine for --like."""
    about = tmp_path / "features.zarr" / "volumes" / "other" / "zarr.json"
    assert grids_of(store, ["other"], like=tmp_path / "scans")["other"].shape == SHAPE[::-1]
    document = json.loads(about.read_text())
    ours = document["attributes"]["featlift"]
    for name in ("../labels/other.nii.gz", str(tmp_path / "labels" / "other.nii.gz")):
        del ours["metadata_sha256"]
        ours["source"]["name"] = name
        ours["metadata_sha256"] = sha256_of(document)
        about.write_text(json.dumps(document))
        with pytest.raises(InputError, match="no such scan"):
            grids_of(store, ["other"], like=tmp_path / "scans")
