"""Differentiable search by a softmax mixture (Liu et al. 2019, DARTS), first and second order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.func import functional_call

from configs.processes import average
from search.differentiable import DifferentiableStrategy
from search.network import norms_in
from search.strategy import Batch, loss_of

Loss = Callable[[Sequence[Tensor]], Tensor]
"""A loss as a function of the weights; of the alphas by what it closes over."""


class Darts(DifferentiableStrategy):
    """Every slot computes the softmax-weighted sum of all its candidates.

    First order: the alphas descend the validation loss of the present weights. Second order: that of the weights after
    a step of plain gradient descent, at `search.learning_rate`, on the training batch (section 2.3).
    """

    def architecture_loss(self, number: int, train: Batch, validation: Batch) -> Tensor:
        if self.remedies.order == 1:
            return self._loss(number, validation) + self.penalty()
        alphas, named = list(self.alphas.values()), dict(self.context.network.named_parameters())

        def loss(weights: Sequence[Tensor], batch: Batch) -> Tensor:
            def network(images: Tensor) -> Tensor:
                # In full precision: what is sought is a small difference of gradients.
                with torch.autocast(images.device.type, enabled=False):
                    return functional_call(self.context.network, dict(zip(named, weights, strict=True)), (images,))

            return self._loss(number, batch, network)

        with _still_statistics(self.context.network):
            gradient = unrolled_gradient(lambda weights: loss(weights, train),
                                         lambda weights: loss(weights, validation) + self.penalty(),
                                         list(named.values()), alphas, self.context.settings.learning_rate,
                                         partial(average, self.context.fabric))
        # Descended as a loss of that gradient, so that all optimisers step alike, also in mixed precision.
        return torch.stack([(alpha * slope).sum() for alpha, slope in zip(alphas, gradient, strict=True)]).sum()

    def weights_loss(self, number: int, train: Batch) -> Tensor:
        return self._loss(number, train)

    def _loss(self, number: int, batch: Batch, network: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        self.context.network.set_mixture({label: logits.softmax(0) for label, logits in self.logits(number).items()})
        return loss_of(self.context, batch, network)


def unrolled_gradient(train: Loss, validation: Loss, weights: Sequence[Tensor], alphas: Sequence[Tensor], rate: float,
                      joint: Callable[[Sequence[Tensor]], None] = lambda tensors: None) -> list[Tensor]:
    """Gradient by `alphas` of validation(w − rate·∇train(w)), where w are the `weights`, which are not changed.

    The product of the mixed second derivative of `train` with v, the gradient of `validation`, is the difference of
    its gradients by `alphas` at w ± ε·v, ε = 0.01 / ‖v‖ (Liu et al. 2019, equations 7 and 8). `joint` makes gradients
    by weights those of all processes together, in place; the result is this process's part of their mean.
    """
    slopes = grad(train(weights), weights)
    joint(slopes)
    with torch.no_grad():
        ahead = [(weight - rate * slope).requires_grad_() for weight, slope in zip(weights, slopes, strict=True)]
    found = grad(validation(ahead), [*alphas, *ahead])
    direct, vector = found[:len(alphas)], found[len(alphas):]
    joint(vector)
    epsilon = 0.01 / torch.stack([part.norm() for part in vector]).norm().clamp(min=1e-12)
    plus, minus = (grad(train([weight.detach() + sign * epsilon * part
                               for weight, part in zip(weights, vector, strict=True)]), alphas) for sign in (1, -1))
    return [first - rate * (above - below) / (2 * epsilon)
            for first, above, below in zip(direct, plus, minus, strict=True)]


@contextmanager
def _still_statistics(network: nn.Module) -> Iterator[None]:
    """Forwards in here use the batch's statistics and leave the running ones as they are."""
    norms = norms_in(network)
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
