"""What a trainer is asked to train."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from featlift.errors import OptionError, StoreError

#: A batch: whatever the task's datasets, its module and its loss agree on.
B = TypeVar("B")


def finite_loss(loss: float) -> float:
    """The validation loss of a round, if it is a number.

    Raises:
        OptionError: training has diverged, and the last round before is kept as it was.
    """
    if not math.isfinite(loss):
        raise OptionError(f"the validation loss is {loss}: training has diverged; give a lower rate and another -o")
    return loss


class Task(ABC, Generic[B]):
    """Data, network, loss and validation of one thing that is trained.

    Attributes:
        network: what is trained; called with a batch, it returns what the loss is of. Its parameters that require
            gradients are trained, and kept with its buffers.
        to_validate: names of what is validated on, such as ids of cases.
    """

    #: What validation measures, as the curves call it.
    measure: ClassVar[str]
    #: Whether less of it is better, as of a loss.
    less_is_better: ClassVar[bool] = False
    #: Whether of rounds that are equally good the later one is kept.
    later_of_equals: ClassVar[bool] = False

    network: nn.Module
    to_validate: Sequence[str]

    @abstractmethod
    def dataset(self, number: int) -> Dataset[Any]:
        """The training cases in round `number`, of which the same index gives the same item in every process."""

    @abstractmethod
    def collated(self, items: Sequence[Any]) -> B:
        """Items as one batch."""

    @abstractmethod
    def on(self, batch: B, device: torch.device) -> B:
        """The batch on a device."""

    @abstractmethod
    def loss(self, outputs: Any, batch: B) -> Tensor:
        """The mean over the items of a batch."""

    @abstractmethod
    def validated(self, names: Sequence[str], device: torch.device, bf16: bool) -> dict[str, Any]:
        """What is found for some of `to_validate`, by name; the network is in evaluation mode."""

    @abstractmethod
    def score(self, found: Mapping[str, Any]) -> float:
        """The measure, of what was found for all of `to_validate`."""

    def noted(self, found: Mapping[str, Any]) -> dict[str, float]:
        """What else the curves say of a round, by column, of the same; nothing unless a task says so."""
        return {}

    def groups(self) -> list[dict[str, Any]]:
        """Parameters by ``params``, each group with its part of the learning rate as ``lr_scale`` and its decay."""
        return [{"params": [value for value in self.network.parameters() if value.requires_grad]}]

    def state(self) -> dict[str, Tensor]:
        """What training changes: trained parameters, and buffers."""
        trained = {name for name, value in self.network.named_parameters() if value.requires_grad}
        frozen = {name for name, _ in self.network.named_parameters()} - trained
        return {name: value for name, value in self.network.state_dict().items() if name not in frozen}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` gave.

        Raises:
            StoreError: it is of another network.
        """
        if unexpected := self.network.load_state_dict(state, strict=False).unexpected_keys:
            raise StoreError(f"the checkpoint is of another network or featlift ({unexpected[0]}): train it again")
