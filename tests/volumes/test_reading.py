"""Files of every format read as what they say, in one convention."""

from __future__ import annotations

import gzip
import itertools
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from featlift.volumes import read
from tests.support.files import FORMATS, OBLIQUE, RAS_TO_LPS, REVERSED, noise, save

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
def test_every_number_type_reads(tmp_path, name, dtype):
    array = noise(dtype=dtype)
    if dtype.startswith(("int", "float")):
        array -= 50
    volume = read(save(tmp_path / name, array))
    np.testing.assert_array_equal(volume.array, array)
    assert volume.array.flags.writeable


@pytest.mark.parametrize("name", ["1.nii", "2.nii", "1.nii.gz"])
@pytest.mark.parametrize("dtype", [">i2", ">u4", ">f4", ">f8"])
def test_big_endian_nifti(tmp_path, name, dtype):
    kind = nib.Nifti2Image if name[0] == "2" else nib.Nifti1Image
    image = kind(noise().T, np.eye(4), kind.header_class(endianness=">"))
    image.set_data_dtype(dtype)
    nib.save(image, tmp_path / name)
    assert nib.load(tmp_path / name).header.endianness == ">"
    np.testing.assert_array_equal(read(tmp_path / name).array, noise())


@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
@pytest.mark.parametrize(
    ("slope", "inter", "want"), [(2, -10, (2, -10)), (0.5, 0, (0.5, 0)), (0, 7, (1, 0)), (np.nan, np.nan, (1, 0))]
)
def test_nifti_scaling(tmp_path, dtype, slope, inter, want):
    path = save(tmp_path / "1.nii", noise(dtype=dtype))
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<ff", slope, inter)
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path).array, np.float32(noise()) * want[0] + want[1])


def test_scaling_of_large_integers_is_exact(tmp_path):
    path = save(tmp_path / "1.nii", noise(dtype="int32") + 2**30)
    content = bytearray(path.read_bytes())
    content[112:120] = struct.pack("<ff", 1, -(2.0**30))
    path.write_bytes(content)
    np.testing.assert_array_equal(read(path).array, noise())


@pytest.mark.parametrize(("unit", "millimetres"), [("meter", 1000), ("mm", 1), ("micron", 0.001), ("unknown", 1)])
def test_nifti_units(tmp_path, unit, millimetres):
    image = nib.Nifti1Image(noise().T, np.diag([1, 2, 3, 1.0]))
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, tmp_path / "1.nii")
    np.testing.assert_allclose(read(tmp_path / "1.nii").spacing, np.array([3, 2, 1]) * millimetres)


def test_a_unit_code_that_does_not_exist_counts_as_unknown(tmp_path):
    path = save(tmp_path / "1.nii", noise())
    content = bytearray(path.read_bytes())
    content[123] = 0xFF
    path.write_bytes(content)
    np.testing.assert_allclose(read(path).affine, OBLIQUE, atol=1e-4)


@pytest.mark.parametrize("name", FORMATS)
def test_further_axes_of_one_are_dropped(tmp_path, name):
    if "mha" in name or "nrrd" in name:
        image = sitk.JoinSeries(sitk.ReadImage(save(tmp_path / ("3d" + name), noise())))
        sitk.WriteImage(image, tmp_path / name, useCompression=name[0] != "r")
        content = (tmp_path / name).read_bytes()  # ITK names no space in 4D, others do
        content = content.replace(b"space dimension: 4", b"space: left-posterior-superior-time")
        (tmp_path / name).write_bytes(content)
    else:
        save(tmp_path / name, noise()[None, None])
    volume = read(tmp_path / name)
    np.testing.assert_array_equal(volume.array, noise())
    np.testing.assert_allclose(volume.affine, OBLIQUE, atol=1e-4)


