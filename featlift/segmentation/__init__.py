"""Segmentation heads on the features of a store: trained, applied, scored."""

from featlift.segmentation.cross_validation import cross_validate
from featlift.segmentation.folder import Config, read_config, read_head
from featlift.segmentation.inference.grids import grids_of
from featlift.segmentation.inference.prediction import Trained, open_trained, predict
from featlift.segmentation.inference.result import segment_result
from featlift.segmentation.inference.scoring import CaseScore, LabelScore, cases_to_score, read_notes, score
from featlift.segmentation.instances.settings import AffinitySettings
from featlift.segmentation.networks.catalogue import HEADS, make_head
from featlift.segmentation.networks.head import Batch, Head, Size
from featlift.segmentation.objects.prediction import Finding, predict_objects
from featlift.segmentation.plan import Plan
from featlift.segmentation.training import train_head
from featlift.training.splits import Split, folds_of, split_of

__all__ = [
    "HEADS",
    "AffinitySettings",
    "Batch",
    "CaseScore",
    "Config",
    "Finding",
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
    "predict_objects",
    "read_config",
    "read_head",
    "read_notes",
    "score",
    "segment_result",
    "split_of",
    "train_head",
]
