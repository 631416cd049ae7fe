"""Differentiable search, first order (Liu et al. 2019, DARTS, section 2.3 with ξ = 0)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from search.strategy import Batch, Scored, SearchContext, Strategy, descend, loss_of
from search_space.genotype import Genotype


class Darts(Strategy):
    """Alternates a step of the architecture weights on validation pictures and one of the weights on training ones.

    Every slot computes the softmax-weighted sum of all its candidates; the result is the strongest of each slot.
    """

    uses_validation = True

    def set_up(self, context: SearchContext) -> None:
        self.context = context
        device = context.fabric.device
        self.alphas = {label: torch.zeros(len(options), device=device, requires_grad=True)
                       for label, options in context.space.options().items()}
        settings = context.settings
        self.optimizer: Any = context.fabric.setup_optimizers(
            torch.optim.Adam(context.network.parameters(), settings.learning_rate))
        self.architecture_optimizer: Any = context.fabric.setup_optimizers(torch.optim.Adam(
            self.alphas.values(), settings.architecture_learning_rate, betas=(0.5, 0.999), weight_decay=1e-3))
        self.found: list[str] = []

    def step(self, number: int, train: Batch, validation: Batch | None) -> float:
        assert validation is not None
        self._descend(self.architecture_optimizer, validation)
        return self._descend(self.optimizer, train)

    def epoch_end(self, epoch: int) -> bool:
        genotype = str(self._strongest())
        self.found = [genotype, *(other for other in self.found if other != genotype)]
        return False

    def propose(self, history: Sequence[Scored]) -> list[Genotype]:
        """The strongest genotype now, and those at the end of earlier epochs, newest first."""
        if history:
            return []
        now = str(self._strongest())
        texts = [now, *(text for text in self.found if text != now)]
        return [Genotype.parse(text, self.context.space) for text in texts]

    def choose(self, history: Sequence[Scored]) -> Scored:
        """The strongest genotype, whatever the scores."""
        return history[0]

    def architecture(self) -> Mapping[str, Sequence[float]]:
        return {label: alpha.detach().softmax(0).tolist() for label, alpha in self.alphas.items()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "alphas": {label: alpha.detach() for label, alpha in self.alphas.items()},
            "optimizer": self.optimizer.state_dict(),
            "architecture_optimizer": self.architecture_optimizer.state_dict(),
            "found": self.found,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for label, alpha in self.alphas.items():
                alpha.copy_(state["alphas"][label])
        self.optimizer.load_state_dict(state["optimizer"])
        self.architecture_optimizer.load_state_dict(state["architecture_optimizer"])
        self.found = list(state["found"])

    def _descend(self, optimizer: Any, batch: Batch) -> float:
        network = self.context.network
        network.set_mixture({label: alpha.softmax(0) for label, alpha in self.alphas.items()})
        self.optimizer.zero_grad()
        self.architecture_optimizer.zero_grad()
        return descend(self.context, optimizer, loss_of(self.context, batch), network.parameters())

    def _strongest(self) -> Genotype:
        sample = {label: options[int(self.alphas[label].argmax())]
                  for label, options in self.context.space.options().items()}
        return Genotype.from_sample(sample, self.context.space)
