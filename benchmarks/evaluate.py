"""k-NN and probes against plain scikit-learn and a straightforward torch loop, in one run, on made-up features.

    python -m benchmarks.evaluate [--known 45000 --queries 5000] [--cases 1584] [--iterations 500] [--json FILE]

Both sides of a row do the same work on the same features, in turn in one process; the last column is how far their
answers are apart. Each figure is the median of --runs; processor time hardly depends on what else a machine does. The
torch loop is the released training's: a module, one seed after the other.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from benchmarks.measuring import machine, save
from featlift.evaluation import classification_intervals, nearest_by_cosine, vote
from featlift.evaluation.classification.linear import LinearHeads, SliceVectors
from featlift.evaluation.classification.logistic import CS, logistic
from featlift.evaluation.classification.multi_seed import ProbeTraining, train
from featlift.evaluation.classification.neighbours import KS, TEMPERATURE

Row = tuple[str, Callable[[], Any], Callable[[], Any]]


class Plain(nn.Module):
    """Learned pooling over depth, then a linear layer."""

    def __init__(self, depth: int, channels: int, classes: int) -> None:
        super().__init__()
        self.pool, self.linear = nn.Linear(depth, 1), nn.Linear(channels, classes)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Outputs (B, K) of vectors (B, D, C)."""
        outputs: torch.Tensor = self.linear(self.pool(vectors.transpose(1, 2)).squeeze(-1))
        return outputs


def clouds(count: int, shape: tuple[int, ...], classes: int = 2) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    labels = rng.integers(classes, size=count)
    centres = rng.normal(size=(classes, shape[-1]), scale=0.15)
    noise = rng.standard_normal((count, *shape), dtype=np.float32)
    return noise + centres[labels].reshape(count, *[1] * (len(shape) - 1), -1).astype(np.float32), labels


def knn_rows(options: argparse.Namespace) -> list[Row]:
    vectors, labels = clouds(options.known + options.queries, (options.channels,))
    known, queries = vectors[: options.known], vectors[options.known :]

    def ours() -> NDArray[np.float64]:
        similarity, rows = nearest_by_cosine(queries, known, max(KS))
        found = labels[rows]
        return np.stack([vote(similarity[:, :k], found[:, :k], 2) for k in KS])

    def theirs() -> NDArray[np.float64]:
        how: dict[str, Any] = {"metric": "cosine", "algorithm": "brute", "n_jobs": -1}
        model = KNeighborsClassifier(max(KS), **how, weights=lambda distances: np.exp((1 - distances) / TEMPERATURE))
        model.fit(known, labels[: options.known])
        return np.stack([model.set_params(n_neighbors=k).predict_proba(queries) for k in KS])

    what = f"k-NN, {options.queries} cases by {options.known}, {options.channels} channels, 4 k"
    return [(what, ours, theirs)]


def probe_rows(options: argparse.Namespace) -> list[Row]:
    vectors, labels = clouds(options.cases, (options.depth, options.channels))
    inputs, targets = torch.from_numpy(vectors), torch.from_numpy(labels)
    training = ProbeTraining("cross entropy", 1e-3, 1e-5, 32, options.iterations, "cosine")
    seeds = range(5)

    def ours() -> NDArray[np.float32]:
        heads = train(partial(LinearHeads, *inputs.shape[1:], 2), SliceVectors(inputs), targets, training, list(seeds))
        return heads(inputs).numpy()

    def theirs() -> NDArray[np.float32]:
        return np.stack([loop(inputs, targets, training, seed) for seed in seeds])

    what = f"probe, 5 seeds, {options.iterations} iterations, {options.cases} x {options.depth} x {options.channels}"
    return [(what, ours, theirs)]


