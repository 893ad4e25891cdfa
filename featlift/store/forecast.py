"""How large a store will be, from headers alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featlift.backbones.catalogue import CATALOGUE
from featlift.backbones.sampling import FeatureLayer
from featlift.config import LiftingConfig, NetworkConfig
from featlift.errors import FeatliftError
from featlift.remote import Remote
from featlift.sample import evenly_spaced
from featlift.store.arrays import dense_bytes, scan_bytes, small_bytes
from featlift.store.output_spec import OutputSpec
from featlift.volumes import Preparation, Reading, Scan
from featlift.volumes.grid import Shape, cells_within, padding_to
from featlift.volumes.opening import check_header
from featlift.volumes.preparation import expected_grids

if TYPE_CHECKING:
    from featlift.lifting import VolumeEncoder

#: Headers that are read at most; larger cohorts are judged by so many of their scans.
MOST_HEADERS = 200
#: The same where some scans are behind URLs: these are fetched whole for their headers.
MOST_FETCHED = 4

_ITEMSIZE = {"float16": 2, "float32": 4, "int8": 1}
_ARRAY_METADATA = 1400  # bytes of an array's zarr.json, more or less
_GROUP_METADATA = 2500  # of a volume's, which lists the arrays and says where they come from


@dataclass(frozen=True)
class FeatureSizes:
    """The sizes of what an encoder gives, whatever the volume.

    Attributes:
        layers: shallow to deep.
        size_multiple: what D, H and W are padded to multiples of.
        token_names: of the g global tokens.
        tokens_per_slice: whether each slice has its own; otherwise the volume has one set.
    """

    layers: tuple[FeatureLayer, ...]
    size_multiple: Shape
    token_names: tuple[str, ...] = ()
    tokens_per_slice: bool = True

    @classmethod
    def of(cls, encoder: VolumeEncoder) -> FeatureSizes:
        """The sizes of what an encoder gives."""
        return cls(encoder.feature_layers, encoder.size_multiple, encoder.token_names, encoder.tokens_per_slice)

    @classmethod
    def known(cls, network: NetworkConfig, lifting: LiftingConfig) -> FeatureSizes | None:
        """The sizes of a lifted network by the catalogue alone, which takes no torch and no weights.

        Returns:
            None of a model without a short name, and with options of which only the network can tell what they do.
        """
        entry = CATALOGUE.get(network.model)
        plain = NetworkConfig(
            network.model, network.weights, adapter=network.adapter, device=network.device, precision=network.precision
        )
        flat = LiftingConfig(lifting.mode, memory=lifting.memory, norm=lifting.norm)
        if entry is None or (network, lifting) != (plain, flat) or lifting.mode == "3d":
            return None
        stride = (1, entry.stride, entry.stride)
        layer = FeatureLayer(entry.depth - 1, entry.name, entry.width, stride, (0, 0, 0))  # no size depends on offsets
        return cls((layer,), stride, entry.token_names)


@dataclass(frozen=True)
class Forecast:
    """What a cohort will take on disk.

    Attributes:
        volumes: how many.
        bytes_by_key: of all of them, by ``scan``, ``dense``, ..., and ``metadata``; largest first.
        sampled: how many headers it rests on.
        refused: scans of the sample whose header says that they cannot be extracted, and why; they count as nothing.
        at_most: whether volumes may turn out smaller: a body crop is known from voxels only.
    """

    volumes: int
    bytes_by_key: dict[str, int]
    sampled: int
    refused: dict[str, str] = field(default_factory=dict)
    at_most: bool = False

    @property
    def bytes(self) -> int:
        """Of all keys."""
        return sum(self.bytes_by_key.values())


def forecast(
    scans: Sequence[Scan],
    preparation: Preparation,
    sizes: FeatureSizes,
    keeping: OutputSpec,
    reading: Reading | None = None,
    most: int | None = None,
) -> Forecast:
    """What a store of these scans will take on disk. No voxel is read.

    Args:
        scans: the cohort.
        preparation: what happens to a volume before lifting.
        sizes: of the features.
        keeping: what is kept of them.
        reading: how far reading may go.
        most: headers to read; of a larger cohort a sample that is evenly spaced. None: `MOST_HEADERS` or, of scans
            behind URLs, `MOST_FETCHED`.
    """
    reading = reading or Reading()
    total: dict[str, int] = {}
    refused = {}
    if most is None:
        behind_url = any(isinstance(source.path, Remote) for scan in scans for source in scan.sources)
        most = MOST_FETCHED if behind_url else MOST_HEADERS
    sample = evenly_spaced(scans, most)
    for scan in sample:
        try:
            shape = scan_shape(scan, preparation, reading)
        except (FeatliftError, OSError) as error:
            refused[scan.id] = str(error)
            continue
        channels = len(scan.sources) if len(scan.sources) > 1 else preparation.intensity.channels
        for key, size in volume_bytes(shape, channels, sizes, keeping):
            total[key] = total.get(key, 0) + size
    share = len(scans) / len(sample) if sample else 1
    by_key = {key: round(size * share) for key, size in sorted(total.items(), key=lambda item: -item[1])}
    return Forecast(len(scans), by_key, len(sample), refused, at_most=preparation.crop is not None)


def scan_shape(scan: Scan, preparation: Preparation, reading: Reading) -> Shape:
    """(D, H, W) of a scan after preparation, from its header; with a body crop the most that it can be.

    Raises:
        InputError: no such file.
        VolumeError: its header cannot be read, or says that it cannot be prepared.
    """
    image = check_header(scan.sources[0], reading)  # further channels come onto the grid of the first
    *_, (shape, _) = expected_grids(image.shape, image.affine, preparation, scan.centre)
    return shape


def volume_bytes(shape: Shape, channels: int, sizes: FeatureSizes, keeping: OutputSpec) -> Iterator[tuple[str, int]]:
    """What each array of a volume takes on disk, and the metadata: name and bytes.

    Args:
        shape: (D, H, W) of the scan.
        channels: 1 or 3 of it.
        sizes: of the features.
        keeping: what is kept of them.
    """
    arrays = 0
    for name, size in _arrays(shape, channels, sizes, keeping):
        arrays += 1
        yield name, size
    groups = 2 * (len(sizes.layers) > 1)
    yield "metadata", (arrays + groups) * _ARRAY_METADATA + _GROUP_METADATA


def _arrays(shape: Shape, channels: int, sizes: FeatureSizes, keeping: OutputSpec) -> Iterator[tuple[str, int]]:
    save, itemsize, full = keeping.save, _ITEMSIZE[keeping.dtype], sizes.layers[-1].channels
    padded = [size + more for size, more in zip(shape, padding_to(shape, sizes.size_multiple), strict=True)]
    if "scan" in save:
        yield "scan", scan_bytes(shape if channels == 1 else (channels, *shape), 2)
    if "embedding" in save:
        yield "embedding", small_bytes((full * len(keeping.parts_of_embedding(sizes.token_names)),), 4)
    for layer in sizes.layers:
        kept = layer.channels if keeping.reduction is None else keeping.reduction.channels
        slices = cells_within(shape[0], layer.stride[0], layer.offset[0])
        if "dense" in save:
            cells = (size // stride for size, stride in zip(padded, layer.stride, strict=True))
            yield "dense", dense_bytes((kept, *cells), itemsize)
            yield from _beside("dense", kept, keeping)
        if "slice_mean" in save:
            yield "slice_mean", small_bytes((slices, layer.channels), 4)
        if "tokens" in save and sizes.token_names:
            sets = slices if sizes.tokens_per_slice else 1
            yield "tokens", small_bytes((sets, len(sizes.token_names), layer.channels), itemsize)
            yield from _beside("tokens", layer.channels, keeping)


def _beside(name: str, channels: int, keeping: OutputSpec) -> Iterator[tuple[str, int]]:
    """Scale and offset of an array in int8."""
    if keeping.dtype == "int8":
        yield from [(name, small_bytes((channels,), 4))] * 2
