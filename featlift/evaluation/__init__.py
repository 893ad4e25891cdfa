"""What features are worth: FeatDice and its scores, on stores and masks."""

from featlift.evaluation.bootstrap import Interval, interval_of_mean
from featlift.evaluation.cells import CellGrid
from featlift.evaluation.featdice import CaseScores, featdice, score_case
from featlift.evaluation.featdice_result import featdice_result
from featlift.evaluation.lesions import lesion_at
from featlift.evaluation.protocol import Protocol
from featlift.evaluation.results import Measure, Result, name_of, read_result, read_results, write_result
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
    "Protocol",
    "Result",
    "Score",
    "Segmentation",
    "auroc",
    "best_dice",
    "cosine_similarity",
    "dice",
    "featdice",
    "featdice_result",
    "interval_of_mean",
    "lesion_at",
    "name_of",
    "read_result",
    "read_results",
    "score_case",
    "segment_by_centre",
    "segment_by_prototypes",
    "table",
    "write_result",
]
