"""``3dme:FOLDER``, ``3dme:tiny`` and ``3dme:base`` as encoders of volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from featlift.backbones.loading import seed_of
from featlift.backbones.weights import sha256_of_state
from featlift.checksums import sha256_of_file
from featlift.encoders.native import NativeEncoder
from featlift.encoders.request import Request
from featlift.encoders.states import build, weighted
from featlift.encoders.threedme.config import ThreeDMEConfig
from featlift.encoders.threedme.folder import WEIGHTS, read_config, read_encoder
from featlift.encoders.threedme.network import ThreeDME
from featlift.errors import ModelError, WeightsError

_SIZES = {"base": ThreeDMEConfig.base, "tiny": ThreeDMEConfig.tiny}


def load(request: Request) -> NativeEncoder:
    """A 3DME that was pretrained here, with the preparation of its scans; or one of a known size with given weights.

    ``--model-arg`` of a known size are fields of `ThreeDMEConfig`; a folder has its own. ``--weights random:SEED``
    gives the twin of either that has learned nothing. Scans larger than the crops of the pretraining are seen in tiles
    of that size.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
        ModelError: arguments that make no network.
        WeightsError: no weights, or those of another architecture.
    """
    if request.name in _SIZES:
        name = f"3dme:{request.name}"
        config = ThreeDMEConfig.from_json({**_SIZES[request.name]().to_json(), **request.arguments})
        network, weights = weighted(request, name, lambda: ThreeDME(config), "")
        preparation: dict[str, Any] = {}
    else:
        folder = Path(request.name)
        name = f"3dme:{folder.resolve().name}"
        network, weights, preparation = _of_folder(request, folder, name)
    return NativeEncoder(
        name,
        network,
        request,
        weights,
        tile=(network.config.size,) * 3,
        about={"encoder": network.config.to_json()},
        preparation=preparation,
    )


def _of_folder(request: Request, folder: Path, name: str) -> tuple[ThreeDME, dict[str, str], dict[str, Any]]:
    if request.arguments:
        raise ModelError(f"3dme: --model-arg {next(iter(request.arguments))}: the folder says what the network is")
    if request.weights_prefix is not None:
        raise ModelError("3dme: --weights-prefix has no meaning with the folder of a pretraining: leave it out")
    if request.weights is None:
        network, said = read_encoder(folder)
        origin = {"source": f"{name}/{WEIGHTS}", "sha256": sha256_of_file(folder / WEIGHTS)}
    elif request.weights.startswith("random:"):
        said = read_config(folder)
        network = build(name, lambda: ThreeDME(said.config), seed_of(request.weights))
        origin = {"source": request.weights, "sha256": sha256_of_state(network.state_dict())}
    else:
        raise WeightsError(f"{name}: its weights lie in its folder; --weights takes random:SEED, or nothing")
    return network, origin, said.preparation
