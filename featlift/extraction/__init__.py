"""Streams volumes through lifting into the store."""

from featlift.extraction.extraction import Extraction, extract
from featlift.extraction.job import Job
from featlift.extraction.network import encoder_of, lifted_backbone, lifted_network, preparation_of
from featlift.extraction.outcome import Outcome
from featlift.extraction.pipeline import Pipeline
from featlift.extraction.recipe import make_recipe
from featlift.extraction.run import Run
from featlift.extraction.shards import Shard
from featlift.store.output_spec import OutputSpec
from featlift.store.reduction import Reduction

__all__ = [
    "Extraction",
    "Job",
    "Outcome",
    "OutputSpec",
    "Pipeline",
    "Reduction",
    "Run",
    "Shard",
    "encoder_of",
    "extract",
    "lifted_backbone",
    "lifted_network",
    "make_recipe",
    "preparation_of",
]