def test_a_sheared_nifti_keeps_its_affine(tmp_path):
    sheared = OBLIQUE @ np.array([[1, 0.2, 0, 0], [0, 1, 0.3, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(read(save(tmp_path / "1.nii", noise(), sheared)).affine, sheared, atol=1e-4)


def test_a_sheared_nrrd_keeps_its_affine(tmp_path):
    path = nrrd(tmp_path, "space: LPS", "space directions: (1,0,0) (1,2,0) (0,0.5,3)", "space origin: (5,6,7)")
    want = [[0, 1, 1, 5], [0.5, 2, 0, 6], [3, 0, 0, 7], [0, 0, 0, 1]]
    np.testing.assert_array_equal(read(path).affine, want)


def test_a_nrrd_with_a_component_axis_of_one(tmp_path):
    directions = "space directions: none (1,0,0) (0,2,0) (0,0,3)"
    volume = read(nrrd(tmp_path, "dimension: 4", "sizes: 1 2 3 4", "space: LPS", directions, "space origin: (5,6,7)"))
    np.testing.assert_array_equal(volume.array, np.arange(24).reshape(4, 3, 2))
    np.testing.assert_array_equal(volume.affine, [[0, 0, 1, 5], [0, 2, 0, 6], [3, 0, 0, 7], [0, 0, 0, 1]])


@pytest.mark.parametrize("name", ["1.nii", "2.nii.gz"])
def test_a_qform_alone_is_enough(tmp_path, name):
    kind = nib.Nifti2Image if name[0] == "2" else nib.Nifti1Image
    image = kind(noise().T, None)
    image.set_qform(RAS_TO_LPS @ OBLIQUE @ REVERSED, code=1)
    image.set_sform(None, code=0)
    nib.save(image, tmp_path / name)
    np.testing.assert_allclose(read(tmp_path / name).affine, OBLIQUE, atol=1e-4)


def test_nifti_extensions_are_passed_over(tmp_path):
    image = nib.Nifti1Image(noise().T, RAS_TO_LPS @ OBLIQUE @ REVERSED)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"seen on a Tuesday" * 99))
    nib.save(image, tmp_path / "1.nii.gz")
    assert nib.load(tmp_path / "1.nii.gz").dataobj.offset > 352
    np.testing.assert_array_equal(read(tmp_path / "1.nii.gz").array, noise())


@pytest.mark.parametrize("codec", [bytes, gzip.compress])
def test_voxels_start_where_vox_offset_says(tmp_path, codec):
    content = bytearray(save(tmp_path / "1.nii", noise()).read_bytes())
    content[108:112] = struct.pack("<f", 4096)
    content[352:352] = b"\xab" * (4096 - 352)
    (tmp_path / "far.nii").write_bytes(codec(bytes(content)))
    np.testing.assert_array_equal(read(tmp_path / "far.nii").array, noise())
    content = bytearray((tmp_path / "1.nii").read_bytes())
    content[108:112] = bytes(4)  # some writers leave 0, which means directly behind the header
    (tmp_path / "zero.nii").write_bytes(codec(bytes(content)))
    np.testing.assert_array_equal(read(tmp_path / "zero.nii").array, noise())


def test_gzip_in_several_members_as_bgzip_writes_it(tmp_path):
    content = save(tmp_path / "1.nii", noise()).read_bytes()
    members = [gzip.compress(content[start : start + 100]) for start in range(0, len(content), 100)]
    (tmp_path / "members.nii.gz").write_bytes(b"".join(members) + bytes(512))
    np.testing.assert_array_equal(read(tmp_path / "members.nii.gz").array, noise())


def test_gzip_under_a_plain_name(tmp_path):
    content = save(tmp_path / "1.nii.gz", noise()).read_bytes()
    (tmp_path / "plain.nii").write_bytes(content)
    np.testing.assert_array_equal(read(tmp_path / "plain.nii").array, noise())


def nrrd(folder: Path, *fields: str, data: bytes | None = None, line_end: str = "\n") -> Path:
    """Write a NRRD of 4 x 3 x 2 voxels (d, h, w), fields that are given again replaced."""
    usual = {"type": "short", "dimension": "3", "sizes": "2 3 4", "encoding": "raw", "endian": "little"}
    named = usual | dict(field.split(": ", 1) for field in fields)
    lines = ["NRRD0005", "# sizes: of no use", *(f"{name}: {value}" for name, value in named.items())]
    path = folder / "hand.nrrd"
    path.write_bytes(
        line_end.join([*lines, "sizes:=9 9 9", "", ""]).encode()
        + (np.arange(24, dtype="<i2").tobytes() if data is None else data)
    )
    return path


def mha(folder: Path, *fields: str, data: bytes | None = None, kind: str = "MET_SHORT") -> Path:
    """Write a MHA of 4 x 3 x 2 voxels (d, h, w)."""
    lines = ["ObjectType = Image", "NDims = 3", *fields, "DimSize = 2 3 4", f"ElementType = {kind}"]
    path = folder / "hand.mha"
    content = "\n".join([*lines, "ElementDataFile = LOCAL", ""]).encode()
    path.write_bytes(content + (np.arange(24, dtype="<i2").tobytes() if data is None else data))
    return path


BIG = np.arange(24, dtype=">i2").tobytes()
DIRECTIONS = ("space directions: (0,1.5,0) (2,0,0) (0,0,-4)", "space origin: (1, -2, 3)")


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        (("space: left-posterior-superior", *DIRECTIONS), {}),
        (("space: right-anterior-superior", *DIRECTIONS), {}),
        (("space: left-anterior-superior", *DIRECTIONS), {}),
        (("space: RAS", *DIRECTIONS), {}),
        (("space: LPS", *DIRECTIONS, "endian: big"), {"data": BIG}),
        (("space: LPS", *DIRECTIONS, "encoding: gz"), {"data": gzip.compress(np.arange(24, dtype="<i2").tobytes())}),
        (("space: LPS", *DIRECTIONS, "type: int16_t"), {"line_end": "\r\n"}),
    ],
)
def test_nrrd_agrees_with_itk(tmp_path, fields, options):
    agrees_with_itk(nrrd(tmp_path, *fields, **options))


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        (("ElementSpacing = 2 3 4", "Offset = 1 2 3", "TransformMatrix = 0 1 0 0 0 -1 1 0 0"), {}),
        (("ElementSize = 2 3 4", "Position = 1 2 3", "Orientation = 0 1 0 1 0 0 0 0 1"), {}),
        (("ElementSpacing = 2 3 4",), {}),
        (("Offset = 1 2 3", "BinaryDataByteOrderMSB = True"), {"data": BIG}),
        (("Offset = 1 2 3", "ElementByteOrderMSB = True"), {"data": BIG}),
        (("Offset: 1 2 3", "BinaryData = True"), {}),
        (("Offset = 1 2 3",), {"data": np.arange(24, dtype="<i4").tobytes(), "kind": "MET_LONG"}),
    ],
)
def test_mha_agrees_with_itk(tmp_path, fields, options):
    agrees_with_itk(mha(tmp_path, *fields, **options))


