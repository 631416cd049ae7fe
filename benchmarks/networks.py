"""Time and memory of the networks against `benchmarks/plain.py`: same weights, same pictures, one run.

    python benchmarks/networks.py [WORK…] [--repeat N] [--device cuda]

Time: the two take turns in one process; the median of each and their ratio. Memory: each in a process of its own, the
peak above what that process held before (on a CPU resident memory, on a GPU what torch allocated). Limit: the
operations of this project's computation over the rate of large matrix products, measured between the turns.
With --device cuda also bfloat16 and compiled, and pictures per second.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks import plain
from detectors import create_detector
from detectors.blocks import GlobalAttention
from detectors.mantranet import LEAST_ROWS

Compute = Callable[[], Tensor]


@dataclass(frozen=True)
class Work:
    """A computation twice, plain (None where memory would not do) and this project's, and what it must reach."""

    plain: Compute | None
    ours: Compute
    target: str


def alike(side: int, device: str) -> Tensor:
    """Features 1×256×side×side so alike that T reaches its maximum."""
    torch.manual_seed(0)
    return (torch.randn(1, 256, 1, 1) + 0.3 * torch.randn(1, 256, side, side)).to(device)


def attention(side: int, device: str, target: str, with_plain: bool = True) -> Work:
    """Global attention on the features of a picture of (8·side)²."""
    x, module = alike(side, device), GlobalAttention()
    return Work((lambda: plain.global_attention(x)) if with_plain else None, lambda: module(x), target)


def network(name: str, device: str, target: str) -> Work:
    """A whole network on a picture of 512²."""
    torch.manual_seed(0)
    module = create_detector(name).to(device)
    images = torch.rand(1, 3, 512, 512, device=device)
    if name == "iid-net":
        # Statistics of the input, so that the features of random weights are neither nothing nor huge.
        with torch.no_grad():
            module(images)
    module.eval()
    baseline = plain.iid_net if name == "iid-net" else plain.mantranet
    return Work(lambda: baseline(module, images), lambda: module(images), target)


def part(name: str, device: str, target: str) -> Work:
    """ManTraNet's trace extractor or anomaly detector alone, on a picture of 512²."""
    torch.manual_seed(0)
    module = create_detector("mantranet").to(device).eval()
    images = torch.rand(1, 3, 512, 512, device=device) * 2 - 1
    if name == "traces":
        return Work(lambda: plain.traces(module.traces, images), lambda: module.traces(images), target)
    with torch.no_grad():
        features = module.traces(images)
    detector = module.anomalies
    # Strips of features, as the trace extractor gives them.
    return Work(lambda: plain.anomalies(detector, features),
                lambda: detector.compare(detector.adapt(features.split(LEAST_ROWS, 2), images.shape)), target)


WORKS: dict[str, Callable[[str], Work]] = {
    "attention-1024": lambda device: attention(128, device, "5x faster, 1/10 of the memory"),
    "attention-2048": lambda device: attention(256, device, "under 2 GB", with_plain=False),
    "iid-net-512": lambda device: network("iid-net", device, "1.8x faster, no more memory"),
    "mantranet-traces-512": lambda device: part("traces", device, ""),
    "mantranet-anomalies-512": lambda device: part("anomalies", device, "6x faster"),
    "mantranet-512": lambda device: network("mantranet", device, "2x faster, 1/2 of the memory"),
}


