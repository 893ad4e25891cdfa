"""Whether lifting gives here what it must: a tiny seeded network on a small volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from featlift.diagnosis.row import Row

_NETWORK: dict[str, Any] = {"embed_dim": 48, "depth": 4, "num_heads": 3, "init_values": 0.5}
_SHAPE = (1, 3, 6, 48, 64)
_FIX = "install the versions of constraints.txt into a new environment, and report it if it stays"
_CLOSE = 1e-4  # features are near 1; float32 on any device keeps 1e-5


def look_at_lifting() -> Iterator[Row]:
    """Slices and planes against timm's own forward pass, and each accelerator against the processor."""
    import torch

    from featlift.backbones.loading import load_backbone
    from featlift.backbones.precision import place, resolve_device
    from featlift.lifting import lift

    backbone = load_backbone("vit_tiny_patch16_224", "random:0", precision="fp32", device="cpu", **_NETWORK)
    volume = torch.rand(_SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        slices = backbone.normalise(volume[0].transpose(0, 1))
        wanted = backbone.net.forward_features(slices)[:, 1:].unflatten(1, (3, 4)).permute(3, 0, 1, 2)
        lifted = {name: lift(backbone, **how)(volume).dense[0] for name, how in _ways().items()}
    yield _compare("every slice as timm's", lifted["2d"], wanted)
    yield _compare("planes HW only as slices", lifted["HW"], lifted["2d"])
    yield from _store_round_trip(backbone, volume)
    device = resolve_device("auto")
    if device.type != "cpu":
        with torch.inference_mode():
            there = lift(place(backbone, device, "fp32"))(volume.to(device)).dense[0].cpu()
        yield _compare(f"PlaneCycle on {device} as on the processor", there, lifted["pcg"])


def _ways() -> dict[str, dict[str, Any]]:
    return {"2d": {"mode": "2d"}, "HW": {"mode": "pcg", "cycle": ("HW",)}, "pcg": {"mode": "pcg"}}


def _store_round_trip(backbone: Any, volume: Any) -> Iterator[Row]:
    """A volume through preparation, lifting and a store in memory."""
    import numpy as np

    from featlift.extraction import extract
    from featlift.lifting import lift
    from featlift.volumes import Volume

    case = extract(Volume(volume[0, 0].numpy()), lift(backbone))
    expected = (backbone.layers[-1].channels, 6, 3, 4)
    features = np.asarray(case.dense[...])
    right = features.shape == expected and np.isfinite(features).all() and features.any()
    what = f"a volume through a store in memory: features {' x '.join(map(str, features.shape))}"
    yield Row("self-test", "PASS", what) if right else Row("self-test", "FAIL", what, _FIX)


def _compare(what: str, got: Any, wanted: Any) -> Row:
    difference = float((got - wanted).abs().max())
    if not difference <= _CLOSE:  # NaN is not
        return Row("self-test", "FAIL", f"{what}: off by {difference:.2g}", _FIX)
    return Row("self-test", "PASS", f"{what}: largest difference {difference:.1g}")
