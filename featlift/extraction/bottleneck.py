"""Which stage of a run the others waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from featlift.extraction.pipeline import Pipeline


def bottleneck(pipeline: Pipeline, device: torch.device) -> str:
    """A sentence: the slowest stage, the share of the time it decided, and what would help.

    Stages work at the same time, so the shares are those of the one in the middle: what it spent on lifting, on waiting
    for the next volume, and on waiting for the last one to be written. Empty where nothing was extracted.
    """
    lifting = sum(outcome.seconds.get("lift", 0.0) for outcome in pipeline.outcomes)
    shares = {"lifting": lifting, "reading": pipeline.waited["read"], "writing": pipeline.waited["write"]}
    if not lifting:
        return ""
    slowest = max(shares, key=lambda stage: shares[stage])
    workers = pipeline.readers.workers
    advice = {
        "lifting": "a GPU, a lighter --model or a smaller --size would help"
        if device.type == "cpu"
        else "a lighter --model, a smaller --size or --shard on further GPUs would help",
        "reading": f"--workers {max(2, 2 * workers)} would help if cores and the disk have room (now {workers})",
        "writing": "a faster disk for the store, or less of --save, --save-dtype and --layers, would help",
    }
    share = shares[slowest] / sum(shares.values())
    return f"the bottleneck was {slowest}, {share:.0%} of the time: {advice[slowest]}"
