"""URLs whose author is not the user: their names choose no place, TLS is not left, and nothing tells secrets."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

import featlift as package
from featlift.errors import FeatliftError, RemoteError
from featlift.remote import Remote, parse_location
from featlift.volumes import Selection, find_masks, find_scans
from featlift.volumes.opening import read_source
from tests.support.files import noise
from tests.support.files import save as save_image
from tests.support.scans import write_scan
from tests.support.series import save, slices, zipped
from tests.support.thinned import every
from tests.support.web_server import WebServer, write_certificate

SUFFIXES = [".nii.gz", ".zip", ".csv", ".npz", ".zarr", ".dcm", ""]
KEPT = b"what stood there before"


@pytest.fixture
def contents(tmp_path):
    """What a server sends for each suffix: what is called so, for others a scan."""
    made = tmp_path / "made"
    made.mkdir()
    scan = write_scan(made / "a.nii.gz").read_bytes()
    save(made / "zipped", slices(3))
    np.savez(made / "a.npz", a=noise())
    return {
        ".nii.gz": scan,
        ".zip": zipped(made / "zipped").read_bytes(),
        ".csv": b"id,path\none,missing.nii.gz\n",
        ".npz": (made / "a.npz").read_bytes(),
        ".dcm": next(path for path in sorted((made / "zipped").iterdir())).read_bytes(),
    }


def hostile_names(victim: Path) -> list[str]:
    """Ways to name a file outside of the folder that a copy is made in; in URLs as they are."""
    up = "../" * 12
    plain = [f"../../{victim.name}", f"{up}{str(victim).lstrip('/')}", str(victim), f"..\\..\\{victim.name}"]
    encoded = [quote(name, safe="") for name in plain]
    return [
        *plain,
        *encoded,
        *(quote(name, safe="") for name in encoded),
        f"a%00/../../{victim.name}",
        f"{victim.name}%00",
        "..%2F",
        "%2e%2e",
        "x" * 300 + victim.name,
        quote("é" * 150) + victim.name,
    ]


def everything_below(folder: Path) -> dict[str, bytes | None]:
    """Every file and its content; of the folder of temporary files nothing."""
    files = [path for path in folder.rglob("*") if (folder / "tmp") not in path.parents]
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in files}


def try_to_read(url: str) -> None:
    """All that takes URLs of scans; it may well refuse them."""
    with contextlib.suppress(FeatliftError):
        for scan in find_scans([url], refused=[]).scans:
            read_source(scan.sources[0])
    with contextlib.suppress(FeatliftError):
        package.read(url)


@pytest.mark.parametrize("suffix", every(2, SUFFIXES))
@pytest.mark.parametrize("scheme", ["http", "s3", "memory", "file"])
def test_no_url_writes_a_file_outside_of_the_temporary_folder(bucket, tmp_path, monkeypatch, contents, scheme, suffix):
    import fsspec

    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    content = contents.get(suffix, contents[".nii.gz"])
    victim = tmp_path / f"victim{suffix}"
    victim.write_bytes(KEPT)
    before = everything_below(tmp_path)
    memory = fsspec.filesystem("memory")
    with WebServer(lambda path: content) as web:
        for name in hostile_names(victim):
            ends = "" if name.endswith(suffix) else suffix
            if scheme == "s3":
                with contextlib.suppress(Exception):  # some names are none of S3
                    bucket.put(f"p/{name}{ends}", content)
            if scheme == "memory":
                memory.pipe_file(f"/p/{name}{ends}", content)
            base = {"http": web.url, "s3": f"{bucket.url}/p", "memory": "memory://p", "file": f"file://{work}"}[scheme]
            try_to_read(f"{base}/{name}{ends}")
        if scheme in ("s3", "memory"):
            try_to_read(base)
        assert scheme != "http" or len(web.requests) > len(hostile_names(victim))
    memory.store.clear()
    assert everything_below(tmp_path) == before
    assert {path.name.partition("~")[0] for path in (tmp_path / "tmp").iterdir()} <= {"featlift"}


def test_names_of_urls_are_told_and_files_are_read(bucket, tmp_path, contents):
    """Under a name of their own, whatever they are called."""
    with WebServer(lambda path: contents[".nii.gz"]) as web:
        want = package.read(tmp_path / "made" / "a.nii.gz").array
        for name, case_id in [
            ("..%2F..%2Fvictim.nii.gz", "victim"),
            ("%2Fetc%2Fvictim.nii.gz", "etc__victim"),
            ("..%5C..%5Cvictim.nii.gz", "victim"),
            ("a%20b.nii.gz", "a b"),
            ("..%252Fvictim.nii.gz", "%2Fvictim"),
            ("%1B%5B2J.nii.gz", "_[2J"),
        ]:
            (scan,) = find_scans([f"{web.url}/{name}"]).scans
            assert scan.id == case_id
            np.testing.assert_array_equal(read_source(scan.sources[0]).array, want)
        rows = "id,path\n" + "".join(f"long{n},{web.url}/{'x' * n}.nii.gz\n" for n in (100, 300, 3000))
        (tmp_path / "list.csv").write_text(rows)
        for scan in find_scans([tmp_path / "list.csv"]).scans:
            np.testing.assert_array_equal(read_source(scan.sources[0]).array, want)


def test_manifests_and_check_write_nothing_elsewhere(bucket, tmp_path, featlift, contents):
    victim = tmp_path / "victim.nii.gz"
    victim.write_bytes(KEPT)
    with WebServer(lambda path: contents[".nii.gz"]) as web:
        url = f"{web.url}/..%2F..%2Fvictim.nii.gz"
        (tmp_path / "list.csv").write_text(f"id,path,mask\none,{url},{url}\n")
        before = everything_below(tmp_path)
        assert featlift("check", "list.csv", "--voxels", "--workers", 1, "--model", "vits16").returncode in (0, 1)
        assert everything_below(tmp_path) == before


@pytest.mark.parametrize("name", ["raw.nhdr", "raw.mhd"])
@pytest.mark.parametrize("places", ["../../victim.raw", "{absolute}", "http://127.0.0.1/victim.raw", "..%2Fvictim.raw"])
def test_a_fetched_header_names_no_place(bucket, tmp_path, name, places):
    from tests.volumes.test_detached import data_of, pointing_to

    (tmp_path / "made").mkdir()
    header = save_image(tmp_path / "made" / name, noise())
    voxels = data_of(header).read_bytes()
    victim = tmp_path / "victim.raw"
    victim.write_bytes(KEPT)
    pointing_to(header, places.format(absolute=victim))
    before = everything_below(tmp_path)
    with WebServer(lambda path: header.read_bytes() if path.endswith(name) else voxels) as web:
        bucket.put(f"a/b/{name}", header.read_bytes())
        bucket.put("victim.raw", voxels)
        for url in (f"{web.url}/a/b/{name}", f"{bucket.url}/a/b/{name}"):
            with contextlib.suppress(FeatliftError):
                np.testing.assert_array_equal(package.read(url).array, noise())
        assert not any(path == "/victim.raw" for path, _ in web.requests)
    assert everything_below(tmp_path) == before


@pytest.mark.parametrize("name", ["raw.nhdr", "raw.mhd", "1.hdr"])
def test_voxels_beside_a_header_are_fetched_by_its_name(bucket, tmp_path, name):
    (tmp_path / "made").mkdir()
    header = save_image(tmp_path / "made" / name, noise())
    files = {path.name: path.read_bytes() for path in header.parent.iterdir()}
    with WebServer(lambda path: files.get(path.rpartition("/")[2])) as web:
        np.testing.assert_array_equal(package.read(f"{web.url}/a/{name}").array, noise())
        voxels = next(other for other in files if other != name)
        del files[voxels]
        with pytest.raises(FeatliftError, match=f"^{name}: its voxels are in '{voxels}', and there is no such file"):
            package.read(f"{web.url}/a/{name}")


def test_errors_of_a_copy_name_the_url(bucket, tmp_path):
    with WebServer(lambda path: b"damaged") as web:
        for name in ("a.nii.gz", "a.zip", "a.tif", "a.h5", "a.npz", "a.nhdr", "a.csv", "a b.npy"):
            with pytest.raises(FeatliftError) as caught:
                [read_source(scan.sources[0]) for scan in find_scans([f"{web.url}/{quote(name)}"]).scans]
            assert re.match(rf"(http://[^ ]+/)?{name}: ", str(caught.value))
            assert "featlift~" not in str(caught.value)


READ_ALL = """
import sys, featlift
for url in sys.argv[1:]:
    try:
        print("read", featlift.read(url).array.shape)
    except featlift.FeatliftError as error:
        print(error)
