"""From one scan to its features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from featlift.extraction.assembling import assemble
from featlift.extraction.network import lifted_backbone
from featlift.lifting import LiftedBackbone
from featlift.store import Case, CaseData, case_in_memory
from featlift.store.layout import Recipe
from featlift.volumes import Preparation, Reading, Scan, Volume, prepare
from featlift.volumes.channels import read_scan
from featlift.volumes.grid import pad, padding_to
from featlift.volumes.reading import read_source, source_of
from featlift.volumes.scan import case_id_of


def extract(
    volume: Volume | str | Path,
    model: str | LiftedBackbone = "vitb16",
    preparation: Preparation | Recipe | None = None,
    *,
    centre: tuple[float, float, float] | None = None,
    **options: Any,
) -> Case:
    """Features of one volume, without a store.

    Args:
        volume: as `featlift.read` gives it, or the path or URL of one.
        model: a lifted backbone, or the name of one; with a name the network is loaded for this call alone.
        preparation: what happens before lifting, or the recipe of a store whose volumes were made so.
        centre: of a region of interest of the preparation's `roi_mm`, (x, y, z) in LPS millimetres.
        **options: with a name: ``weights``, ``device``, ``precision`` and the arguments of `featlift.lift`.

    Returns:
        A case as a store would hold it, in memory.

    Raises:
        InputError: no such file.
        VolumeError: a volume that cannot be read or prepared.
        ModelError: no such model.
    """
    if isinstance(volume, Volume):
        scan = Scan("volume", "volume", (), centre=centre)
    else:
        source = source_of(volume)
        volume = read_source(source)
        scan = Scan(case_id_of(source.path.name), source.path.name, (source,), centre=centre)
    lifted = lifted_backbone(model, **options) if isinstance(model, str) else model
    if not isinstance(preparation, Preparation):
        preparation = Preparation.from_recipe(preparation) if preparation else Preparation()
    return case_in_memory(Extraction(lifted, preparation).of_volume(scan, volume, {}))


class Extraction:
    """Takes scans through reading, preparation and lifting.

    Args:
        lifted: the network.
        preparation: what happens to a volume before it.
        reading: how far reading may go.
    """

    def __init__(self, lifted: LiftedBackbone, preparation: Preparation, reading: Reading | None = None) -> None:
        self.lifted = lifted
        self.preparation = preparation
        self.reading = reading or Reading()

    def of_scan(self, scan: Scan, seconds: dict[str, float]) -> CaseData:
        """Read, prepare and lift a scan; `seconds` is told of each stage, also of one that fails."""
        with timed(seconds, "read"):
            volume = read_scan(scan, self.reading)
        return self.of_volume(scan, volume, seconds)

    def of_volume(self, scan: Scan, volume: Volume, seconds: dict[str, float]) -> CaseData:
        """Prepare and lift a volume that was read; `seconds` as above."""
        with timed(seconds, "prepare"):
            prepared = prepare(volume, self.preparation, scan.centre)
            padding = padding_to(prepared.shape, self.lifted.stride)
            padded = torch.from_numpy(pad(prepared.scan, padding))
        with timed(seconds, "lift"), torch.inference_mode():
            features = self.lifted(padded[None].to(self.lifted.backbone.device))
            return assemble(scan, volume, prepared, self.lifted, features, padding)


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long a stage took."""
    start = perf_counter()
    try:
        yield
    finally:
        seconds[stage] = perf_counter() - start
