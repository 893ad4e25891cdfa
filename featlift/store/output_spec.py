"""What a store keeps of a volume, and in which form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from featlift.backbones.sampling import FeatureLayer
from featlift.config import OutputConfig
from featlift.errors import OptionError
from featlift.remote import parse_location
from featlift.store.basis import Basis
from featlift.store.layout import SAVED
from featlift.store.reduction import Reduction

if TYPE_CHECKING:
    from featlift.lifting import VolumeEncoder

Dtype = Literal["float16", "float32", "int8"]
Embedding = Literal["cls-mean", "patch-mean", "cls-mean+patch-mean"]

_FEATURES = ("dense", "tokens")


@dataclass(frozen=True)
class OutputSpec:
    """What is written of a volume. All of it is part of the recipe.

    Attributes:
        save: of `featlift.store.layout.SAVED`; in its order afterwards.
        dtype: of dense features and tokens. The scan is float16, means are float32.
        embedding: its parts; None takes the mean class token, if there is one, and the mean patch token.
        reduction: fewer channels for the dense features, and for them alone; None keeps all.

    Raises:
        OptionError: unknown words, or options of an array that is not kept.
    """

    save: tuple[str, ...] = SAVED
    dtype: Dtype = "float16"
    embedding: Embedding | None = None
    reduction: Reduction | None = None

    def __post_init__(self) -> None:
        if not self.save or (unknown := sorted(set(self.save) - set(SAVED))):
            what = unknown[0] if self.save else "nothing"
            raise OptionError(f"save {what}: give one or more of {','.join(SAVED)}")
        object.__setattr__(self, "save", tuple(name for name in SAVED if name in self.save))
        if self.dtype not in get_args(Dtype):
            raise OptionError(f"save-dtype {self.dtype!r}: choose one of {', '.join(get_args(Dtype))}")
        if self.embedding not in (None, *get_args(Embedding)):
            raise OptionError(f"embedding {self.embedding!r}: choose one of {', '.join(get_args(Embedding))}")
        if self.dtype != "float16" and not set(_FEATURES) & set(self.save):
            raise OptionError(f"save-dtype {self.dtype} is of dense features and tokens, and --save has neither")
        if self.reduction is not None and "dense" not in self.save:
            raise OptionError(f"reduce {self.reduction.spec} is of dense features, which --save leaves out")
        if self.embedding is not None and "embedding" not in self.save:
            raise OptionError(f"embedding {self.embedding}: --save leaves the embedding out")

    @classmethod
    def of(cls, config: OutputConfig) -> OutputSpec:
        """What a configuration asks for; raises what `Basis.read` does if it names a basis."""
        basis = None if config.basis is None else Basis.read(parse_location(config.basis))
        reduction = Reduction.of(config.reduce, basis)
        return cls(config.save, config.save_dtype, config.embedding, reduction)  # type: ignore[arg-type]

    def check(self, encoder: VolumeEncoder) -> None:
        """Refuse what an encoder does not have.

        Raises:
            OptionError: a class token or global tokens that it lacks, fewer channels than are to be kept, or a basis
                of another network.
        """
        self.check_layers(encoder.name, encoder.token_names, encoder.feature_layers)
        basis = None if self.reduction is None else self.reduction.basis
        if basis is not None and (
            basis.about["weights_sha256"] != encoder.weights["sha256"]
            or basis.about.get("adapter_sha256") != encoder.weights.get("adapter_sha256")
        ):
            raise OptionError(f"the basis was fitted on features of {basis.about['model']} with other weights")

    def check_layers(self, name: str, tokens: tuple[str, ...], layers: Sequence[FeatureLayer]) -> None:
        """Refuse what a network of this name, with these global tokens and layers, does not have, as `check` does."""
        if self.save == ("tokens",) and not tokens:
            raise OptionError(f"save tokens: {name} has no global tokens, so there would be nothing to keep")
        if "cls" in (self.embedding or "") and tokens[:1] != ("cls",):
            raise OptionError(f"embedding {self.embedding}: {name} has no class token; choose patch-mean")
        if self.reduction is not None:
            self.reduction.check(layers)

    def parts_of_embedding(self, token_names: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the parts of the embedding, in their order."""
        if self.embedding is not None:
            return tuple(self.embedding.split("+"))
        return ("cls-mean", "patch-mean") if token_names[:1] == ("cls",) else ("patch-mean",)

    def as_recipe(self, token_names: tuple[str, ...]) -> dict[str, Any]:
        """Its part of a store's recipe, as JSON values; null is the default."""
        parts = self.parts_of_embedding(token_names)
        is_default = parts == OutputSpec().parts_of_embedding(token_names)
        return {
            "dtype": self.dtype,
            "save": None if self.save == SAVED else list(self.save),
            "embedding": None if is_default else "+".join(parts),
            "reduce": None if self.reduction is None else self.reduction.spec,
            "basis_sha256": None if self.reduction is None else self.reduction.basis_sha256,
        }
