"""From one scan to its features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.config import PreparationConfig
from featlift.errors import VolumeError
from featlift.extraction.assembling import assemble
from featlift.extraction.network import lifted_backbone, preparation_of
from featlift.extraction.recipe import make_recipe
from featlift.lifting import VolumeEncoder
from featlift.remote import Remote
from featlift.store import Case, CaseData, case_in_memory
from featlift.store.layout import Recipe
from featlift.store.output_spec import OutputSpec
from featlift.volumes import Preparation, Reading, Scan, Volume
from featlift.volumes.discovery.series import source_of
from featlift.volumes.grid import pad, padding_to
from featlift.volumes.loading import Loaded, load, prepared_for_lifting
from featlift.volumes.scan import case_id_of


def extract(
    volume: Volume | str | Path,
    model: str | VolumeEncoder = "vitb16",
    preparation: Preparation | Recipe | None = None,
    *,
    centre: tuple[float, float, float] | None = None,
    **options: Any,
) -> Case:
    """Features of one volume, without a store: everything, in float16, all channels.

    Args:
        volume: as `featlift.read` gives it, or the path or URL of one.
        model: an encoder, such as a lifted backbone, or the name of a backbone, which is loaded for this call alone.
        preparation: what happens before lifting, or the recipe of a store whose volumes were made so; None takes the
            encoder's own, if it was trained with one.
        centre: of a region of interest of the preparation's `roi_mm`, (x, y, z) in LPS millimetres.
        **options: with a name: ``weights``, ``device``, ``precision`` and the arguments of `featlift.lift`.

    Returns:
        A case as a store would hold it, in memory.

    Raises:
        InputError: no such file.
        VolumeError: a volume that cannot be read or prepared.
        ModelError: no such model.
    """
    encoder = lifted_backbone(model, **options) if isinstance(model, str) else model
    if not isinstance(preparation, Preparation):
        own = preparation_of(PreparationConfig(), encoder)
        preparation = Preparation.from_recipe(preparation) if preparation else own
    if isinstance(volume, Volume):
        loaded = prepared_for_lifting(Scan("volume", "volume", (), centre=centre), volume, preparation)
    elif not isinstance(volume, (str, Path, Remote)):
        raise VolumeError(f"{type(volume).__name__}: give a path, or featlift.Volume(array, affine)")
    else:
        source = source_of(volume)
        scan = Scan(case_id_of(source.path.name), source.path.name, (source,), centre=centre)
        loaded = load(scan, preparation)
    return case_in_memory(Extraction(encoder, preparation).lift([loaded])[0])


class Extraction:
    """How scans become features.

    Args:
        encoder: the network.
        preparation: what happens to a volume before it.
        reading: how far reading may go.
        keeping: what is kept of a volume; None keeps everything in float16.

    Raises:
        OptionError: the network has not what is to be kept.
    """

    def __init__(
        self,
        encoder: VolumeEncoder,
        preparation: Preparation,
        reading: Reading | None = None,
        keeping: OutputSpec | None = None,
    ) -> None:
        self.encoder = encoder
        self.preparation = preparation
        self.reading = reading or Reading()
        self.keeping = keeping or OutputSpec()
        self.keeping.check(encoder)

    @property
    def recipe(self) -> Recipe:
        """Everything that changes a feature."""
        return make_recipe(self.encoder, self.preparation, self.keeping)

    def lift(self, loaded: Sequence[Loaded]) -> list[CaseData]:
        """Lift volumes that were loaded, in one pass: all of one shape.

        Raises:
            LiftingMemoryError: they do not fit the device.
        """
        padding = padding_to(loaded[0].prepared.shape, self.encoder.size_multiple)
        with torch.inference_mode():
            features = self.encoder(self._on_device([pad(each.prepared.scan, padding) for each in loaded]))
            return [
                assemble(each, self.encoder, features, number, padding, self.keeping)
                for number, each in enumerate(loaded)
            ]

    def _on_device(self, volumes: list[NDArray[np.float32]]) -> torch.Tensor:
        """Volumes of one shape together, copied once: to where they are lifted."""
        device = self.encoder.device
        there = [torch.from_numpy(volume).to(device) for volume in volumes]
        return there[0][None] if len(there) == 1 else torch.stack(there)
