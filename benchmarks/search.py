"""Speed of the search against plain formulations: training steps, and scores of candidates; equal results, one run.

    python benchmarks/search.py [WORK…] [--repeat N] [--candidates N] [--every N] [--seed N]

Works: `step` (a single-path training step of the extraction block against all operations of each slot computed and
weighted by 0 or 1, as published), `nni-step` (the same against NNI's RandomOneShot), `candidates` and `recalibrated`
(scores of random candidates against a full forward of each on all pictures; the second with batch-norm statistics of
each candidate's own), `evolution` (scores of what an evolution proposes, generation by generation, likewise), and, when
named, `full-width` (pictures per second of one-shot training of the paper's space in bfloat16, and the share of the
device's rate that is; for --device cuda).
Photographs: those inside scikit-image. Seconds are those of the processor with one thread, so that other work on the
machine counts less; the steps take turns, of which the median counts.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))

from configs.schema import Photos, Racing
from configs.streams import stream
from forgeries.dataset import ForgeryDataset, Recipe, make_loader
from forgeries.photos import find_photos
from results.metrics import f1_iou
from search.network import SearchNetwork
from search.scoring import Batches, ScoringData, Unit, race, rounds_of, score_unit
from search_space.cells import STEM_CHANNELS, build_cells, scaled
from search_space.genotype import PAPER_SPACE, Genotype, random_genotype
from search_space.operations import build_operation
from search_space.space import ExtractionSpace
from search_space.supernet import Supernet

SPACE = PAPER_SPACE
STEP_WIDTH, STEP_SIDE, STEP_BATCH = 0.25, 128, 8
WIDTH, SIDE, BATCH, PICTURES = 0.0625, 64, 8, 192
METHODS = ("TE", "NS", "HD")
TRAINING, TRAINING_PICTURES, LEARNING_RATE = 1200, 2400, 3e-3
JOINED = 32
"""Pictures of a batch of the plain form: of 1, 4, 8, 16, 32, 64 and 128 about the fastest."""
RECALIBRATION = 4
MEMORY = 2**30
BEST = 10
POPULATION, PARENTS, GENERATIONS, MUTATION = 50, 10, 4, 0.1

Score = Callable[[Sequence[str]], dict[str, np.ndarray]]
"""AUC and F1, P×2, of each genotype."""


class WeightedSlot(nn.Module):
    """All operations computed, and weighted by 0 or 1."""

    def __init__(self, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.candidates = nn.ModuleDict({name: build_operation(name, channels, stride, dilation)
                                         for name in SPACE.operations})
        self.weights = [0.0] * len(SPACE.operations)

    def forward(self, x: Tensor) -> Tensor:
        """As the operations."""
        return sum(weight * operation(x)
                   for weight, operation in zip(self.weights, self.candidates.values(), strict=True))


class Published(nn.Module):
    """The extraction block with a `WeightedSlot` each."""

    def __init__(self, width: float) -> None:
        super().__init__()
        self.cells = build_cells(SPACE, width, lambda label, *shape: WeightedSlot(*shape))

    def set_path(self, genotype: Genotype) -> None:
        """From now on evaluates `genotype`."""
        slots = [slot for cell in self.cells for slot in cell.slots]
        for slot, name in zip(slots, genotype.sample().values(), strict=True):
            slot.weights = [float(name == other) for other in SPACE.operations]

    def forward(self, x: Tensor) -> Tensor:
        """As the supernet."""
        return self.cells(x)


class Nni(nn.Module):
    """The declared space as NNI's RandomOneShot changes it."""

    def __init__(self, width: float) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from nni.nas.oneshot.pytorch.supermodule.sampling import PathSamplingLayer
            from nni.nas.strategy import RandomOneShot
        self.cells = RandomOneShot().mutate_model(ExtractionSpace(SPACE, width)).cells
        self.layer = PathSamplingLayer

    def set_path(self, genotype: Genotype) -> None:
        """Draws as NNI does, then takes `genotype` instead, so that paths are equal."""
        drawn: dict[str, str] = {}
        layers: Any = [layer for layer in self.cells.modules() if isinstance(layer, self.layer)]
        for layer in layers:
            drawn |= layer.resample(drawn)
        sample = genotype.sample()
        for layer in layers:
            layer.resample(sample)

    def forward(self, x: Tensor) -> Tensor:
        """As the supernet."""
        return self.cells(x)


def like(ours: Supernet, other: nn.Module) -> None:
    """Gives another form of the block the supernet's weights."""
    ours_state, names = ours.state_dict(), list(other.state_dict())
    plain = {key.replace(".candidates.", "."): value for key, value in ours_state.items()}
    other.load_state_dict({name: plain[name.replace(".candidates.", ".")] for name in names})


