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
from results.metrics import auc_f1
from search.network import Features, SearchNetwork, Stage, norms_in
from search_space.genotype import Genotype

Batches = Sequence[tuple[Tensor, Tensor]]

TOGETHER = 2**17
"""Pixels that are scored together: fewer cost more calls, more leave the processor's cache."""


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

    What genotypes have in common from the start is computed once. `memory` bounds, in bytes, what is kept of it.
    Leaves the network's statistics and mode as they were.

    Raises:
        UserError: a map is not finite: training diverged in the step before.
    """
    walk = PrefixWalk(network, [Genotype.parse(text, network.space) for text in unit.genotypes], memory)
    rows: list[list[np.ndarray]] = [[] for _ in unit.genotypes]
    with _borrowed(network):
        walk.recalibrate(data.recalibration[:unit.recalibration])
        network.eval()
        for images, masks in _joined(data.validation[unit.start:unit.stop]):
            for index, logits in walk.run(images):
                rows[index].append(score_maps(logits, masks, unit.genotypes[index]))
    return np.stack([np.concatenate(row) for row in rows])


def _joined(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    """The same pictures in the same order, small batches joined: in evaluation a picture's map depends on no other."""
    waiting: list[tuple[Tensor, Tensor]] = []
    for batch in batches:
        pixels = sum(masks.numel() for _, masks in (*waiting, batch))
        if waiting and (pixels > TOGETHER or waiting[0][0].shape[1:] != batch[0].shape[1:]):
            yield _cat(waiting)
            waiting = []
        waiting.append(batch)
    if waiting:
        yield _cat(waiting)


def _cat(batches: Batches) -> tuple[Tensor, Tensor]:
    images, masks = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(masks)


@dataclass(frozen=True)
class _Statistics:
    """Running statistics of a batch norm: the tensors that it updates in place."""

    mean: Tensor | None
    var: Tensor | None
    batches: Tensor | None

    @classmethod
    def of(cls, norm: nn.BatchNorm2d) -> "_Statistics":
        """Those that `norm` has now, not copies of them."""
        return cls(norm.running_mean, norm.running_var, norm.num_batches_tracked)

    @classmethod
    def fresh(cls, norm: nn.BatchNorm2d) -> "_Statistics":
        """As after `norm.reset_running_stats()`."""
        device = norm.running_var.device if norm.running_var is not None else None
        return cls(torch.zeros(norm.num_features, device=device), torch.ones(norm.num_features, device=device),
                   torch.zeros((), dtype=torch.long, device=device))

    def lend(self, norm: nn.BatchNorm2d) -> None:
        """From now on `norm` reads and updates these."""
        norm.running_mean, norm.running_var, norm.num_batches_tracked = self.mean, self.var, self.batches


