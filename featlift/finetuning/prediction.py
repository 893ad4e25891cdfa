"""What a fine-tuned network says of scans: classes with their probabilities, or segmentations in the scans' space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featlift.atomic_io import check_writable
from featlift.config import ExtractConfig
from featlift.errors import OptionError
from featlift.evaluation.classification.labels import Task, tasks_of
from featlift.evaluation.classification.result import classification_result
from featlift.extraction import preparation_of
from featlift.finetuning.changes import need_monai
from featlift.finetuning.classifier import Classifier
from featlift.finetuning.classifying import probabilities_of
from featlift.finetuning.decoder import Segmenter
from featlift.finetuning.folder import Config
from featlift.finetuning.segmenting import chances_of
from featlift.names import file_names
from featlift.progress import Progress, counted
from featlift.results.result import Result
from featlift.segmentation.inference.grids import ImageGrid
from featlift.segmentation.inference.labelling import likeliest, write_labels
from featlift.segmentation.inference.result import segment_result
from featlift.segmentation.inference.scoring import CaseScore, score_case
from featlift.store.layout import Recipe
from featlift.tables import write_table
from featlift.training.precision import Precision, use_bf16
from featlift.training.scans import Scans
from featlift.volumes import Reading, Scan, read_mask
from featlift.volumes.source import MaskFile
from featlift.volumes.volume import Volume

PREDICTIONS = "predictions.csv"


@dataclass(frozen=True)
class Predicted:
    """Cases that were predicted, as a result names them.

    Attributes:
        name: of the model's folder.
        recipe: of the network and the preparation, before training.
        ids: of the cases.
    """

    name: str
    recipe: Recipe
    ids: tuple[str, ...]

    def __iter__(self) -> Iterator[str]:
        """Ids of all cases."""
        return iter(self.ids)


def predict_labels(
    network: Classifier,
    config: Config,
    extract: ExtractConfig,
    scans: Sequence[Scan],
    output: str | Path,
    *,
    name: str = "model",
    rows: Mapping[str, dict[str, str]] | None = None,
    precision: Precision = "fp32",
    progress: Progress | None = None,
) -> list[Result]:
    """Write ``predictions.csv``, a row for each scan, and say how right it is where the truth is known.

    Args:
        network: as `read_model` gives it, with the next two.
        config: of the model.
        extract: how its scans are prepared.
        scans: to predict.
        output: folder for the file.
        name: of the model, for results.
        rows: what is known of cases, by id and column; cases that the model saw in training are not measured.
        precision: in which type products are computed.
        progress: called with what is being done, the cases that are done and their number.

    Returns:
        A result for each label column whose truth is known of unseen cases.

    Raises:
        VolumeError: a scan cannot be read.
        OutputError: the folder cannot be written.
    """
    output = Path(output)
    check_writable(output)
    reader = _reader_of(scans, extract, network)
    device = network.encoder.device
    bf16 = use_bf16(precision, device)
    findings = len(config.labels) > 1
    found = {}
    for case_id in counted([scan.id for scan in scans], "predicting", progress):
        found[case_id] = probabilities_of(network, reader[case_id].scan.scan, findings, device, bf16)
    headers = list(config.labels) if findings else next(iter(config.labels.values()))
    texts = ([case_id, *(f"{value:.6g}" for value in values)] for case_id, values in found.items())
    write_table(output / PREDICTIONS, ["id", *headers], texts)
    return _measured(config, found, rows or {}, Predicted(name, config.recipe, tuple(found)))


def _reader_of(scans: Sequence[Scan], extract: ExtractConfig, network: Classifier | Segmenter) -> Scans:
    """Scans prepared as the network takes them."""
    preparation = preparation_of(extract.preparation, network.encoder)
    return Scans({scan.id: scan for scan in scans}, preparation, Reading.of(extract.reading))


def _measured(
    config: Config, found: Mapping[str, list[float]], rows: Mapping[str, dict[str, str]], cases: Predicted
) -> list[Result]:
    seen = {*config.train, *config.val}
    results = []
    for number, (column, classes) in enumerate(config.labels.items()):
        known = {
            case_id: {column: row[column], "patient": row.get("patient", "")}
            for case_id, row in rows.items()
            if case_id in found and row.get(column)
        }
        known = {case_id: row for case_id, row in known.items() if case_id not in seen}
        if len({row[column] for row in known.values()}) < 2:
            continue  # an AUC takes both
        (task,) = tasks_of(known, "the labels", [column])
        if unknown := [each for each in task.classes if each not in classes]:
            raise OptionError(f"{column} {unknown[0]!r}: the network knows {', '.join(classes)}")
        labels = np.array([classes.index(task.classes[label]) for label in task.labels], np.int64)
        task = Task(column, task.ids, labels, tuple(classes), (), task.source, task.patients)
        each = np.array([found[case_id] for case_id in task.ids])
        if len(config.labels) > 1:
            each = np.stack([1 - each[:, number], each[:, number]], axis=-1)
        protocol = {"name": config.name, "input": config.plan["tokens"] or "tokens", "plan": config.plan}
        tested = np.arange(len(task.ids))
        results.append(classification_result("finetune", cases, protocol, task, tested, each[None]))
    return results


def predict_masks(
    network: Segmenter,
    config: Config,
    extract: ExtractConfig,
    scans: Sequence[Scan],
    output: str | Path,
    *,
    name: str = "model",
    masks: Mapping[str, MaskFile] | None = None,
    precision: Precision = "fp32",
    progress: Progress | None = None,
) -> Result | None:
    """Write ``<id>.nii.gz`` for each scan, on the voxels of its file, and score those whose mask is known.

    Args:
        network: as `read_model` gives it, with the next two.
        config: of the model.
        extract: how its scans are prepared.
        scans: to segment.
        output: folder for the files.
        name: of the model, for results.
        masks: the path of the mask of some cases, by id; cases that the model saw in training are not scored.
        precision: in which type products are computed.
        progress: called with what is being done, the cases that are done and their number.

    Raises:
        VolumeError: a scan or a mask cannot be read, or does not say where it lies.
        OutputError: the folder cannot be written.
    """
    if config.plan["crop"]:
        need_monai()
    output = Path(output)
    check_writable(output)
    reader = _reader_of(scans, extract, network)
    device = network.encoder.device
    bf16 = use_bf16(precision, device)
    labels = [int(label) for label in config.labels]
    seen = {*config.train, *config.val}
    names = file_names([scan.id for scan in scans])
    scores: list[CaseScore] = []
    for case_id in counted(list(names), "segmenting", progress):
        prepared = reader[case_id].scan
        chances = chances_of(network, prepared.scan, config.plan["crop"], device, bf16)
        path = output / f"{names[case_id]}.nii.gz"
        if prepared.affine is None or prepared.affine_read is None:
            found, affine = np.asarray(labels, np.int32)[chances.argmax(dim=0).numpy()], None
        else:
            image = ImageGrid(prepared.shape_read, prepared.affine_read)
            found, affine = (
                likeliest(chances, labels, prepared.affine, image, prepared.shape, prepared.affine),
                image.affine,
            )
        write_labels(path, found, affine)
        if masks and case_id in masks and case_id not in seen:
            prediction = Volume(found.astype(np.float32), affine)
            scores.append(
                score_case(case_id, prediction, read_mask(masks[case_id]), labels, prepared.shape, prepared.affine)
            )
    if not scores:
        return None
    notes: dict[str, Any] = {"head": config.name, "labels": config.labels, "plan": config.plan}
    notes["trained"] = sorted(seen)
    return segment_result(Predicted(name, config.recipe, tuple(names)), notes, scores)
