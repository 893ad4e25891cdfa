"""What a case and a store give to Python and notebooks: labelled arrays, NIfTI images, figures, cards."""

from html.parser import HTMLParser

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

import featlift as package
from featlift import open_store
from featlift.errors import OptionError
from featlift.results.result import Measure, Result
from tests.support.scans import OBLIQUE
from tests.support.stores import RECIPE, write_cells

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
STRAIGHT = np.array([[0, 0, 0.8, -60.0], [0, -0.9, 0, 40.0], [2.5, 0, 0, 15.0], [0, 0, 0, 1.0]])  # y runs down
CELLS = np.random.default_rng(0).normal(size=(5, 3, 4, 6)).astype(np.float16).astype(np.float32)
HOSTILE = "a<img src=x onerror=alert(1)>&\"'b"


def turned(shear):
    """Oblique, anisotropic, an axis flipped; sheared where asked for."""
    cos, sin = np.cos(0.4), np.sin(0.4)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, -sin, cos], [0, cos, sin], [1, 0, 0]]) * (2.5, -0.9, 0.8)
    affine[1, 0] += shear
    affine[:3, 3] = -60, 40, 15
    return affine


AFFINES = {"straight": STRAIGHT, "oblique": turned(0), "sheared": turned(0.7), "sheared all ways": LPS @ OBLIQUE}


@pytest.fixture(params=list(AFFINES))
def case(request, tmp_path):
    return write_cells(tmp_path / "features.zarr", {"p": CELLS}, AFFINES[request.param])["p"]


def test_coordinates_are_where_the_affine_says(case):
    features = case.to_xarray()
    assert features.dims == ("feature", "z", "y", "x")
    np.testing.assert_array_equal(features.values, CELLS)  # without the padding
    directions = np.array(features.attrs["directions_lps"])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1)
    np.testing.assert_array_equal(features.attrs["affine_lps_mm"], case.affine)
    for index in np.ndindex(features.shape[1:]):
        here = features[(slice(None), *index)]
        point = directions @ [float(here[axis]) for axis in "zyx"]
        np.testing.assert_allclose(point, (case.affine @ [*index, 1])[:3], atol=1e-9)
    assert all(features[axis].attrs["units"] == "mm" for axis in "zyx")


def test_coordinates_of_a_straight_scan_are_lps_itself(tmp_path):
    features = write_cells(tmp_path / "features.zarr", {"p": CELLS}, STRAIGHT)["p"].to_xarray()
    point = STRAIGHT @ [2, 1.5 + 4 * 3, 1.5 + 4 * 5, 1]  # of voxels
    corner = features[:, 2, 3, 5]
    np.testing.assert_allclose([corner.x, corner.y, corner.z], point[:3])
    assert float(features.sel(x=point[0], y=point[1], z=point[2], method="nearest")[0]) == CELLS[0, 2, 3, 5]


def test_unknown_geometry_counts_voxels(tmp_path):
    case = write_cells(tmp_path / "features.zarr", {"p": CELLS})["p"]
    features = case.to_xarray()
    assert features.y.values.tolist() == [1.5, 5.5, 9.5, 13.5]
    assert (features.y.attrs["units"], "affine_lps_mm" in features.attrs) == ("voxel", False)
    header = case.to_nifti().header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)


def test_nifti_lies_where_the_cells_do(case, tmp_path):
    image = case.to_nifti(tmp_path / "features.nii.gz", channels=[3, 0])
    assert [path.name for path in tmp_path.glob("*.nii.gz")] == ["features.nii.gz"]
    stored = nib.load(tmp_path / "features.nii.gz")
    for each in (image, stored):
        np.testing.assert_array_equal(np.asanyarray(each.dataobj), CELLS[[3, 0]].T)
        np.testing.assert_allclose((LPS @ each.affine @ [5, 3, 2, 1])[:3], (case.affine @ [2, 3, 5, 1])[:3], atol=1e-4)
    with pytest.raises(OptionError, match="no channel 5; the features have 5"):
        case.to_nifti(channels=[5])
    with pytest.raises(OptionError, match=r"features\.npy: a NIfTI file ends in"):
        case.to_nifti("features.npy")


@pytest.mark.parametrize("name", ["straight", "oblique"])  # ITK takes no shear
def test_itk_sees_the_same_places(tmp_path, name):
    case = write_cells(tmp_path / "features.zarr", {"p": CELLS}, AFFINES[name])["p"]
    case.to_nifti(tmp_path / "channel.nii", channels=[2])
    image = sitk.ReadImage(str(tmp_path / "channel.nii"))
    image = image[..., 0] if image.GetDimension() == 4 else image
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), CELLS[2])
    point = image.TransformIndexToPhysicalPoint((5, 3, 2))
    np.testing.assert_allclose(point, (case.affine @ [2, 3, 5, 1])[:3], atol=1e-4)


