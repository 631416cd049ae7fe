"""The interface of a search strategy."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_fabric import Fabric
from torch import Tensor

from configs.schema import Search
from search.network import SearchNetwork
from search_space.genotype import Genotype, SpaceShape

Batch = tuple[Tensor, Tensor]
"""Images N×3×H×W in [0, 1] and masks N×1×H×W of 0 and 1."""


@dataclass(frozen=True)
class SearchContext:
    """What every strategy works on: the same network, space, settings and seed."""

    fabric: Fabric
    network: SearchNetwork
    space: SpaceShape
    settings: Search
    seed: int


class Strategy(ABC):
    """Trains a supernet step by step, and proposes genotypes to be scored with its weights.

    All its random choices derive from the context's seed and the step's number, so that a resumed search draws
    what an uninterrupted one would have drawn.
    """

    uses_validation: ClassVar[bool] = False
    """Whether `step` needs a batch of the validation photographs."""

    chooses_best: ClassVar[bool] = True
    """Whether the best-scored proposal is the result; otherwise the first proposal is."""

    @abstractmethod
    def set_up(self, context: SearchContext) -> None:
        """Makes optimisers and whatever else training needs."""

    @abstractmethod
    def step(self, number: int, train: Batch, validation: Batch | None) -> float:
        """One training step; returns the training loss."""

    def epoch_end(self, epoch: int) -> None:  # noqa: B027
        """Called after each epoch, counted from 0."""

    @abstractmethod
    def propose(self, count: int) -> list[Genotype]:
        """At most `count` distinct genotypes; a smaller count gives the first of a larger one's."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that `set_up` does not restore, beside the network's own state."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""
