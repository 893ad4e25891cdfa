"""What a survey of scans finds: from headers, from voxels, and when reading a file ends the process."""

from __future__ import annotations

import os
import signal
from pathlib import PosixPath

import nibabel as nib
import numpy as np
import pytest

from featlift.volumes import Preparation, Reading, Selection, Skipped, Source, Volume, find_scans, prepare, read
from featlift.volumes.findings import SurveyPlan, findings, totals
from featlift.volumes.intensity import Intensity
from featlift.volumes.preparation import expected_grids
from featlift.volumes.scan import DiscoveredScans, Scan
from featlift.volumes.survey import Surveyed, look, survey
from featlift.volumes.volume import spacing_of
from tests.support.files import FORMATS, OBLIQUE, noise, save


class Deadly(PosixPath):
    """A file that ends the process in which it is opened."""

    def stat(self, **_):
        os.kill(os.getpid(), signal.SIGKILL)


def looked_at(folder, voxels=False, preparation=None, **selection) -> dict[str, Surveyed]:
    scans = find_scans([folder], Selection(**selection)).scans
    return {scan.id: look(scan, preparation or Preparation(), Reading(), voxels) for scan in scans}


def whats(rows, level=None, refused=(), **plan) -> str:
    """What is found of rows, as one text."""
    plan = SurveyPlan(**{"preparation": Preparation(), "mode": "pcg", "stride": 16, **plan})
    found = findings(DiscoveredScans([]), refused, list(rows), plan)
    return "\n".join(f"{each.what} [{','.join(each.ids)}]" for each in found if level in (None, each.level))


def test_a_file_that_ends_its_process_costs_that_file_only(tmp_path):
    scans = [Scan(name, f"{name}.nii", (Source(save(tmp_path / f"{name}.nii", noise())),)) for name in "abcd"]
    scans[1] = Scan("b", "b.nii", (Source(Deadly(tmp_path / "b.nii")),))
    rows = list(survey(scans, Preparation(), Reading(), workers=2))
    assert [row.id for row in rows] == list("abcd")
    assert [bool(row.failure) for row in rows] == [False, True, False, False]
    assert "SIGKILL" in rows[1].failure
    assert rows[3].shape == (7, 11, 13)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "how",
    [
        Preparation(),
        Preparation(orient="native", depth_stride=2),
        Preparation(spacing=(1, 2, 1.5), depth_stride=3),
        Preparation(size=(24,)),
        Preparation(spacing=(0, 1, 1), size=(5, 0, 30)),
    ],
)
def test_headers_tell_the_shape_that_preparing_gives(tmp_path, name, how):
    volume = read(save(tmp_path / name, noise()))
    prepared = prepare(volume, how)
    (_, _), (shape, affine) = expected_grids(volume.array.shape, volume.affine, how)
    assert shape == prepared.shape
    np.testing.assert_allclose(spacing_of(affine), spacing_of(prepared.affine), rtol=1e-6)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SLA"])
def test_orientation_in_letters(tmp_path, axes):
    """nibabel's own letters are those of RAS+; the letters say where an axis runs, whatever the convention."""
    towards = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}  # LPS
    affine = np.eye(4)
    affine[:3, :3] = np.array([towards[letter] for letter in axes]).T
    nib.save(nib.Nifti1Image(noise().T, np.diag([-1, -1, 1, 1]) @ affine), tmp_path / "a.nii")
    assert looked_at(tmp_path)["a"].orientation == axes
    assert "".join(nib.aff2axcodes(nib.load(tmp_path / "a.nii").affine)) == axes


