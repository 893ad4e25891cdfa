"""How well masked voxels of scans that were not trained on are given back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from featlift.checksums import sha256_of_file
from featlift.encoders.threedme.folder import WEIGHTS
from featlift.errors import OptionError
from featlift.metrics.bootstrap import RESAMPLES, interval_of_mean
from featlift.pretraining.crops import Crops
from featlift.pretraining.folder import PretrainConfig, read_pretrained
from featlift.pretraining.masking import Stage, parse_stages
from featlift.pretraining.task import held, restored
from featlift.progress import Progress, counted
from featlift.results.result import Measure, Result, name_of
from featlift.store.layout import Recipe
from featlift.training.precision import Precision, use_bf16
from featlift.training.scans import Scans
from featlift.volumes import Preparation, Reading, Scan

MEASURES = ("mae", "psnr", "ssim")
_LEAST = 1e-10  # of a mean squared error: PSNR is 100 dB at most


def score_pretrained(
    folder: str | Path,
    scans: Sequence[Scan],
    *,
    masking: str | None = None,
    seed: int = 0,
    reading: Reading | None = None,
    device: torch.device | None = None,
    precision: Precision = "fp32",
    progress: Progress | None = None,
) -> list[Result]:
    """Mask a crop of each scan and give it back; and what the mean of the visible voxels would be worth instead.

    Scans that it was trained on, or that chose its round, are left out.

    Args:
        folder: of `pretrain`.
        scans: to look at.
        masking: ``CUBE:RATIO``; None masks as the last stage of the training did.
        seed: of the places of crops and of masks.
        reading: how far reading may go.
        device: None is the CPU.
        precision: in which type products are computed.
        progress: called with what is being done, how many are done, and their number.

    Raises:
        InputError: no pretrained network there.
        OptionError: no scan is left, or several stages.
        VolumeError: a scan that cannot be read, that no crop fits, or that is all background.
    """
    folder, device = Path(folder), device or torch.device("cpu")
    network, config = read_pretrained(folder, device)
    stage = parse_stages(masking or config.plan["stages"])[-1]
    seen = {*config.train, *config.val}
    unseen = {scan.id: scan for scan in scans if scan.id not in seen}
    if not unseen:
        raise OptionError(f"{folder} has seen all of these scans in its training: give others")
    crops = Crops(
        Scans(unseen, Preparation.from_recipe(config.scans), reading or Reading()),
        config.encoder["size"],
        config.plan["background"],
        config.plan["dark"],
    )
    crops.keep(list(unseen), seed, progress)
    bf16 = use_bf16(precision, device)
    ours, means = [], []
    for case_id in counted(list(unseen), "restoring", progress):
        _, batch = held(crops, case_id, stage, seed)
        output = restored(network, batch, device, bf16)[0, 0].cpu().numpy()
        target, mask = batch.target[0, 0].numpy(), batch.mask[0, 0].numpy()
        ours.append({"id": case_id, **scores_of(output, target, mask)})
        means.append({"id": case_id, **scores_of(np.full_like(target, target[~mask].mean()), target, mask)})
    name = folder.resolve().name
    control = {"model": "mean of visible voxels", "mode": "-", "layers": []}
    return [
        _result(name, "", _recipe(folder, config), config, stage, seed, ours),
        _result(name, "mean", control, config, stage, seed, means),
    ]


def scores_of(output: NDArray[np.float32], target: NDArray[np.float32], mask: NDArray[np.bool_]) -> dict[str, float]:
    """MAE, PSNR in dB and SSIM of masked voxels.

    The others are those of the scan, and intensities are cut to its range, to which PSNR and SSIM refer. SSIM (Wang
    2004, scikit-image's, windows of 7³) is the mean of its map over masked voxels.

    Args:
        output: what was given back, ``(D, H, W)``.
        target: the scan.
        mask: true where masked.
    """
    from skimage.metrics import structural_similarity

    low, high = float(target.min()), float(target.max())
    span = max(high - low, float(np.finfo(np.float32).eps))
    whole = np.where(mask, output.clip(low, high), target).astype(np.float64)
    apart = (whole - target)[mask] / span
    _, similar = structural_similarity(target.astype(np.float64), whole, data_range=span, full=True)
    psnr = -10 * np.log10(max(float(np.square(apart).mean()), _LEAST))
    return {"mae": float(np.abs(apart).mean()), "psnr": float(psnr), "ssim": float(similar[mask].mean())}


def _recipe(folder: Path, config: PretrainConfig) -> Recipe:
    """What decided the network, by names that a table tells networks apart by."""
    plan = config.plan
    return {
        **config.scans,
        "model": f"3dme:{plan['encoder']}",
        "mode": "native",
        "layers": [],
        "weights_sha256": sha256_of_file(folder / WEIGHTS),
        **{name: plan[name] for name in ("stages", "losses", "edges", "iterations")},
    }


def _result(
    name: str,
    control: str,
    recipe: Recipe,
    config: PretrainConfig,
    stage: Stage,
    seed: int,
    cases: list[dict[str, Any]],
) -> Result:
    masking = {"cube": stage.cube, "ratio": stage.ratio, "side": config.encoder["size"], "seed": seed}
    found = {name: interval_of_mean([case[name] for case in cases]) for name in MEASURES}
    return Result(
        "reconstruction",
        name_of(name, "reconstruction", control),
        name,
        recipe,
        {"name": "masked", **masking},
        {name: Measure.of(interval) for name, interval in found.items()},
        cases,
        bootstrap={"seed": 0, "resamples": RESAMPLES},
        details={"train": config.train},
    )