def seconds(compute: Compute, device: str) -> float:
    """Of one call."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    compute()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def matmul_rate(device: str, side: int = 3072) -> float:
    """FLOP/s of a product of square matrices."""
    a, b = torch.rand(2, side, side, device=device)
    return 2 * side**3 / seconds(lambda: a @ b, device)


def differences(ours: Tensor, theirs: Tensor) -> dict[str, float]:
    """Largest difference, and the share of positions that differ at all visibly.

    Attention ranks similarities: where the last that takes part and the first that does not are equal to rounding,
    the two formulations may choose differently.
    """
    gap = (ours - theirs).abs().amax(1)
    return {"largest": gap.max().item(), "share_above_1e-4": (gap > 1e-4).double().mean().item()}


def time_work(name: str, repeat: int, device: str) -> dict[str, object]:
    """Median seconds of both, in turns, with the matrix-product rate of the same minutes."""
    work = WORKS[name](device)
    with FlopCounterMode(display=False) as counter:
        ours = work.ours()
    found: dict[str, object] = {"target": work.target, "flop": counter.get_total_flops()}
    if work.plain:
        found |= differences(ours, work.plain())
    times: dict[str, list[float]] = {"plain": [], "ours": [], "rate": []}
    for _ in range(repeat):
        times["rate"] += [matmul_rate(device) for _ in range(3)]
        times["ours"].append(seconds(work.ours, device))
        if work.plain:
            times["plain"].append(seconds(work.plain, device))
    found |= {key: statistics.median(values) for key, values in times.items() if values}
    found["rate"] = max(times["rate"])
    if device == "cuda":
        found |= accelerated(work, repeat)
    return found


def accelerated(work: Work, repeat: int) -> dict[str, float]:
    """Seconds in bfloat16, and in bfloat16 compiled."""
    def half() -> Tensor:
        with torch.autocast("cuda", torch.bfloat16):
            return work.ours()

    compiled, found = torch.compile(half), {}
    for name, compute in (("bf16", half), ("bf16_compiled", compiled)):
        for _ in range(3):
            compute()
        found[name] = statistics.median(seconds(compute, "cuda") for _ in range(repeat))
    return found


def peak_memory(name: str, which: str, device: str) -> int:
    """Bytes above what was held before one call; in a fresh process."""
    work = WORKS[name](device)
    compute = work.plain if which == "plain" else work.ours
    assert compute is not None
    # What a process loads at its first operations is not of this computation.
    torch.nn.functional.conv2d(torch.rand(1, 8, 32, 32, device=device), torch.rand(8, 8, 3, 3, device=device))
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        compute()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = status("VmRSS")
    compute()
    return status("VmHWM") - before


def status(key: str) -> int:
    """Bytes, from this process's status (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])


def measure(name: str, repeat: int, device: str) -> dict[str, object]:
    """All figures of one work, from processes of their own."""
    def child(*arguments: str) -> dict[str, object]:
        command = [sys.executable, __file__, name, "--device", device, "--repeat", str(repeat), *arguments]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    found = child("--child", "time")
    for which in ("plain", "ours"):
        if which in found:
            found[f"{which}_memory"] = child("--child", which)["bytes"]
    return found


def line(name: str, found: dict[str, object]) -> str:
    """For people."""
    f = {key: value for key, value in found.items() if isinstance(value, int | float)}
    limit = f["flop"] / f["rate"]
    parts = [f"{name:24}"]
    if "plain" in f:
        parts += [f"{f['plain']:8.3f} s {f['ours']:8.3f} s  {f['plain'] / f['ours']:5.1f}x",
                  f"{f['plain_memory'] / 1e6:7.0f} MB {f['ours_memory'] / 1e6:6.0f} MB"
                  f"  {f['ours_memory'] / f['plain_memory']:5.2f}"]
    else:
        parts += [f"{'':10} {f['ours']:8.3f} s {'':6} ", f"{'':10} {f['ours_memory'] / 1e6:6.0f} MB {'':6}"]
    parts.append(f"{limit:7.3f} s  {f['ours'] / limit:4.1f}x  ({f['rate'] / 1e9:.0f} GFLOP/s)")
    if "largest" in f:
        parts.append(f"{f['largest']:.0e} ({100 * f['share_above_1e-4']:.3g} %)")
    text = "  ".join(parts) + f"  {found['target']}"
    if "bf16" in f:
        text += (f"\n{'':24}  bf16 {f['bf16']:.4f} s, compiled {f['bf16_compiled']:.4f} s = "
                 f"{1 / f['bf16_compiled']:.1f}/s; float32 {1 / f['ours']:.1f}/s")
    return text


def main() -> None:
    """Prints a table, a line as each work is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {', '.join(WORKS)}; default all")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--child", choices=["time", "plain", "ours"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    unknown = set(given.works) - set(WORKS)
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(WORKS)}")
    with torch.inference_mode():
        if given.child == "time":
            print(json.dumps(time_work(given.works[0], given.repeat, given.device)))
            return
        if given.child:
            print(json.dumps({"bytes": peak_memory(given.works[0], given.child, given.device)}))
            return
    print(f"{'work':24}  {'plain':>10} {'ours':>10}  faster  {'plain':>10} {'ours':>9}  share    limit  above it"
          f"                difference (share > 1e-4)  target")
    for name in given.works or WORKS:
        print(line(name, measure(name, given.repeat, given.device)), flush=True)


if __name__ == "__main__":
    main()
