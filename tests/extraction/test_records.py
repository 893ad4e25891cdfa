"""What a store and its report tell of the machine: names of files, and no folder."""

from __future__ import annotations

import json
import os

import numpy as np

from tests.support.files import noise, save
from tests.support.scans import patch_mean_options, write_scan

#: Every way to fail at reading.
FILES = [
    *("1.nii", "1.nii.gz", "raw.nrrd", "gzip.nrrd", "zlib.mha", "1.hdr", "raw.nhdr", "raw.mhd"),
    *("c.npy", "zipped.npz", "gzip.hdf5", "zlib.tiff", "3.zarr"),
]


def broken_cohort(folder):
    """A manifest of absolute paths: two sound scans, and all that may be wrong with one."""
    paths = {f"sound{n}": write_scan(folder / f"sound{n}.nii.gz", seed=n) for n in range(2)}
    for name in FILES:
        for fault in ("cut", "empty", "missing", "folder", "link"):
            place = folder / fault / name.replace(".", "_")
            place.mkdir(parents=True)
            path = save(place / name, noise())
            paths[f"{fault}_{name}"] = path
            files = [each for each in [path, *path.rglob("*")] if each.is_file()]
            for file in files:
                content = file.read_bytes()
                file.unlink()
                if fault in ("cut", "empty"):
                    file.write_bytes(content[: len(content) // 2 if fault == "cut" else 0])
                elif fault == "folder":
                    file.mkdir()
                elif fault == "link":
                    file.symlink_to(file)
    (folder / "no dicom" / "below").mkdir(parents=True)
    (folder / "zipped.zip").write_bytes(b"no zip")
    others = {"dicom": "no dicom", "zip": "zipped.zip", "long": "x" * 300 + ".nii", "file": "sound0.nii.gz/below.nii"}
    paths |= {case_id: folder / name for case_id, name in others.items()}
    os.mkfifo(folder / "pipe.nii")
    paths["pipe"] = folder / "pipe.nii"
    rows = [f"{case_id},{path}" for case_id, path in paths.items()]
    rows += [f"key,{folder / 'arrays.npz'}::b", f"both,{folder / 'sound0.nii.gz'}::b"]
    np.savez(folder / "arrays.npz", a=noise())
    (folder / "list.csv").write_text("\n".join(["id,path", *rows, ""]))
    return len(rows)


def report_of_an_earlier_run(featlift, folder, record):
    """Records told whole paths once."""
    path = folder / "s.zarr" / "runs" / "20200101T000000Z-000000.json"
    path.write_text(json.dumps(record))
    done = featlift("report", "s.zarr", "-o", "report.html")
    path.unlink()
    assert done.returncode == 0, done.stderr
    assert "earlier.nii: no such file" in (folder / "report.html").read_text()


def test_no_folder_of_this_machine_is_told(featlift, tmp_path):
    count = broken_cohort(tmp_path / "my study")
    done = featlift("extract", tmp_path / "my study" / "list.csv", "-o", "s.zarr", *patch_mean_options(tmp_path))
    assert done.returncode == 1, done.stderr
    assert f"2 extracted, {count - 2} failed" in done.stdout
    (run,) = (tmp_path / "s.zarr" / "runs").iterdir()
    earlier = json.loads(run.read_text()) | {"failures": {"earlier": f"{tmp_path}/earlier.nii: no such file"}}
    report_of_an_earlier_run(featlift, tmp_path, earlier)
    told = {"errors": done.stderr, "report": (tmp_path / "report.html").read_text(), "run": run.read_text()}
    for file in (tmp_path / "s.zarr").rglob("*.json"):
        told[file.relative_to(tmp_path).as_posix()] = file.read_text()
    told["check"] = featlift("check", tmp_path / "my study" / "list.csv", "--voxels", "--json", "--workers", 1).stdout
    for where, text in told.items():
        for part in (str(tmp_path), tmp_path.name, "my study", "/tmp/"):
            lines = [line[:300] for line in text.splitlines() if part in line]
            assert not lines, (where, lines[:5])
    assert "no such file" in told["run"]
    assert "no such file" in told["report"]