class PrefixWalk:
    """Genotypes in the order in which neighbours have most in common, each computed from where it leaves those before.

    `kept` holds, by the number of stages that gave them, the features from which later genotypes go on. Together they
    never exceed `memory` bytes; what does not fit is computed again from the nearest that did.
    """

    def __init__(self, network: SearchNetwork, genotypes: Sequence[Genotype], memory: int) -> None:
        self.network, self.memory = network, memory
        self.stages = network.stages()
        samples = [genotype.sample() for genotype in genotypes]
        paths = [tuple(sample.get(stage.label, "") for stage in self.stages) for sample in samples]
        self.order = sorted(range(len(paths)), key=paths.__getitem__)
        self.paths = [paths[index] for index in self.order]
        self.shared = [0, *map(_common, self.paths, self.paths[1:])]
        self.needed = _needed(self.shared)
        self.kept: dict[int, Features] = {}
        # What a batch norm sees depends on the beginning alone, so that each beginning has statistics of its own.
        self.statistics: dict[tuple[str, ...], list[tuple[nn.BatchNorm2d, _Statistics]]] = {}

    def run(self, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Index and logits N×1×H×W of each genotype for RGB N×3×H×W in [0, 1]."""
        for position, index in enumerate(self.order):
            yield index, self._features(position, images)[0][..., :images.shape[-2], :images.shape[-1]]

    def recalibrate(self, batches: Batches) -> None:
        """Sets the statistics of every beginning to those of `batches`, each batch weighing the same.

        Changes the momenta of the network's batch norms and its mode.
        """
        if not batches:
            return
        for norm in norms_in(self.network):
            norm.momentum = None
        self.network.train()
        for images, _ in batches:
            for _ in self.run(images):
                pass

    def _features(self, position: int, images: Tensor) -> Features:
        """After the last stage; keeps those before that later genotypes go on from."""
        path, shared, needed = self.paths[position], self.shared[position], self.needed[position]
        depth = max((depth for depth in self.kept if depth <= shared), default=0)
        features = self.kept.get(depth, (images,))
        self.kept = {depth: kept for depth, kept in self.kept.items() if depth in needed and depth <= shared}
        for stage, option in zip(self.stages, path, strict=True):
            if option:
                self.network.choose(stage.label, option)
        for number, stage in enumerate(self.stages[depth:], depth + 1):
            self._lend(path[:number], stage, again=number <= shared)
            features = stage.run(features)
            if number in needed:
                self._keep(number, features)
        return features

    def _keep(self, number: int, features: Features) -> None:
        """Keeps features, at the cost of those that are needed last: of the shortest beginnings."""
        room = self.memory - _bytes(features)
        if room < 0:
            return
        while self.kept and sum(map(_bytes, self.kept.values())) > room:
            del self.kept[min(self.kept)]
        self.kept[number] = features

    def _lend(self, beginning: tuple[str, ...], stage: Stage, again: bool) -> None:
        """Gives a stage's batch norms the statistics of `beginning`; in training, where these have seen the batch
        before, others that nobody reads."""
        if self.network.training and beginning not in self.statistics:
            self.statistics[beginning] = [(norm, _Statistics.fresh(norm)) for norm in stage.norms()]
        for norm, statistics in self.statistics.get(beginning, ()):
            (_Statistics.fresh(norm) if again and norm.training else statistics).lend(norm)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the common beginning."""
    return next((length for length, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))


def _needed(shared: Sequence[int]) -> list[set[int]]:
    """For each in a row the lengths of its beginnings that later ones go on from; `shared` are those of the beginnings
    that each has in common with the one before."""
    needed: list[set[int]] = [set()]
    for length in reversed(shared[1:]):
        needed.append({length, *(other for other in needed[-1] if other < length)} - {0})
    return needed[::-1]


def _bytes(features: Features) -> int:
    return sum(tensor.nbytes for tensor in features)


def score_maps(logits: Tensor, masks: Tensor, genotype: str) -> np.ndarray:
    """AUC and F1 at logit 0 of each picture, float64 N×2; NaN where undefined.

    Raises:
        UserError: a map is not finite.
    """
    maps = logits.float().cpu().numpy()
    if not np.isfinite(maps).all():
        raise UserError(f"maps of the candidate {genotype} are not finite; lower search.learning_rate")
    return np.array([auc_f1(scores[0], mask[0], 0.0)
                     for scores, mask in zip(maps, masks.cpu().numpy() > 0.5, strict=True)])


def race(genotypes: Sequence[str], data: ScoringData, racing: Racing, evaluate: Evaluate,
         objective: Callable[[str, np.ndarray], float]) -> dict[str, np.ndarray]:
    """AUC and F1, P×2, of each genotype: over all pictures for those that stay to the end, over the first P for others.

    Successive halving (Jamieson & Talwalkar 2016): each round looks at more pictures, and the best go on. Batch-norm
    statistics are of all recalibration batches in every round: those of fewer change scores by more than candidates
    differ.

    `objective` gives the score of a genotype from its P×2; a genotype whose score is NaN ranks last.
    """
    staying = list(dict.fromkeys(genotypes))
    found: dict[str, np.ndarray] = {}
    start = 0
    for count, stop in rounds_of(len(staying), len(data.validation), racing):
        if found:
            scores = {text: objective(text, found[text]) for text in staying}
            staying = sorted(staying, key=lambda text: (np.isnan(scores[text]), -scores[text], text))[:count]
        units = split_units(staying, start, stop, len(data.recalibration))
        for unit, values in zip(units, evaluate(units), strict=True):
            for text, rows in zip(unit.genotypes, values, strict=True):
                found[text] = np.concatenate([found[text], rows]) if start else rows
        start = stop
    return found


def rounds_of(count: int, batches: int, racing: Racing) -> list[tuple[int, int]]:
    """Genotypes that take part in each round, and validation batches that it looks at; all batches in the last.

    A round that would let none of them go, or look at nothing more than the one before, is left away.
    """
    shares = [-(-batches // racing.factor**exponent) for exponent in range(racing.rounds - 1, -1, -1)]
    found: list[tuple[int, int]] = []
    for stop in sorted(set(shares)) if racing.keep else [batches]:
        if found:
            count = min(count, max(racing.keep, -(-count // racing.factor)))
        if found and found[-1][0] == count:
            found.pop()
        found.append((count, stop))
    return found


def split_units(genotypes: Sequence[str], start: int, stop: int, recalibration: int) -> list[Unit]:
    """The work in units of about as many forward passes each, genotypes that have most in common together."""
    ordered = sorted(genotypes, key=_order_of_stages)
    size = min(64, max(16, 512 // (stop - start + recalibration)))
    parts = np.array_split(np.arange(len(ordered)), -(-len(ordered) // size))
    return [Unit(tuple(ordered[index] for index in part), start, stop, recalibration) for part in parts]


def _order_of_stages(genotype: str) -> tuple[str, str]:
    """Sorts genotypes with a common beginning together: the text, but streams, which are computed first, at the
    front."""
    streams = [choice for choice in genotype.split(";")[1:] if choice.startswith("streams=")]
    return "".join(streams), genotype


@contextmanager
def _borrowed(network: nn.Module) -> Iterator[None]:
    """Without gradients; afterwards the network has its batch-norm statistics, momenta and mode again."""
    before = [(norm, _Statistics.of(norm), norm.momentum) for norm in norms_in(network)]
    training = network.training
    try:
        with torch.no_grad():
            yield
    finally:
        for norm, statistics, momentum in before:
            statistics.lend(norm)
            norm.momentum = momentum
        network.train(training)
