"""What features are worth: FeatDice, k-NN, probes and retrieval, with their scores, on stores."""

from featlift.evaluation.bootstrap import Interval, interval_of_mean
from featlift.evaluation.cells import CellGrid
from featlift.evaluation.classification import classification_measures
from featlift.evaluation.classification_bootstrap import classification_intervals
from featlift.evaluation.embeddings import embeddings_of, input_of, slices_of
from featlift.evaluation.featdice import CaseScores, featdice, score_case
from featlift.evaluation.featdice_result import featdice_result
from featlift.evaluation.labels import Task, read_labels
from featlift.evaluation.lesions import lesion_at
from featlift.evaluation.neighbours import knn, nearest_by_cosine, vote
from featlift.evaluation.predictions import classification_result, predictions_of
from featlift.evaluation.probing import Probe, probe
from featlift.evaluation.protocol import Protocol
from featlift.evaluation.results import Measure, Result, name_of, read_result, read_results, write_result
from featlift.evaluation.retrieval import Place, nearest_cases, nearest_places, place_at
from featlift.evaluation.scores import Score, auroc, best_dice, dice
from featlift.evaluation.segmentation import (
    Segmentation,
    cosine_similarity,
    segment_by_centre,
    segment_by_prototypes,
)
from featlift.evaluation.table import table

__all__ = [
    "CaseScores",
    "CellGrid",
    "Interval",
    "Measure",
    "Place",
    "Probe",
    "Protocol",
    "Result",
    "Score",
    "Segmentation",
    "Task",
    "auroc",
    "best_dice",
    "classification_intervals",
    "classification_measures",
    "classification_result",
    "cosine_similarity",
    "dice",
    "embeddings_of",
    "featdice",
    "featdice_result",
    "input_of",
    "interval_of_mean",
    "knn",
    "lesion_at",
    "name_of",
    "nearest_by_cosine",
    "nearest_cases",
    "nearest_places",
    "place_at",
    "predictions_of",
    "probe",
    "read_labels",
    "read_result",
    "read_results",
    "score_case",
    "segment_by_centre",
    "segment_by_prototypes",
    "slices_of",
    "table",
    "vote",
    "write_result",
]
