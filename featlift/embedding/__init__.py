"""Scans to a vector each. The defaults rest on docs/results.md as far as it goes; docs/how-to/embed.md says how."""

from featlift.embedding.choosing import Choice, choose, preset_of
from featlift.embedding.embed import Embedded, embed

__all__ = ["Choice", "Embedded", "choose", "embed", "preset_of"]
