"""A report of a cohort: what it finds, and that its page tells it and reaches nothing."""

import base64
import hashlib
import json
import re

import numpy as np
import pytest
from imagecodecs import webp_decode
from sklearn.decomposition import PCA

from featlift import open_store
from featlift.pictures.report import gather
from featlift.pictures.report.labels import columns_of
from featlift.pictures.report.maps import maps_of
from featlift.pictures.report.outliers import by_embedding, by_geometry, by_intensity, modified_z
from featlift.store import rebuild_index
from tests.support.scans import write_nifti
from tests.support.stores import clouds, write_store

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])  # LPS, as the store has it: nothing is flipped
SHAPE = (48, 32, 6)
MODEL = ["--model", "vit_tiny_patch16_224", "--weights", "random:0", "--model-arg", "img_size=32", "--model-arg",
         "patch_size=8", "--model-arg", "embed_dim=16", "--model-arg", "num_heads=1", "--mode", "2d", "--layers",
         "1"]  # fmt: skip


def cohort(featlift, folder, names="abcdefghijkl", labels=True):
    """Scans with a bright square, at another place in each; the last one is nearly all bright, one file is none."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(names):
        scan = rng.integers(5, 30, SHAPE).astype(np.int16)
        scan[8 : 16 + 2 * number, 4:12] = 90
        if number == len(names) - 1:
            scan[:, 4:] = 100
        write_nifti(folder / f"scans/{name}.nii.gz", scan, AFFINE)
    (folder / "scans/broken.nii.gz").write_bytes(b"no scan")
    done = featlift("extract", "scans", *MODEL, "--intensity", "window:0,100")
    assert done.returncode == 1
    if labels:
        rows = [
            f"{name},{'tumour' if number % 3 else 'healthy'},{60 + number / 2}" for number, name in enumerate(names)
        ]
        (folder / "labels.csv").write_text("\n".join(["id,finding,age", *rows]) + "\n")
        rebuild_index(folder / "features.zarr", folder / "labels.csv")
    return open_store(folder / "features.zarr")


def data_of(page):
    text = page.read_text()
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_page_tells_what_is_there_and_what_is_not(featlift, tmp_path):
    store = cohort(featlift, tmp_path)
    assert featlift("knn", "features.zarr", "--label", "finding", "-k", "3").returncode == 0
    done = featlift("report", "features.zarr", "--results", "results")
    assert done.returncode == 0, done.stderr
    assert "12 cases, 12 with pictures" in done.stdout
    text, data = (tmp_path / "report.html").read_text(), data_of(tmp_path / "report.html")
    assert data["ids"] == list(store)
    assert [column["name"] for column in data["columns"]] == ["finding", "age"]
    assert data["columns"][0]["classes"] == ["healthy", "tumour"]
    assert data["columns"][0]["values"][:4] == [0, 1, 1, 0]
    assert data["facts"][0] == "6 × 32 × 48 · 2 × 1 × 1 mm"  # noqa: RUF001
    assert {place for place, _ in data["outliers"]} == {11}
    assert any(reason.startswith("intensities") for _, reason in data["outliers"])
    assert "broken.nii.gz" in text or ">broken<" in text
    assert ">k-NN<" in text
    assert "12 done, 0 skipped, 1 failed" in text
    assert 'PCA of features.zarr"' in text


def test_pictures_are_the_middle_slice_as_it_lies(featlift, tmp_path):
    store = cohort(featlift, tmp_path, labels=False)
    found = gather([store])
    for case_id, seen in found.portraits.items():
        scan, colours = (webp_decode(base64.b64decode(tile.split(",")[1])) for tile in seen.tiles)
        assert scan.shape == colours.shape == (85, 128, 3)  # 32 x 48 mm
        held = store[case_id].scan[3].astype(float)
        rows, columns = (np.arange(128)[: scan.shape[axis]] * 0.375 for axis in (0, 1))
        expected = 255 * held[np.ix_(np.minimum(rows.astype(int), 31), np.minimum(columns.astype(int), 47))]
        assert np.abs(scan[..., 0] - expected).mean() < 12
        np.testing.assert_allclose(seen.intensities.sum(), 1)
        bright = seen.intensities[28:].sum()
        assert bright == pytest.approx((held >= 28 / 32).mean(), abs=0.02)


def test_a_slice_with_nothing_in_it_is_not_shown(featlift, tmp_path):
    scan = np.zeros(SHAPE, np.int16)
    scan[10:20, 10:20, 5] = 90
    write_nifti(tmp_path / "scans/only.nii.gz", scan, AFFINE)
    assert featlift("extract", "scans/only.nii.gz", "-o", "one.zarr", *MODEL, "--intensity", "minmax").returncode == 0
    tiles = gather([open_store(tmp_path / "one.zarr")]).portraits["only"].tiles
    assert webp_decode(base64.b64decode(tiles[0].split(",")[1])).max() > 200


def test_a_page_reaches_nothing_and_runs_only_its_own_script(featlift, tmp_path):
    cohort(featlift, tmp_path)
    assert featlift("report", "features.zarr").returncode == 0
    text = (tmp_path / "report.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', text)[1]
    assert policy.startswith("default-src 'none'; img-src data:; script-src 'sha256-")
    assert "unsafe" not in policy
    for tag, name in (('<script type="module">', "script"), ("<style>", "style")):
        inner = text.split(tag)[1].split(f"</{name}>")[0]
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert not re.search(r'(src|href|url)\s*[=(]\s*["\']?(https?:)?//', text)
    assert not re.search(r"\bstyle=", text)  # which the policy would block


def test_names_of_cases_and_labels_are_text(featlift, tmp_path):
    nasty = "<img src=x onerror=alert(1)>"
    cases, _ = clouds(count=9)
    cases = {f"{nasty}{number}": each for number, each in enumerate(cases.values())}
    write_store(tmp_path / "made.zarr", cases, {i: {"label": "</script><b>{{data}}"} for i in cases})
    done = featlift("report", "made.zarr")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "report.html").read_text()
    assert nasty not in text.replace(json.dumps(nasty)[1:-1], "") or "<img" not in text
    assert "</script><b>" not in text
    assert data_of(tmp_path / "report.html")["columns"][0]["classes"] == ["</script><b>{{data}}"]


def test_several_stores_side_by_side(featlift, tmp_path):
    cases, labels = clouds(count=12)
    write_store(tmp_path / "one.zarr", cases, {i: {"label": v} for i, v in labels.items()})
    some = dict(list(cases.items())[:9])
    write_store(tmp_path / "two.zarr", some, mode="pcg")
    done = featlift("report", "one.zarr", "two.zarr", "--pictures", "5")
    assert done.returncode == 0, done.stderr
    data = data_of(tmp_path / "report.html")
    assert data["tiles"] == ["scan", "one", "two"]
    assert [each["name"] for each in data["maps"]] == ["PCA of one.zarr", "PCA of two.zarr"]
    assert [len(each["cases"]) for each in data["maps"]] == [12, 9]
    assert len(data["pictures"]) >= 5
    assert data["pictures"]["11"][2] is None  # which the second store has not
    assert "<tr class=differs><td>mode</td><td>2d</td><td>pcg</td></tr>" in (tmp_path / "report.html").read_text()


def test_wrong_calls_are_told(featlift, tmp_path):
    cases, labels = clouds(count=4)
    write_store(tmp_path / "made.zarr", cases, {i: {"label": v} for i, v in labels.items()})
    for arguments, reason in (
        (["--label", "age"], "the columns are label"),
        (["--labels", "none.csv"], "no such file"),
        (["--results", "none"], "no such file"),
    ):
        done = featlift("report", "made.zarr", *arguments)
        assert done.returncode == 2
        assert reason in done.stderr
        assert not (tmp_path / "report.html").exists()


def test_maps_are_scikit_learns():
    vectors = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32) * [5, 3, 1, 1, 1, 1]
    (found,) = [
        each for each in maps_of("s", tuple(map(str, range(50))), vectors.astype(np.float32)) if each.name == "PCA"
    ]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = PCA(2).fit(unit)
    np.testing.assert_allclose(np.abs(found.places), np.abs(expected.transform(unit)), atol=1e-4)
    assert f"{100 * expected.explained_variance_ratio_.sum():.0f} %" in found.about
    assert maps_of("s", ("a", "b"), vectors[:2].astype(np.float32)) == []


def test_outliers_are_those_that_were_planted():
    rng = np.random.default_rng(0)
    ids = [f"c{number}" for number in range(40)]
    vectors = (np.ones(8) + 0.1 * rng.normal(size=(40, 8))).astype(np.float32)
    vectors[7] = [-1, 1, -1, 1, -1, 1, -1, 1]
    (outlier,) = by_embedding(ids, vectors)
    assert outlier.id == "c7"
    assert outlier.score > 1
    assert "its 5 nearest cases" in outlier.reason
    spreads = rng.dirichlet(np.full(32, 200.0), size=40)
    spreads[3] = np.eye(32)[31]
    assert [each.id for each in by_intensity(dict(zip(ids, spreads, strict=True)))] == ["c3"]
    spacing = np.where(np.arange(40) == 5, 5.0, 1.0)
    spacing[6] = np.nan
    (outlier,) = by_geometry(ids, {"spacing along D": spacing})
    assert (outlier.id, outlier.reason) == ("c5", "spacing along D 5, the median 1")
    assert by_embedding(ids[:5], vectors[:5]) == []
    np.testing.assert_allclose(modified_z(np.array([1.0, 2, 3, 4, 100])), 0.6745 * np.array([-2, -1, 0, 1, 97]))


def test_columns_are_classes_numbers_or_left_out(tmp_path):
    import pyarrow as pa

    ids = [f"c{number}" for number in range(30)]
    table = pa.table(
        {
            "id": ids,
            "grade": [1, 2, 10] * 10,
            "age": [20 + number / 2 for number in range(30)],
            "remark": [f"text {number}" for number in range(30)],
            "empty": pa.nulls(30, pa.string()),
        }
    )
    (tmp_path / "more.csv").write_text("id,grade,site\nc0,2,B\nelsewhere,1,A\n")
    columns = {column.name: column for column in columns_of([table], ids, tmp_path / "more.csv")}
    assert list(columns) == ["grade", "site", "age"]
    assert columns["grade"].classes == ("1", "2", "10")
    assert columns["grade"].values[:3] == (1, 1, 2)  # the CSV is newer than the index
    assert columns["site"].values[:2] == (0, None)
    assert columns["age"].classes == ()
    assert columns["age"].values[2] == 21


def test_a_damaged_case_is_told_and_the_others_are_shown(featlift, tmp_path):
    cohort(featlift, tmp_path, labels=False)
    chunk = next(path for path in (tmp_path / "features.zarr/volumes/b/dense/c").rglob("*") if path.is_file())
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    for found, told in ((False, "dense is damaged"), (True, "damaged: dense/c/0")):
        if found:
            assert featlift("verify", "features.zarr").returncode == 1
        assert featlift("report", "features.zarr").returncode == 0
        text, pictures = (tmp_path / "report.html").read_text(), data_of(tmp_path / "report.html")["pictures"]
        assert told in text
        assert [place for place, tiles in pictures.items() if tiles[1] is None] == ["1"]
        assert all(tiles[0] for tiles in pictures.values())


def test_a_store_of_embeddings_alone_has_a_map_and_no_pictures(featlift, tmp_path):
    cohort(featlift, tmp_path, labels=False)
    featlift("extract", "scans", "-o", "small.zarr", *MODEL, "--save", "embedding")
    done = featlift("report", "small.zarr")
    assert done.returncode == 0, done.stderr
    data = data_of(tmp_path / "report.html")
    assert len(data["maps"][0]["cases"]) == 12
    assert data["pictures"]["0"] == [None, None]
