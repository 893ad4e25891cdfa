"""Scans to a vector each, with what the studies of docs/results.md found best."""

from featlift.embedding.choosing import Choice, choose, preset_of
from featlift.embedding.embed import Embedded, embed

__all__ = ["Choice", "Embedded", "choose", "embed", "preset_of"]
