"""Streams volumes through lifting into the store."""

from featlift.extraction.extraction import Extraction, Outcome
from featlift.extraction.recipe import make_recipe
from featlift.extraction.record import run_record

__all__ = ["Extraction", "Outcome", "make_recipe", "run_record"]
