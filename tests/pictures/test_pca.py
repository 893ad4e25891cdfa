"""`featlift pca`: what is painted where, and the files that come of it."""

import re
from dataclasses import replace

import numpy as np
import pytest
import zarr
from PIL import Image

from featlift.drawing.anatomy import views
from featlift.errors import VolumeError
from featlift.pictures.colours import Colours
from featlift.pictures.fitting import fit_colours
from featlift.pictures.overlay import overlay_of
from featlift.pictures.painting import Painting, _cleaned
from featlift.store.features import features_of
from featlift.volumes.nifti import write_nifti
from tests.support.planted import AFFINE, CELLS, SHAPE, STRIDE, body, plant


@pytest.fixture
def store(tmp_path):
    return plant(tmp_path / "s.zarr")


def test_a_voxel_has_one_colour_in_all_planes(store):
    painting = Painting.of(store["one"], fit_colours([store]))
    shown = views(store["one"].scan_affine)
    for voxel in ((2, 10, 14), (3, 20, 24), (0, 4, 5)):
        colours = []
        for view in shown.values():
            rows, columns = SHAPE[view.down], SHAPE[view.right]
            row = rows - 1 - voxel[view.down] if view.flips[0] else voxel[view.down]
            column = columns - 1 - voxel[view.right] if view.flips[1] else voxel[view.right]
            picture = painting.picture(view, voxel[view.normal])
            assert picture.shape == (rows, columns, 4)
            colours.append(picture[row, column].astype(int))
        assert np.ptp(colours, axis=0).max() <= 1  # of 255, by rounding


def test_cells_are_painted_where_they_lie_and_air_is_not(store):
    colours = fit_colours([store])
    case = store["two"]
    painting = Painting.of(case, colours)
    picture = painting.picture(views(case.scan_affine)["HW"], 3)
    cells = colours.rgb(colours.project(features_of(case)))[3]
    inside = body()[3] > 0
    for h, w in np.argwhere(inside):
        # between the four voxels in the middle of a cell lies its centre
        middle = picture[4 * h + 1 : 4 * h + 3, 4 * w + 1 : 4 * w + 3]
        around = cells[max(h - 1, 0) : h + 2, max(w - 1, 0) : w + 2].reshape(-1, 3)
        assert (middle[..., 3] == 255).all()
        assert (middle[..., :3] >= around.min(axis=0)).all()
        assert (middle[..., :3] <= around.max(axis=0)).all()
    assert (picture[::31, ::39, 3] == 0).all()
    scan = case.look.scan_picture(views(case.scan_affine)["HW"], 3)
    np.testing.assert_allclose(scan[::4, ::4], np.array([0, 0.5, 0.7, 0.9])[body()[3]], atol=1e-3)


def test_holes_are_filled_and_crumbs_are_not_drawn(store):
    case = store["one"]
    colours = fit_colours([store])
    kinds = body()
    features = features_of(case)
    air = features[:, kinds == 0].mean(axis=1)
    features[:, 3, 4, 5] = air  # a ventricle
    features[:, 3, 0, 0] = features[:, kinds == 1].mean(axis=1)  # a crumb
    zarr.open_group(store.path / "volumes" / case.id, mode="r+")["dense"][:] = features
    painted = Painting.of(store["one"], colours).foreground > 0
    np.testing.assert_array_equal(painted, kinds > 0)


def test_slices_that_disagree_with_those_around_are_no_bars(store):
    """Where cells are much smaller along the depth: 0.3 mm of 3 mm in plane."""
    case, colours = store["one"], fit_colours([store])
    features = features_of(case)
    features[:, 3, 0, 2:5] = features[:, body() == 1].mean(axis=1)[:, None]  # beside the body, in one slice
    features[:, 2, 3, 4] = features[:, body() == 0].mean(axis=1)
    group = zarr.open_group(store.path / "volumes" / case.id, mode="r+")
    group["dense"][:] = features
    as_it_is = Painting.of(store["one"], colours).foreground > 0
    assert as_it_is[3, 0, 2:5].all()  # cells of one size: it may well be there
    thin = np.diag([0.1, 1, 1])
    cleaned = _cleaned(colours.foreground_of(features), np.linalg.norm(AFFINE[:3, :3] @ thin, axis=0) * STRIDE)
    np.testing.assert_array_equal(cleaned > 0, body() > 0)


