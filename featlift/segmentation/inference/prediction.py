"""Segment the cases of a store with a trained head, or with the heads of a cross-validation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featlift.atomic_io import check_writable, write_atomically
from featlift.errors import OptionError, StoreError
from featlift.evaluation.featdice.segmentation import segment_by_maps
from featlift.model_folder import CONFIG
from featlift.names import file_names
from featlift.progress import Progress, counted
from featlift.segmentation.folder import Config, read_head
from featlift.segmentation.inference.grids import ImageGrid, Voxels, grids_of
from featlift.segmentation.inference.labelling import likeliest, write_labels
from featlift.segmentation.inference.windows import logits_of
from featlift.segmentation.networks.head import Head
from featlift.store.case import Case
from featlift.store.reading import Store
from featlift.training.precision import Precision, use_bf16
from featlift.volumes.volume import scaled

NOTES = "predictions.json"
_OF_CASES = ("cases", "seen", "on_stored_grid")  # of the notes: what more cases add to
FOLD = "fold"


@dataclass(frozen=True, eq=False)
class Trained:
    """A head, or the heads of a cross-validation.

    Attributes:
        heads: each with its configuration.
    """

    heads: list[tuple[Head, Config]]

    @property
    def config(self) -> Config:
        """Of the first of them; all share plan, recipe and labels."""
        return self.heads[0][1]

    def unseen(self, case_id: str) -> list[tuple[Head, Config]]:
        """The heads that neither trained nor validated on a case; all of them if each did."""
        return [each for each in self.heads if case_id not in (*each[1].train, *each[1].val)] or self.heads

    def cases_of(self, store: Store, ids: Sequence[str]) -> list[str]:
        """The cases to predict, all where none are named, after making sure that the store has what heads need.

        Raises:
            StoreError: the store has another recipe than the head was trained on, or keeps too little.
            OptionError: an id that is no case.
        """
        self.config.check(store)
        for name in self.config.needs:
            store.require(name)
        store.require_cases(ids)
        return list(ids) or list(store)

    def saw(self, case_id: str) -> bool:
        """Whether every head trained or validated on a case, so that no score of it counts."""
        return all(case_id in (*config.train, *config.val) for _, config in self.heads)


def open_trained(folder: str | Path) -> Trained:
    """A folder that `featlift segment train` wrote, with one head or a fold each.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or its folds do not belong together.
    """
    folder = Path(folder)
    folds = sorted(folder.glob(f"{FOLD}*"), key=lambda path: (len(path.name), path.name))
    if (folder / CONFIG).exists() or not folds:
        return Trained([read_head(folder)])
    trained = Trained([read_head(fold) for fold in folds])
    for fold, (_, config) in zip(folds, trained.heads, strict=True):
        if (config.plan, config.recipe, config.labels) != (
            trained.config.plan,
            trained.config.recipe,
            trained.config.labels,
        ):
            raise StoreError(f"{fold} was trained otherwise than {folds[0]}: give one of them")
    return trained


def predict(
    store: Store,
    trained: Trained,
    output: str | Path,
    ids: Sequence[str] = (),
    like: str | Path | None = None,
    device: torch.device | None = None,
    precision: Precision = "auto",
    progress: Progress | None = None,
    grid: Voxels = "input",
) -> list[Path]:
    """Write ``<id>.nii.gz`` for each case, and what was predicted by what as ``predictions.json``.

    Where ids differ only in case or Unicode form, the files have other names, see `featlift.names.file_names`.

    Probabilities are upsampled trilinearly to the voxels of the case's file, and the highest wins; what lies beyond the
    stored scan is background. Where the store does not say which voxels these are, and of a region, the prediction has
    those of the stored scan, see `grids_of`. Every grid lies in the patient: oblique and flipped ones stay so. Of a
    cross-validation, a case is segmented by the heads that did not see it: one for the cases of the folds, for others
    the mean of all.

    Args:
        store: of the cases.
        trained: the head.
        output: folder for the files.
        ids: of the cases; none takes all.
        like: the folder of the scans that were extracted, or the scan of the only case: predictions take the voxels of
            these files instead.
        device: None is the CPU.
        precision: as in training.
        progress: called with what is being done, the cases that are done and their number.
        grid: ``stored`` takes the voxels of the stored scans.

    Raises:
        StoreError: the store has another recipe than the head was trained on, or is damaged.
        OptionError: an id that is no case, or a folder that holds what another head predicted.
        InputError: `like` lacks a scan.
        VolumeError: a scan of `like` is damaged, or it or the stored scan does not say where it lies.
        OutputError: the folder cannot be written.
    """
    output, device = Path(output), device or torch.device("cpu")
    if trained.config.affinities is not None:
        raise OptionError("a head of affinities finds objects, not labels: predict_objects")
    ids = trained.cases_of(store, ids)
    grids = grids_of(store, ids, grid, None if like is None else Path(like))
    check_writable(output)
    voxels_of: Literal["scan", "image"] = "image" if grids else "scan"
    there = predictions_in(output, notes_of(trained, (), voxels_of))
    names = file_names([*store, *there["cases"]])
    bf16 = use_bf16(precision, device)
    written = []
    for case_id in counted(ids, "segmenting", progress):
        case = store[case_id]
        chances = _chances(store, trained, case_id, device, bf16)
        if case_id in grids:
            labels = _on_image(chances, trained.config, store, case, grids[case_id])
            written.append(write_labels(output / f"{names[case_id]}.nii.gz", labels, grids[case_id].affine))
        else:
            labels = _on_scan(chances, trained.config, store, case)
            written.append(write_labels(output / f"{names[case_id]}.nii.gz", labels, case.scan_affine))
    others = {*there["on_stored_grid"]} - {*ids} | ({*ids} - {*grids} if grids else set())
    write_notes(output, notes_of(trained, sorted({*there["cases"], *ids}), voxels_of, sorted(others)))
    return written


def write_notes(folder: Path, notes: dict[str, Any]) -> None:
    """Write what is said of the predictions in a folder."""
    text = json.dumps(notes, indent=2) + "\n"
    write_atomically(folder / NOTES, lambda draft: draft.write_text(text, encoding="utf-8"))


def notes_of(
    trained: Trained, ids: Sequence[str], grid: Literal["scan", "image"] = "scan", others: Sequence[str] = ()
) -> dict[str, Any]:
    """What a score has to know of predictions: by what, of which cases, and which of them it had seen before.

    Args:
        trained: that predicted.
        ids: of all cases in the folder.
        grid: whose voxels they have: of the stored ``scan``, or of the ``image`` that was read.
        others: those that have the voxels of the stored scan all the same.
    """
    config = trained.config
    folds = len(trained.heads)
    learned = {case_id for _, each in trained.heads for case_id in (*each.train, *each.val)}
    return {
        "head": config.name + (f"-{folds}folds" if folds > 1 else ""),
        "plan": config.plan,
        "recipe": config.recipe,
        "labels": config.labels,
        "trained": sorted(learned),
        "grid": grid,
        "cases": list(ids),
        "seen": [case_id for case_id in ids if trained.saw(case_id)],
        "on_stored_grid": list(others),
    }


def predictions_in(folder: Path, notes: dict[str, Any]) -> dict[str, list[str]]:
    """``cases`` and others of a folder's notes, after making sure that they are by the same head on the same store.

    Raises:
        OptionError: they are by another, or of another kind, such as on another grid.
    """
    try:
        earlier = json.loads((folder / NOTES).read_bytes())
    except FileNotFoundError:
        return {name: [] for name in _OF_CASES}
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder / NOTES} is damaged ({error}): give another -o") from error
    fields = [name for name in notes if name not in _OF_CASES and notes[name] != earlier.get(name)]
    if fields:
        raise OptionError(
            f"{folder} holds predictions of another kind, which differ in {', '.join(fields)}: give another -o"
        )
    return {name: earlier.get(name, []) for name in _OF_CASES}


def _chances(store: Store, trained: Trained, case_id: str, device: torch.device, bf16: bool) -> Tensor:
    """Probabilities ``(K, D, H, W)`` on the predicted voxels."""
    heads = trained.unseen(case_id)
    found = []
    for head, config in heads:
        patch = None if head.whole else config.patch
        logits = logits_of(head.to(device), config.reader(store), case_id, patch, device, bf16)
        found.append(logits.softmax(dim=0))
    return torch.stack(found).mean(dim=0)


def _on_scan(chances: Tensor, config: Config, store: Store, case: Case) -> NDArray[np.int32]:
    """The likeliest label of each voxel of the stored scan."""
    grid = config.reader(store).frame(case).grid
    maps = {int(label): values for label, values in zip(config.labels, chances.numpy(), strict=True)}
    return segment_by_maps(maps, grid).prediction


def _on_image(chances: Tensor, config: Config, store: Store, case: Case, image: ImageGrid) -> NDArray[np.int32]:
    grid = config.reader(store).frame(case).grid
    assert case.scan_affine is not None
    affine = scaled(case.scan_affine, grid.stride, grid.offset)
    return likeliest(chances, [int(label) for label in config.labels], affine, image, case.scan_shape, case.scan_affine)
