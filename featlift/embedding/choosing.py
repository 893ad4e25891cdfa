"""What scans look like, and the preset and the network that they are embedded with."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from featlift.backbones.catalogue import CATALOGUE, Entry, network_at_hand
from featlift.config import ExtractConfig
from featlift.config.modes import KINDS
from featlift.config.options import read_word
from featlift.config.presets import presets
from featlift.errors import InputError, OptionError
from featlift.processes import cores
from featlift.volumes import Preparation, Reading, Scan
from featlift.volumes.survey import Surveyed, look, survey

_OF_MODALITY = {"CT": "ct-soft", "MR": "mr"}
_AIR = 0.01  # of the voxels: less is rather a few outliers of an MR
_SHAPE = "shape"  # the preset that needs no spacing
_LISTED = 5
_MANY = 100  # scans: reading them takes a while
_MOST_WORKERS = 4  # each holds a volume or two


@dataclass(frozen=True)
class Choice:
    """How scans are embedded.

    Attributes:
        preset: its name.
        why: it is this one.
        config: the preset, with a network, the layer to read and the parts of the vector.
    """

    preset: str
    why: str
    config: ExtractConfig

    def told(self) -> tuple[str, str]:
        """Two lines: what was chosen, and the options of `featlift extract` that choose the same."""
        network, lifting, prepared = self.config.network, self.config.lifting, self.config.preparation
        layer, axes = lifting.layers[0], " + ".join(lifting.orientations)
        grid = f"{prepared.spacing[0]:g} mm" if prepared.spacing else " x ".join(map(str, prepared.size))
        vector = self.config.output.embedding
        options = [
            *("--config", self.preset, "--model", network.model),
            *(("--weights", network.weights) if network.weights else ()),
            *("--layers", str(layer)),
            *(("--embedding", vector) if vector else ()),
        ]
        return (
            f"{self.preset} ({self.why}): {network.model}, layer {layer}, {lifting.mode} along {axes}; axes "
            f"{prepared.orient}, {grid}, {prepared.intensity}; vector {vector or 'of all that the network has'}",
            f"the same by hand: featlift extract SCANS -o STORE {shlex.join(options)}",
        )


def choose(
    scans: Sequence[Scan],
    preset: str | None,
    model: str | None,
    weights: str | None,
    workers: int,
    notify: Callable[[str], object],
) -> Choice:
    """Choose a preset by the scans, unless one is given, and the network at hand, unless one is given.

    Args:
        scans: to embed; looked at only where no preset is given.
        preset: its name.
        model: a 2D network by name.
        weights: its file.
        workers: processes that look at the scans; 0 looks here.
        notify: is told if that takes long.

    Raises:
        OptionError: no such preset, weights without a model, a native 3D network; or what `preset_of` raises.
        InputError: no scan can be read.
        WeightsError: no network is at hand.
    """
    if weights is not None and model is None:
        raise OptionError("--weights: say with --model which network they are of")
    if model is not None and model.startswith(KINDS):
        raise OptionError(f"--model {model} is a native 3D network: `featlift extract --mode native` takes it")
    named = None if preset is None else read_word(preset, "--preset", presets())
    entry = network_at_hand() if model is None else CATALOGUE.get(model)
    name, why = (named, "as asked") if named else preset_of(_looked_at(scans, workers, notify))
    network = {"model": model or (entry.name if entry else None), "weights": weights}
    return Choice(name, why, ExtractConfig.of_file(name).with_values({**network, **_reading(entry)}))


def _reading(entry: Entry | None) -> dict[str, object]:
    """The layer and the parts of the vector that are best of a network, as far as it is known."""
    if entry is None:
        return {}
    return {"layers": entry.best_layer, "embedding": "cls-mean" if entry.token_names else "patch-mean"}


def _looked_at(scans: Sequence[Scan], workers: int, notify: Callable[[str], object]) -> list[Surveyed]:
    """Headers of DICOM, which say what they are; voxels of all others."""
    plain, reading = Preparation(), Reading()
    silent = {scan.id for scan in scans if not scan.sources[0].members}
    if len(silent) > _MANY:
        notify(f"featlift: looking at the values of {len(silent):,} scans; --preset spares it")
    if not workers:
        return [look(scan, plain, reading, scan.id in silent) for scan in scans]
    return list(survey(scans, plain, reading, silent, min(workers, cores(), _MOST_WORKERS)))


def preset_of(rows: Sequence[Surveyed]) -> tuple[str, str]:
    """The one preset for scans that were looked at, and why it is that.

    Vectors of two presets are not comparable, so there is one for all, or none.

    Raises:
        InputError: no scan can be read.
        OptionError: they look different, are of a modality without a preset, or do not say their spacing.
    """
    looks = {row.id: _look_of(row) for row in rows if row.air is not None or row.modality is not None}
    if not looks:
        raise InputError(f"no scan can be read; {rows[0].id}: {rows[0].failure}")
    (most, why), _ = Counter(looks.values()).most_common(1)[0]
    if others := [f"{case_id} ({other})" for case_id, (other, _) in looks.items() if other != most]:
        raise OptionError(
            f"{len(others)} of {len(looks)} scans look otherwise than {most}: {_some(others)}; vectors of several "
            f"presets are not comparable: embed them apart, or give one for all with --preset {'|'.join(presets())}"
        )
    if most not in presets():
        raise OptionError(
            f"{_some(list(looks))}: {why}, and there is no preset for {most}: give --preset mr, which scales each "
            f"volume by its own values, or another of {', '.join(presets())}"
        )
    if unknown := [row.id for row in rows if row.id in looks and row.spacing is None]:
        raise OptionError(
            f"{_some(unknown)}: no spacing known, which {most} needs: give --preset {_SHAPE}, which brings every scan "
            f"to one size in voxels, or `featlift extract --config {most}` with --orientations axial or --size"
        )
    return most, why


def _look_of(row: Surveyed) -> tuple[str, str]:
    """The preset, or a modality without one, that a scan looks like, and by what."""
    if row.modality is not None:
        return _OF_MODALITY.get(row.modality, row.modality), f"DICOM says {row.modality}"
    if row.air is not None and row.air >= _AIR:
        return "ct-soft", "values of air in HU"
    return "mr", "no values of air in HU"


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_LISTED]) + (f" and {len(ids) - _LISTED} more" if len(ids) > _LISTED else "")