def test_the_foreground_ends_where_cells_at_the_border_say(store):
    case, colours = store["one"], fit_colours([store])
    view = views(case.scan_affine)["HW"]
    painting = Painting.of(case, colours)
    foreground = np.full(CELLS, 4.0, np.float32)
    foreground[:, 0] = 1  # falls by 3 a cell of 4 voxels: below 0 from 4/3 of a voxel before its centre, at 1.5
    falling = replace(painting, foreground=foreground).picture(view, 3)[..., 3] > 0
    assert falling[1:, 4:-4].all()
    assert not falling[0].any()
    level = replace(painting, foreground=np.ones(CELLS, np.float32)).picture(view, 3)[..., 3] > 0
    assert level.all()  # a body that goes on beyond the scan


@pytest.mark.parametrize(("command", "size"), [("pca", 128), ("view", 128)])
def test_few_cells_are_told_with_what_gives_more(featlift, store, command, size):
    done = featlift(command, store.path)
    assert done.returncode == 0, done.stderr
    told = f"featlift: s.zarr: 8 x 10 cells: for a finer picture extract with --size {size} or --magnify 2\n"
    assert told in done.stderr


def test_pictures_animations_and_colours_are_written(featlift, store, tmp_path):
    other = plant(tmp_path / "other.zarr", mode="pcg", shift=0.2)
    done = featlift("pca", store.path, other.path, "--formats", "png,svg,pdf", "--save-colours", "c")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 cases drawn" in done.stdout
    names = [f"{case_id}.{kind}" for case_id in ("one", "two") for kind in ("pdf", "png", "svg")]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == names
    done = featlift("pca", store.path, "--case", "one", "--sweep", "gif")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "pictures" / "one.gif") as animation:
        assert animation.n_frames > 20  # of 48, those that show the same slices are one
        first = np.asarray(animation.convert("RGB"))
        animation.seek(12)
        assert (np.asarray(animation.convert("RGB")) != first).any()
    assert (tmp_path / "pictures" / "one.pdf").read_bytes().startswith(b"%PDF")
    again = featlift("pca", store.path, other.path, "--colours", "c", "--case", "two", "-o", "again")
    assert again.returncode == 0, again.stderr
    with Image.open(tmp_path / "pictures" / "two.png") as one, Image.open(tmp_path / "again" / "two.png") as two:
        assert one.size[0] == pytest.approx(7.2 * 300, abs=2)
        np.testing.assert_array_equal(np.asarray(one), np.asarray(two))


def test_panels_have_the_proportions_of_the_patient(featlift, store, tmp_path):
    assert featlift("pca", store.path, "--formats", "svg", "--case", "one").returncode == 0
    svg = (tmp_path / "pictures" / "one.svg").read_text()
    sizes = [
        (float(height), float(width))
        for found in re.findall(r"<image [^>]*>", svg)
        for height, width in [(re.search(r'height="([\d.]+)"', found)[1], re.search(r'width="([\d.]+)"', found)[1])]
    ]
    assert len(sizes) == 6  # three planes of the scan, three of the features
    depth, height, width = np.array(SHAPE) * np.linalg.norm(AFFINE[:3, :3], axis=0)
    millimetres = [(height, width), (depth, width), (depth, height)] * 2
    scales = np.array(sizes) / np.array(millimetres)
    np.testing.assert_allclose(scales, scales.mean(), rtol=0.02)  # whole pixels
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"R", "L", "A", "P", "S", "I", "axial", "coronal", "sagittal", "scan", "2d"} <= set(texts)
    assert "5 mm" in texts


