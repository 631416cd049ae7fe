"""What a network costs: parameters, floating-point operations, latency."""

import statistics
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


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
    device = next(module.parameters()).device
    x = torch.zeros(shape, device=device)
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 1):
            start = time.perf_counter()
            module(x)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])
