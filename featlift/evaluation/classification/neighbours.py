"""k-nearest neighbours on embeddings: nothing trained, every case judged by the cases most like it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featlift.errors import OptionError
from featlift.evaluation.classification.embeddings import Input, embeddings_of, input_of
from featlift.evaluation.classification.labels import Task
from featlift.evaluation.classification.means import with_means
from featlift.evaluation.classification.result import classification_result
from featlift.metrics.classification import SPECIFICITY
from featlift.metrics.classification_bootstrap import RESAMPLES
from featlift.results.result import Result
from featlift.store.reading import Store

KS = (10, 20, 100, 200)
TEMPERATURE = 0.07
_AT_ONCE = 1 << 25  # similarities

Vectors = NDArray[np.float32]


def knn(
    store: Store,
    tasks: Sequence[Task],
    wanted: str | None = None,
    ks: Sequence[int] = KS,
    temperature: float = TEMPERATURE,
    *,
    specificity: float = SPECIFICITY,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Iterator[Result]:
    """Cosine k-NN of each task: the test split by the train split, or without splits every case by all others.

    By all others that are not of the same patient, where the labels have a column ``patient``.

    Args:
        store: of the features.
        tasks: what to predict, each by itself.
        wanted: what of the features, see `input_of`.
        ks: how many neighbours vote. More than there are cases to learn from cannot: such k are left out, unless all
            are; then all cases vote.
        temperature: of the votes.
        specificity: at which sensitivity is read.
        seed: of the bootstrap.
        resamples: of the bootstrap.

    Yields:
        A result for each task and k. Of several tasks also, for each k, the mean of those that have it.

    Raises:
        OptionError: a k below 1, a temperature that is not above 0, an input that the backbone has not.
        InputError: a split that is empty or lacks a class.
    """
    if not ks or min(ks) < 1 or temperature <= 0:
        raise OptionError(f"k {', '.join(map(str, ks))} at temperature {temperature}: both have to be above 0")
    scoring = {"specificity": specificity, "seed": seed, "resamples": resamples}
    yield from with_means(_by_task(store, tasks, input_of(store, wanted), ks, temperature, scoring))


def _by_task(
    store: Store, tasks: Sequence[Task], given: Input, ks: Sequence[int], temperature: float, scoring: dict[str, Any]
) -> Iterator[Result]:
    parts = [task.of("train", "test") if task.splits else [task.everything()] * 2 for task in tasks]
    ids = sorted({case_id for task in tasks for case_id in task.ids})
    rows = {case_id: row for row, case_id in enumerate(ids)}
    vectors = embeddings_of(store, ids, given)
    for task, (known, tested) in zip(tasks, parts, strict=True):
        at = np.array([rows[case_id] for case_id in task.ids])
        patients = None if task.splits else task.groups(known)
        among = len(known) if patients is None else len(known) - int(np.bincount(patients).max())
        voting = sorted({k for k in ks if k <= among}) or [among]
        similarity, nearest = nearest_by_cosine(vectors[at[tested]], vectors[at[known]], voting[-1], patients)
        for k in voting:
            votes = vote(similarity[:, :k], task.labels[known][nearest[:, :k]], len(task.classes), temperature)
            yield classification_result(
                "knn",
                store,
                {
                    "name": _name(task),
                    "input": given,
                    "k": k,
                    "temperature": temperature,
                },
                task,
                tested,
                votes[None],
                **scoring,
                details={"known": len(known), "left_out_k": sorted(set(ks) - set(voting))},
            )


def _name(task: Task) -> str:
    if task.splits:
        return "train to test"
    return "leave one patient out" if task.patients else "leave one out"


def nearest_by_cosine(
    queries: Vectors, known: Vectors, k: int, patients: NDArray[np.intp] | None = None
) -> tuple[Vectors, NDArray[np.int64]]:
    """The k most similar by cosine, the most similar first.

    Args:
        queries: ``(Q, E)``.
        known: ``(N, E)``, at least k.
        k: how many.
        patients: queries are the known ones, and this is of whom each is, ``(N,)``: none has a neighbour of its own.

    Returns:
        Cosine similarities and row numbers, both ``(Q, k)``.
    """
    import torch
    from torch.nn.functional import normalize

    table = normalize(torch.from_numpy(known), dim=1).T.contiguous()
    owners = None if patients is None else torch.from_numpy(patients)
    similarities, rows = [], []
    start = 0
    for part in normalize(torch.from_numpy(queries), dim=1).split(max(1, _AT_ONCE // len(known))):
        similarity = part @ table
        if owners is not None:
            similarity[owners[start : start + len(part), None] == owners] = -torch.inf
        best = similarity.topk(k, dim=1)
        similarities.append(best.values)
        rows.append(best.indices)
        start += len(part)
    return torch.cat(similarities).numpy(), torch.cat(rows).numpy()


def vote(
    similarity: Vectors, labels: NDArray[np.int64], classes: int, temperature: float = TEMPERATURE
) -> NDArray[np.float64]:
    """Probabilities ``(Q, classes)``: each neighbour votes for its class with weight exp(similarity / temperature).

    The weights are those of DINO's evaluation (Caron et al. 2021, after Wu et al. 2018), scaled to a sum of 1.

    Args:
        similarity: of the neighbours, ``(Q, k)``.
        labels: theirs, ``(Q, k)``.
        classes: how many there are.
        temperature: how much more the nearest ones count.
    """
    highest = similarity.max(axis=1, keepdims=True)  # no overflow, and the quotient is the same
    weights = np.exp((similarity.astype(np.float64) - highest) / temperature)
    votes = np.stack([np.where(labels == one, weights, 0).sum(axis=1) for one in range(classes)], axis=1)
    return np.asarray(votes / votes.sum(axis=1, keepdims=True))
