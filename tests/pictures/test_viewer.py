"""What goes into a page: reduced features, grids, limits; and the server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest

from featlift.errors import OptionError, VolumeError
from featlift.evaluation.featdice.segmentation import cosine_similarity
from featlift.pictures.fitting import fit_colours
from featlift.pictures.viewer import Scene, Server, write_view
from featlift.pictures.viewer.placing import Shown
from featlift.pictures.viewer.reduction import reduce
from featlift.volumes.nifti import write_nifti
from tests.support.planted import AFFINE, SHAPE, in_slabs, plant


def scene_of(*stores, **options):
    return Scene(stores, list(stores[0]), fit_colours(stores), **options)


def correlated(channels=40, cells=(6, 7, 8), seed=0):
    """Features whose channels say much the same, around a mean that is not 0."""
    rng = np.random.default_rng(seed)
    spread = rng.normal(size=(channels, channels)) * 0.8 ** np.arange(channels)
    return (np.tensordot(spread, rng.normal(size=(channels, *cells)), axes=1) + 1).astype(np.float32)


def test_all_channels_give_the_cosines_of_the_features_to_within_eight_bits():
    features = correlated()
    reduced = reduce(in_slabs(features), 1000)
    assert reduced.features.values.shape == (6, 7, 8, 40)
    assert reduced.variance_kept == pytest.approx(1)
    off = np.abs(reduced.similarity((2, 3, 4)) - cosine_similarity(features, features[:, 2, 3, 4]))
    assert off.max() < 0.01


@pytest.mark.parametrize("channels", [4, 8, 16])
def test_what_fewer_channels_cost_is_told(channels):
    features = correlated()
    reduced = reduce(in_slabs(features), channels)
    unit = (features / np.linalg.norm(features, axis=0)).reshape(len(features), -1).T
    differences = [
        np.abs(reduced.similarity(cell) - cosine_similarity(features, features[:, *cell]))
        for cell in np.ndindex(6, 7, 8)
    ]
    assert reduced.error[0] == pytest.approx(np.mean(differences), rel=0.25)  # of a sample of them
    assert 0.5 * np.max(differences) < reduced.error[1] <= np.max(differences) + 1e-5
    directions = np.linalg.svd(unit, full_matrices=False)[2][:channels]
    kept = (unit @ directions.T).var(axis=0).sum() / unit.var(axis=0).sum()
    assert reduced.variance_kept == pytest.approx(kept, rel=1e-3)


def test_more_channels_are_closer():
    mean = [reduce(in_slabs(correlated()), channels).error[0] for channels in (2, 4, 8, 16, 32)]
    assert mean == sorted(mean, reverse=True)


def test_features_that_are_all_alike_have_nothing_to_lose():
    reduced = reduce(in_slabs(np.ones((5, 2, 3, 4), np.float32)), 2)
    assert reduced.variance_kept == 1
    np.testing.assert_allclose(reduced.similarity((0, 0, 0)), 1, atol=1e-6)


@pytest.mark.parametrize("most", [10**9, 3000, 500])
def test_a_coarser_grid_shows_the_same_places(tmp_path, most):
    case = plant(tmp_path / "s.zarr", ids=("one",))["one"]
    shown = Shown.of(case, most)
    assert np.prod(shown.shape) <= most
    # the scan's own rows as its values: the mean of those that a voxel stands for lies where the voxel does
    for axis, size in enumerate(SHAPE):
        ramp = np.broadcast_to(np.arange(size).reshape([-1 if a == axis else 1 for a in range(3)]) / 255, SHAPE)
        rows = np.moveaxis(shown.averaged(ramp.astype(np.float16)), axis, 0).reshape(shown.shape[axis], -1)
        whole = rows[: size // shown.factors[axis]]  # the last one may stand for fewer
        at = np.arange(len(whole)) * shown.factors[axis] + (shown.factors[axis] - 1) / 2
        np.testing.assert_allclose(whole, np.broadcast_to(at[:, None], whole.shape), atol=0.51)
        corner = np.linalg.solve(case.scan_affine, shown.affine)
        assert corner[axis, 3] == pytest.approx(at[0])
        assert corner[axis, axis] == pytest.approx(shown.factors[axis])
    cells = shown.cells(case, case, case)
    middle = np.array(cells.offset) + np.array(cells.stride) * 2
    np.testing.assert_allclose(shown.affine @ [*middle, 1], case.affine @ [2, 2, 2, 1], atol=1e-9)


def test_stores_on_other_grids_meet_in_the_patient(tmp_path):
    base = plant(tmp_path / "a.zarr", ids=("one",))["one"]
    shifted = AFFINE @ np.diag([1, -0.5, 2, 1]) + np.array([[0, 0, 0, 3], [0, 0, 0, 20], [0, 0, 0, 0], [0, 0, 0, 0]])
    other = plant(tmp_path / "b.zarr", ids=("one",), affine=shifted)["one"]
    cells = Shown.of(base).cells(other, other, base)
    for cell in ([0, 0, 0], [5, 3, 7]):
        voxel = np.array(cells.offset) + np.array(cells.stride) * cell
        np.testing.assert_allclose(base.scan_affine @ [*voxel, 1], other.affine @ [*cell, 1], atol=1e-9)
    turned = AFFINE.copy()
    turned[:3, :3] = np.array([[0.98, 0.2, 0], [-0.2, 0.98, 0], [0, 0, 1]]) @ turned[:3, :3]
    other = plant(tmp_path / "c.zarr", ids=("one",), affine=turned)["one"]
    with pytest.raises(OptionError, match="turned against each other"):
        Shown.of(base).cells(other, other, base)


def test_a_page_that_would_be_too_large_is_refused_and_none_is_left(tmp_path):
    scene = scene_of(plant(tmp_path / "s.zarr"))
    with pytest.raises(OptionError, match="--serve"):
        write_view(scene, tmp_path / "page.html", limit=60_000)
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


def test_nothing_in_a_store_can_break_out_of_its_data(tmp_path):
    store = plant(tmp_path / "<script>alert(1)<-script>.zarr", ids=("one",), model="</script><script>alert(1)</script>")
    write_view(scene_of(store), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("<script") == 3  # the case, the manifest, the program
    assert "alert(1)<" not in text


def test_a_case_with_a_wrong_mask_is_left_out_and_named(tmp_path, featlift):
    plant(tmp_path / "s.zarr")
    (tmp_path / "masks").mkdir()
    write_nifti(tmp_path / "masks" / "one.nii.gz", np.ones(SHAPE, np.uint8), AFFINE)
    write_nifti(tmp_path / "masks" / "two.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    done = featlift("view", "s.zarr", "--masks", "masks")
    assert done.returncode == 1
    assert done.stderr.split("\n")[-2].split() == ["s.zarr", "two", *["not", "a", "mask:", "it", "is", "empty"]]
    assert done.stdout.startswith("view.html: 1 case, ")
    (tmp_path / "masks" / "one.nii.gz").unlink()
    done = featlift("view", "s.zarr", "--masks", "masks", "--case", "two", "-o", "other.html")
    assert (done.returncode, (tmp_path / "other.html").exists()) == (2, False)
    assert "nothing to show: two: not a mask: it is empty" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("s.zarr", "--case", "three"), "has no case three"),
        (("s.zarr", "--layer", "7"), "layer 7"),
        (("s.zarr", "other.zarr"), "no case is in all of them"),
        (("s.zarr", "without.zarr"), "dense"),
        (("s.zarr", "--mask-pattern", "*_label.nii"), "--masks"),
        (("s.zarr", "--colours", "none.safetensors"), "no such file"),
        (("nothing.zarr",), "no such store"),
    ],
)
def test_wrong_calls(tmp_path, featlift, arguments, message):
    plant(tmp_path / "s.zarr")
    plant(tmp_path / "other.zarr", ids=("three",))
    plant(tmp_path / "without.zarr", save=("scan",))
    done = featlift("view", *arguments)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "view.html").exists()


def test_of_many_cases_some_are_taken_and_that_is_said(tmp_path, featlift):
    plant(tmp_path / "s.zarr", ids=tuple(f"case{number:02}" for number in range(14)))
    done = featlift("view", "s.zarr")
    assert "12 of 14 cases, evenly spaced" in done.stderr
    assert done.stdout.startswith("view.html: 12 cases, ")
    assert featlift("view", "s.zarr", "--limit", "0").stdout.startswith("view.html: 14 cases, ")


@pytest.fixture
def server(tmp_path):
    labels = np.zeros(SHAPE, np.uint8)
    write_nifti(tmp_path / "empty.nii.gz", labels, AFFINE)
    store = plant(tmp_path / "s.zarr")
    with Server(scene_of(store, masks={"two": tmp_path / "empty.nii.gz"})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def asked(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_the_server_answers_this_machine_alone_and_reads_cases_when_asked(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"
    status, page = asked(server.url)
    assert (status, b"case-0" in page.split(b"<script")[1]) == (200, False)
    status, content = asked(f"{server.url}case/0")
    assert (status, json.loads(content)["id"]) == (200, "one")
    status, content = asked(f"{server.url}case/1")
    assert (status, json.loads(content)["error"]) == (500, "not a mask: it is empty")
    for path in ("case/2", "case/-1", "case/", "case/0/../../etc/passwd", "page/viewer.js"):
        assert asked(f"{server.url}{path}")[0] == 404
    assert asked(f"{server.url}case/0", Host="example.org:80")[0] == 403  # a name that was made to point here
    with pytest.raises(OptionError, match=f"--port {server.server_port}"):
        Server(server.scene, server.server_port)


def test_the_command_serves_until_it_is_interrupted(tmp_path):
    plant(tmp_path / "s.zarr")
    command = [sys.executable, "-m", "featlift.cli.main", "view", "s.zarr", "--serve", "--port", "0"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # what a shell runs in the background ignores Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        address, _, rest = process.stdout.readline().partition(" ")
        assert rest == "2 cases, for browsers of this machine; Ctrl-C ends it\n"
        assert asked(address.removesuffix(":"))[0] == 200
        assert json.loads(asked(f"{address.removesuffix(':')}case/1")[1])["id"] == "two"
        process.send_signal(signal.SIGINT)
        _, complaints = process.communicate(timeout=30)
        assert (process.returncode, complaints) == (0, "")
    finally:
        process.kill()
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


def test_a_served_page_in_a_browser(server, browse):
    page = browse(server.url)
    page.click(0, 0, down=0.4, right=0.4)
    assert page("() => viewer.state.layer") == "similarity"
    assert set(page.requests) == {server.url, f"{server.url}case/0"}
    assert "for the next case" in page.page.locator("#notes").text_content()
    page.page.click("#next")
    page.page.wait_for_selector("#status.failed")
    assert "not a mask: it is empty" in page.page.locator("#status").inner_text()
    assert [complaint for complaint in page.complaints if "500" not in complaint] == []
    page.complaints.clear()  # that the browser logs an answer of this kind is as it should be
    page.page.click("#previous")
    page.page.wait_for_selector("#status:not(.failed)", state="attached")
    assert page.page.locator("main").is_visible()


def test_a_page_of_no_usable_case_is_refused(tmp_path):
    write_nifti(tmp_path / "empty.nii.gz", np.zeros(SHAPE, np.uint8), AFFINE)
    scene = scene_of(plant(tmp_path / "s.zarr", ids=("one",)), masks={"one": tmp_path / "empty.nii.gz"})
    with pytest.raises(VolumeError, match="nothing to show"):
        write_view(scene, tmp_path / "page.html")