def agrees_with_itk(path: Path) -> None:
    volume, image = read(path), sitk.ReadImage(path)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(image))
    corners = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (3, 2, 1)]
    want = [image.TransformIndexToPhysicalPoint(corner[::-1]) for corner in corners]
    np.testing.assert_allclose(nib.affines.apply_affine(volume.affine, corners), want, atol=1e-9)


def test_units_of_nrrd_and_mha(tmp_path):
    space = ("space: LPS", "space directions: (1,0,0) (0,2,0) (0,0,3)", "space origin: (5,6,7)")
    volume = read(nrrd(tmp_path, *space, 'space units: "um" "um" "um"'))
    np.testing.assert_allclose(volume.spacing, (0.003, 0.002, 0.001))
    np.testing.assert_allclose(volume.affine[:3, 3], (0.005, 0.006, 0.007))
    np.testing.assert_allclose(read(mha(tmp_path, "ElementSpacing = 1 2 3", "DistanceUnits = um")).spacing[0], 0.003)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ("spacings: 1 2 3",),
        ("space: scanner-xyz", *DIRECTIONS),
        ("space dimension: 3", *DIRECTIONS),
        ("space: LPS", DIRECTIONS[0]),
    ],
    ids=" ".join,
)
def test_a_nrrd_outside_the_patient_has_no_affine(tmp_path, fields):
    volume = read(nrrd(tmp_path, *fields))
    assert volume.affine is None
    assert volume.spacing is None
    np.testing.assert_array_equal(volume.array.ravel(), np.arange(24))


def test_a_mha_that_says_nothing_of_geometry_has_no_affine(tmp_path):
    assert read(mha(tmp_path)).affine is None


@pytest.mark.parametrize("name", ["1.nii", "2.nii.gz"])
def test_a_nifti_with_unknown_codes_has_no_affine(tmp_path, name):
    kind = nib.Nifti2Image if name[0] == "2" else nib.Nifti1Image
    nib.save(kind(noise().T, None), tmp_path / name)
    assert read(tmp_path / name).affine is None


