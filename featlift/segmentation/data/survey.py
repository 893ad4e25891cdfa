"""Every mask is read, and everything that could stop a training found, before one begins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.errors import OptionError, StoreError, VolumeError
from featlift.progress import Progress, counted
from featlift.segmentation.data.cases import CaseReader, layers_of
from featlift.segmentation.data.frame import check_step, step_for
from featlift.segmentation.networks.catalogue import head_class, make_head
from featlift.segmentation.networks.head import Head, Size
from featlift.segmentation.plan import Plan
from featlift.store.case import Case
from featlift.store.reading import Store
from featlift.training.splits import Split
from featlift.volumes.grid import Shape
from featlift.volumes.label_names import names_in
from featlift.volumes.opening import open_image
from featlift.volumes.reading import source_of_mask
from featlift.volumes.regions import Box
from featlift.volumes.source import MaskFile

_SLAB = 8  # sections that are standardised at a time, as they are chunked
_KEPT = 4 << 30  # bytes of cases that are held in memory; where all do not fit, patches are read every time


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a head is trained on.

    Attributes:
        reader: of the cases.
        size: of the head.
        split: who does which.
        mean: of each channel over the training cases, ``(C,)``.
        std: standard deviation of each.
        label_names: by label.
    """

    reader: CaseReader
    size: Size
    split: Split
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    label_names: dict[int, str]

    def fresh_head(self, plan: Plan) -> Head:
        """A head of the plan, with weights from its seed and features to be standardised as here."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            head = make_head(plan.head, self.size, plan.options)
        head.mean.copy_(torch.from_numpy(self.mean))
        head.std.copy_(torch.from_numpy(self.std))
        return head


def survey(
    store: Store,
    masks: Mapping[str, MaskFile],
    split: Split,
    plan: Plan,
    label_names: Mapping[int, str] | None = None,
    progress: Progress | None = None,
) -> TrainingData:
    """Read the masks of all cases that take part, and the features of those that train.

    Args:
        store: of the cases.
        masks: the path of the mask of each case, by its id.
        split: who trains and who validates; masks of the test are looked at if there are any.
        plan: of the training.
        label_names: by label; None takes those that masks carry. What is not named is called by its number.
        progress: called with what is being done, the cases that are done and their number.

    Raises:
        OptionError: nobody to train on, a case without a mask, a label that only some other case has, or that none has.
        VolumeError: a mask is damaged, empty, of another place, or the scan itself.
        StoreError: the store does not keep what the head needs, or it is damaged.
    """
    reader = reader_for(store, masks, split, plan)
    given = with_masks(split, masks)
    labels: dict[str, list[int]] = {}
    present: set[int] = set()  # on predicted voxels
    for number, case_id in enumerate(counted(given, "reading masks", progress)):
        on_frame, mask = reader.labels_of(case_id)
        labels[case_id] = np.unique(mask.array).astype(int).tolist()
        if number < len(split.train):
            present |= set(np.unique(on_frame).tolist())
    trained = sorted({label for case_id in split.train for label in labels[case_id]} | {0})
    _check_labels(labels, trained, split, label_names or {})
    if lost := sorted(set(trained) - present):
        raise OptionError(
            f"label {lost[0]} is on no predicted voxel of any training case: give a smaller --step than {reader.step}"
        )
    called = label_names or names_in(masks[case_id] for case_id in given)
    names = {label: called.get(label, "background" if label == 0 else str(label)) for label in trained}
    return material_of(replace(reader, labels=tuple(trained)), split, len(trained), names, progress)


def reader_for(store: Store, masks: Mapping[str, MaskFile], split: Split, plan: Plan) -> CaseReader:
    """What reads the cases of a training, without labels; what can be refused before masks are read, is.

    Args:
        store: of the cases.
        masks: the path of the mask of each case, by its id.
        split: who trains and who validates.
        plan: of the training; of affinities every voxel of the scan is predicted.

    Raises:
        OptionError: nobody to train on, a case without a mask, or a step that cells cannot be divided to.
        VolumeError: the header of a mask is damaged.
        StoreError: the store does not keep what the head needs.
    """
    needs = head_class(plan.head, plan.options).needs_for(plan.options)
    needs = tuple(name for name in needs if name == "scan" or plan.features != "none")
    for name in needs:
        store.require(name)
    _check_masks(split, masks)
    layers = layers_of(store, plan.layers)
    stride = _finest(store, split, layers)
    if plan.affinities is not None and stride[0] != 1:
        raise OptionError(f"features of every {stride[0]} sections: affinities are of each, which --mode 2d or pcg has")
    step = 1 if plan.affinities is not None else plan.step
    step = step or step_for(stride, median(_enlarged(store[case_id], masks[case_id]) for case_id in split.train))
    check_step(stride, step)
    return CaseReader(store, needs, layers, plan.features, step, masks=masks)


def material_of(
    reader: CaseReader, split: Split, classes: int, label_names: dict[int, str], progress: Progress | None = None
) -> TrainingData:
    """Read the features of a training once, and keep them if they fit.

    Args:
        reader: of the cases.
        split: who trains and who validates.
        classes: channels that the head predicts.
        label_names: by label.
        progress: called with what is being done, the cases that are done and their number.

    Raises:
        StoreError: they are damaged.
    """
    used = [*split.train, *split.val]
    if sum(map(reader.bytes_of, used)) <= _KEPT:
        for case_id in counted(used, "reading features", progress):
            reader.keep(case_id)
    mean, std = _statistics(reader, split.train, progress)
    windows = "scan" in reader.needs and len(reader.store[split.train[0]].scan.shape) == 4
    ratio = check_step(_finest(reader.store, split, reader.layers), reader.step)
    size = Size(len(mean), classes, round(math.log2(ratio)), 3 if windows else 1, ratio)
    return TrainingData(reader, size, split, mean, std, label_names)


def with_masks(split: Split, masks: Mapping[str, MaskFile]) -> list[str]:
    """The cases whose masks are read: those that train first, and those of the test that have one last."""
    return [*split.train, *split.val, *(case_id for case_id in split.test if case_id in masks)]


def _finest(store: Store, split: Split, layers: Sequence[int]) -> Shape:
    """The stride of the finest of the layers."""
    of_layers = store[split.train[0]].layers
    return min((of_layers[index].stride for index in layers), key=lambda stride: stride[1])


def _enlarged(case: Case, mask: MaskFile) -> float:
    """How many voxels of a scan make one of its mask, in-plane: in the direction that has fewer."""
    try:
        of_mask, affine = open_image(source_of_mask(mask)).affine, case.scan_affine  # its voxels are read later
    except (VolumeError, FileNotFoundError) as error:
        raise VolumeError(f"{case.id}: {error}") from error
    if affine is None or of_mask is None:
        return 1.0
    steps = np.linalg.solve(of_mask[:3, :3], affine[:3, :3])  # the mask's axes may be in another order
    lengths = np.abs(steps).max(axis=0)  # voxels of the mask from one voxel of the scan to the next
    return float(1 / max(lengths[1], lengths[2]))


def _check_masks(split: Split, masks: Mapping[str, MaskFile]) -> None:
    for name, ids in (("train", split.train), ("validate", split.val)):
        if not ids:
            raise OptionError(f"no case to {name} on: give the split of each case")
        if without := [case_id for case_id in ids if case_id not in masks]:
            raise OptionError(f"{without[0]} is to {name} and has no mask ({len(without)} of {len(ids)} cases)")


def _check_labels(
    labels: Mapping[str, Sequence[int]], trained: Sequence[int], split: Split, names: Mapping[int, str]
) -> None:
    if len(trained) < 2:
        raise OptionError(f"every training voxel has the label {trained[0]}: there is nothing to tell apart")
    for case_id, held in labels.items():
        if unknown := sorted(set(held) - set(trained)):
            raise OptionError(
                f"label {unknown[0]} of {case_id} is in no training mask; those hold {', '.join(map(str, trained))}"
            )
    if missing := sorted(set(names) - set(trained)):
        raise OptionError(f"label {missing[0]} ({names[missing[0]]}) is named, but in no training mask")
    validated = {label for case_id in split.val for label in labels[case_id]}
    if missing := sorted(set(trained) - validated - {0}):
        raise OptionError(
            f"label {missing[0]} is in no validation mask, so nobody can say how well it is found: "
            "put a case that has it in the split val"
        )


def _statistics(
    reader: CaseReader, ids: Sequence[str], progress: Progress | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation of each channel, every training case counting alike."""
    name = "features" if "dense" in reader.needs else "slices"
    means, squares = [], []
    if name == "slices" and "slice_mean" not in reader.needs:
        return np.empty(0, np.float32), np.empty(0, np.float32)
    for case_id in counted(ids, "standardising", progress):
        total, square, count = torch.zeros(()), torch.zeros(()), 0
        depth, *plane = reader.frame(reader.store[case_id]).cells
        for first in range(0, depth, _SLAB):
            box = Box((first, 0, 0), (min(_SLAB, depth - first), plane[0], plane[1]))
            values = getattr(reader.read(case_id, box), name)[0].flatten(1).double()
            if not torch.isfinite(values).all():
                raise StoreError(f"{case_id}: its features are not finite; `featlift verify` says where")
            total, square, count = total + values.sum(1), square + (values**2).sum(1), count + values.shape[1]
        means.append(total / count)
        squares.append(square / count)
    mean = torch.stack(means).mean(dim=0)
    std = (torch.stack(squares).mean(dim=0) - mean**2).clamp_min(0).sqrt()
    std = torch.where(
        std > 1e-6 * std.max().clamp_min(1e-12), std, torch.ones_like(std)
    )  # a constant channel says nothing
    return mean.float().numpy(), std.float().numpy()