def test_torch_takes_what_is_read(tmp_path):
    case = write_cells(tmp_path / "features.zarr", {"p": CELLS})["p"]
    tensor = torch.from_numpy(case.to_xarray().values)
    assert (tensor.dtype, tensor.shape) == (torch.float16, (5, 3, 4, 6))
    torch.from_numpy(case.dense[:, 1])
    torch.from_numpy(case.embedding)


def test_a_figure_of_the_planes_through_a_voxel(tmp_path):
    case = write_cells(tmp_path / "features.zarr", {"p": CELLS}, STRAIGHT)["p"]
    figure = case.show((0, 2, 2))
    pictures = [axes.images[0].get_array() for axes in figure.axes]
    assert [picture.shape[2:] for picture in pictures] == [()] * 3 + [(3,)] * 3  # scan, features in colours
    assert [picture.shape[:2] for picture in pictures[:3]] == [(16, 24), (3, 24), (3, 16)]
    assert not np.allclose(pictures[3], case.show((2, 2, 2)).axes[3].images[0].get_array())
    figure.savefig(tmp_path / "figure.png")
    with pytest.raises(OptionError, match=r"p: no voxel \(0, 99, 0\); its scan has"):
        case.show((0, 99, 0))


class Card(HTMLParser):
    """Tags that are closed in order, the texts, and what images are."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.texts, self.sources = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        assert not any(name.startswith("on") or name == "href" for name, _ in attrs)
        if tag == "img":
            self.sources.append(dict(attrs)["src"])
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def card_of(thing):
    html = thing._repr_html_()
    assert len(html) < 50_000
    card = Card(html)
    assert set(card.tags) <= {"div", "strong", "table", "tr", "th", "td", "img"}
    assert all(source.startswith("data:image/png;base64,") for source in card.sources)
    return card


def test_cards_are_small_offline_and_escaped(tmp_path):
    noise = np.random.default_rng(1).normal(size=(700, 2, 100, 100)).astype(np.float32)  # no picture gets smaller
    ids = [HOSTILE, *(f"case{number}" for number in range(12))]
    cases = dict.fromkeys(ids, CELLS)
    store = write_cells(tmp_path / "features.zarr", cases, STRAIGHT)
    card = card_of(store)
    assert len(card.sources) == 6
    assert {"volumes", "13", "model", RECIPE["model"]} <= set(card.texts)
    card = card_of(store[HOSTILE])
    assert f"case {HOSTILE}" in card.texts
    assert any("5 channels of 3 x 4 x 6 cells" in text for text in card.texts)
    assert any("0.8 mm" in text for text in card.texts)
    assert len(card.sources) == 2
    assert len(card_of(write_cells(tmp_path / "noise.zarr", {"n": noise})["n"]).sources) == 2


def test_the_card_of_what_is_damaged_says_so(tmp_path):
    store = write_cells(tmp_path / "features.zarr", {"p": CELLS, "q": CELLS})
    (tmp_path / "features.zarr/volumes/p/scan/zarr.json").unlink()
    assert "failed" in card_of(open_store(tmp_path / "features.zarr")["p"]).texts
    assert len(card_of(store).sources) == 1
    assert card_of(store[:0]).sources == []


def test_the_card_of_features(tiny_vit):
    features = package.lift(tiny_vit, mode="2d", layers=(0, -1))(torch.rand(1, 1, 3, 32, 32))
    card = card_of(features)
    assert {"layer 0", "layer 2", "dense 1 x 192 x 3 x 2 x 2, tokens 1 x 3 x 1 x 192"} <= set(card.texts)
    assert len(card.sources) == 1


def test_the_card_of_a_result():
    measures = {"auc": Measure(0.8125, 40, low=0.7, high=0.9), HOSTILE: Measure(None, 0)}
    card = card_of(Result("knn", "features-knn", "features.zarr", RECIPE, {"name": "knn"}, measures, [{"id": "a"}]))
    assert {"0.812 (0.700 to 0.900), 40 cases", HOSTILE, "none"} <= set(card.texts)


def test_ids_are_completed_and_a_store_is_a_context(tmp_path):
    write_cells(tmp_path / "features.zarr", {"p": CELLS, "q": CELLS})
    with open_store(tmp_path / "features.zarr") as store:
        assert store._ipython_key_completions_() == ["p", "q"]
        assert store[["q"]]._ipython_key_completions_() == ["q"]
