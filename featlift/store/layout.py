"""Names and places of format 1. docs/store-format.md is the same for people."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from featlift.errors import StoreError

FORMAT = 1
#: Raised whenever the same recipe would give other features than before.
FEATURES_VERSION = 1

NAMESPACE = "featlift"  # our part of a group's attributes
VOLUMES = "volumes"
STAGING = ".staging"  # outside volumes/: a stray folder inside a Zarr group warns in every listing
RUNS = "runs"
INDEX = "index.parquet"
DAMAGED_INDEX = "index.damaged.parquet"
DAMAGED = "damaged.json"
METADATA = "zarr.json"
VOLUMES_METADATA = f"{VOLUMES}/{METADATA}"
BASIS = "basis.safetensors"

#: What can be kept of a volume; see docs/store-format.md.
SAVED = ("scan", "dense", "tokens", "slice_mean", "embedding")

Recipe = dict[str, Any]


def canonical(value: Any) -> str:
    """JSON with one spelling, so that equal values have equal hashes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sha256_of(value: Any) -> str:
    """SHA-256 of a JSON value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def differing_fields(ours: Recipe, theirs: Recipe, we: str = "store", they: str = "asked") -> list[str]:
    """Fields in which two recipes differ, each with both values and whose they are."""
    names = sorted(ours.keys() | theirs.keys())
    return [
        f"{name} ({we} {canonical(ours.get(name))}, {they} {canonical(theirs.get(name))})"
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


def saved_in(recipe: Recipe) -> tuple[str, ...]:
    """What a store of this recipe keeps of a volume, of `SAVED`."""
    return tuple(recipe.get("save") or SAVED)


def not_kept(where: object, name: str, saved: tuple[str, ...]) -> StoreError:
    """The error of a reader who asks for what was not kept."""
    wanted = ",".join(each for each in SAVED if each in (*saved, name))
    return StoreError(f"{where} keeps no {name}, only {', '.join(saved)}: extract again with --save {wanted}")