def test_headers_alone_and_voxels(tmp_path):
    scans = {"good": noise(dtype="float32"), "nan": noise(dtype="float32"), "flat": np.full((7, 11, 13), 3, "int16")}
    scans["nan"][2, 3] = np.nan
    for name, array in scans.items():
        save(tmp_path / f"{name}.nii.gz", array)
    save(tmp_path / "cut.nii.gz", noise((20, 90, 90)))  # larger than what is read at once for its header
    content = (tmp_path / "cut.nii.gz").read_bytes()
    (tmp_path / "cut.nii.gz").write_bytes(content[:-100])
    assert not any(row.failure for row in looked_at(tmp_path).values())
    rows = looked_at(tmp_path, voxels=True)
    assert {name for name, row in rows.items() if row.failure} == {"nan", "flat", "cut"}
    assert (rows["nan"].not_finite, rows["good"].not_finite) == (13, 0)
    assert (rows["good"].minimum, rows["good"].maximum) == (scans["good"].min(), scans["good"].max())
    replaced = looked_at(tmp_path, voxels=True, preparation=Preparation(nan_to=0))
    assert not replaced["nan"].failure
    assert replaced["nan"].not_finite == 13
    numbers = totals(list(rows.values()))
    assert (numbers["scans"], numbers["would_fail"], numbers["voxels_read"]) == (4, 3, 3)


def test_what_only_the_preparation_refuses(tmp_path):
    np.save(tmp_path / "a.npy", noise())
    save(tmp_path / "1.nii", noise((2, 7, 11, 13)))
    assert "--size" in looked_at(tmp_path, preparation=Preparation(spacing=(1, 1, 1)))["a"].failure
    assert "--frame" in looked_at(tmp_path)["1"].failure
    assert not looked_at(tmp_path, frame=1)["1"].failure
    three = Preparation(intensity=Intensity("minmax;none;minmax"))
    assert "one channel" in looked_at(tmp_path, preparation=three)["a"].failure
    assert looked_at(tmp_path, frame=0, channels=())["1"].channels == 1
    assert (
        looked_at(tmp_path, frame=1, preparation=Preparation(intensity=Intensity("ct:lung+soft+bone")))["1"].channels
        == 3
    )
    (scan,) = find_scans([tmp_path / "a.npy"]).scans
    assert "more than the 1,000" in look(scan, Preparation(), Reading(max_voxels=1000), False).failure


def test_masks(tmp_path):
    far = OBLIQUE.copy()
    far[0, 3] += 1000
    finer = OBLIQUE @ np.diag([0.5, 0.5, 0.5, 1])
    mask = np.zeros((7, 11, 13), "uint8")
    mask[2:4, 3:6, 3:6] = 1
    given = {"same": (mask, OBLIQUE), "finer": (np.kron(mask, np.ones((2, 2, 2), "uint8")), finer), "far": (mask, far)}
    given |= {"empty": (0 * mask, OBLIQUE), "none": None, "text": "no mask"}
    (tmp_path / "scans").mkdir()
    (tmp_path / "masks").mkdir()
    for name, what in given.items():
        save(tmp_path / "scans" / f"{name}.nii", noise())
        if isinstance(what, str):
            (tmp_path / "masks" / f"{name}.nii").write_text(what)
        elif what:
            save(tmp_path / "masks" / f"{name}.nii", *what)
    rows = looked_at(tmp_path / "scans", masks=tmp_path / "masks")
    lies = {
        "same": "same grid",
        "finer": "another grid",
        "far": "no use",
        "empty": "same grid",
        "text": "no use",
        "none": "",
    }
    assert {name: row.mask for name, row in rows.items()} == lies
    assert looked_at(tmp_path / "scans", voxels=True, masks=tmp_path / "masks")["empty"].mask_problem.endswith("empty")
    assert not any(row.failure for row in rows.values())  # extract reads no masks
    found = whats(rows.values(), wants_masks=True)
    assert "1 of 6 scans have no mask [none]" in found
    assert "outside of the scan" in found
    assert "another grid than their scan [finer]" in found


def row(name="a", shape=(40, 256, 256), spacing=(1.0, 1.0, 1.0), **facts) -> Surveyed:
    grids = {"shape": shape, "spacing": spacing, "lifted_shape": shape, "lifted_spacing": spacing}
    return Surveyed(name, f"{name}.nii", ".nii", **{"orientation": "LPS", **grids, **facts})


def test_nothing_to_say_of_a_good_cohort():
    assert whats([row("a"), row("b"), row("c")]) == ""


