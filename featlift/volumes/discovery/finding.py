"""`find_scans`: every scan among the inputs, with its case id, its mask and its regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from featlift.errors import InputError, OptionError
from featlift.remote import Remote, parse_location
from featlift.volumes.discovery.ids import alike, unique
from featlift.volumes.discovery.inputs import is_searched, nothing_found, scans_in
from featlift.volumes.discovery.masks import masks_apart, paired, without_masks
from featlift.volumes.discovery.regions import regions_of_interest
from featlift.volumes.discovery.seeming import masks_by_name
from featlift.volumes.scan import DiscoveredScans, Scan, Selection
from featlift.volumes.source import Skipped


def find_scans(
    inputs: Sequence[str | Path | Remote],
    selection: Selection | None = None,
    limit: int | None = None,
    refused: list[Skipped] | None = None,
    clashing: list[Skipped] | None = None,
) -> DiscoveredScans:
    """Find every scan in files, folders (recursively), .zip files of DICOM and manifests.

    What is a mask by its name is skipped, if it was found in a folder, beside a scan, and without a glob.

    Args:
        inputs: paths or URLs, of HDF5, .npz and Zarr also ``file::array``.
        selection: which files are scans, and what in them.
        limit: take only the first of them.
        refused: is told of every scan whose id cannot be one, too long or unprintable, and the others are found all the
            same; None raises.
        clashing: is told of every scan whose id another one has; None raises.

    Raises:
        InputError: an input that does not exist or cannot be searched, no scan at all, only masks, an id that is too
            long, or two scans with one id.
    """
    selection = selection or Selection()
    skipped: list[Skipped] = []
    given_as_such: set[str] = set()
    scans = unique(_all_in(inputs, selection, skipped, given_as_such), refused, clashing)
    if not scans:
        what = "scans that match --glob and --exclude" if selection.glob or selection.exclude else "scans"
        raise InputError(refused[0].reason if refused else nothing_found(inputs, what, skipped))
    scans, masks = masks_apart(scans, selection)
    notices: list[str] = []
    if not selection.glob:
        found = masks_by_name([scan for scan in scans if scan.id not in given_as_such])
        scans, notices = without_masks(scans, found, skipped)
    scans = paired(scans, masks, selection, notices)
    scans = scans[:limit]
    if selection.channels:
        scans = [_with_channels(scan, selection.channels) for scan in scans]
    if selection.roi:
        scans = unique(regions_of_interest(scans, selection.points, skipped), refused, clashing)
        if not scans:
            why = (refused or skipped)[-1].reason
            raise InputError(f"--roi {parse_location(selection.roi)}: no region for any scan ({why})")
    return DiscoveredScans(scans, skipped, [*notices, *alike(scans)], refused or [])


def _all_in(
    inputs: Sequence[str | Path | Remote], selection: Selection, skipped: list[Skipped], given_as_such: set[str]
) -> Iterator[Scan]:
    """The scans of all inputs, noting the ids of those that were not just found in a folder."""
    for given in inputs:
        searched = is_searched(given)
        for scan in scans_in(given, selection, skipped):
            if not searched:
                given_as_such.add(scan.id)
            yield scan


def _with_channels(scan: Scan, channels: Sequence[str]) -> Scan:
    """With these frames of its image, or these columns of its manifest, as the channels of one volume."""
    if len(channels) != 3:
        raise OptionError(
            f"--channels {','.join(channels)}: give three, the backbone has no fewer; one may stand twice"
        )
    if len(scan.sources) > 1:
        return scan
    if scan.sources[0].frame is not None:
        raise OptionError(f"--channels {','.join(channels)} takes frames, and so does --frame: give one of them")
    if not all(channel.isdecimal() for channel in channels):
        raise OptionError(f"--channels {','.join(channels)}: give frames such as 0,1,2, or columns of a manifest")
    return replace(scan, sources=tuple(replace(scan.sources[0], frame=int(channel)) for channel in channels))
