"""A network that says what a volume is: tokens of slices, pooled over the depth, then one linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from featlift.encoders.native import NativeEncoder
from featlift.errors import OptionError
from featlift.finetuning.plan import SlicePooling, Tokens
from featlift.lifting import LiftedBackbone


@dataclass(frozen=True, eq=False)
class Labelled:
    """Volumes with what they are.

    Attributes:
        volumes: each ``(1 or 3, D, H, W)`` of intensities in [0, 1]; sizes may differ.
        targets: classes ``(B,)`` int64, or findings ``(B, K)`` of 0, 1 and nan for what is not known.
    """

    volumes: Sequence[Tensor]
    targets: Tensor


class Classifier(nn.Module):
    """Logits of volumes, those of one shape computed together.

    Attributes:
        encoder: the network that makes their features.
    """

    encoder: LiftedBackbone | NativeEncoder

    def forward(self, batch: Labelled) -> Tensor:
        """Logits ``(B, K)``."""
        rows: dict[tuple[int, ...], list[int]] = {}
        for row, volume in enumerate(batch.volumes):
            rows.setdefault(tuple(volume.shape), []).append(row)
        found = [self.of_one_shape(torch.stack([batch.volumes[row] for row in some])) for some in rows.values()]
        order = torch.tensor([row for some in rows.values() for row in some], device=found[0].device)
        return torch.cat(found)[order.argsort()]

    def of_one_shape(self, volumes: Tensor) -> Tensor:
        """Logits ``(B, K)`` of ``(B, 1 or 3, D, H, W)``."""
        raise NotImplementedError


class LiftedClassifier(Classifier):
    """A lifted network, as the released `Dinov3Linear` has it.

    Slices are weighted by a linear layer over the depth; volumes of another
    depth are brought to that of the layer by adaptive average pooling, which leaves its own depth as it is.

    Args:
        lifted: the network; its last layer is read.
        outputs: K.
        depth: slices that the pooling has weights for.
        pooling: ``learned`` or ``mean``.
        tokens: what of a slice is taken; None is the class token, where the network has none the mean patch token.

    Raises:
        OptionError: a class token that the network has not.
    """

    def __init__(
        self,
        lifted: LiftedBackbone,
        outputs: int,
        depth: int,
        pooling: SlicePooling = "learned",
        tokens: Tokens | None = None,
    ) -> None:
        super().__init__()
        has_class_token = lifted.token_names[:1] == ("cls",)
        self.tokens = tokens or ("cls" if has_class_token else "patch-mean")
        if "cls" in self.tokens and not has_class_token:
            raise OptionError(f"tokens {self.tokens}: {lifted.name} has no class token; choose patch-mean")
        self.encoder: LiftedBackbone = lifted
        self.depth = depth
        channels = lifted.feature_layers[-1].channels * (2 if self.tokens == "cls+patch-mean" else 1)
        alone = not lifted.tokens_per_slice and self.tokens == "cls"  # mode 3d: nothing to pool
        self.pool = nn.Linear(depth, 1) if pooling == "learned" and depth > 1 and not alone else None
        self.head = nn.Linear(channels, outputs)

    def of_one_shape(self, volumes: Tensor) -> Tensor:
        """See `Classifier`."""
        features = self.encoder(volumes)
        parts = []
        if "cls" in self.tokens:
            parts.append(features.tokens[:, :, 0])
        if "patch-mean" in self.tokens:
            slices = features.dense.mean(dim=(3, 4)).transpose(1, 2)
            parts.append(slices if not parts else slices.expand(-1, max(parts[0].shape[1], slices.shape[1]), -1))
            parts = [part.expand(-1, slices.shape[1], -1) for part in parts]
        return self.head(self.pooled(torch.cat(parts, dim=-1).to(self.head.weight.dtype)))  # type: ignore[no-any-return]

    def pooled(self, slices: Tensor) -> Tensor:
        """Vectors of slices ``(B, D, C)`` to one of the volume ``(B, C)``."""
        if self.pool is None:
            return slices.mean(dim=1)
        along = slices.transpose(1, 2)
        if along.shape[-1] != self.depth:
            along = F.adaptive_avg_pool1d(along, self.depth)
        return self.pool(along).squeeze(-1)  # type: ignore[no-any-return]


def classification_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of classes, or binary cross-entropy of the findings that are known, as means over the batch."""
    if not targets.is_floating_point():
        return F.cross_entropy(logits.float(), targets)
    known = ~targets.isnan()
    each = F.binary_cross_entropy_with_logits(
        logits.float(), targets.nan_to_num(), weight=known.float(), reduction="none"
    )
    return (each.sum(dim=1) / known.sum(dim=1).clamp(min=1)).mean()
