"""Scores of candidates on validation pictures with the supernet's inherited weights."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from configs.errors import UserError
from configs.schema import Racing
from results.metrics import auc, f1_iou
from search.network import SearchNetwork, norms_in
from search_space.genotype import Genotype

Batches = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class ScoringData:
    """Validation batches that scores are over, and training batches that batch-norm statistics are taken from."""

    validation: Batches
    recalibration: Batches

    @property
    def pictures(self) -> int:
        """Number of validation pictures."""
        return sum(len(images) for images, _ in self.validation)


@dataclass(frozen=True)
class Unit:
    """A piece of work that one process does: genotypes, by their texts, scored on the validation batches from `start`
    to before `stop`, after the first `recalibration` of the batches for statistics."""

    genotypes: tuple[str, ...]
    start: int
    stop: int
    recalibration: int

    @property
    def key(self) -> str:
        """The same for the same work."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]


Evaluate = Callable[[Sequence[Unit]], list[np.ndarray]]
"""For each unit AUC and F1 of its genotypes on its pictures, float64 G×P×2."""


def score_unit(network: SearchNetwork, unit: Unit, data: ScoringData, memory: int) -> np.ndarray:
    """AUC and F1 (at probability 0.5) of each genotype of `unit` on each of its pictures, float64 G×P×2.

    `memory` bounds, in bytes, what is kept of shared prefixes. Leaves the network's statistics and mode as they were.

    Raises:
        UserError: a map is not finite: training diverged in the step before.
    """
    rows = []
    for text in unit.genotypes:
        genotype = Genotype.parse(text, network.space)
        with _borrowed(network):
            network.set_path(genotype)
            if unit.recalibration:
                recalibrate(network, data.recalibration[:unit.recalibration])
            network.eval()
            rows.append(np.concatenate([score_maps(network(images), masks, text)
                                        for images, masks in data.validation[unit.start:unit.stop]]))
    return np.stack(rows)


def score_maps(logits: Tensor, masks: Tensor, genotype: str) -> np.ndarray:
    """AUC and F1 at logit 0 of each picture, float64 N×2; NaN where undefined.

    Raises:
        UserError: a map is not finite.
    """
    maps = logits.float().cpu().numpy()
    if not np.isfinite(maps).all():
        raise UserError(f"maps of the candidate {genotype} are not finite; lower search.learning_rate")
    return np.array([(auc(scores[0], mask[0] > 0.5), f1_iou(scores[0], mask[0] > 0.5, 0.0)[0])
                     for scores, mask in zip(maps, masks.cpu().numpy(), strict=True)])


def recalibrate(network: nn.Module, batches: Batches) -> None:
    """Sets all batch-norm statistics to those of `batches`, each batch weighing the same."""
    for norm in norms_in(network):
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    for images, _ in batches:
        network(images)


def race(genotypes: Sequence[str], data: ScoringData, racing: Racing, evaluate: Evaluate,
         objective: Callable[[str, np.ndarray], float]) -> dict[str, np.ndarray]:
    """AUC and F1, P×2, of each genotype: over all pictures for those that stay to the end, over the first P for others.

    `objective` gives the score of a genotype from its P×2.
    """
    units = [Unit((text,), 0, len(data.validation), len(data.recalibration)) for text in genotypes]
    return {text: values[0] for text, values in zip(genotypes, evaluate(units), strict=True)}


@contextmanager
def _borrowed(network: nn.Module) -> Iterator[None]:
    norms = norms_in(network)
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
