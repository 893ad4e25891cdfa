"""Segmentation heads on the features of a store: trained, applied, scored."""

from featlift.heads.catalogue import HEADS, make_head
from featlift.heads.cross_validation import cross_validate
from featlift.heads.folder import Config, read_config, read_head
from featlift.heads.grids import grids_of
from featlift.heads.head import Batch, Head, Size
from featlift.heads.plan import Plan
from featlift.heads.prediction import Trained, open_trained, predict
from featlift.heads.result import segment_result
from featlift.heads.scoring import CaseScore, LabelScore, cases_to_score, read_notes, score
from featlift.heads.splits import Split, folds_of, split_of
from featlift.heads.training import train_head

__all__ = [
    "HEADS",
    "Batch",
    "CaseScore",
    "Config",
    "Head",
    "LabelScore",
    "Plan",
    "Size",
    "Split",
    "Trained",
    "cases_to_score",
    "cross_validate",
    "folds_of",
    "grids_of",
    "make_head",
    "open_trained",
    "predict",
    "read_config",
    "read_head",
    "read_notes",
    "score",
    "segment_result",
    "split_of",
    "train_head",
]
