"""The affine stage: known maps of real scans are undone, the same on every run, and ITK reads what comes out."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import map_coordinates

import featlift
from featlift import read
from featlift.errors import OptionError, VolumeError
from featlift.registration import ConvexAdam, DisplacementField, PairSettings, register
from featlift.registration.affine import by_centres, by_likeness
from featlift.registration.body import body_of
from featlift.registration.transforms import LinearTransform
from featlift.volumes import Volume
from featlift.volumes.nifti import write_nifti
from tests.conftest import GOLDEN

STRAIGHT = np.eye(4)[[2, 1, 0, 3]]  # d runs along z
QUICK = ConvexAdam(cell=4, reach=2, iterations=30)


def turn(degrees):
    """Around an axis that is none of the patient's."""
    x, y, z = np.array([1, 2, 2]) / 3
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.deg2rad(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def placed(directions, shape, centre):
    """A grid whose middle voxel lies at a place in the patient."""
    affine = np.eye(4)
    affine[:3, :3] = directions
    affine[:3, 3] = centre - directions @ ((np.array(shape) - 1) / 2)
    return affine


CENTRE = np.array([-30.3, 20.1, 10.7])


def known_map(degrees=15, shift=(6, -5, 4)):
    """Turned, stretched by up to 8 % and shifted, about the middle of the scan."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn(degrees) @ np.diag([1.08, 0.94, 1.05])
    matrix[:3, 3] = CENTRE + shift - matrix[:3, :3] @ CENTRE
    return matrix


def places(shape, affine):
    return affine[:3, :3] @ np.indices(shape, float).reshape(3, -1) + affine[:3, 3:]


def bent(points):
    """A smooth step of up to 2 mm at places ``(3, N)``, and where it leads."""
    x, y, z = points / 40 * 2 * np.pi
    return points + np.stack([1.8 * np.sin(0.6 * y), -1.5 * np.cos(0.5 * x - 0.5 * z), 1.6 * np.sin(0.4 * x + 0.6 * y)])


@pytest.fixture(scope="module")
def moving():
    """A hippocampus in millimetres, somewhere in the patient."""
    array = np.load(GOLDEN / "systems" / "registration.npz")["pair0/fixed"].astype(np.float32)
    return Volume(array, placed(STRAIGHT[:3, :3], array.shape, CENTRE))


def seen_through(moving, lead, shape, affine):
    """The fixed scan each of whose places shows what the moving one shows where `lead` leads."""
    at = np.linalg.inv(moving.affine) @ np.vstack([lead(places(shape, affine)), np.ones(np.prod(shape))])
    values = map_coordinates(moving.array, at[:3], order=1, mode="nearest").reshape(shape)
    return Volume(values.astype(np.float32), affine)


#: Oblique and flipped.
OTHER = ((38, 52, 40), turn(-20) @ STRAIGHT[:3, :3] @ np.diag([1, -1, 1]))


def apart(one, other, shape, affine):
    """Mean distance of where two functions lead the middle of a grid to, in mm."""
    points = places(shape, affine)
    centre = points.mean(axis=1, keepdims=True)
    points = points[:, np.abs(points - centre).max(axis=0) < 12]
    return np.linalg.norm(one(points) - other(points), axis=0).mean()


def test_a_known_map_is_found(moving):
    """To a tenth of a voxel, from scans that are turned, stretched, shifted, and on grids of their own."""
    shape, directions = OTHER
    true = LinearTransform(known_map())
    fixed = seen_through(moving, true.moved, shape, placed(directions, shape, CENTRE))
    found = by_likeness(fixed, moving, "mutual information", [np.eye(4), by_centres(fixed, moving)])
    assert apart(LinearTransform(found).moved, true.moved, shape, fixed.affine) < 0.1
    again = by_likeness(fixed, moving, "mutual information", [np.eye(4), by_centres(fixed, moving)])
    assert np.array_equal(found, again)


def test_a_known_map_and_a_smooth_warp_are_undone(moving, tmp_path):
    """By both stages; and ITK makes of the one field what we do, in one step."""
    shape, directions = OTHER
    lead = lambda points: LinearTransform(known_map()).moved(bent(points))  # noqa: E731
    fixed = seen_through(moving, lead, shape, placed(directions, shape, CENTRE))
    found = register(fixed, moving, PairSettings(affine="intensity", convex_adam=QUICK))
    assert apart(found.field.moved, lead, shape, fixed.affine) < 0.5
    assert found.metrics["max_mm"] < 8, "of the deformable part"
    assert found.metrics["folds"] == 0
    alone = register(fixed, moving, PairSettings(convex_adam=QUICK))
    assert apart(alone.field.moved, lead, shape, fixed.affine) > 1

    found.field.write(tmp_path / "field.nii.gz")
    write_nifti(tmp_path / "moving.nii.gz", moving.array, moving.affine)
    write_nifti(tmp_path / "fixed.nii.gz", fixed.array, fixed.affine)
    field = sitk.ReadImage(str(tmp_path / "field.nii.gz"), sitk.sitkVectorFloat64)
    scan, like = (sitk.ReadImage(str(tmp_path / f"{name}.nii.gz"), sitk.sitkFloat64) for name in ("moving", "fixed"))
    theirs = sitk.Resample(scan, like, sitk.DisplacementFieldTransform(field), sitk.sitkLinear, 0.0)
    ours = found.field.warp(moving, shape, fixed.affine)
    assert np.abs(ours - sitk.GetArrayFromImage(theirs)).max() < 1e-3


def test_scans_that_do_not_overlap(moving):
    far = Volume(moving.array, placed(STRAIGHT[:3, :3], moving.array.shape, CENTRE + np.array([500, -300, 80])))
    with pytest.raises(VolumeError, match="--affine"):
        register(moving, far)
    for stage in ("moments", "intensity"):
        found = register(moving, far, PairSettings(affine=stage, convex_adam=QUICK))
        true = LinearTransform(np.array([[1, 0, 0, 500], [0, 1, 0, -300], [0, 0, 1, 80], [0, 0, 0, 1.0]]))
        assert apart(found.field.moved, true.moved, moving.array.shape, moving.affine) < 0.5


def test_slices_within_their_plane(moving):
    """One of them flipped; the map leaves the plane where it is."""
    cut = moving.affine @ np.array([[1, 0, 0, 20], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    slice_ = Volume(moving.array[20:21], cut)
    true = np.eye(4)
    true[:2, :2] = [[np.cos(0.2), -np.sin(0.2)], [np.sin(0.2), np.cos(0.2)]]
    true[:2, 3] = CENTRE[:2] + np.array([3, -2]) - true[:2, :2] @ CENTRE[:2]
    flipped = cut @ np.array([[1, 0, 0, 0], [0, -1, 0, 55], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    fixed = seen_through(slice_, LinearTransform(true).moved, (1, 56, 40), flipped)
    found = by_likeness(fixed, slice_, "mutual information", [np.eye(4)])
    assert apart(LinearTransform(found).moved, LinearTransform(true).moved, (1, 56, 40), flipped) < 0.2
    with pytest.raises(OptionError, match="one of each"):
        by_likeness(fixed, moving, "mutual information", [np.eye(4)])


def test_by_features(tiny_vit, moving):
    """A shift that scans do not overlap after is found on the cells of a network."""
    lifted = featlift.lift(tiny_vit, mode="2d")
    preparation = featlift.Preparation(size=(96, 96, 96), intensity="minmax")
    far = Volume(moving.array, placed(STRAIGHT[:3, :3], moving.array.shape, CENTRE + np.array([200, 0, 0])))
    found = register(
        moving,
        far,
        PairSettings(affine="features", convex_adam=ConvexAdam(iterations=0)),
        lambda scan: featlift.extract(scan, lifted, preparation),
    )
    assert found.affine[:3, 3] == pytest.approx([200, 0, 0], abs=1.5)
    with pytest.raises(OptionError, match="give a model"):
        register(moving, far, PairSettings(affine="features"))


def test_a_body_has_no_holes_and_no_table():
    """A hollow ball with a table below it; lungs open at the top."""
    _, h, w = np.indices((40, 60, 60)) - np.array([20, 28, 30])[:, None, None, None]
    radius = np.sqrt(h**2 + w**2)
    image = np.where(radius < 20, 40.0, -1000) + np.where(radius < 10, -850, 0)
    image[:, 54:56] = 100
    body = body_of(image.astype(np.float32))
    assert np.array_equal(body, radius < 20)
    assert body_of(np.zeros((4, 5, 6), np.float32)).all()


def test_command_and_chain(featlift, tmp_path, moving):
    """`apply` with the affine transform and a field that was found after it is the whole field."""
    shape, directions = OTHER
    lead = lambda points: LinearTransform(known_map(8)).moved(bent(points))  # noqa: E731
    fixed = seen_through(moving, lead, shape, placed(directions, shape, CENTRE))
    write_nifti(tmp_path / "moving.nii.gz", moving.array, moving.affine)
    write_nifti(tmp_path / "fixed.nii.gz", fixed.array, fixed.affine)
    quick = ("--search-cell", 4, "--reach", 2, "--iterations", 20)
    done = featlift(
        "register", "run", "fixed.nii.gz", "moving.nii.gz", "-o", "out", "--affine", "intensity", "--inverse", *quick
    )
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["settings"]["affine"] == "intensity"
    assert run["seconds"]["affine"] > 0
    affine = sitk.ReadTransform(str(tmp_path / "out" / "affine.tfm"))
    point = tuple(CENTRE)
    assert np.array(affine.TransformPoint(point)) == pytest.approx((np.array(run["affine"]) @ [*point, 1])[:3])

    there, back = (DisplacementField.read(tmp_path / "out" / f"{name}.nii.gz") for name in ("field", "inverse"))
    assert back.shape == moving.array.shape
    assert apart(lambda points: there.moved(back.moved(points)), lambda points: points, back.shape, back.affine) < 0.1

    whole = sitk.ReadImage(str(tmp_path / "out" / "field.nii.gz"), sitk.sitkVectorFloat64)
    chain = sitk.CompositeTransform([affine.GetInverse(), sitk.DisplacementFieldTransform(whole)])
    step = sitk.TransformToDisplacementField(chain, sitk.sitkVectorFloat64, *geometry(tmp_path / "fixed.nii.gz"))
    sitk.WriteImage(step, str(tmp_path / "step.nii.gz"))
    warped = read(tmp_path / "out" / "warped.nii.gz").array
    there = ("--image", "moving.nii.gz", "--like", "fixed.nii.gz")
    for number, transforms in enumerate((("out/field.nii.gz",), ("out/affine.tfm", "step.nii.gz"))):
        done = featlift("register", "apply", *transforms, *there, "-o", f"{number}.nii.gz")
        assert done.returncode == 0, done.stderr
        assert np.abs(read(tmp_path / f"{number}.nii.gz").array - warped).mean() < 0.05
    both = sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(step)])
    scan, like = (sitk.ReadImage(str(tmp_path / f"{name}.nii.gz"), sitk.sitkFloat64) for name in ("moving", "fixed"))
    theirs = sitk.GetArrayFromImage(sitk.Resample(scan, like, both, sitk.sitkLinear, float(moving.array.min())))
    assert np.abs(theirs - warped).mean() < 0.05


def geometry(path):
    image = sitk.ReadImage(str(path))
    return image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()


def test_bad_transforms_in_one_line(featlift, tmp_path, moving):
    write_nifti(tmp_path / "moving.nii.gz", moving.array, moving.affine)
    (tmp_path / "text.tfm").write_text("no transform")
    sitk.WriteTransform(sitk.AffineTransform(2), str(tmp_path / "flat.tfm"))
    sitk.WriteTransform(sitk.BSplineTransform(3), str(tmp_path / "curved.tfm"))
    there = ("--image", "moving.nii.gz", "--like", "moving.nii.gz", "-o", "w.nii.gz")
    for name, message in {
        "missing.tfm": "no such file",
        "text.tfm": "not a transform",
        "flat.tfm": "three dimensions",
        "curved.tfm": "displacement field",
    }.items():
        done = featlift("register", "apply", name, *there)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1, done.stderr
        assert message in done.stderr
    done = featlift("register", "run", "moving.nii.gz", "moving.nii.gz", "-o", "out", "--affine", "rigid")
    assert done.returncode == 2
    assert "moments" in done.stderr
