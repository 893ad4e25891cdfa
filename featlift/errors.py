"""Every error featlift raises on purpose.

One family: catch `FeatliftError` for all of them, or the builtin that each one also is. A message names what was
wrong, in which file or case, and what to do next; the command line prints it as one line.
"""

from __future__ import annotations


class FeatliftError(Exception):
    """Base of every error raised on purpose by featlift."""


class ModelError(FeatliftError, ValueError):
    """A backbone that is unknown, of an unsupported family, or asked for what it cannot do."""


class WeightsError(FeatliftError, ValueError):
    """Weights that are missing, unreadable, unsafe, or made for another architecture."""


class OptionError(FeatliftError, ValueError):
    """An option of a command, or an argument of a function, that makes no sense."""


class LiftingError(FeatliftError, ValueError):
    """A mode, cycle, layer or input shape that cannot be lifted."""


class LiftingMemoryError(FeatliftError, MemoryError):
    """A single plane of a volume that does not fit in memory."""


class VolumeError(FeatliftError, ValueError):
    """A file that does not hold one usable 3D volume."""


class InputError(FeatliftError, FileNotFoundError):
    """An input path that does not exist or holds nothing to extract."""


class StoreError(FeatliftError, ValueError):
    """A store that is not ours, is damaged, or was made with another recipe."""


class OutputError(FeatliftError, OSError):
    """A place that cannot be written."""


class RemoteError(FeatliftError, OSError):
    """A URL that cannot be reached: the network, the server, or a package that is missing here."""


class AccessError(RemoteError, PermissionError):
    """A URL that is not open to us: no credentials, or not the right ones."""
