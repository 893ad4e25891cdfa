"""What a store began with decides for all that is added to it."""

from __future__ import annotations

from featlift.extraction.extraction import Extraction
from featlift.extraction.fitting import with_basis_of
from featlift.store.backend import Where
from featlift.store.contents import check_store, is_empty


def as_begun(store: Where, extraction: Extraction) -> Extraction:
    """The extraction with the basis of a store, if it needs one, and with cells where the store has them.

    Where a trained network looks is measured, so another machine, or an earlier featlift, may have begun the store with
    other offsets than this one would take. An extraction that differs in more is returned as it is, for the store to
    refuse.

    Raises:
        StoreError: something else is there, or the store's basis is missing or damaged.
    """
    if is_empty(store):
        return extraction
    extraction = with_basis_of(store, extraction)
    ours, theirs = extraction.recipe, check_store(store)["recipe"]
    if {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)} != {"offsets"}:
        return extraction
    encoder = extraction.encoder.looking_at(theirs.get("offsets"))
    return Extraction(encoder, extraction.preparation, extraction.reading, extraction.keeping)
