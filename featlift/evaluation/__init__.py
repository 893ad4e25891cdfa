"""What features are worth: FeatDice, k-NN, probes and their statistics, on stores, masks and labels."""

from featlift.evaluation.classification.embeddings import embeddings_of, input_of, slices_of
from featlift.evaluation.classification.labels import Task, read_column, read_labels, read_splits
from featlift.evaluation.classification.neighbours import knn, nearest_by_cosine, vote
from featlift.evaluation.classification.probing import probe
from featlift.evaluation.classification.protocol import BagProbe, Probe
from featlift.evaluation.classification.result import classification_result
from featlift.evaluation.dense.draws import Draw, draw_cells
from featlift.evaluation.dense.linear import LinearClassifier, fit_linear
from featlift.evaluation.dense.probe import DenseScore, DenseScores, dense_probe
from featlift.evaluation.dense.protocol import DenseProtocol
from featlift.evaluation.dense.result import dense_result
from featlift.evaluation.featdice.lesions import lesion_at
from featlift.evaluation.featdice.protocol import Protocol
from featlift.evaluation.featdice.result import featdice_result
from featlift.evaluation.featdice.scoring import CaseScores, featdice, score_case
from featlift.evaluation.featdice.segmentation import (
    Segmentation,
    cosine_similarity,
    segment_by_centre,
    segment_by_maps,
    segment_by_prototypes,
)
from featlift.evaluation.retrieval import Place, nearest_cases, nearest_places, place_at
from featlift.metrics.bootstrap import Interval, interval_of_mean
from featlift.metrics.classification_bootstrap import (
    Predictions,
    classification_intervals,
    classification_measures,
    mean_intervals,
)
from featlift.metrics.scores import Score, auroc, best_dice, dice
from featlift.metrics.significance import holm, paired_t
from featlift.metrics.surface import SurfaceDistances, surface_distances
from featlift.results.comparison import Comparison, compare
from featlift.results.comparison_figure import write_figure
from featlift.results.comparison_text import comparison_text
from featlift.results.differences import Difference, Value
from featlift.results.predictions import predictions_by_task, predictions_of
from featlift.results.result import Measure, Result, name_of, read_result, read_results, write_result
from featlift.results.table import table
from featlift.store.cells import CellGrid

__all__ = [
    "BagProbe",
    "CaseScores",
    "CellGrid",
    "Comparison",
    "DenseProtocol",
    "DenseScore",
    "DenseScores",
    "Difference",
    "Draw",
    "Interval",
    "LinearClassifier",
    "Measure",
    "Place",
    "Predictions",
    "Probe",
    "Protocol",
    "Result",
    "Score",
    "Segmentation",
    "SurfaceDistances",
    "Task",
    "Value",
    "auroc",
    "best_dice",
    "classification_intervals",
    "classification_measures",
    "classification_result",
    "compare",
    "comparison_text",
    "cosine_similarity",
    "dense_probe",
    "dense_result",
    "dice",
    "draw_cells",
    "embeddings_of",
    "featdice",
    "featdice_result",
    "fit_linear",
    "holm",
    "input_of",
    "interval_of_mean",
    "knn",
    "lesion_at",
    "mean_intervals",
    "name_of",
    "nearest_by_cosine",
    "nearest_cases",
    "nearest_places",
    "paired_t",
    "place_at",
    "predictions_by_task",
    "predictions_of",
    "probe",
    "read_column",
    "read_labels",
    "read_result",
    "read_results",
    "read_splits",
    "score_case",
    "segment_by_centre",
    "segment_by_maps",
    "segment_by_prototypes",
    "slices_of",
    "surface_distances",
    "table",
    "vote",
    "write_figure",
    "write_result",
]