def hot(value=5.0):
    """A map of the cells with one that stands out."""
    values = np.zeros(CELLS, np.float32)
    values[2, 3, 4] = value
    return values


def test_maps_are_drawn_over_the_scan(featlift, store, tmp_path):
    """Where their own affine says, for the cases that have them; each map is a row."""
    for name in ("attention", "scores"):
        write_nifti(tmp_path / f"two_{name}.nii.gz", hot(), store["two"].affine)
    values = overlay_of(store["two"], tmp_path / "two_attention.nii.gz")
    assert values.shape == SHAPE
    assert np.nanmax(values) == pytest.approx(values[2, 13:15, 17:19].max(), abs=1e-4)  # the cell's middle
    assert values[2, 13:15, 17:19].min() > 3
    assert np.nanmax(values[:, :8]) == 0
    done = featlift("pca", store.path, "--overlay", ".", "--formats", "svg")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["two.svg"]
    svg = (tmp_path / "pictures" / "two.svg").read_text()
    assert {"scan", "2d", "attention", "scores"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", svg))
    assert "attention 0 to " in svg
    assert len(re.findall("<image ", svg)) == 12  # three planes of four rows
    done = featlift("pca", store.path, "--overlay", ".", "--maps", "logits")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no <id>_logits.nii.gz of these cases there" in done.stderr


def test_maps_of_unknown_geometry_lie_on_voxels_or_cells(tmp_path):
    case = plant(tmp_path / "unknown.zarr", affine=None)["one"]
    for shape, there in ((CELLS, True), (SHAPE, True), ((3, 3, 3), False)):
        values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        write_nifti(tmp_path / "map.nii.gz", values, None)
        if there:
            shown = overlay_of(case, tmp_path / "map.nii.gz")
            assert shown.shape == SHAPE
            assert shown[-1, -1, -1] == shown.max() == values.max()
        else:
            with pytest.raises(VolumeError, match="neither its voxels nor cells"):
                overlay_of(case, tmp_path / "map.nii.gz")


def test_unknown_geometry_and_scans_that_were_not_kept(featlift, tmp_path):
    unknown = plant(tmp_path / "unknown.zarr", affine=None)
    assert featlift("pca", unknown.path, "--formats", "svg", "--case", "one").returncode == 0
    texts = set(re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "pictures" / "one.svg").read_text()))
    assert {"HW", "DW", "DH"} <= texts
    assert not texts & {"R", "L", "A", "P", "S", "I"}
    assert not any(text.endswith(" mm") for text in texts)
    without = plant(tmp_path / "without.zarr", save=("dense", "tokens", "slice_mean", "embedding"))
    done = featlift("pca", without.path, "--formats", "svg", "--case", "two")
    assert done.returncode == 0, done.stderr
    svg = (tmp_path / "pictures" / "two.svg").read_text()
    assert svg.count("<image ") == 3
    assert ">scan<" not in svg


def test_masks_are_outlined_and_may_say_what_gets_colours(featlift, store, tmp_path):
    organ = np.kron(body() == 2, np.ones(STRIDE)).astype(np.uint8)
    for case_id in store:
        (tmp_path / "masks").mkdir(exist_ok=True)
        write_nifti(tmp_path / "masks" / f"{case_id}.nii.gz", organ, AFFINE)
    wanted = ("--masks", "masks", "--case", "one", "--formats", "png")
    assert featlift("pca", store.path, "--case", "one", "-o", "plain").returncode == 0
    assert featlift("pca", store.path, *wanted, "-o", "outlined").returncode == 0
    assert featlift("pca", store.path, *wanted, "-o", "within", "--foreground", "mask").returncode == 0
    shown = [np.asarray(Image.open(tmp_path / name / "one.png").convert("RGB")) for name in ("plain", "outlined")]
    yellow = (shown[1] == (255, 214, 10)).all(axis=-1)
    assert yellow.any()
    assert not (shown[0] == (255, 214, 10)).all(axis=-1).any()
    painting = Painting.of(store["one"], fit_colours([store]), inside=organ > 0)
    for view in views(AFFINE).values():
        alpha = painting.picture(view, painting.middle[view.normal])[..., 3]
        np.testing.assert_array_equal(alpha > 0, view.picture(organ, painting.middle[view.normal]) > 0)


