"""Scores of candidates: validation AUC with the supernet's inherited weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from configs.errors import UserError
from results.metrics import auc
from search.network import SearchNetwork
from search_space.genotype import Genotype

Batches = Sequence[tuple[Tensor, Tensor]]


def score(network: SearchNetwork, genotype: Genotype, validation: Batches, recalibration: Batches) -> float:
    """Mean per-image AUC of `genotype` on `validation`, its batch-norm statistics taken from `recalibration`.

    With an empty `recalibration` the supernet's own statistics serve, which are averages over all paths. Leaves the
    network's statistics and mode as they were.

    Raises:
        UserError: a map is not finite: training diverged in the step before.
    """
    with _borrowed(network):
        network.supernet.set_path(genotype)
        if recalibration:
            recalibrate(network, recalibration)
        network.eval()
        scores = []
        for images, masks in validation:
            maps = network(images).float().cpu().numpy()
            if not np.isfinite(maps).all():
                raise UserError(f"maps of the candidate {genotype} are not finite; lower search.learning_rate")
            scores += [auc(logits[0], mask[0].cpu().numpy() > 0.5)
                       for logits, mask in zip(maps, masks, strict=True)]
    return float(np.nanmean(scores))


def recalibrate(network: nn.Module, batches: Batches) -> None:
    """Sets all batch-norm statistics to those of `batches`, each batch weighing the same."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    for images, _ in batches:
        network(images)


@contextmanager
def _borrowed(network: nn.Module) -> Iterator[None]:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    momenta, training = [norm.momentum for norm in norms], network.training
    try:
        with torch.no_grad():
            yield
    finally:
        for name, buffer in network.named_buffers():
            buffer.copy_(buffers[name])
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        network.train(training)
