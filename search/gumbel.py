"""Differentiable search by straight-through samples (Jang et al. 2017; for cells Dong & Yang 2019, GDAS)."""

import torch
from torch import Tensor

from configs.streams import stream
from search.differentiable import DifferentiableStrategy
from search.strategy import Batch, loss_of


class Gumbel(DifferentiableStrategy):
    """Each step draws options by the softmax of the alphas: a path, which trains the weights as `one-shot` does, and
    another that moves the alphas, whose gradient is that of the relaxed sample (Jang et al. 2017, section 2.2).

    The temperature falls geometrically from epoch to epoch, between the two of `search.differentiable.temperature`.
    """

    def architecture_loss(self, number: int, train: Batch, validation: Batch) -> Tensor:
        temperature = self.temperature(number // self.context.settings.steps)
        self.context.network.set_mixture({label: straight_through(noisy, temperature) for label, noisy in
                                          self._noisy(number, "gumbel-architecture").items()})
        return loss_of(self.context, validation) + self.penalty()

    def weights_loss(self, number: int, train: Batch) -> Tensor:
        options = self.context.space.options()
        self.context.network.choose_all({label: options[label][int(noisy.argmax())] for label, noisy in
                                         self._noisy(number, "gumbel-path").items()})
        return loss_of(self.context, train)

    def temperature(self, epoch: int) -> float:
        """Temperature of an epoch, counted from 0."""
        start, end = self.remedies.temperature
        return start * (end / start) ** (epoch / max(1, self.context.settings.epochs - 1))

    def _noisy(self, number: int, name: str) -> dict[str, Tensor]:
        """Alphas plus Gumbel noise: the largest of each label is a draw by their softmax."""
        generator = stream(self.context.seed, name, number)
        return {label: logits + torch.tensor(generator.gumbel(size=len(logits)), dtype=logits.dtype,
                                             device=logits.device) for label, logits in self.logits(number).items()}


def straight_through(noisy: Tensor, temperature: float) -> Tensor:
    """1 at the largest and 0 elsewhere, exactly; its gradient is that of softmax(noisy / temperature)."""
    soft = (noisy / temperature).softmax(0)
    hard = torch.zeros_like(soft)
    hard[soft.argmax()] = 1.0
    return hard + (soft - soft.detach())
