"""Colours: one basis for all, the foreground, files."""

import numpy as np
import pytest
import zarr
from sklearn.decomposition import PCA

from featlift.errors import InputError, OptionError, StoreError
from featlift.pictures.colours import Colours
from featlift.pictures.fitting import fit_colours
from featlift.store.features import features_of
from featlift.volumes.nifti import write_nifti
from tests.support.planted import AFFINE, STRIDE, body, plant


def test_components_are_those_of_scikit_learn_on_the_foreground(tmp_path):
    stores = [plant(tmp_path / "one.zarr"), plant(tmp_path / "two.zarr", shift=0.3)]
    colours = fit_colours(stores)
    inside = np.concatenate([features_of(case)[:, body() > 0].T for store in stores for case in store.values()])
    pca = PCA(3).fit(inside)
    np.testing.assert_allclose(np.abs(pca.components_ @ colours.projection.components.T), np.eye(3), atol=1e-4)
    assert colours.variance_kept == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-4)
    dark, bright = np.percentile((inside - pca.mean_) @ colours.projection.components.T, [1, 99], axis=0)
    np.testing.assert_allclose(colours.low, dark, atol=1e-4)
    np.testing.assert_allclose(colours.high, bright, atol=1e-4)
    assert colours.about["cells"] == len(inside)


def test_air_is_background_and_the_body_is_not(tmp_path):
    store = plant(tmp_path / "s.zarr")
    colours = fit_colours([store])
    assert colours.about["foreground"] == "component"
    for case in store.values():
        np.testing.assert_array_equal(colours.foreground_of(features_of(case)) > 0, body() > 0)


def test_where_the_first_component_is_about_something_else_the_scan_tells_the_foreground(tmp_path):
    """As on a CT whose air and muscle are both even: a direction that features have is found by their intensity."""
    store = plant(tmp_path / "s.zarr")
    rng = np.random.default_rng(0)
    kinds = np.minimum(body(), 1)
    dense = rng.normal(size=store["one"].dense.shape)
    dense[0] = 9 * rng.normal(size=kinds.shape)  # the largest variance, of one cloud
    dense[1] = 6 * kinds
    for case_id in store:
        zarr.open_group(store.path / "volumes" / case_id, mode="r+")["dense"][:] = dense
    colours = fit_colours([store])
    assert colours.about["foreground"] == "scan"
    np.testing.assert_array_equal(colours.foreground_of(dense.astype(np.float16)) > 0, body() > 0)


def test_a_crop_without_air_foreground_of_all_over(tmp_path):
    rng = np.random.default_rng(0)
    store = plant(tmp_path / "s.zarr")
    noise = rng.normal(size=store["one"].dense.shape)
    for case_id in store:
        group = zarr.open_group(store.path / "volumes" / case_id, mode="r+")
        group["dense"][:] = noise
        group["scan"][:] = rng.random(group["scan"].shape)
    colours = fit_colours([store])
    assert colours.about["foreground"] == "none"
    assert (colours.foreground_of(noise) > 0).all()


def test_the_same_organ_has_the_same_colour_in_every_case_and_store(tmp_path):
    stores = [plant(tmp_path / "one.zarr"), plant(tmp_path / "two.zarr")]
    colours = fit_colours(stores)
    means = []
    for store in stores:
        for case in store.values():
            rgb = colours.rgb(colours.project(features_of(case))).astype(float)
            means.append([rgb[body() == kind].mean(axis=0) for kind in (1, 2, 3)])
    means = np.array(means)
    assert np.ptp(means[..., :2], axis=0).max() < 5  # of 255, between cases; three kinds are two components
    apart = np.linalg.norm(means[0][:, None] - means[0][None], axis=-1)[np.triu_indices(3, 1)]
    assert apart.min() > 60  # between organs


def test_masks_say_what_foreground_of(tmp_path):
    store = plant(tmp_path / "s.zarr")
    organ = np.kron(body() == 2, np.ones(STRIDE)).astype(np.uint8)
    masks = {case_id: tmp_path / f"{case_id}.nii.gz" for case_id in store}
    for path in masks.values():
        write_nifti(path, organ, AFFINE)
    colours = fit_colours([store], foreground="mask", masks=masks)
    assert colours.about["cells"] == 2 * (body() == 2).sum()
    with pytest.raises(OptionError, match="no mask of two"):
        fit_colours([store], foreground="mask", masks={"one": masks["one"]})


def test_a_file_gives_the_same_colours_again(tmp_path):
    store = plant(tmp_path / "s.zarr")
    colours = fit_colours([store], components=5)
    colours.write(tmp_path / "colours.safetensors")
    again = Colours.read(tmp_path / "colours.safetensors")
    features = features_of(store["one"])
    np.testing.assert_array_equal(again.project(features), colours.project(features))
    np.testing.assert_array_equal(again.foreground_of(features), colours.foreground_of(features))
    assert again.about == colours.about
    again.check(store)
    assert list(tmp_path.glob("*.safetensors")) == [tmp_path / "colours.safetensors"]


def test_colours_are_of_one_network_and_layer(tmp_path):
    store = plant(tmp_path / "s.zarr")
    other = plant(tmp_path / "other.zarr", model="another")
    mode = plant(tmp_path / "mode.zarr", mode="pcg")
    colours = fit_colours([store, mode])
    with pytest.raises(OptionError, match="share no colours: they differ in model"):
        fit_colours([store, other])
    with pytest.raises(StoreError, match="which differ in model"):
        colours.check(other)
    with pytest.raises(OptionError, match="layer 7"):
        fit_colours([store], layer=7)
    with pytest.raises(OptionError, match="no case three"):
        fit_colours([store], ["three"])
    with pytest.raises(OptionError, match=r"600 components of .* with 12 channels"):
        fit_colours([store], components=600)


def test_files_that_hold_no_colours(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        Colours.read(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("colours")
    with pytest.raises(StoreError, match="holds no colours"):
        Colours.read(tmp_path / "text")
