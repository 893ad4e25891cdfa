"""The basis of a cohort: the one its store has, or one fitted on a sample and published with the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from featlift.errors import FeatliftError, StoreError
from featlift.extraction.extraction import Extraction
from featlift.sample import evenly_spaced
from featlift.store import StoreWriter
from featlift.store.backend import Where
from featlift.store.basis import Basis, basis_of
from featlift.store.contents import check_store, is_empty
from featlift.store.output_spec import OutputSpec
from featlift.store.principal import Covariance
from featlift.volumes import Scan
from featlift.volumes.loading import load

#: Scans that a basis is fitted on, and cells of each of their layers: up to 262,144 vectors.
SAMPLED_SCANS = 16
SAMPLED_CELLS = 16_384
_OF_THE_NETWORK = ("model", "weights_sha256", "adapter_sha256", "mode", "norm")


def needs_fitting(store: Where, extraction: Extraction) -> bool:
    """Whether features are to be reduced by principal components, and neither the user nor the store has them."""
    return _needs_basis(extraction) and is_empty(store)


def with_basis_of(store: Where, extraction: Extraction) -> Extraction:
    """The extraction with the basis of a store, if it needs one and the store has one of its kind.

    Raises:
        StoreError: the store's basis is missing or damaged.
    """
    if not _needs_basis(extraction) or is_empty(store):
        return extraction
    recipe = check_store(store)["recipe"]
    reduction = extraction.keeping.reduction
    if reduction is None or recipe.get("reduce") != reduction.spec:
        return extraction
    return _with(extraction, basis_of(store, recipe))


def with_fitted_basis(store: Where, extraction: Extraction, scans: Sequence[Scan]) -> Extraction:
    """The extraction with a basis: a given one, or one fitted on a sample of the scans.

    A store that is not there yet is created with the basis in it. Of two jobs that fit at the same time the first one
    creates it, and the other takes the basis of the first.

    Args:
        store: where the features go.
        extraction: whose features are to be reduced.
        scans: the whole cohort, before it is shared out among jobs.

    Raises:
        StoreError: no scan of the sample could be lifted.
        OutputError: the store cannot be written.
    """
    reduction = extraction.keeping.reduction
    if reduction is None or reduction.method != "pca" or not is_empty(store):
        return with_basis_of(store, extraction)
    basis = reduction.basis or fit(extraction, scans, reduction.channels)
    with suppress(StoreError):  # another job was faster: what differs but the basis, the run itself will say
        StoreWriter(store, _with(extraction, basis).recipe, basis.content)
    return with_basis_of(store, extraction)


def fit(extraction: Extraction, scans: Sequence[Scan], channels: int) -> Basis:
    """Principal components of the features of a sample: scans evenly spaced in the cohort, cells evenly in each.

    Args:
        extraction: how features are made.
        scans: the cohort; those of the sample that cannot be lifted are left out.
        channels: K.

    Raises:
        StoreError: none could be lifted.
        OptionError: fewer cells than channels.
    """
    plain = Extraction(
        extraction.encoder, extraction.preparation, extraction.reading, OutputSpec(save=("dense",), dtype="float32")
    )
    found = {layer.index: Covariance(layer.channels) for layer in extraction.encoder.feature_layers}
    used, failure = 0, ""
    for scan in evenly_spaced(scans, SAMPLED_SCANS):
        try:
            (case,) = plain.lift([load(scan, plain.preparation, plain.reading)])
        except (FeatliftError, OSError, RuntimeError, MemoryError) as error:
            failure = f"{scan.id}: {error}"
            continue
        used += 1
        for layer in case.layers:
            assert layer.dense is not None
            d, h, w = layer.attributes["valid"]
            cells = layer.dense[:, :d, :h, :w].reshape(len(layer.dense), -1)
            found[layer.index].add(cells[:, evenly_spaced(range(cells.shape[1]), SAMPLED_CELLS)].T)
    if not used:
        raise StoreError(f"no scan to fit the basis on could be lifted ({failure}): give one with --basis")
    about = {
        "reduce": f"pca:{channels}",
        "scans": used,
        "cells": {str(index): covariance.count for index, covariance in found.items()},
        **{name: extraction.recipe[name] for name in _OF_THE_NETWORK if name in extraction.recipe},
    }
    return Basis.of({index: covariance.principal(channels) for index, covariance in found.items()}, about)


def _needs_basis(extraction: Extraction) -> bool:
    reduction = extraction.keeping.reduction
    return reduction is not None and reduction.method == "pca" and reduction.basis is None


def _with(extraction: Extraction, basis: Basis) -> Extraction:
    assert extraction.keeping.reduction is not None
    keeping = replace(extraction.keeping, reduction=replace(extraction.keeping.reduction, basis=basis))
    return Extraction(extraction.encoder, extraction.preparation, extraction.reading, keeping)
