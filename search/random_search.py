"""Random search: genotypes trained alone, at the cost of one supernet (Li & Talwalkar 2019)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from configs.streams import stream
from search.samplers import random_samples
from search.strategy import Batch, Scored, SearchContext, Strategy, descend, loss_of
from search_space.genotype import Genotype


class RandomSearch(Strategy):
    """Divides the steps among `search.architectures` random genotypes, each trained from the same initial weights; the
    result is the best of them by its own weights. What every other strategy must beat."""

    shares_weights = False

    def set_up(self, context: SearchContext) -> None:
        self.context = context
        settings = context.settings
        self.steps = settings.epochs * settings.steps
        self.genotypes = random_samples(context, stream(context.seed, "candidates"),
                                        min(settings.architectures, self.steps))
        self.initial = {key: value.detach().clone() for key, value in context.network.state_dict().items()}
        self.scores: dict[str, list[list[float]]] = {}
        self.optimizer = self._make_optimizer()

    def step(self, number: int, train: Batch, validation: Batch | None) -> float:
        network, index = self.context.network, self._turn(number)
        genotype = self.genotypes[index]
        if number == 0 or self._turn(number - 1) != index:
            network.load_state_dict(self.initial)
            self.optimizer = self._make_optimizer()
        network.set_path(genotype)
        self.optimizer.zero_grad()
        loss = descend(self.context, self.optimizer, loss_of(self.context, train), clip=True)
        if number + 1 == self.steps or self._turn(number + 1) != index:
            self.scores[str(genotype)] = self.context.evaluate(genotype).tolist()
        return loss

    def propose(self, history: Sequence[Scored]) -> list[Genotype]:
        return [] if history else list(self.genotypes)

    def own_scores(self, genotype: Genotype) -> np.ndarray | None:
        return np.array(self.scores[str(genotype)])

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "initial": self.initial, "scores": self.scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.initial = {key: value.to(self.context.fabric.device) for key, value in state["initial"].items()}
        self.scores = dict(state["scores"])

    def _turn(self, number: int) -> int:
        """Which genotype a step trains."""
        return number * len(self.genotypes) // self.steps

    def _make_optimizer(self) -> Any:
        return self.context.fabric.setup_optimizers(
            torch.optim.Adam(self.context.network.parameters(), self.context.settings.learning_rate))
