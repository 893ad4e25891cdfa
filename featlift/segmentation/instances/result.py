"""Scores of instances as a result that `featlift compare` reads."""

from __future__ import annotations

from collections.abc import Sequence

from featlift.metrics.bootstrap import RESAMPLES, interval_of_mean
from featlift.results.result import Measure, Result, name_of
from featlift.segmentation.instances.scoring import InstanceScore, Scoring


def instances_result(
    name: str,
    scores: Sequence[InstanceScore],
    how: Scoring,
    left_out: Sequence[str] = (),
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Result:
    """Means over cases.

    Args:
        name: of the segmentations; stands as the model, as nothing more is known of how they were made.
        scores: of each case, at least one.
        how: settings.
        left_out: ids of segmentations without a truth.
        seed: of the intervals.
        resamples: of the intervals.
    """
    columns = {measure: [score.values[measure] for score in scores] for measure in scores[0].values}
    return Result(
        "instances",
        name_of(name, "instances", how.convention if how.convention != "skimage" else ""),
        name,
        {"model": name, "mode": "-", "layers": []},
        {
            "name": how.convention,
            "ignored": list(how.left_out),
            "border_nm": how.border,
            "resolution_nm": list(how.resolution) if how.border else [],
        },
        {
            measure: Measure.of(interval_of_mean([value for value in values if value is not None], seed, resamples))
            for measure, values in columns.items()
        },
        [
            {
                "id": score.id,
                **score.values,
                "objects": score.objects,
                "segments": score.segments,
                "mask_sha256": score.mask_sha256,
            }
            for score in scores
        ],
        bootstrap={"seed": seed, "resamples": resamples},
        left_out=list(left_out),
    )
