"""Attention-based multiple instance pooling: one vector of a bag of instances, for several seeds at once.

After Ilse, Tomczak and Welling, Attention-based Deep Multiple Instance Learning (ICML 2018), with its gated attention.
Letters of shapes: S seeds, B bags, M instances of the largest, C channels of an instance, D hidden ones, A of the gate,
J attentions (one, or one for each of K findings), K outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, einsum

from featlift.evaluation.classification.multi_seed import Heads, uniform
from featlift.evaluation.classification.protocol import BagProbe, Pooling


class Explained(NamedTuple):
    """What a head made of each instance of a bag.

    Attributes:
        scores: s, before the softmax, ``(M, J)``.
        attention: weights, which add up to 1 over the bag, ``(M, J)``.
        logits: of the instance alone, ``(M, K)``; their means by these weights are the bag's.
    """

    scores: Tensor
    attention: Tensor
    logits: Tensor


class BagHeads(Heads):
    """For each seed a projection of instances, gated attention, and a linear layer.

    Args:
        parameters: ``projection`` (S, D, C) and ``projection_bias`` (S, D); ``V`` and ``U`` (S, A, D) and ``w``
            (S, A, J), absent where nothing attends; ``weight`` (S, K, D) and ``bias`` (S, K).
        pooling: how a bag becomes one vector.
    """

    def __init__(self, parameters: dict[str, Tensor], pooling: Pooling = "attention") -> None:
        super().__init__(parameters)
        self.pooling = pooling

    @classmethod
    def start(
        cls, channels: int, outputs: int, attentions: int, how: BagProbe, generators: Sequence[torch.Generator]
    ) -> BagHeads:
        """Heads that have learned nothing.

        Args:
            channels: C, of an instance.
            outputs: K.
            attentions: J: 1, or K for one of each output.
            how: pooling and sizes.
            generators: one for each seed.
        """
        hidden, gate = how.hidden, how.gate
        shapes: dict[str, tuple[int, ...]] = {"projection": (hidden, channels), "projection_bias": (hidden,)}
        inputs = dict.fromkeys(shapes, channels)
        shapes |= {"weight": (outputs, hidden), "bias": (outputs,)}
        inputs |= dict.fromkeys(("weight", "bias"), hidden)
        if how.pooling == "attention":
            shapes |= {"V": (gate, hidden), "U": (gate, hidden), "w": (gate, attentions)}
            inputs |= {"V": hidden, "U": hidden, "w": gate}
        return cls(uniform(shapes, inputs, generators), how.pooling)

    def __call__(self, instances: Tensor, mask: Tensor) -> Tensor:
        """Outputs ``(S, B, K)``.

        Args:
            instances: ``(S, B, M, C)``, or ``(B, M, C)`` if they are the same for every seed; whatever is padding.
            mask: true for what is none, ``(S, B, M)`` or ``(B, M)``.
        """
        return self.classified(self.pooled(instances, mask)[0])

    def projected(self, instances: Tensor) -> Tensor:
        """Of instances e their h = P e + b, ``(S, B, M, D)``."""
        own = self.parameters
        shared = "bmc" if instances.ndim == 3 else "sbmc"
        h = einsum(f"{shared},sdc->sbmd", instances, own["projection"])
        return h + own["projection_bias"][:, None, None]

    def scores(self, h: Tensor) -> Tensor:
        """Of each h its s = w . (tanh(V h) * sigmoid(U h)), ``(S, B, M, J)``; all 0 where nothing attends."""
        own = self.parameters
        if self.pooling != "attention":
            return h.new_zeros(*h.shape[:3], 1)
        seen = einsum("sbmd,sad->sbma", h, own["V"]).tanh()
        gate = einsum("sbmd,sad->sbma", h, own["U"]).sigmoid()
        return einsum("sbma,saj->sbmj", seen * gate, own["w"])

    def pooled(self, instances: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Of each bag z = sum of a h with a = softmax(s), or the largest h of each channel, ``(S, B, J, D)``.

        Returns:
            z, and the logarithm of what the bag would weigh as a part of a larger one, ``(S, B, J)``, for `joined`.
        """
        h = self.projected(instances)
        s = self.scores(h).masked_fill(~mask[..., None], -torch.inf)
        if self.pooling == "max":
            z = h.masked_fill(~mask[..., None], -torch.inf).amax(dim=2, keepdim=True)
        else:
            z = einsum("sbmj,sbmd->sbjd", s.softmax(dim=2), h)
        return z, s.logsumexp(dim=2)

    def joined(self, blocks: Iterable[Tensor]) -> Tensor:
        """Outputs ``(S, 1, K)`` of one bag that is given in blocks ``(M, C)``, of which one at a time is in memory.

        A block is a bag, and these weigh, in the whole, as much as the sum of exp(s) in each of them.
        """
        parts = [self.pooled(block[None], torch.ones(1, len(block), dtype=torch.bool)) for block in blocks]
        z, weights = (torch.cat(each, dim=1) for each in zip(*parts, strict=True))
        if self.pooling == "max":
            return self.classified(z.amax(dim=1, keepdim=True))
        return self.classified((weights.softmax(dim=1)[..., None] * z).sum(dim=1, keepdim=True))

    def classified(self, z: Tensor) -> Tensor:
        """Outputs ``(S, B, K)`` of ``(S, B, J, D)``: each of its own attention's vector, or all of the only one."""
        own = self.parameters
        pair = "sbkd,skd->sbk" if z.shape[2] > 1 else "sbjd,skd->sbk"
        return einsum(pair, z, own["weight"]) + own["bias"][:, None]

    @torch.no_grad()
    def explained(self, blocks: Iterable[Tensor], seed: int = 0) -> Explained:
        """What one seed's head makes of each instance of a bag given in blocks ``(M, C)``.

        Args:
            blocks: of the bag.
            seed: which, by its place.
        """
        own = {name: value[seed : seed + 1] for name, value in self.parameters.items()}
        head = BagHeads(own, self.pooling)
        found = []
        for block in blocks:
            h = head.projected(block[None])
            logits = einsum("sbmd,skd->sbmk", h, own["weight"]) + own["bias"][:, None, None]
            found.append((head.scores(h)[0, 0], logits[0, 0]))
        scores, logits = (torch.cat(each) for each in zip(*found, strict=True))
        return Explained(scores, scores.softmax(dim=0), logits)
