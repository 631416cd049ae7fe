"""How weights follow from gradients: optimizers, the schedule of the learning rate, the moving average of weights."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from schedulefree import AdamWScheduleFree
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from configs.schema import Optimisation

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises."""


def learning_rate(step: int, total: int, peak: float, schedule: str = "cosine") -> float:
    """Rate of step `step` (from 0) of `total`: linear warm-up, then a cosine from `peak` to a hundredth of it, or with
    the schedule "constant" `peak`."""
    warm = max(1, round(WARM_UP * total))
    if step < warm:
        return peak * (step + 1) / warm
    if schedule == "constant":
        return peak
    share = (step - warm) / max(1, total - warm)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)


def make_optimizer(module: nn.Module, rules: Optimisation, rate: float) -> torch.optim.Optimizer:
    """Adam, AdamW (Loshchilov & Hutter 2019), or schedule-free AdamW (Defazio et al. 2024, algorithm 1), in training
    mode; the latter two decay all weights but those of one dimension."""
    if rules.optimizer == "adam":
        return torch.optim.Adam(module.parameters(), rate)
    parameters = list(module.parameters())
    groups = [{"params": [each for each in parameters if each.ndim > 1], "weight_decay": rules.weight_decay},
              {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0}]
    if rules.optimizer == "adamw":
        return torch.optim.AdamW(groups, rate)
    optimizer = AdamWScheduleFree(groups, rate)
    optimizer.train()
    return optimizer


@contextmanager
def at_average(optimizer: torch.optim.Optimizer, module: nn.Module, forward: Callable[[], None]) -> Iterator[None]:
    """While it lasts, `module` has the weights that a schedule-free optimizer averages, and batch-norm statistics over
    what `forward` passes through it, for those of the weights in training are others; those in eval mode stay. With
    another optimizer it stays as it is."""
    if not isinstance(optimizer, AdamWScheduleFree):
        yield
        return
    # To the bit, as going to the average and back by arithmetic is not.
    before = {key: value.clone() for key, value in module.state_dict().items()}
    optimizer.eval()
    norms = [each for each in module.modules()
             if isinstance(each, _BatchNorm) and each.training and each.track_running_stats]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    if norms:
        with torch.no_grad():
            forward()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    try:
        yield
    finally:
        optimizer.train()
        module.load_state_dict(before)


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
