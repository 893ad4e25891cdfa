"""What features are worth: FeatDice, k-NN, probes and their statistics, on stores, masks and labels."""

from featlift.evaluation.bootstrap import Interval, interval_of_mean
from featlift.evaluation.cells import CellGrid
from featlift.evaluation.dense_probe import DenseScore, DenseScores, dense_probe
from featlift.evaluation.dense_protocol import DenseProtocol
from featlift.evaluation.dense_result import dense_result
from featlift.evaluation.draws import Draw, draw_cells
from featlift.evaluation.featdice import CaseScores, featdice, score_case
from featlift.evaluation.featdice_result import featdice_result
from featlift.evaluation.lesions import lesion_at
from featlift.evaluation.linear import LinearClassifier, fit_linear
from featlift.evaluation.protocol import Protocol
from featlift.evaluation.results import Measure, Result, name_of, read_result, read_results, write_result
from featlift.evaluation.scores import Score, auroc, best_dice, dice
from featlift.evaluation.segmentation import (
    Segmentation,
    cosine_similarity,
    segment_by_centre,
    segment_by_maps,
    segment_by_prototypes,
)
from featlift.evaluation.surface import SurfaceDistances, surface_distances
from featlift.evaluation.table import table

__all__ = [
    "CaseScores",
    "CellGrid",
    "DenseProtocol",
    "DenseScore",
    "DenseScores",
    "Draw",
    "Interval",
    "LinearClassifier",
    "Measure",
    "Protocol",
    "Result",
    "Score",
    "Segmentation",
    "SurfaceDistances",
    "auroc",
    "best_dice",
    "cosine_similarity",
    "dense_probe",
    "dense_result",
    "dice",
    "draw_cells",
    "featdice",
    "featdice_result",
    "fit_linear",
    "interval_of_mean",
    "lesion_at",
    "name_of",
    "read_result",
    "read_results",
    "score_case",
    "segment_by_centre",
    "segment_by_maps",
    "segment_by_prototypes",
    "surface_distances",
    "table",
    "write_result",
]
