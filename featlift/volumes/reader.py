"""What runs in a reading process. It imports neither torch nor a store before a scan asks for it."""

from __future__ import annotations

import os
import signal
import uuid
from pathlib import Path

from featlift.processes import end_with_parent
from featlift.volumes.loading import load
from featlift.volumes.opening import Reading
from featlift.volumes.parcels import Parcel, pack
from featlift.volumes.preparation import Preparation
from featlift.volumes.scan import Scan


def start() -> None:
    """Set up the process: one thread, deaf to Ctrl-C, which its parent hears, and not outliving it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    end_with_parent()


def load_into(folder: Path, scan: Scan, preparation: Preparation, reading: Reading) -> Parcel:
    """Read and prepare a scan, see `load`; its voxels are left in a file of the folder."""
    return pack(load(scan, preparation, reading), folder / uuid.uuid4().hex)
