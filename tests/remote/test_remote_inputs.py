"""Scans behind URLs: the same scans, voxels and ids as from a disk, and nothing left behind."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import featlift
from featlift.errors import InputError, RemoteError
from featlift.remote import Remote, parse_location
from featlift.volumes import Selection, find_masks, find_scans
from featlift.volumes.channels import read_scan
from featlift.volumes.opening import identity, read_source, signature
from tests.support.files import ARRAYS, DETACHED, FORMATS, noise
from tests.support.files import save as save_image
from tests.support.scans import write_scan
from tests.support.series import save, slices, zipped

FILES = [*FORMATS, *DETACHED, *ARRAYS]


def everything(folder):
    """Every format, a series as files and as a .zip, and things that are no scans."""
    for name in FILES:
        path = folder / "cohort" / name.replace(".", "_") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_image(path, noise())
    (folder / "cohort" / "lost.mhd").write_bytes((folder / "cohort" / "raw_mhd" / "raw.mhd").read_bytes())  # alone
    save(folder / "cohort" / "ct" / "series", slices(4), "{:03}")
    save(folder / "zipped", slices(4))
    shutil.move(zipped(folder / "zipped"), folder / "cohort" / "ct" / "other.zip")
    (folder / "cohort" / "notes.txt").write_text("no scan")
    (folder / "cohort" / ".hidden").mkdir()
    write_scan(folder / "cohort" / ".hidden" / "a.nii.gz")
    return folder / "cohort"


def test_every_format_is_found_and_read_as_from_a_disk(bucket, tmp_path):
    local = everything(tmp_path)
    write_scan(local / "some_seg.nii.gz")  # a mask, by its name
    bucket.put_folder(local, "deep/cohort")
    want, found = find_scans([local]), find_scans([f"{bucket.url}/deep/cohort/"])
    assert [scan.id for scan in found.scans] == [scan.id for scan in want.scans]
    assert [scan.name for scan in found.scans] == [scan.name for scan in want.scans]
    assert sorted(found.skipped, key=str) == sorted(want.skipped, key=str)
    assert len(found.scans) == len(FILES) + 3
    given = [f"{bucket.url}/deep/cohort/{name}" for name in ("some_seg.nii.gz", "lost.mhd")]
    assert [scan.id for scan in find_scans(given).scans] == ["lost", "some_seg"]
    differ = []
    for here, there in zip(want.scans, found.scans, strict=True):
        assert here.labels == there.labels
        volume, copy = outcome_of(here), outcome_of(there)
        if isinstance(volume, str):
            differ += [here.name] if volume != copy else []
            continue
        np.testing.assert_array_equal(copy.array, volume.array)
        np.testing.assert_equal(copy.affine, volume.affine)
        assert (copy.modality, copy.notes) == (volume.modality, volume.notes)
        assert copy.source["sha256"] == volume.source["sha256"]
    assert not differ
    assert leftovers(tmp_path, besides=1) == []


def outcome_of(scan):
    try:
        return read_scan(scan)
    except featlift.FeatliftError as error:
        return str(error)


def leftovers(tmp_path, besides=0):
    """Temporary folders; the copy of the last file of several volumes may stay while the process lives."""
    names = sorted(path.name for path in (tmp_path / "tmp").glob("featlift*"))
    return names[besides:]


def test_one_file_is_on_disk_at_a_time(bucket, tmp_path, monkeypatch):
    for name in "abc":
        bucket.put(f"scans/{name}.nii.gz", write_scan(tmp_path / f"{name}.nii.gz").read_bytes())
    peak = []
    for scan in find_scans([f"{bucket.url}/scans"]).scans:
        read_scan(scan)
        peak.append(leftovers(tmp_path))
    assert peak == [[], [], []]


def test_a_file_of_many_volumes_is_fetched_once(bucket, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 8, 8), np.uint8)
    arrays = {f"{split}_images": images for split in ("train", "val", "test")}
    np.savez(tmp_path / "m.npz", **arrays, **{f"{s}_labels": np.zeros((5, 1), int) for s in ("train", "val", "test")})
    bucket.put("m.npz", (tmp_path / "m.npz").read_bytes())
    scans = find_scans([f"{bucket.url}/m.npz"]).scans
    before = len(bucket.server.requests)
    for scan in scans:
        np.testing.assert_array_equal(read_scan(scan).array, images[scan.sources[0].frame])
    assert len(scans) == 15
    fetches = [request for request in bucket.server.requests[before:] if request[0] == "GET"]
    assert len(fetches) == 1


def test_dicom_headers_are_read_without_their_pixels(bucket, tmp_path):
    save(tmp_path / "series", slices(3, shape=(700, 700)))
    bucket.put_folder(tmp_path / "series", "series")
    before = len(bucket.server.requests)
    (scan,) = find_scans([f"{bucket.url}/series"]).scans
    assert len(bucket.server.requests) - before < 15
    volume = featlift.read(f"{bucket.url}/series")
    np.testing.assert_array_equal(volume.array, featlift.read(tmp_path / "series").array)
    assert signature(scan.sources) == {name: volume.source[name] for name in ("bytes", "mtime_ns", "version")}


def test_manifests_masks_and_channels(bucket, tmp_path):
    for name in ("a", "b", "mask"):
        path = write_scan(tmp_path / f"{name}.nii.gz", seed=ord(name[0]))
        bucket.put(f"cohort/scans/{name}.nii.gz", path.read_bytes())
    rows = f"id,path,mask,group\none,scans/a.nii.gz,scans/mask.nii.gz,x\ntwo,{bucket.url}/cohort/scans/b.nii.gz,,y\n"
    bucket.put("cohort/list.csv", rows.encode())
    (tmp_path / "list.csv").write_text(rows.replace(",scans/", f",{bucket.url}/cohort/scans/"))
    for manifest in (f"{bucket.url}/cohort/list.csv", str(tmp_path / "list.csv")):
        one, two = find_scans([manifest]).scans
        assert (one.id, two.id, one.labels, two.labels) == ("one", "two", {"group": "x"}, {"group": "y"})
        assert two.name == "b.nii.gz"
        np.testing.assert_array_equal(read_source(one.mask).array, featlift.read(tmp_path / "mask.nii.gz").array)
    channels = f"id,t1,t2,t3\nall,{bucket.url}/cohort/scans/a.nii.gz,b.nii.gz,a.nii.gz\n"
    (tmp_path / "channels.csv").write_text(channels)
    (scan,) = find_scans([tmp_path / "channels.csv"], Selection(channels=("t1", "t2", "t3"))).scans
    volume = read_scan(scan)
    assert volume.array.shape == (3, 6, 36, 40)
    assert identity(scan.sources) == volume.source
    bucket.put("labels/a.nii.gz", (tmp_path / "mask.nii.gz").read_bytes())
    pairs = find_masks(["a", "b"], f"{bucket.url}/labels")
    assert list(pairs) == ["a"]
    np.testing.assert_array_equal(featlift.read(pairs["a"]).array, featlift.read(tmp_path / "mask.nii.gz").array)
    found = find_scans([f"{bucket.url}/cohort/scans"], Selection(masks=f"{bucket.url}/labels"))
    assert [scan.id for scan in found.scans if scan.mask] == ["a"]


def test_web_and_file_urls(bucket, tmp_path):
    path = write_scan(tmp_path / "with space" / "scan.nii.gz")
    bucket.put("scan.nii.gz", path.read_bytes())
    signed = bucket.client.generate_presigned_url("get_object", {"Bucket": bucket.name, "Key": "scan.nii.gz"})
    assert "Signature" in signed
    for url in (signed, path.as_uri()):
        (scan,) = find_scans([url]).scans
        assert (scan.id, scan.name) == ("scan", "scan.nii.gz")
        np.testing.assert_array_equal(read_scan(scan).array, featlift.read(path).array)
    remote = parse_location(signed.replace("http://", "http://user:password@"))
    for text in (str(remote), repr(remote), remote.name, str(remote / "x"), str(remote.parent)):
        assert not any(secret in text for secret in ("Signature", "password", "?"))
    with pytest.raises(InputError, match=r"missing\.nii\.gz: no such file$"):
        featlift.read(f"{bucket.server.url}/{bucket.name}/missing.nii.gz")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("s3://no-such-bucket/scans", "no such bucket"),
        ("{bucket}/nothing", "no such file, and none below it"),
        ("{bucket}/nothing.nii.gz", "no such file, and none below it"),
        ("gs://bucket/scans", "install the package"),
        ("https://127.0.0.1:1/scan.nii.gz?token=secret", "https://127.0.0.1:1/scan.nii.gz: cannot be reached"),
    ],
)
def test_what_is_wrong_with_an_input_stands_in_one_line(featlift, bucket, url, says):
    done = featlift("extract", url.format(bucket=bucket.url), "--model", "vits16", "--weights", "random:0")
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret" not in done.stderr


def test_credentials_and_packages_that_are_missing(bucket, monkeypatch):
    import s3fs

    bucket.put("a.nii.gz", b"")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("HOME", "/nowhere")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(PermissionError, match=r"a\.nii\.gz: no credentials"):
        featlift.read(f"{bucket.url}/a.nii.gz")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3")
    with pytest.raises(RemoteError, match=r"pip install 'featlift\[s3\]'"):
        featlift.read(f"{bucket.url}/a.nii.gz")
    monkeypatch.undo()
    s3fs.S3FileSystem.clear_instance_cache()


def test_places():
    assert parse_location("s3://bucket/a/b.nii.gz/") == Remote("s3://bucket/a/b.nii.gz/")
    assert parse_location("file:///a%20b/c.nii") == Path("/a b/c.nii")
    assert parse_location("C:/a") == Path("C:/a")
    assert str(parse_location("https://u:p@host/a/b.nii?x=1#y")) == "https://host/a/b.nii"
    assert parse_location("https://host/a%20b.nii.gz?x=1").name == "a b.nii.gz"
    assert str(parse_location("s3://bucket/odd?name#1/") / "x") == "s3://bucket/odd?name#1/x"
