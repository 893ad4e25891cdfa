"""The recipe: everything that changes a feature, and nothing else."""

from __future__ import annotations

from featlift.lifting import VolumeEncoder
from featlift.store.layout import Recipe
from featlift.store.output_spec import OutputSpec
from featlift.volumes import Preparation


def make_recipe(encoder: VolumeEncoder, preparation: Preparation, keeping: OutputSpec | None = None) -> Recipe:
    """The recipe of an encoder, a preparation and what is kept, as JSON values.

    Device, batch sizes and workers are not in it: they change a feature by rounding at most. Names of files are not
    either: the weights' SHA-256 says which they are.
    """
    return {
        **encoder.recipe(),
        **preparation.as_recipe(),
        **(keeping or OutputSpec()).as_recipe(encoder.token_names),
    }
