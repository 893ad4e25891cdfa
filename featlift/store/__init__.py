"""The Zarr feature store, format 1: layout, recipe, write, read, verify."""

from featlift.store.case import Case
from featlift.store.case_data import CaseData, LayerData
from featlift.store.claims import Claims
from featlift.store.index import index_is_current, read_index, rebuild_index
from featlift.store.merging import Merge
from featlift.store.reading import Store, open_store
from featlift.store.verification import Damage, verify
from featlift.store.volume_files import case_in_memory
from featlift.store.writing import StoreWriter

__all__ = [
    "Case",
    "CaseData",
    "Claims",
    "Damage",
    "LayerData",
    "Merge",
    "Store",
    "StoreWriter",
    "case_in_memory",
    "index_is_current",
    "open_store",
    "read_index",
    "rebuild_index",
    "verify",
]
