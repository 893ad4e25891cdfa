"""The Hugging Face hub: whether weights can be had from it, and where they are kept."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featlift.backbones.catalogue import CATALOGUE
from featlift.diagnosis.row import Row
from featlift.diagnosis.sizes import existing, free_on_disk, human

_SECONDS = 5.0  # to wait for an answer
_OFFLINE = "work offline: copy the weights and give --weights FILE, or copy HF_HOME and set HF_HUB_OFFLINE=1"
_ROOM = 2 * 2**30  # bytes, where the model is not known


def look_at_hub(model: str | None, weights: str | None, offline: bool) -> Iterator[Row]:
    """Whether the hub answers, for the file that would be downloaded if a model is named."""
    from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url
    from huggingface_hub.errors import GatedRepoError

    endpoint = constants.ENDPOINT
    if offline:
        yield Row("hub", "PASS", "not asked (--offline)")
        return
    if constants.HF_HUB_OFFLINE:
        yield Row("hub", "PASS", "HF_HUB_OFFLINE is set: nothing is downloaded")
        return
    if weights is not None:
        yield Row("hub", "PASS", "not needed: the weights are given as a file")
        return
    repository, filename = _hub_file(model)
    token = "with a token" if get_token() else "without a token"
    try:
        found = get_hf_file_metadata(hf_hub_url(repository, filename), timeout=_SECONDS)
    except GatedRepoError:
        fix = f"accept its licence at {endpoint}/{repository} and run `hf auth login`, or give --weights FILE"
        yield Row("hub", "WARN", f"{repository} is gated, and not open to you {token}", fix)
    except Exception as error:  # network stacks raise many kinds
        yield Row(
            "hub", "WARN", f"{endpoint} gives no {repository}/{filename} ({type(error).__name__}, {token})", _OFFLINE
        )
    else:
        size = human(found.size) if found.size else "size unknown"
        yield Row("hub", "PASS", f"{endpoint} has {repository}/{filename} ({size}), {token}")


def look_at_cache(model: str | None, weights: str | None) -> Iterator[Row]:
    """Where downloads go, and whether there is room for one."""
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    set_by = next(
        (name for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME") if os.environ.get(name)), "the default"
    )
    free, entry = free_on_disk(place), CATALOGUE.get(model or "")
    what = f"{place} (by {set_by}), {human(free)} free"
    if weights is not None or (entry and entry.is_here):
        yield Row("cache", "PASS", what)
    elif not os.access(existing(place), os.W_OK):
        yield Row("cache", "WARN", f"{what}, cannot be written", "set HF_HOME to a folder of your own")
    elif free < (room := 4 * entry.parameters if entry else _ROOM):
        yield Row("cache", "WARN", f"{what}, and a download takes {human(room)}", "set HF_HOME to a larger disk")
    else:
        yield Row("cache", "PASS", what)


def _hub_file(model: str | None) -> tuple[str, str]:
    """The repository and file that a model's published weights are in; any model's stands for the hub."""
    entry = CATALOGUE.get(model or "vits16")
    if entry is not None and not entry.source.startswith("hub:"):
        entry = CATALOGUE["vits16"]
    if entry is not None:
        return entry.source.removeprefix("hub:"), "model.safetensors"
    from featlift.backbones.torchvision_guard import import_timm

    config: Any = import_timm().get_pretrained_cfg(model)
    if not getattr(config, "hf_hub_id", None):  # an unknown name, or one without weights: loading them will say so
        return _hub_file(None)
    return config.hf_hub_id, config.hf_hub_filename or "model.safetensors"