def loop(inputs: torch.Tensor, targets: torch.Tensor, training: ProbeTraining, seed: int) -> NDArray[np.float32]:
    """One seed as scripts have it, from the same start and through the same batches."""
    generator = torch.Generator().manual_seed(seed)
    start = LinearHeads(inputs.shape[1], inputs.shape[2], 2, [generator]).parameters
    plain = Plain(inputs.shape[1], inputs.shape[2], 2)
    with torch.no_grad():
        for parameter, name in ((plain.linear.bias, "bias"), (plain.pool.bias, "pool_bias")):
            parameter.copy_(start[name][0])
        plain.linear.weight.copy_(start["weight"][0].T)
        plain.pool.weight.copy_(start["pool"])
    optimiser = torch.optim.AdamW(plain.parameters(), training.learning_rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: training.rate(step) / training.learning_rate)
    step = 0
    while step < training.iterations:
        for rows in torch.randperm(len(inputs), generator=generator).split(training.batch):
            if step == training.iterations:
                break
            optimiser.zero_grad()
            nn.functional.cross_entropy(plain(inputs[rows]), targets[rows]).backward()
            optimiser.step()
            schedule.step()
            step += 1
    with torch.no_grad():
        outputs: NDArray[np.float32] = plain(inputs).numpy()
    return outputs


def logistic_rows(options: argparse.Namespace) -> list[Row]:
    vectors, labels = clouds(options.cases, (options.channels,))
    trained, validated, tested = np.split(np.arange(options.cases), [options.cases * 3 // 4, options.cases * 7 // 8])

    def theirs() -> NDArray[np.float64]:
        found = []
        for c in CS:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))
            model.fit(vectors[trained], labels[trained])
            area = roc_auc_score(labels[validated], model.predict_proba(vectors[validated])[:, 1])
            found.append((area, -c, model.predict_proba(vectors[tested])))
        best: NDArray[np.float64] = max(found, key=lambda each: each[:2])[2]
        return best

    what = f"logistic, {len(CS)} C, {options.cases} x {options.channels}"
    ours = lambda: logistic(vectors, labels, trained, validated, tested).probabilities  # noqa: E731
    return [(what, ours, theirs)]


def interval_rows(options: argparse.Namespace) -> list[Row]:
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=300)
    positive = rng.random((5, 300)) + 0.3 * labels
    probabilities = np.stack([1 - positive, positive], axis=-1)

    def theirs() -> tuple[float, float]:
        draw = np.random.default_rng(0)
        rows = [draw.integers(300, size=300) for _ in range(1000)]
        areas = [np.mean([roc_auc_score(labels[row], each[row]) for each in positive]) for row in rows]
        low, high = np.percentile(areas, (2.5, 97.5))
        return float(low), float(high)

    ours = lambda: classification_intervals(labels, probabilities)["auc"]  # noqa: E731
    return [("interval of AUC (ours: of 8 scores), 300 cases, 5 seeds, 1000 resamples", ours, theirs)]


def largest_difference(ours: Any, theirs: Any) -> float:
    return float(np.abs(np.asarray(ours, dtype=np.float64) - np.asarray(theirs)).max())


def seconds_of(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall time, processor time, and the answer."""
    start, worked = time.perf_counter(), time.process_time()
    answer = call()
    return time.perf_counter() - start, time.process_time() - worked, answer


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--known", type=int, default=45_000)
    parser.add_argument("--queries", type=int, default=5_000)
    parser.add_argument("--cases", type=int, default=1_584)
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--channels", type=int, default=384)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json")
    options = parser.parse_args()
    print(f"{machine('cpu')}\n")
    print("| what | featlift, s | plain, s | faster | featlift, processor s | plain | less | largest difference |")
    print("|---|---|---|---|---|---|---|---|")
    measured = []
    small = {"known": 300, "queries": 10, "cases": 60, "depth": 4, "channels": 8, "iterations": 2}
    for rows in (knn_rows, probe_rows, logistic_rows, interval_rows):
        for _, ours, theirs in rows(argparse.Namespace(**small)):
            ours(), theirs()  # libraries load parts of themselves at the first call
        for what, ours, theirs in rows(options):
            pairs = [(seconds_of(ours), seconds_of(theirs)) for _ in range(options.runs)]
            difference = largest_difference(pairs[0][0][2], pairs[0][1][2])
            wall, work = (
                [statistics.median(pair[side][clock] for pair in pairs) for side in (0, 1)] for clock in (0, 1)
            )
            measured.append({"what": what, "seconds": wall, "processor_seconds": work, "difference": difference})
            figures = [f"{mine:.2f} | {plain:.2f} | {plain / mine:.1f}" for mine, plain in (wall, work)]
            print(f"| {what} | {' | '.join(figures)} | {difference:.1e} |", flush=True)
    save(measured, options.json)


if __name__ == "__main__":
    main()
