"""Bags: all vectors of a case, of its slices or of its cells, however many there are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from featlift.counting import number_of
from featlift.errors import OptionError, StoreError
from featlift.evaluation.classification.embeddings import VOXELS, input_of, require_slices, slice_vectors
from featlift.evaluation.classification.gated import BagHeads
from featlift.evaluation.classification.protocol import BagProbe
from featlift.lifting.budget import free_bytes
from featlift.progress import Progress, counted
from featlift.sizes import decimal_bytes
from featlift.store.case import CaseLayer
from featlift.store.features import layer_of, slabs_of
from featlift.store.reading import Store

PATCHES = "patches"
_BLOCK = 4_096  # instances that are scored at a time
_MOST = 0.8  # of the memory that is free


@dataclass(frozen=True, eq=False)
class Bags:
    """The instances of cases, one bag after the other, for `BagHeads`.

    Attributes:
        instances: of all bags, ``(T, C)`` float16: half the memory, and as stores keep them.
        starts: of each bag, ``(N,)``.
        counts: its instances, ``(N,)``.
        most: of a bag that are drawn in a training step; all are scored.
    """

    instances: Tensor
    starts: NDArray[np.intp]
    counts: NDArray[np.intp]
    most: int

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def channels(self) -> int:
        """C, of an instance."""
        return self.instances.shape[1]

    def of(self, rows: NDArray[np.intp]) -> Bags:
        """Some of the bags; nothing is copied."""
        return replace(self, starts=self.starts[rows], counts=self.counts[rows])

    def trained(self, heads: BagHeads, rows: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """See `Cases`: bags are padded to the largest of the batch."""
        drawn = [
            self._draw(row, generator)
            for each, generator in zip(rows.tolist(), generators, strict=True)
            for row in each
        ]
        places = pad_sequence(drawn, batch_first=True, padding_value=-1).view(*rows.shape, -1)
        instances = self.instances.index_select(0, places.clamp(min=0).flatten()).float()
        return heads(instances.view(*places.shape, -1), places >= 0)

    def scored(self, heads: BagHeads) -> Tensor:
        """See `Cases`: bag after bag, a few thousand instances at a time."""
        return torch.cat([heads.joined(self.blocks(row)) for row in range(len(self))], dim=1)

    def blocks(self, row: int) -> Iterator[Tensor]:
        """The instances of a bag ``(M, C)`` float32, in order."""
        bag = self.instances[self.starts[row] : self.starts[row] + self.counts[row]]
        return (block.float() for block in bag.split(_BLOCK))

    def standardise(self, rows: NDArray[np.intp]) -> None:
        """Bring each channel, of all bags and in place, to mean 0 and deviation 1 among the instances of some.

        Of features as they are, whose channels differ in mean and size, an average is learned so slowly that attention
        would seem better than it is.
        """
        total, squares = (torch.zeros(self.channels, dtype=torch.float64) for _ in range(2))
        for block in (block.double() for row in rows.tolist() for block in self.blocks(row)):
            total += block.sum(dim=0)
            squares += block.square().sum(dim=0)
        count = int(self.counts[rows].sum())
        mean = total / count
        deviation = (squares / count - mean.square()).clamp(min=0).sqrt()
        deviation[deviation == 0] = 1  # the same everywhere: nothing to learn from
        largest = torch.finfo(self.instances.dtype).max
        for block in self.instances.split(_BLOCK):
            block.copy_(((block.double() - mean) / deviation).clamp(-largest, largest))

    def _draw(self, row: int, generator: torch.Generator) -> Tensor:
        start, count = int(self.starts[row]), int(self.counts[row])
        if count <= self.most:
            return torch.arange(start, start + count)
        return start + torch.randperm(count, generator=generator)[: self.most]


def kinds_of(store: Store, wanted: str | None, how: BagProbe) -> tuple[str, ...]:
    """What is in the bags of a store: the vectors of its slices by their `Input`, ``patches``, or first one, then both.

    Args:
        store: of the features.
        wanted: the input of slices, None for the usual.
        how: the bags.

    Raises:
        OptionError: no such layer, or an input that has no vector a slice.
        StoreError: the store does not keep what is asked for.
    """
    if how.layer is not None and how.layer not in store.recipe["layers"]:
        raise OptionError(f"layer {how.layer}: {store.path} holds {', '.join(map(str, store.recipe['layers']))}")
    if how.bag == "patches":
        if wanted is not None:
            raise OptionError(f"input {wanted}: of slices; bag patches holds cells and takes none")
        store.require("dense")
        return (PATCHES,)
    given = input_of(store, wanted)
    if given == VOXELS:
        raise OptionError("input voxels: one vector a scan is no bag; choose patch-mean or cls")
    require_slices(store, given)
    layer = layer_of(store[next(iter(store))], how.layer)
    if given != "patch-mean" and (store.recipe["mode"] == "3d" or not _is_by_slice(layer)):
        raise OptionError(f"bag {how.bag}: its volumes have one class token, not one a slice; choose input patch-mean")
    if how.bag == "slices":
        return (given,)
    store.require("dense")
    if (slices := _channels(layer, given)) != (cells := _channels(layer, PATCHES)):
        raise OptionError(f"bag both: {given} has {slices} channels and a cell {cells}; choose slices or patches")
    return given, PATCHES


def read_bags(
    store: Store, ids: Sequence[str], kinds: Sequence[str], how: BagProbe, progress: Progress | None = None
) -> Bags:
    """Read the bag of each case into memory.

    Args:
        store: of the features.
        ids: of the cases.
        kinds: what is in a bag, see `kinds_of`.
        how: the bags.
        progress: told of each case.

    Raises:
        OptionError: all bags together are more than fits in memory.
        StoreError: features are damaged.
    """
    layers = [layer_of(store[case_id], how.layer) for case_id in ids]
    counts = [sum(_count(layer, kind) for kind in kinds) for layer in layers]
    shape = (sum(counts), _channels(layers[0], kinds[0]))
    check_memory(2 * math.prod(shape), len(ids), how)
    instances = np.empty(shape, np.float16)
    place = 0
    for case_id, layer in zip(counted(ids, "reading", progress), layers, strict=True):
        for vectors in (part for kind in kinds for part in _vectors(layer, kind)):
            held = instances[place : place + len(vectors)]
            with np.errstate(over="ignore"):
                held[:] = vectors
            if not np.isfinite(held).all():
                raise StoreError(f"{case_id}: its features are not finite, or beyond what float16 holds (65,504)")
            place += len(vectors)
    starts = np.array([0, *accumulate(counts)][:-1])
    return Bags(torch.from_numpy(instances), starts, np.array(counts), how.instances)


def check_memory(needed: int, cases: int, how: BagProbe) -> None:
    """Raise an `OptionError` if bags of so many bytes are more than four fifths of the memory that is free."""
    free = free_bytes(torch.device("cpu"))
    if free is not None and needed > _MOST * free:
        smaller = "bag slices, or features that were reduced" if how.bag != "slices" else "fewer cases"
        raise OptionError(
            f"bag {how.bag}: the bags of {number_of(cases, 'case')} are {decimal_bytes(needed)}, "
            f"and {decimal_bytes(free)} of memory are free: take {smaller}"
        )


def _is_by_slice(layer: CaseLayer) -> bool:
    return layer.tokens is not None and layer.tokens.shape[0] == layer.valid_cells[0]


def _count(layer: CaseLayer, kind: str) -> int:
    return math.prod(layer.valid_cells) if kind == PATCHES else layer.valid_cells[0]


def _channels(layer: CaseLayer, kind: str) -> int:
    if kind == PATCHES:
        return layer.dense.shape[0]
    tokens = layer.tokens.shape[2] if kind != "patch-mean" and layer.tokens is not None else 0
    return tokens + (layer.slice_mean.shape[1] if kind != "cls" else 0)


def _vectors(layer: CaseLayer, kind: str) -> Iterator[NDArray[np.float32]]:
    """``(n, C)`` of slices, or of cells a few slices at a time, as the flattened grid has them."""
    if kind != PATCHES:
        yield slice_vectors(layer, kind)
        return
    for slab in slabs_of(layer):
        yield slab.reshape(len(slab), -1).T
