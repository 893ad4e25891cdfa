"""What a run was asked for, in a form that other processes can be given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featlift.backbones.precision import resolve_device
from featlift.extraction.extraction import Extraction
from featlift.extraction.network import lifted_backbone
from featlift.extraction.output_spec import OutputSpec
from featlift.extraction.readers import default_prefetch, default_workers
from featlift.extraction.run import Run
from featlift.extraction.shards import Shard
from featlift.remote import Remote
from featlift.store.layout import Recipe
from featlift.store.reading import check_store, is_empty
from featlift.volumes import DiscoveredScans, Preparation, Reading
from featlift.volumes.preparation import ChannelEdges


@dataclass(frozen=True)
class Job:
    """A cohort to extract.

    Attributes:
        output: the store, a folder or behind a URL.
        found: the scans.
        network: arguments of `lifted_backbone`.
        preparation: what happens to a volume before lifting.
        reading: how far reading may go.
        keeping: what is kept of a volume.
        workers: reading processes; None goes by the device.
        prefetch: bytes of prepared volumes that may wait; None goes by the memory.
        shard: the part of the scans to take; None takes all.
    """

    output: Path | Remote
    found: DiscoveredScans
    network: dict[str, Any]
    preparation: Preparation
    reading: Reading
    keeping: OutputSpec
    workers: int | None = None
    prefetch: int | None = None
    shard: Shard | None = None

    def on(self, device: str, of: int = 1) -> Job:
        """The same on another device, one of several that share the cores and the memory of a machine."""
        prefetch = default_prefetch() if self.prefetch is None else self.prefetch
        there = self.with_network(device=device)
        return replace(there, workers=-(-there.readers // of), prefetch=prefetch // of)

    @property
    def readers(self) -> int:
        """How many reading processes there will be."""
        device = self.network.get("device", "auto")
        return default_workers(resolve_device(device)) if self.workers is None else self.workers

    def with_network(self, **options: Any) -> Job:
        """The same with other arguments of the network."""
        return replace(self, network={**self.network, **options})

    def extraction(self) -> Extraction:
        """Load the network and lift it; precision ``auto``, and how channels end, follow a store that exists."""
        network, begun = self.network, None if is_empty(self.output) else check_store(self.output)["recipe"]
        if network.get("precision", "auto") == "auto" and begun is not None:
            network = {**network, "precision": begun.get("precision", "auto")}
        preparation = replace(self.preparation, channels=self._channel_edges(begun))
        return Extraction(lifted_backbone(**network), preparation, self.reading, self.keeping)

    def _channel_edges(self, begun: Recipe | None) -> ChannelEdges | None:
        if begun is not None:
            return "edge" if begun.get("channels") == "edge" else "mixed"
        several = any(len({source.path for source in scan.sources}) > 1 for scan in self.found.scans)
        return "edge" if several else None

    def run(self, extraction: Extraction, is_part: bool = False) -> Run:
        """The run, or a part of one, ready to extract; raises what `Run` does."""
        return Run(self.output, extraction, self.found, self.readers, self.prefetch, self.shard, is_part)
