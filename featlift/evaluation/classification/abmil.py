"""The protocol ``abmil``: attention over the slices or cells of a case, trained on frozen features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.atomic_io import check_writable
from featlift.errors import OptionError
from featlift.evaluation.classification.attention_maps import maps_of, write_attention
from featlift.evaluation.classification.bags import Bags, kinds_of, read_bags
from featlift.evaluation.classification.gated import BagHeads
from featlift.evaluation.classification.labels import Task
from featlift.evaluation.classification.multi_seed import ProbeTraining
from featlift.evaluation.classification.protocol import BagProbe, Probe
from featlift.evaluation.classification.result import probe_result
from featlift.evaluation.classification.selection import train_and_select
from featlift.evaluation.classification.targets import Targets
from featlift.names import file_names
from featlift.progress import Progress, counted, steps
from featlift.results.result import Result
from featlift.store.features import layer_of
from featlift.store.reading import Store

_SPLITS = ("train", "val", "test")
_VALIDATIONS = 50  # at most: those of large bags would take longer than the training


def abmil(
    store: Store, tasks: Sequence[Task], how: Probe, progress: Progress | None = None, attention: Path | None = None
) -> Iterator[Result]:
    """Train attention over bags, and measure it on the test split.

    Args:
        store: of the features.
        tasks: one of any classes; or several findings, which are trained in one, each with an attention of its own.
        how: with the settings of bags.
        progress: told of what takes time.
        attention: a folder for maps of the tested cases, a folder in it for each result.

    Yields:
        A result for each task.

    Raises:
        OptionError: findings of more than two classes, features that make no such bags, more of them than fit in
            memory, attention of a pooling that has none.
        InputError: a split that is empty or lacks a class.
        StoreError: features are damaged, or not kept.
        OutputError: the folder cannot be written.
    """
    own = how.bags or BagProbe()
    several = len(tasks) > 1
    targets = Targets.of_findings(tasks, *_SPLITS) if several else Targets.of_classes(tasks[0], *_SPLITS)
    kinds = kinds_of(store, how.wanted, own)
    if attention is not None:
        if own.pooling != "attention":
            raise OptionError(f"attention: pooling {own.pooling} has none to write")
        check_writable(attention)
    held = sorted(set(targets.ids))
    bags = read_bags(store, held, kinds, own, progress).of(np.searchsorted(held, targets.ids))
    bags.standardise(targets.parts[0])
    loss = "binary cross entropy" if several else "cross entropy"
    training = ProbeTraining(loss, 1e-3, 1e-4, 16, how.iterations or 1_000, "cosine")  # type: ignore[arg-type]
    outputs, attentions = (len(tasks), len(tasks)) if several else (len(tasks[0].classes), 1)
    apart = max(1, training.iterations // _VALIDATIONS)
    found = train_and_select(
        partial(BagHeads.start, bags.channels, outputs, attentions, own),
        bags,
        targets.values,
        targets.parts,
        training,
        how.seeds,
        steps(f"training {'all findings' if several else tasks[0].name}", progress),
        apart=apart,
    )
    given, settings = _told(store, kinds, own)
    settings = {**vars(training), "warm_up": training.iterations // 20, **settings, "validated_after": apart}
    settings["features"] = "standardised over the training cases"
    if several:
        settings["findings"] = [task.name for task in tasks]
    details = {"best_iteration": found.iterations, "validation_auc": found.areas}
    write_maps = partial(_write_maps, store, kinds, own.layer, found.heads, progress)
    for column, (task, rows) in enumerate(zip(tasks, targets.tested, strict=True)):
        (tested,) = task.of("test")
        probabilities = _of_task(found.probabilities[:, np.searchsorted(targets.parts[-1], rows)], several, column)
        result = probe_result(store, task, tested, probabilities, how, given, settings, how.seeds, details)
        if attention is not None:
            shown = [targets.ids[row] for row in rows]
            write_maps(attention / result.name, shown, bags.of(rows), column if several else None)
        yield result


def _told(store: Store, kinds: Sequence[str], own: BagProbe) -> tuple[str, dict[str, Any]]:
    """What results say of the features, and of the settings of bags."""
    deepest = max(store.recipe["layers"])
    layer = deepest if own.layer is None else own.layer
    given = "+".join(kinds) + ("" if layer == deepest else f" of layer {layer}")
    # a control is another protocol: its files lie beside those of attention, its rows too
    name = "abmil" if own.pooling == "attention" else f"abmil-{own.pooling}"
    return given, {**vars(own), "name": name, "layer": layer, "selected": "validation AUC"}


def _of_task(probabilities: NDArray[np.float64], several: bool, column: int) -> NDArray[np.float64]:
    """Probabilities ``(S, N, classes)`` of one task: of a finding no and yes."""
    if not several:
        return probabilities
    positive = probabilities[..., column]
    return np.stack([1 - positive, positive], axis=-1)


def _write_maps(
    store: Store,
    kinds: Sequence[str],
    layer: int | None,
    heads: BagHeads,
    progress: Progress | None,
    folder: Path,
    ids: Sequence[str],
    bags: Bags,
    finding: int | None,
) -> None:
    """The maps of the first seed's head."""
    names = file_names(store)
    for row, case_id in enumerate(counted(ids, "writing attention", progress)):
        maps = maps_of(heads.explained(bags.blocks(row)), finding)
        write_attention(folder, names[case_id], layer_of(store[case_id], layer), kinds, maps)
