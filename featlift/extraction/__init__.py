"""Streams volumes through lifting into the store."""

from featlift.extraction.extraction import Extraction, extract
from featlift.extraction.keeping import Keeping
from featlift.extraction.network import lifted_backbone
from featlift.extraction.recipe import make_recipe
from featlift.extraction.reduction import Reduction
from featlift.extraction.run import Outcome, Run

__all__ = ["Extraction", "Keeping", "Outcome", "Reduction", "Run", "extract", "lifted_backbone", "make_recipe"]
