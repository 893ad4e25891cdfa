"""`diagnose`: one look after the other; one that breaks is a finding, and the next follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from featlift.diagnosis.hub import look_at_cache, look_at_hub
from featlift.diagnosis.installation import look_at_packages, look_at_python, look_at_timm
from featlift.diagnosis.machine import look_at_accelerators, look_at_memory, look_at_processor
from featlift.diagnosis.places import look_at_shared_memory, look_at_store, look_at_temporary
from featlift.diagnosis.row import Row
from featlift.diagnosis.self_test import look_at_lifting
from featlift.diagnosis.weights import look_at_weights
from featlift.store.backend import Where


def diagnose(
    model: str | None = None,
    weights: str | None = None,
    store: Where | None = None,
    *,
    model_args: Mapping[str, Any] | None = None,
    weights_prefix: str | None = None,
    offline: bool = False,
) -> Iterator[Row]:
    """Look at everything that an extraction needs. Nothing is downloaded, nothing is kept.

    Args:
        model: the backbone to be used; its weights are then loaded, if they are on this machine.
        weights: its file.
        store: where the features shall go.
        model_args: arguments for timm's ``create_model``.
        weights_prefix: prefix of the network's keys in the file.
        offline: ask nothing of the network.
    """
    looks: list[tuple[str, Callable[[], Iterable[Row]]]] = [
        ("python", look_at_python),
        ("packages", look_at_packages),
        ("timm", look_at_timm),
        ("processor", look_at_processor),
        ("memory", look_at_memory),
        ("accelerator", look_at_accelerators),
        ("hub", partial(look_at_hub, model, weights, offline)),
        ("cache", partial(look_at_cache, model, weights)),
        ("weights", partial(look_at_weights, model, weights, dict(model_args or {}), weights_prefix, offline)),
        ("temporary", look_at_temporary),
        ("shared memory", look_at_shared_memory),
        ("store", partial(look_at_store, store)),
        ("self-test", look_at_lifting),
    ]
    for name, look in looks:
        try:
            yield from look()
        except Exception as error:  # a broken installation breaks in any way
            reason = " ".join(str(error).split())
            yield Row(name, "FAIL", f"{type(error).__name__}: {reason}", "install featlift into a new environment")
