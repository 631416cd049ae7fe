"""The interface of a search strategy."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from configs.processes import average_gradients, mean_loss
from configs.schema import Racing, Search
from search.network import SearchNetwork
from search_space.cost import Cost, CostTable
from search_space.genotype import Genotype, SpaceShape

Batch = tuple[Tensor, Tensor]
"""Images N×3×H×W in [0, 1] and masks N×1×H×W of 0 and 1."""


@dataclass(frozen=True)
class Scored:
    """A genotype with its score, which the search maximises, over `pictures` validation pictures.

    `auc` and `f1` are means over those pictures; `exact` tells whether they were all.
    """

    genotype: Genotype
    score: float
    auc: float
    f1: float
    pictures: int
    exact: bool
    cost: Cost


@dataclass(frozen=True)
class SearchContext:
    """What every strategy works on: the same network, space, settings and seed.

    `evaluate` gives AUC and F1 of a genotype on every validation picture, P×2, by the network's present weights.
    """

    fabric: Fabric
    network: SearchNetwork
    space: SpaceShape
    settings: Search
    seed: int
    costs: CostTable
    evaluate: Callable[[Genotype], np.ndarray]

    def allowed(self, genotype: Genotype) -> bool:
        """Whether its costs are within `search.limits`."""
        cost, limits = self.costs.of(genotype), self.settings.limits
        return all(limit is None or value <= limit for value, limit in (
            (cost.params, limits.params), (cost.flops, limits.flops), (cost.latency_ms, limits.latency_ms)))


class Strategy(ABC):
    """Trains a supernet step by step, and proposes genotypes to be scored with its weights.

    All its random choices derive from the context's seed, the step's number and the scores so far, so that a resumed
    search draws what an uninterrupted one would have drawn.
    """

    uses_validation: ClassVar[bool] = False
    """Whether `step` needs a batch of the validation photographs."""

    shares_weights: ClassVar[bool] = True
    """Whether the network's weights are those of all genotypes at once, so that any can be scored at any time."""

    @abstractmethod
    def set_up(self, context: SearchContext) -> None:
        """Makes optimisers and whatever else training needs."""

    @abstractmethod
    def step(self, number: int, train: Batch, validation: Batch | None) -> float:
        """One training step; returns the training loss."""

    def epoch_end(self, epoch: int) -> bool:
        """Called after each epoch, counted from 0; whether training shall end here."""
        return False

    @abstractmethod
    def propose(self, history: Sequence[Scored]) -> list[Genotype]:
        """The next genotypes to score, none of them in `history`, which holds all that were; none when it is over.

        Depends on `history` and the trained state alone, so that a resumed search need not know more.
        """

    def racing(self, racing: Racing) -> Racing:
        """How proposals are raced: as `search.racing` says, unless what is proposed next needs more exact scores."""
        return racing

    def own_scores(self, genotype: Genotype) -> np.ndarray | None:
        """What `evaluate` gave when the genotype had weights of its own, P×2; None where the network's present
        weights are to be used."""
        return None

    def choose(self, history: Sequence[Scored]) -> Scored:
        """The result: the best of those that were scored on all pictures."""
        return max((scored for scored in history if scored.exact), key=lambda scored: scored.score)

    def architecture(self) -> Mapping[str, Sequence[float]] | None:
        """How strong each option under each label is at present, each label's summing to 1; None where there is no
        such thing."""
        return None

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that `set_up` does not restore, beside the network's own state."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Inverse of `state_dict`."""


def loss_of(context: SearchContext, batch: Batch, network: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Binary cross-entropy of the network's present path or mixture."""
    images, masks = batch
    with context.fabric.autocast():
        return binary_cross_entropy_with_logits((network or context.network)(images), masks)


def descend(context: SearchContext, optimizer: Any, loss: Tensor, clip: bool = False) -> float:
    """One step of `optimizer` down `loss`, of several processes down their mean loss; with `clip`, the gradient of its
    parameters is cut to `search.clip_norm`. Returns the (mean) loss."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    # Not those of others: a step of the architecture would else compute the gradients of all weights for nothing.
    context.fabric.backward(loss, inputs=parameters)
    average_gradients(context.fabric, parameters)
    if clip and context.settings.clip_norm is not None:
        context.fabric.clip_gradients(context.network, optimizer, max_norm=context.settings.clip_norm,
                                      error_if_nonfinite=False)
    optimizer.step()
    return mean_loss(context.fabric, loss)
