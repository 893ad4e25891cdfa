"""The objects of every case are read, and everything that could stop a training found, before one begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.progress import Progress, counted
from featlift.segmentation.data.survey import TrainingData, material_of, reader_for, with_masks
from featlift.segmentation.instances.affinities import check_offsets
from featlift.segmentation.objects.labels import objects_of, on_frame
from featlift.segmentation.plan import Plan
from featlift.store.reading import Store
from featlift.training.splits import Split
from featlift.volumes.source import MaskFile


def survey_objects(
    store: Store, masks: Mapping[str, MaskFile], split: Split, plan: Plan, progress: Progress | None = None
) -> tuple[TrainingData, dict[str, NDArray[Any]]]:
    """Read the masks of all cases that take part, and the features of those that train.

    Args:
        store: of the cases.
        masks: the path of the mask of each case, by its id.
        split: who trains and who validates; masks of the test are looked at if there are any.
        plan: of the training, with affinities.
        progress: called with what is being done, the cases that are done and their number.

    Returns:
        What a head is trained on, and the objects of each case that trains or validates, see `on_frame`.

    Raises:
        OptionError: nobody to train on, a case without a mask, or an offset larger than a volume.
        VolumeError: see `objects_of`.
        StoreError: the store does not keep what the head needs, or it is damaged.
    """
    assert plan.affinities is not None
    reader = reader_for(store, masks, split, plan)
    test, found = set(split.test), {}
    for case_id in counted(with_masks(split, masks), "reading masks", progress):
        case = store[case_id]
        try:
            check_offsets(plan.affinities.vectors, case.scan_shape)
        except OptionError as error:
            raise OptionError(f"{case_id}: {error}: --offsets neighbours reach one voxel") from error
        objects = objects_of(case, masks[case_id], plan.affinities.ignore)
        if case_id not in test:
            found[case_id] = on_frame(objects, reader.frame(case))
    return material_of(reader, split, len(plan.affinities.vectors), {}, progress), found