def test_geometry_that_is_rather_a_mistake():
    rows = [row(name) for name in "abc"]
    assert "5 times off the median, such as 1 x 12 x 12 mm" in whats([*rows, row("odd", spacing=(1, 12, 12))])
    assert "[odd]" in whats([*rows, row("odd", spacing=(0.001, 1, 1))])
    assert "1 x 1 x 1 to 1 x 2 x 2 mm" in whats([*rows, row("coarse", spacing=(1, 2, 2))])
    even = Preparation(size=(224,))
    assert whats([*rows, row("coarse", spacing=(1, 2, 2))], preparation=even) == ""
    assert "1 of 4 scans do not say" in whats([*rows, row("d", spacing=None, orientation=None)], "WARN")
    assert "no scan says" in whats([row(spacing=None, orientation=None)], "NOTE")
    turned = [*rows, row("d", orientation="RAS")]
    assert whats(turned) == ""
    assert "LPS 3, RAS 1" in whats(turned, preparation=Preparation(orient="native"))
    flat = [row("thick", spacing=(5, 0.8, 0.8))]
    assert "squeezed [thick]" in whats(flat)
    assert whats(flat, mode="2d") == ""


def test_sizes():
    assert "down to 3 x 4" in whats([row(shape=(35, 40, 50))])
    assert whats([row(shape=(35, 40, 50))], stride=4) == ""
    deep = [row(shape=(600, 512, 512))]
    assert "19,200 tokens" in whats(deep)
    assert whats(deep, depth_window=128) == ""
    assert whats(deep, mode="2d") == ""
    assert "38,400 tokens" in whats(deep, stride=8)
    assert "19,200 tokens" in whats(deep, stride=8, tile=(256, 256))
    assert whats(deep, mode="2d", stride=2, tile=(256, 256)) == ""
    assert "65,536 tokens" in whats(deep, mode="2d", stride=2)
    assert "614,400 tokens" in whats(deep, mode="3d")


def test_intensities_and_modalities():
    soft = Preparation(intensity=Intensity("ct:soft"))
    mixed = whats([row("ct", modality="CT"), row("mr", modality="MR")], preparation=soft)
    assert "1 of 2 scans are not CT [mr]" in mixed
    assert "CT 1, MR 1" in mixed
    eight_bit = row("png", minimum=0.0, maximum=255.0, not_finite=0)
    assert "(png: 0 to 255)" in whats([eight_bit], preparation=soft)
    assert whats([eight_bit]) == ""
    assert whats([row(modality="CT", minimum=-1024.0, maximum=3071.0, not_finite=0)], preparation=soft) == ""
    assert "scales each by its own" in whats([row(modality="CT")])
    none = Preparation(intensity=Intensity("none"))
    assert "beyond [0, 1]" in whats([eight_bit], preparation=none)
    assert whats([row(minimum=0.0, maximum=1.0, not_finite=0)], preparation=none) == ""


def test_failures_of_one_reason_stand_together():
    rows = [row(name, failure=f"{n} frames: choose with --frame N") for n, name in enumerate("abc", start=2)]
    text = whats(
        [*rows, row("d", failure="truncated: copy it again")], refused=[Skipped("e", "two scans with the id e")]
    )
    first, second, third = text.splitlines()
    assert first.startswith("two scans with the id e")
    assert second == "2 frames: choose with --frame N [a,b,c]"
    assert third == "truncated: copy it again [d]"


def test_a_volume_as_extract_sees_it(tmp_path):
    """The survey with voxels prepares: a crop changes the shape that it tells."""
    array = np.zeros((40, 60, 60), "float32")
    array[10:30, 20:40, 15:45] = 100 + noise((20, 20, 30)) / 100
    save(tmp_path / "1.nii", array, np.diag([1.0, 1, 1, 1])[[2, 1, 0, 3]])
    how = Preparation(crop="body:2")
    seen = looked_at(tmp_path, voxels=True, preparation=how)["1"]
    assert seen.lifted_shape == prepare(Volume(**vars(read(tmp_path / "1.nii"))), how).shape
    assert seen.lifted_shape != seen.shape
    assert looked_at(tmp_path, preparation=how)["1"].lifted_shape == seen.shape


def test_paths_do_not_enter(tmp_path):
    save(tmp_path / "1.nii", noise())
    (tmp_path / "bad.nii").write_bytes(b"x" * 400)
    rows = looked_at(tmp_path, voxels=True)
    assert all(str(tmp_path) not in str(row) for row in rows.values())
