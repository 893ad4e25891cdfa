"""A trained head as a folder: weights, and everything that has to be known to use them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from featlift.errors import StoreError
from featlift.model_folder import load_weights, read_model_config, write_model_folder
from featlift.segmentation.data.cases import CaseReader
from featlift.segmentation.instances.settings import AffinitySettings
from featlift.segmentation.networks.catalogue import make_head
from featlift.segmentation.networks.head import Head, Size
from featlift.segmentation.plan import Patch, Plan
from featlift.store.layout import Recipe, differing_fields
from featlift.store.reading import Store

FORMAT = 1
WEIGHTS = "weights.safetensors"

#: Of a plan, what tells heads apart by name.
_NAMED = ("layers", "step", "seed")


@dataclass(frozen=True)
class Config:
    """What is to be known of a trained head.

    Attributes:
        plan: it was trained by, see `featlift.segmentation.Plan`.
        size: of its weights, see `Size`.
        needs: what it reads of a volume.
        layers: absolute indices of the layers it was trained on.
        step: voxels of the stored scan for each predicted one, in-plane.
        labels: name of each label, by the label; in ascending order they are its classes. None of affinities.
        recipe: of the store that it was trained on.
        train: ids of the cases that it was trained on.
        val: ids of those that chose the epoch.
        test: ids of those that were left out of both.
        parameters: how many are trainable, and of them, how many of parts that the paper names.
        training: how that went: ``epochs`` done, ``best_epoch`` and its validation ``dice`` or ``error``, ``seconds``.
        objects: of affinities: the ``threshold`` that was chosen on validation cases, and their ``voi`` and ``arand``.
    """

    plan: dict[str, Any]
    size: dict[str, int]
    needs: list[str]
    layers: list[int]
    step: int
    labels: dict[str, str]
    recipe: Recipe
    train: list[str]
    val: list[str]
    test: list[str] = field(default_factory=list)
    parameters: dict[str, int] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, float] = field(default_factory=dict)

    @property
    def affinities(self) -> AffinitySettings | None:
        """What it learnt in the place of labels."""
        held = self.plan.get("affinities")
        return None if held is None else AffinitySettings(**{**held, "ignore": tuple(held["ignore"])})

    @property
    def patch(self) -> Patch:
        """Of its plan."""
        patch: int | list[int] = self.plan["patch"]
        return patch if isinstance(patch, int) else tuple(patch)

    @property
    def name(self) -> str:
        """What it is, and what of its plan is not the default: ``decoder-skip``, ``linear-layers-2-3-random``."""
        options = [f"{key}{'' if value is True else _words(value)}" for key, value in self.plan["options"].items()]
        usual = {each.name: each.default for each in fields(Plan)}
        others = [f"{key}{_words(self.plan[key])}" for key in _NAMED if self.plan[key] not in (usual[key], [])]
        features = "" if self.plan["features"] == "store" else self.plan["features"]
        learnt = f"affinities-{self.affinities.offsets}" if self.affinities else ""
        return "-".join(part for part in (self.plan["head"], learnt, *options, *others, features) if part)

    def check(self, store: Store) -> None:
        """Make sure that a store holds what the head was trained on.

        Raises:
            StoreError: it has another recipe.
        """
        if differences := differing_fields(self.recipe, store.recipe, "head", "store"):
            raise StoreError(
                f"{store.path} was made with another recipe than the head was trained on: {'; '.join(differences)}. "
                "Extract with the head's, or train a head on this store"
            )

    def reader(self, store: Store) -> CaseReader:
        """Reads cases of a store for this head."""
        labels = tuple(int(label) for label in self.labels)
        return CaseReader(store, tuple(self.needs), tuple(self.layers), self.plan["features"], self.step, labels)


def write_head(folder: Path, head: Head, config: Config) -> None:
    """Write a head's folder; the configuration comes last and says that it is complete.

    Raises:
        OutputError: the folder cannot be written.
    """
    write_model_folder(folder, WEIGHTS, head.state_dict(), config, FORMAT)


def read_config(folder: str | Path) -> Config:
    """The configuration of a trained head.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
    """
    return read_model_config(Config, folder, "trained head", "featlift segment train", FORMAT)


def read_head(folder: str | Path) -> tuple[Head, Config]:
    """A trained head in evaluation mode, and its configuration.

    Raises:
        InputError: no such folder, or its training did not end.
        StoreError: it is damaged, or of a later format.
    """
    config = read_config(folder)
    try:
        head = make_head(config.plan["head"], Size(**config.size), config.plan["options"])
    except (RuntimeError, LookupError, TypeError) as error:
        raise StoreError(f"{folder}: its configuration describes no head ({error}): train it again") from error
    load_weights(head, Path(folder, WEIGHTS))
    return head.eval(), config


def _words(value: object) -> str:
    return "-" + "-".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