"""


def test_a_redirect_does_not_leave_tls(tmp_path):
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    scan = write_scan(tmp_path / "scan.nii.gz").read_bytes()
    certificate = write_certificate(tmp_path / "certificate.pem")
    goals = {}
    with (
        WebServer(lambda path: scan) as plain,
        WebServer(lambda path: scan, certificate) as end,
        WebServer(lambda path: goals[path.split("/")[1]]) as open_door,
        WebServer(lambda path: goals[path.split("/")[1]], certificate) as door,
    ):
        goals |= {"down": f"{plain.url}/scan.nii.gz", "on": f"{end.url}/scan.nii.gz", "twice": "/down/scan.nii.gz"}
        goals |= {"loud": goals["down"].replace("http:", "HTTP:"), "file": f"file://{tmp_path}/scan.nii.gz"}
        urls = [f"{url}/{way}/scan.nii.gz" for url in (open_door.url, door.url) for way in goals]
        done = subprocess.run(
            [sys.executable, "-c", READ_ALL, *urls],
            env={**os.environ, "SSL_CERT_FILE": str(certificate)},
            capture_output=True,
            text=True,
            check=True,
        )
        read = [line.startswith("read ") for line in done.stdout.splitlines()]
        assert read == [True, True, True, True, False, False, True, False, False, False]
        for number in (5, 7, 8):
            assert "from https to http" in done.stdout.splitlines()[number]
        before = len(plain.requests)
        assert before  # of those that were in the clear from the start
        subprocess.run([sys.executable, "-c", READ_ALL, urls[5], urls[7], urls[8]], check=True, capture_output=True)
        assert len(plain.requests) == before


def test_users_and_passwords_work_and_are_not_told(bucket, tmp_path, featlift):
    scan = write_scan(tmp_path / "scan.nii.gz").read_bytes()
    bucket.put("scan.nii.gz", scan)
    signed = bucket.client.generate_presigned_url("get_object", {"Bucket": bucket.name, "Key": "scan.nii.gz"})
    secrets = ["Signature", "hunter2", "h%2Funter", "AKIA", "sEcReT", "token="]
    with WebServer(lambda path: scan if "broken" not in path else b"") as web:
        rows = {
            "user": f"http://me:hunter2@{web.place}/scan.nii.gz?token=1",
            "slash": f"http://me:h%2Funter@{web.place}/scan.nii.gz",
            "signed": signed,
            "broken": f"http://me:hunter2@{web.place}/broken.nii.gz?token=1",
            "missing": signed.replace("scan.nii.gz", "missing.nii.gz"),
            "bucket": f"s3://AKIA:sEcReT@{bucket.name}/scan.nii.gz",
            "odd": f"s3://AKIA:sEc/ReT+1@{bucket.name}/scan.nii.gz",
            "nowhere": "http://me:hunter2@127.0.0.1:1/scan.nii.gz?token=1",
            "wrong": f"http://me:hunter2/sEcReT@{web.place}/scan.nii.gz?token=1",
        }
        (tmp_path / "list.csv").write_text("id,path\n" + "".join(f"{row},{url}\n" for row, url in rows.items()))
        given = ("--model", "vit_tiny_patch16_224", "--weights", "random:0", "--model-arg", "depth=1")
        done = featlift("extract", "list.csv", "-o", "s.zarr", *given, "--size", "32,32,4")
        told = [done.stdout + done.stderr]
        assert ("/scan.nii.gz?token=1", "me:hunter2") in web.requests
        assert ("/scan.nii.gz", "me:h/unter") in web.requests
        for url in rows.values():
            told += [str(excuse(find_scans, [url])), str(excuse(package.read, url)), repr(parse_location(url))]
        gone = f"http://me:hunter2@{web.place}/broken.nii.gz?token=1"
        (tmp_path / "masks.csv").write_text(f"id,path,mask\none,scan.nii.gz,{rows['missing']}\n")
        told += [str(excuse(find_scans, ["masks.csv"])), str(excuse(find_masks, ["one"], rows["missing"]))]
        told += [str(excuse(find_scans, ["scan.nii.gz"], Selection(roi=gone)))]
        told += [featlift("featdice", "s.zarr", "--protocol", "prototype", "--masks", rows["user"]).stderr]
        told += [featlift("check", "list.csv", "--csv", "check.csv", "--json").stdout]
    assert list(package.open_store(tmp_path / "s.zarr")) == ["signed", "slash", "user"]
    for file in [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in ("list.csv", "masks.csv")]:
        told.append(file.read_bytes().decode("latin-1"))
    for secret in secrets:
        assert not [text[:300] for text in told if secret in text], secret
    assert re.search(rf"^bucket +s3://{bucket.name}/scan.nii.gz: credentials in the URL of a bucket", told[0], re.M)


def excuse(use, *given):
    """What is said instead of a result."""
    try:
        use(*given)
    except FeatliftError as error:
        return error


def test_a_url_in_a_url_is_not_followed(bucket, tmp_path):
    write_scan(tmp_path / "a.nii.gz")
    bucket.put(f"p/x::file://{tmp_path}/a.nii.gz", b"")
    for url in (f"simplecache::file://{tmp_path}/a.nii.gz", f"{bucket.url}/p/x::file://{tmp_path}/a.nii.gz"):
        with pytest.raises(RemoteError, match="two URLs in one"):
            Remote(url).read_bytes()
