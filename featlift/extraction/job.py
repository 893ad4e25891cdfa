"""What a run was asked for, in a form that other processes can be given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from featlift.backbones.precision import resolve_device
from featlift.config import ExtractConfig
from featlift.counting import number_of
from featlift.errors import OptionError
from featlift.extraction.extraction import Extraction
from featlift.extraction.network import encoder_of, preparation_of
from featlift.extraction.readers import default_prefetch, default_workers
from featlift.extraction.run import Run
from featlift.extraction.shards import Shard
from featlift.lifting import VolumeEncoder
from featlift.remote import Remote
from featlift.sizes import parse_size
from featlift.store.contents import check_store, is_empty
from featlift.store.layout import Recipe
from featlift.store.output_spec import OutputSpec
from featlift.volumes import DiscoveredScans, Preparation, Reading
from featlift.volumes.preparation import ChannelEdges


@dataclass(frozen=True)
class Job:
    """A cohort to extract.

    Attributes:
        output: the store, a folder or behind a URL.
        found: the scans.
        config: how.
        shard: the part of the scans to take; None takes all.
    """

    output: Path | Remote
    found: DiscoveredScans
    config: ExtractConfig
    shard: Shard | None = None

    def on(self, device: str, of: int = 1) -> Job:
        """The same on another device, one of several that share the cores and the memory of a machine."""
        there = self.with_values(device=device)
        return there.with_values(workers=-(-there.readers // of), prefetch=(self.prefetch or default_prefetch()) // of)

    def with_values(self, **options: Any) -> Job:
        """The same with other values of some options."""
        return replace(self, config=self.config.with_values(options))

    @property
    def readers(self) -> int:
        """How many reading processes there will be."""
        workers = self.config.running.workers
        return default_workers(resolve_device(self.config.network.device)) if workers is None else workers

    @property
    def prefetch(self) -> int | None:
        """Bytes of prepared volumes that may wait; None goes by the memory."""
        return parse_size(self.config.running.prefetch)

    def extraction(self) -> Extraction:
        """Load the network, and lift a 2D one; precision ``auto``, and how channels end, follow a store that exists."""
        network, begun = self.config.network, None if is_empty(self.output) else check_store(self.output)["recipe"]
        if network.precision == "auto" and begun is not None:
            network = replace(network, precision=begun.get("precision", "auto"))
        encoder = encoder_of(network, self.config.lifting)
        preparation = replace(preparation_of(self.config.preparation, encoder), channels=self._channel_edges(begun))
        self._check_channels(encoder, preparation)
        return Extraction(encoder, preparation, Reading.of(self.config.reading), OutputSpec.of(self.config.output))

    def _check_channels(self, encoder: VolumeEncoder, preparation: Preparation) -> None:
        """Refuse scans none of which has the channels that a native network takes, with an `OptionError`."""
        wanted = getattr(encoder, "channels", None)
        have = {len(scan.sources) for scan in self.found.scans}
        if wanted is None or not have:
            return
        given = {preparation.intensity.channels if count == 1 else count for count in have}
        if wanted not in given:
            raise OptionError(
                f"{encoder.name} takes {number_of(wanted, 'channel')}, the scans have "
                f"{' or '.join(map(str, sorted(given)))}: bring the images of a case together with --channels"
            )

    def _channel_edges(self, begun: Recipe | None) -> ChannelEdges | None:
        if begun is not None:
            return "edge" if begun.get("channels") == "edge" else "mixed"
        several = any(len({source.path for source in scan.sources}) > 1 for scan in self.found.scans)
        return "edge" if several else None

    def run(self, extraction: Extraction, is_part: bool = False) -> Run:
        """The run, or a part of one, ready to extract; raises what `Run` does."""
        return Run(self.output, extraction, self.found, self.readers, self.prefetch, self.shard, is_part)