def test_a_nanometre_is_no_singular_affine(tmp_path):
    volume = read(save(tmp_path / "1.nii", noise(), np.diag([4e-6, 4e-6, 3e-5, 1])))
    np.testing.assert_allclose(volume.spacing, (4e-6, 4e-6, 3e-5), rtol=1e-5)


def test_what_float32_cannot_hold_is_infinite_without_a_warning(tmp_path, recwarn):
    array = noise(dtype="float64")
    array[0, 0, 0] = 1e300
    assert read(save(tmp_path / "1.nii", array)).array[0, 0, 0] == np.inf
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_the_source_is_the_file_itself(tmp_path):
    path = save(tmp_path / "1.nii.gz", noise())
    digest = subprocess.check_output(["sha256sum", path], text=True).split()[0]
    status = path.stat()
    assert read(path).source == {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": digest}


@pytest.mark.parametrize("name", ["1.nii", "1.nii.gz", "raw.nrrd", "zlib.mha"])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_reading_takes_no_more_memory_than_the_file_and_one_array(tmp_path, name, dtype):
    array = np.zeros((64, 128, 128), dtype)
    path = save(tmp_path / name, array)
    if "nii" in name:
        content = bytearray(nib.openers.Opener(path).read())
        content[112:120] = struct.pack("<ff", 2, 1)
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    tracemalloc.start()
    try:
        read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < array.nbytes + 4 * array.size + (2 << 20)


def test_reading_does_not_load_torch(tmp_path):
    path = save(tmp_path / "1.nii.gz", noise())
    code = (
        f"import sys; from featlift.volumes.reading import read; read({str(path)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_lung_ct(shared):
    volume = read(shared / "lesions/lung1_image.nrrd")
    assert volume.array.shape == (48, 512, 512)
    np.testing.assert_allclose(volume.spacing, (5, 0.5703125, 0.5703125))
    assert volume.array.min() < -900  # air, in HU


@pytest.mark.parametrize(
    "name", [f"{case}1_{kind}" for case in ("brain", "breast", "lung") for kind in ("image", "label")]
)
def test_real_nrrd_agrees_with_itk(shared, name):
    path = shared / "lesions" / f"{name}.nrrd"
    volume, image = read(path), sitk.ReadImage(path)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayViewFromImage(image))
    np.testing.assert_allclose(
        volume.affine @ (9, 7, 5, 1), (*image.TransformIndexToPhysicalPoint((5, 7, 9)), 1), atol=1e-6
    )


def test_an_oblique_scan_and_its_segmentation_meet_in_the_patient(shared):
    """Regions explain two thirds of the scan's variance where the affines put it, and far less anywhere near."""
    scan, labels = (read(shared / "oblique_t2" / name) for name in ("t2.nii.gz", "t1_seg_gif.nii.gz"))
    assert (scan.array.shape, labels.array.shape) == ((26, 320, 320), (176, 256, 256))
    indices = np.argwhere(labels.array > 0)[::7]
    regions = labels.array[tuple(indices.T)].astype(int)

    def explained(affine):
        there = np.rint(nib.affines.apply_affine(np.linalg.inv(affine) @ labels.affine, indices)).astype(int)
        within = (there >= 0).all(1) & (there < scan.array.shape).all(1)
        values, region = scan.array[tuple(there[within].T)], regions[within]
        means = np.bincount(region, values) / np.maximum(np.bincount(region), 1)
        return 1 - np.var(values - means[region]) / np.var(values)

    assert explained(scan.affine) > 0.65
    for axis, millimetres in itertools.product(range(3), (-5, 5)):
        shift = np.eye(4)
        shift[axis, 3] = millimetres
        assert explained(shift @ scan.affine) < 0.55
    for axis in range(3):
        mirror = np.eye(4)
        mirror[axis, [axis, 3]] = -1, scan.array.shape[axis] - 1
        assert explained(scan.affine @ mirror) < 0.55


def test_mixed_types_all_read(shared):
    paths = sorted((shared / "hippocampus/images").glob("*.nii.gz"))
    assert {str(nib.load(path).get_data_dtype()) for path in paths} == {"uint8", "float32"}
    for path in paths:
        volume = read(path)
        np.testing.assert_array_equal(volume.array.T, nib.load(path).get_fdata(dtype=np.float32))
        np.testing.assert_allclose(volume.spacing, (1, 1, 1), atol=1e-5)