@pytest.mark.parametrize("array", ["dense", "scan"])
def test_a_damaged_case_is_no_part_of_the_colours_and_told(featlift, store, tmp_path, array):
    for file in (store.path / "volumes" / "two" / array).rglob("*"):
        if file.is_file() and file.name != "zarr.json":
            file.write_bytes(file.read_bytes()[:-40])
    done = featlift("pca", store.path)
    assert done.returncode == 1
    assert "1 of 2 cases drawn" in done.stdout
    assert re.search(rf"two +{array}/c/0/0/0.* bytes instead of ", done.stderr)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["one.png"]


def test_a_handful_of_cells_is_no_foreground_of_its_own(tmp_path):
    """Twelve cells out of air are too few for colours: everything gets some."""
    store = plant(tmp_path / "s.zarr", ids=("one",))
    for name, (_, rows, columns) in (("dense", (1, 1, 1)), ("scan", STRIDE)):
        array = zarr.open_group(store.path / "volumes" / "one", mode="r+")[name]
        values = np.asarray(array[...])
        values[..., 2 * rows :, :] = values[..., :1, :]
        values[..., 3 * columns :] = values[..., :1]
        array[...] = values
    colours = fit_colours([store])
    assert colours.about["foreground"] == "none"
    assert colours.about["cells"] == body().size


def test_names_are_drawn_as_they_are(featlift, tmp_path):
    """A $ begins no formula, and a letter that no font has is no error."""
    store = plant(tmp_path / "a$\\frac$b.zarr", ids=("cost $5 to $6", "\N{HIRAGANA LETTER A} #1?&x"))
    done = featlift("pca", store.path, "--formats", "svg")
    assert done.returncode == 0, done.stderr
    assert "Glyph" not in done.stderr
    assert "cost $5 to $6" in (tmp_path / "pictures" / "cost $5 to $6.svg").read_text()


def test_a_case_without_a_mask_is_named(featlift, store, tmp_path):
    (tmp_path / "masks").mkdir()
    write_nifti(tmp_path / "masks" / "one.nii.gz", np.ones(SHAPE, np.uint8), AFFINE)
    done = featlift("pca", store.path, "--masks", "masks")
    assert done.returncode == 0
    assert "1 of 2 cases have no mask: two" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--formats", "jpeg"], "--formats 'jpeg': choose one of png, svg, pdf"),
        (["--sweep", "mp4"], "--sweep 'mp4': choose one of gif, webp"),
        (["--case", "nobody"], "has no case nobody"),
        (["-o", "file"], "cannot write file"),
        (["--at", "1,2"], "--at '1,2': give d,h,w"),
        (["--at", "90,2,2"], "no voxel (90, 2, 2)"),
        (["--foreground", "mask"], "needs masks"),
        (["--foreground", "skull"], "--foreground 'skull': choose one of"),
        (["--layer", "5"], "layer 5"),
        (["--colours", "none.safetensors"], "no such file"),
    ],
)
def test_wrong_calls_say_what_to_do(featlift, store, tmp_path, arguments, message):
    (tmp_path / "file").touch()
    done = featlift("pca", store.path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_colours_of_another_network_are_refused(featlift, store, tmp_path):
    other = plant(tmp_path / "other.zarr", model="another")
    fit_colours([other]).write(tmp_path / "c")
    assert Colours.read(tmp_path / "c").about["meaning"]["model"] == "another"
    done = featlift("pca", store.path, "--colours", "c")
    assert done.returncode == 2
    assert 'which differ in model (colours "another", store "made-up")' in done.stderr
