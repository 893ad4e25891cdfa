"""Weights into a 3D network of which the encoder alone is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from featlift.backbones.layouts import strip_prefix
from featlift.backbones.loading import seed_of
from featlift.backbones.weights import State, read_weights, sha256_of_state, some_keys
from featlift.checksums import sha256_of_file
from featlift.encoders.request import Request
from featlift.errors import FeatliftError, ModelError, WeightsError

Network = TypeVar("Network", bound=nn.Module)

#: What training on several devices puts before every key.
_PARALLEL = "module."
_COUNTERS = ".num_batches_tracked"


def build(name: str, make: Callable[[], Network], seed: int = 0) -> Network:
    """Build a network, with weights of a seed, and leave torch's own generator as it is.

    Raises:
        ModelError: it refuses its arguments.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return make()
    except FeatliftError:
        raise
    except Exception as error:  # networks raise many kinds for arguments they cannot use
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ModelError(f"{name}: it cannot be built with these --model-arg ({reason})") from error


def weighted(request: Request, kind: str, make: Callable[[], Network], encoder: str) -> tuple[Network, dict[str, str]]:
    """A network with the weights that were asked for, and where they came from.

    Args:
        request: with a file, or ``random:SEED``.
        kind: for messages.
        make: builds the network.
        encoder: pattern of the keys that features pass through: prefixes with ``|`` between, empty for all.

    Raises:
        ModelError: it refuses its arguments.
        WeightsError: no weights, or those of another architecture.
    """
    weights = request.weights
    if weights is None:
        raise WeightsError(f"{kind}: it comes without weights, give a safetensors or torch file with --weights")
    if weights.startswith("random:"):
        network = build(kind, make, seed_of(weights))
        return network, {"source": weights, "sha256": sha256_of_state(network.state_dict())}
    path = Path(weights)
    state = read_weights(path)  # a file that is missing or unsafe is told before anything is built
    network = build(kind, make)
    try:
        state = strip_prefix(state, request.weights_prefix or "")
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}") from error
    if all(key.startswith(_PARALLEL) for key in state):
        state = {key.removeprefix(_PARALLEL): value for key, value in state.items()}
    fill(network, state, path.name, kind, tuple(encoder.split("|")))
    return network, {"source": f"file:{path.name}", "sha256": sha256_of_file(path)}


def fill(network: nn.Module, state: State, name: str, kind: str, encoder: tuple[str, ...]) -> None:
    """Load the keys of the encoder; those of the rest of the network may be there or not, and others may not.

    Raises:
        WeightsError: keys are missing, left over, or of another shape.
    """
    own: dict[str, Tensor] = network.state_dict()
    needed = {key: value for key, value in own.items() if key.startswith(encoder) and not key.endswith(_COUNTERS)}
    problems = [
        some_keys("without a value", [key for key in needed if key not in state]),
        some_keys("not of this network", [key for key in state if key not in own]),
        some_keys(
            "of another shape",
            [
                f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
                for key, value in needed.items()
                if key in state and state[key].shape != value.shape
            ],
        ),
    ]
    if any(problems):
        found = "; ".join(problem for problem in problems if problem)
        raise WeightsError(
            f"{name} does not fit {kind}: {found}. Check --model and --model-arg, or give --weights-prefix if the "
            "network's keys stand under a prefix"
        )
    network.load_state_dict({key: state[key] for key in own if key in state and key.startswith(encoder)}, strict=False)