def gradient_gap(ours: Supernet, other: nn.Module, x: Tensor) -> float:
    """The difference of their gradients by one path, in shares of the gradient's norm; in float64, because rounding
    grows through 30 norms in a row."""
    found = []
    for module in (ours, other):
        copy: Any = deepcopy(module).double().train()
        copy.set_path(random_genotype(SPACE, stream(0, "first")))
        (copy(x.double()) ** 2).mean().backward()
        found.append({name.replace(".candidates.", "."): parameter.grad for name, parameter in copy.named_parameters()})
    pairs = [(grad, found[1][name]) for name, grad in found[0].items() if grad is not None]
    return float(sum((a - b).square().sum() for a, b in pairs) / sum(a.square().sum() for a, _ in pairs)) ** 0.5


def one_step(module: Any, optimizer: Any, genotype: Genotype, x: Tensor) -> float:
    """Seconds of forward, backward and update."""
    started = time.process_time()
    module.set_path(genotype)
    optimizer.zero_grad()
    (module(x) ** 2).mean().backward()
    optimizer.step()
    return time.process_time() - started


def compare_steps(other: Any, repeat: int, target: str) -> None:
    """Prints a line on `other` and the supernet, in turns, by the same paths."""
    torch.manual_seed(0)
    ours = Supernet(SPACE, STEP_WIDTH)
    like(ours, other)
    x = torch.randn(STEP_BATCH, scaled(STEM_CHANNELS, STEP_WIDTH), STEP_SIDE // 2, STEP_SIDE // 2)
    x = x.contiguous(memory_format=torch.channels_last)
    generator, times = stream(0, "path"), ([], [])
    gap = gradient_gap(ours, other, x)
    ours.train(), other.train()
    optimizers = [torch.optim.Adam(module.parameters(), 1e-3, fused=True) for module in (ours, other)]
    for _ in range(repeat + 3):
        genotype = random_genotype(SPACE, generator)
        for index, module in enumerate((ours, other)):
            times[index].append(one_step(module, optimizers[index], genotype, x))
    fast, slow = (statistics.median(found[3:]) for found in times)
    print(f"  plain {slow:.3f} s, ours {fast:.3f} s: {slow / fast:.2f}x (target {target}), relative difference of the "
          f"gradients {gap:.0e}", flush=True)


def full_width(device: str, batch: int, repeat: int) -> None:
    """Prints pictures per second of single-path training of the paper's space at full width on pictures of 128², in
    bfloat16, and which share of the rate of large matrix products that is."""
    torch.manual_seed(0)
    network = SearchNetwork(SPACE, 1.0, ["plain"]).to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, fused=True)
    images = torch.rand(batch, 3, STEP_SIDE, STEP_SIDE, device=device)
    masks = (torch.rand(batch, 1, STEP_SIDE, STEP_SIDE, device=device) < 0.1).float()
    generator = stream(0, "path")

    def step() -> None:
        network.set_path(random_genotype(SPACE, generator))
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16):
            loss = binary_cross_entropy_with_logits(network(images), masks)
        loss.backward()
        optimizer.step()

    def seconds(work: Callable[[], Any], count: int) -> float:
        for _ in range(3):
            work()
        waits = torch.cuda.synchronize if device == "cuda" else lambda: None
        waits()
        started = time.perf_counter()
        for _ in range(count):
            work()
        waits()
        return (time.perf_counter() - started) / count

    a_step = seconds(step, repeat)
    counter = FlopCounterMode(display=False)
    with counter:
        for _ in range(4):
            step()
    operations = counter.get_total_flops() / 4
    side = 8192 if device == "cuda" else 1024
    a, b = (torch.rand(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    rate = 2 * side**3 / seconds(lambda: a @ b, repeat)
    print(f"  batch {batch}: {batch / a_step:.1f} pictures/s, {operations / a_step / 1e12:.2f} TFLOP/s in convolutions "
          f"and products, {100 * operations / a_step / rate:.0f} % of the {rate / 1e12:.2f} TFLOP/s of large products",
          flush=True)


def pictures(seed: int) -> tuple[Batches, ScoringData]:
    """Training batches, and the data that candidates are scored by."""
    # 64 pixels of photographs at their own scale often show nothing but blur, where there is nothing to find.
    photos = find_photos(Photos(), SIDE)
    recipe = Recipe(METHODS, ("rectangle", "stroke", "blob"), (0.04, 0.25), SIDE, shrink=(0.25, 0.5))

    def batches(part: Any, name: str, count: int) -> Batches:
        return list(make_loader(ForgeryDataset(part, recipe, seed, name, count), BATCH, 0))

    return batches(photos.train, "train", TRAINING_PICTURES), ScoringData(
        batches(photos.val, "score", PICTURES), batches(photos.train, "recalibrate", RECALIBRATION * BATCH))


def trained(train: Batches, seed: int) -> SearchNetwork:
    """A supernet after `TRAINING` single-path steps."""
    torch.manual_seed(seed)
    network = SearchNetwork(SPACE, WIDTH, ["plain"]).train()
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=TRAINING)
    generator = stream(seed, "train")
    for step in range(TRAINING):
        images, masks = train[step % len(train)]
        network.set_path(random_genotype(SPACE, generator))
        optimizer.zero_grad()
        binary_cross_entropy_with_logits(network(images), masks).backward()
        optimizer.step()
        schedule.step()
    return network


def plain_auc(scores: np.ndarray, mask: np.ndarray) -> float:
    """Area under the ROC curve by ranking all pixels."""
    order = np.argsort(scores, axis=None)[::-1]
    ranked, positive = scores.ravel()[order], mask.ravel()[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    true = np.append(0, np.cumsum(positive)[last])
    false = np.append(0, last + 1) - true
    return float(np.sum(np.diff(false) * (true[1:] + true[:-1])) / (2 * true[-1] * false[-1]))


def in_full(network: SearchNetwork, data: ScoringData, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """A full forward of each genotype on all pictures, in the batches that are best for it."""
    state, found = {key: value.clone() for key, value in network.state_dict().items()}, {}
    images, masks = (torch.cat(parts).split(JOINED) for parts in zip(*data.validation, strict=True))
    validation = list(zip(images, masks, strict=True))
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for text in texts:
            network.set_path(Genotype.parse(text, SPACE))
            if data.recalibration:
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum = None
                network.train()
                for batch, _ in data.recalibration:
                    network(batch)
            network.eval()
            rows = []
            for batch, truth in validation:
                rows += [(plain_auc(scores[0], mask[0] > 0.5), f1_iou(scores[0], mask[0] > 0.5, 0.0)[0])
                         for scores, mask in zip(network(batch).numpy(), truth.numpy(), strict=True)]
            found[text] = np.array(rows)
    network.load_state_dict(state)
    return found


def objective(text: str, values: np.ndarray) -> float:
    """Mean AUC."""
    return float(np.nanmean(values[:, 0]))


def scorer(network: SearchNetwork, data: ScoringData, racing: Racing, shared: bool) -> Score:
    """Scores by races, with beginnings in common computed once or not."""
    def evaluate(units: Sequence[Unit]) -> list[np.ndarray]:
        if shared:
            return [score_unit(network, unit, data, MEMORY) for unit in units]
        return [np.concatenate([score_unit(network, Unit((text,), unit.start, unit.stop, unit.recalibration), data, 0)
                                for text in unit.genotypes]) for unit in units]

    return lambda texts: race(texts, data, racing, evaluate, objective)


def best_of(found: dict[str, np.ndarray], count: int) -> list[str]:
    """The best of those that were scored on all pictures."""
    most = max(map(len, found.values()))
    exact = [text for text, values in found.items() if len(values) == most]
    return sorted(exact, key=lambda text: (-objective(text, found[text]), text))[:count]


def difference(found: dict[str, np.ndarray], plain: dict[str, np.ndarray]) -> float:
    """Largest difference of a score that is over all pictures, of those in both."""
    return max((abs(objective(text, values) - objective(text, plain[text])) for text, values in found.items()
                if text in plain and len(values) == len(plain[text])), default=np.nan)


def timed(score: Score, texts: Sequence[str]) -> tuple[float, dict[str, np.ndarray]]:
    """Seconds, and what was found."""
    started = time.process_time()
    found = score(texts)
    return time.process_time() - started, found


def report(name: str, seconds: float, plain_seconds: float, rest: str = "") -> None:
    """One line of a table."""
    print(f"  {name:28} {seconds:8.1f} s {plain_seconds / seconds:6.2f}x  {rest}", flush=True)


def compare_candidates(count: int, every: int, seed: int, recalibrated: bool) -> None:
    """Random candidates: each way of saving alone, and all."""
    train, data = pictures(seed)
    network = trained(train, seed)
    if not recalibrated:
        data = ScoringData(data.validation, [])
    generator, racing = stream(seed, "candidates"), Racing()
    texts = list(dict.fromkeys(str(random_genotype(SPACE, generator)) for _ in range(count)))
    print(f"  {len(texts)} candidates, width {WIDTH}, {data.pictures} pictures of {SIDE}², "
          f"{len(data.recalibration)} batches for statistics; rounds (candidates, batches of {BATCH}): "
          f"{rounds_of(len(texts), len(data.validation), racing)}")
    # Without sharing or a race it is the same for each candidate, so that a part of them shows what it takes.
    part, few = texts[::every], texts[::max(every, 10)]
    seconds, plain = timed(lambda texts: in_full(network, data, texts), part)
    plain_seconds = seconds * len(texts) / len(part)
    report("a full forward of each", plain_seconds, plain_seconds)
    seconds, found = timed(scorer(network, data, Racing(keep=0), False), few)
    report("faster AUC", seconds * len(texts) / len(few), plain_seconds, f"differ by {difference(found, plain):.0e}")
    best: set[str] = set()
    for name, raced, shared in (("  and shared beginnings", Racing(keep=0), True), ("  and a race", racing, False),
                                ("all", racing, True)):
        seconds, found = timed(scorer(network, data, raced, shared), texts)
        # The first of these scores all, as the plain form does, which may have done a part.
        best = best or set(best_of(plain if len(plain) == len(texts) else found, BEST))
        report(name, seconds, plain_seconds,
               f"{len(best & set(best_of(found, BEST)))} of the {BEST} best, differ by {difference(found, plain):.0e}"
               + (" (target 4x)" if name == "all" else ""))


def children(parents: Sequence[str], known: set[str], generator: np.random.Generator) -> list[str]:
    """As many new genotypes as a population has: half of them mutations of parents, half crossovers of two."""
    found: dict[str, None] = {}
    while len(found) < POPULATION:
        one, other = (Genotype.parse(parents[index], SPACE).sample()
                      for index in generator.choice(len(parents), 2, replace=False))
        for label, options in SPACE.options().items():
            if len(found) % 2:
                one[label] = (one, other)[int(generator.integers(2))][label]
            elif generator.random() < MUTATION:
                one[label] = str(generator.choice(options))
        text = str(Genotype.from_sample(one, SPACE))
        if text not in known:
            found[text] = None
    return list(found)


def compare_evolution(seed: int) -> None:
    """Generations of an evolution by plain scores; each of them scored both ways."""
    train, data = pictures(seed)
    network, data = trained(train, seed), ScoringData(data.validation, [])
    generator = stream(seed, "evolution")
    plain: dict[str, np.ndarray] = {}
    totals = dict.fromkeys(("a full forward of each", "shared beginnings, faster AUC", "all"), 0.0)
    same, gap = [], 0.0
    racing = Racing(keep=PARENTS)
    ours = (("shared beginnings, faster AUC", scorer(network, data, Racing(keep=0), True)),
            ("all", scorer(network, data, racing, True)))
    population = [str(random_genotype(SPACE, generator)) for _ in range(POPULATION)]
    for _ in range(GENERATIONS):
        seconds, found = timed(lambda texts: in_full(network, data, texts), population)
        totals["a full forward of each"] += seconds
        for name, score in ours:
            seconds, raced = timed(score, population)
            totals[name] += seconds
            gap = max(gap, difference(raced, found))
        # What the next generation depends on.
        parents = best_of(plain | found, PARENTS)
        exact = {text: values for text, values in raced.items() if len(values) == data.pictures}
        same.append(len(set(parents) & set(best_of(plain | exact, PARENTS))))
        plain |= found
        population = children(parents, set(plain), generator)
    print(f"  {GENERATIONS} generations of {POPULATION}, {PARENTS} parents; rounds (candidates, batches): "
          f"{rounds_of(POPULATION, len(data.validation), racing)}")
    for name, seconds in totals.items():
        report(name, seconds, totals["a full forward of each"],
               f"{sum(same)} of {len(same) * PARENTS} parents found, largest difference {gap:.0e} (target 4x)"
               if name == "all" else "")


def main() -> None:
    """Prints each work as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    works: dict[str, Callable[[argparse.Namespace], None]] = {
        "step": lambda given: compare_steps(Published(STEP_WIDTH), given.repeat, "2.5x"),
        "nni-step": lambda given: compare_steps(Nni(STEP_WIDTH), given.repeat, "1x"),
        "candidates": lambda given: compare_candidates(given.candidates, given.every, given.seed, False),
        "recalibrated": lambda given: compare_candidates(given.candidates // 5, given.every, given.seed, True),
        "evolution": lambda given: compare_evolution(given.seed),
        "full-width": lambda given: full_width(given.device, given.batch, given.repeat)}
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="of `full-width`")
    parser.add_argument("--batch", type=int, default=24, help="pictures of a step of `full-width`")
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {', '.join(works)}; default all but the last")
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--every", type=int, default=1, help="the plain form scores one candidate of so many")
    parser.add_argument("--seed", type=int, default=0, help="of the supernet, the pictures and the candidates")
    given = parser.parse_args()
    unknown = set(given.works) - set(works)
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(works)}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("GIIDNET_CACHE", folder)
        for name in given.works or list(works)[:-1]:
            print(name, flush=True)
            works[name](given)


if __name__ == "__main__":
    main()
