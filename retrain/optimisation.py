"""How weights follow from gradients: optimizers, the schedule of the learning rate, the moving average of weights."""

import math

import torch
from torch import nn

from configs.schema import Optimisation

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; then it falls along a cosine to a hundredth."""


def learning_rate(step: int, total: int, peak: float) -> float:
    """Rate of step `step` (from 0) of `total`: linear warm-up, then a cosine from `peak` to a hundredth of it."""
    warm = max(1, round(WARM_UP * total))
    if step < warm:
        return peak * (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)


def make_optimizer(module: nn.Module, rules: Optimisation, rate: float) -> torch.optim.Optimizer:
    """Adam, or AdamW (Loshchilov & Hutter 2019), which decays all weights but those of one dimension."""
    if rules.optimizer == "adam":
        return torch.optim.Adam(module.parameters(), rate)
    parameters = list(module.parameters())
    return torch.optim.AdamW([
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": rules.weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0}], rate)


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    """Moves `average`, weights and running statistics, towards `module` after step `step` (from 0).

    average ← d · average + (1 − d) · module with d = min(decay, (1 + step) / (10 + step)), TensorFlow's
    `ExponentialMovingAverage` with `num_updates`: short runs do not keep the initial weights. Counts are copied.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, weight)
        else:
            mean.copy_(value)
