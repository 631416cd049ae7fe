"""What a network costs: parameters, floating-point operations, latency."""

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from search_space.cells import STEM_CHANNELS, build_extraction, scaled
from search_space.genotype import Genotype, SpaceShape
from search_space.operations import build_operation

COSTS = ("params", "flops", "latency_ms")


@dataclass(frozen=True)
class Cost:
    """Trainable parameters, floating-point operations and milliseconds of one forward; `latency_ms` is 0 where it was
    not measured."""

    params: int = 0
    flops: int = 0
    latency_ms: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.params + other.params, self.flops + other.flops, self.latency_ms + other.latency_ms)

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.params - other.params, self.flops - other.flops, self.latency_ms - other.latency_ms)


@dataclass(frozen=True)
class CostTable:
    """Costs of all genotypes of a space: that of what they share, and that of each option under each label.

    Parameters and operations of a genotype are exact sums of these; its latency is the sum of separately measured
    ones (Cai et al. 2019, ProxylessNAS, section 3.3).
    """

    base: Cost
    options: Mapping[str, Mapping[str, Cost]]

    def of(self, genotype: Genotype) -> Cost:
        """Cost of `genotype`."""
        return sum((self.options[label][name] for label, name in genotype.sample().items()), self.base)

    def range(self) -> tuple[Cost, Cost]:
        """The least and the largest of each cost over all genotypes."""
        low, high = ({key: sum(pick(asdict(cost)[key] for cost in costs.values()) for costs in self.options.values())
                      for key in COSTS} for pick in (min, max))
        return self.base + Cost(**low), self.base + Cost(**high)


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (cost, score) that no other beats: none costs as little and scores more, or less and as much;
    cheapest first, of equals the first."""
    best, found = float("-inf"), []
    for index in sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1])):
        if points[index][1] > best:
            best = points[index][1]
            found.append(index)
    return found


def count_cost(module: nn.Module, shape: tuple[int, ...], latency: bool, device: torch.device | str = "cpu") -> Cost:
    """Cost of one forward of `module` on N×C×H×W, its latency, on `device`, only where asked for."""
    measured = measure_latency(module.to(device), shape) if latency else 0.0
    return Cost(count_parameters(module), count_flops(module, shape), measured)


def extraction_costs(space: SpaceShape, width: float, side: int, latency: bool = False,
                     device: torch.device | str = "cpu") -> CostTable:
    """Costs of the extraction block at `width` on one picture whose features there have `side`² positions."""
    options: dict[str, dict[str, Cost]] = {}
    known: dict[tuple[str, int, int, int, int], Cost] = {}
    for label, channels, stride, dilation, length in slots_of(space, width, side):
        options[label] = {}
        for name in space.operations:
            key = name, channels, stride, dilation, length
            if key not in known:
                known[key] = count_cost(build_operation(name, channels, stride, dilation),
                                        (1, channels, length, length), latency, device)
            options[label][name] = known[key]
    first = Genotype.from_sample({label: names[0] for label, names in space.options().items()}, space)
    whole = count_cost(build_extraction(first, width), (1, scaled(STEM_CHANNELS, width), side, side), latency,
                       device)
    base = whole - sum((options[label][first.sample()[label]] for label in options), Cost())
    return CostTable(Cost(base.params, base.flops, max(0.0, base.latency_ms)), options)


def slots_of(space: SpaceShape, width: float, side: int) -> Iterable[tuple[str, int, int, int, int]]:
    """Label, channels, stride, dilation and side of the input of each slot."""
    for cell, (channels, stride, dilation) in enumerate(
            zip(space.channels, space.strides, space.dilations, strict=True), 1):
        for slot in range(1, space.slots + 1):
            last = slot == space.slots
            yield (f"cell{cell}_slot{slot}", scaled(channels, width), stride if last else 1, 1 if last else dilation,
                   side)
        side = -(-side // stride)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def count_flops(module: nn.Module, shape: tuple[int, ...]) -> int:
    """Floating-point operations (2 × multiply–accumulate) of the convolutions and matrix products of one forward.

    Counted on the `meta` device: nothing is computed. `shape` is the input's N×C×H×W.
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module.to("meta")(torch.empty(shape, device="meta"))
    return counter.get_total_flops()


def measure_latency(module: nn.Module, shape: tuple[int, ...], repeats: int = 5) -> float:
    """Median milliseconds of a forward in eval mode on this machine, after one warm-up."""
    module = module.eval()
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    x = torch.zeros(shape, device=device)
    times = []

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    with torch.inference_mode():
        for _ in range(repeats + 1):
            wait()
            start = time.perf_counter()
            module(x)
            wait()
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])
