"""Speed of training giidnet against a plain loop: pictures per second, and the share of time spent waiting for them.

    python benchmarks/training.py [--width 0.25 1.0] [--side 256] [--batch 8] [--steps N] [--rounds N] [--workers N]
                                  [--methods TE NS …] [--only VARIANT…] [--photos DIR…] [--profile]

Plain: the same network in eager float32, contiguous, its forgeries made in the training process without a cache.
Ours: `giidnet retrain`'s own loop, with loader workers and forgeries painted before (a warm cache), in float32, in
bfloat16, and compiled. Each in a process of its own, in turns; medians over the rounds. Every process takes one epoch
of `--steps` to get warm and is measured over the next.
Photographs: those inside scikit-image, unless --photos. With --profile also where the time of a step goes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parent.parent))

from configs.engine import keep_freed_memory
from configs.schema import RunConfig
from detectors.blocks import median3, pad_to_multiple
from detectors.giidnet import GIIDNet
from forgeries.dataset import ForgeryDataset, Recipe
from forgeries.photos import PhotoSet, find_photos
from retrain.losses import training_loss
from retrain.trainer import pictures_per_epoch, train

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {}, "float32": {}, "bfloat16": {"precision": "bf16-mixed"}, "compiled": {"compile": True},
    "bfloat16 compiled": {"precision": "bf16-mixed", "compile": True}}
EPOCHS = 2
"""The first to get warm."""


class Collector:
    """Takes what training writes to TensorBoard: the last value of each name."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """As `SummaryWriter`."""
        self.values[name.rpartition("/")[2]] = value


def configure(given: argparse.Namespace, width: float, precision: str = "32-true", compile: bool = False) -> RunConfig:
    """The training that is measured."""
    return RunConfig.model_validate({
        "device": "cpu", "precision": precision, "checkpoint_seconds": 1e9,
        "photos": {"dirs": given.photos} if given.photos else {},
        "forgeries": {"methods": given.methods, "image_size": given.side, "workers": given.workers},
        "retrain": {"width": width, "epochs": EPOCHS, "steps": given.steps, "batch_size": given.batch,
                    "validation_images": 1, "pictures": 0, "learning_rate": 1e-4, "compile": compile}})


def contiguous_logits(network: GIIDNet, images: Tensor) -> Tensor:
    """What `network.logits` gives, with all channels of a layer one after the other."""
    height, width = images.shape[-2:]
    x = network.enhancement.enhanced(pad_to_multiple(images * 2 - 1, network.reduction).contiguous())
    x = network.decision(network.extraction(network.enhancement.convs(x)))[..., :height, :width]
    return median3(F.pad(x, (1, 1, 1, 1), mode="replicate"))


def plain(config: RunConfig, photos: PhotoSet) -> dict[str, float]:
    """Pictures per second of a loop as one writes it first, and the share of its time in which forgeries are made."""
    settings, recipe = config.retrain, Recipe.of(config)
    items = ForgeryDataset(photos.train, Recipe(recipe.methods, recipe.masks, recipe.mask_fraction, recipe.image_size,
                                                recipe.perturbations, recipe.shrink, recipe.mask_weights),
                           config.seed, "train", pictures_per_epoch(settings), EPOCHS)
    network = GIIDNet(width=settings.width)
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
    for epoch in range(EPOCHS):
        started, waited = time.perf_counter(), 0.0
        for step in range(epoch * settings.steps, (epoch + 1) * settings.steps):
            asked = time.perf_counter()
            batch = [items[i] for i in range(step * settings.batch_size, (step + 1) * settings.batch_size)]
            images, masks = (torch.stack(each) for each in zip(*batch, strict=True))
            waited += time.perf_counter() - asked
            loss = training_loss(contiguous_logits(network, images), masks)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            loss.item()
        spent = time.perf_counter() - started
    return {"pictures_per_second": settings.steps * settings.batch_size / spent, "waiting": waited / spent}


def ours(config: RunConfig, photos: PhotoSet) -> dict[str, float]:
    """The same of the project's training."""
    board = Collector()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        train("giidnet", GIIDNet(width=config.retrain.width), config, photos, Path(folder), board)  # type: ignore[arg-type]
    return {name: board.values[name] for name in ("pictures_per_second", "waiting")}


def fill_cache(config: RunConfig, photos: PhotoSet) -> None:
    """Paints all forgeries of the training once, so that the cache has them."""
    items = ForgeryDataset(photos.train, Recipe.of(config), config.seed, "train", pictures_per_epoch(config.retrain),
                           EPOCHS)
    for i in range(len(items)):
        items[i]


def time_of_operations(config: RunConfig) -> str:
    """Where the time of a warm step goes, by operation."""
    keep_freed_memory()
    side = config.forgeries.image_size
    network, images = GIIDNet(width=config.retrain.width), torch.rand(config.retrain.batch_size, 3, side, side)
    masks = (torch.rand(len(images), 1, side, side) < 0.2).float()
    for _ in range(2):
        network.zero_grad()
        with profile(activities=[ProfilerActivity.CPU]) as found:
            training_loss(network.logits(images), masks).backward()
    return found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40)


def child(given: argparse.Namespace, width: float, variant: str) -> dict[str, float]:
    """Figures of one variant, from a process of its own."""
    command = [sys.executable, __file__, "--child", variant, "--width", str(width)]
    for name in ("side", "batch", "steps", "workers", "methods", "photos"):
        values = getattr(given, name)
        command += [f"--{name}", *map(str, values)] if isinstance(values, list) and values else \
            [f"--{name}", str(values)] if values else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints a line for each width and variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", nargs="+", type=float, default=[0.25, 1.0])
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--methods", nargs="+", default=["TE", "NS", "PM"])
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS)[1:], default=list(VARIANTS)[1:])
    parser.add_argument("--photos", nargs="+", default=[])
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--child", choices=list(VARIANTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        config = configure(given, given.width[0], **VARIANTS[given.child])
        photos = find_photos(config.photos, given.side)
        print(json.dumps((plain if given.child == "plain" else ours)(config, photos)))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GIIDNET_CACHE"] = folder
        config = configure(given, given.width[0])
        fill_cache(config, find_photos(config.photos, given.side))
        print(f"{given.batch} pictures of {given.side}² in a step, {torch.get_num_threads()} threads, {given.workers} "
              f"loader workers, torch {torch.__version__}")
        print(f"{'width':>6} {'variant':18} {'pictures/s':>10} {'faster':>7} {'waiting':>8}")
        for width in given.width:
            found = {variant: [] for variant in ("plain", *given.only)}
            for _ in range(given.rounds):
                for variant in found:
                    found[variant].append(child(given, width, variant))
            for variant, rounds in found.items():
                rate, waiting = (statistics.median(each[name] for each in rounds)
                                 for name in ("pictures_per_second", "waiting"))
                # Of the turn of each round, so that what else the machine does counts in both.
                faster = statistics.median(each["pictures_per_second"] / base["pictures_per_second"]
                                           for each, base in zip(rounds, found["plain"], strict=True))
                print(f"{width:6g} {variant:18} {rate:10.2f} {faster:6.2f}× {waiting:7.1%}", flush=True)
            if given.profile:
                print(time_of_operations(configure(given, width)))


if __name__ == "__main__":
    main()
