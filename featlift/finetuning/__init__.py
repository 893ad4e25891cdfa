"""Lifted networks, and 3DME, trained on scans with labels or masks: whole, by LoRA, or their heads alone."""

from featlift.finetuning.cases import cases_of
from featlift.finetuning.folder import read_model
from featlift.finetuning.plan import FinetunePlan
from featlift.finetuning.prediction import predict_labels, predict_masks
from featlift.finetuning.training import finetune

__all__ = ["FinetunePlan", "cases_of", "finetune", "predict_labels", "predict_masks", "read_model"]
