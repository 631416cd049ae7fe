"""Architectures trained alone, alike and from scratch: what inherited scores and search results are compared with."""

import math
import time
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.nn.functional import binary_cross_entropy_with_logits

from configs.errors import UserError
from configs.files import read_rows, write_rows
from configs.progress import Progress
from configs.schema import Alone, RankStudy, RunConfig
from configs.streams import stream, torch_seed
from forgeries.dataset import ForgeryDataset, Recipe, make_loader
from forgeries.photos import PhotoSet
from search.network import alone_network
from search.samplers import random_samples
from search.scoring import Batches, score_maps
from search.strategy import SearchContext
from search_space.genotype import Genotype

JOB = ("role", "genotype", "seed", "steps", "batch_size", "learning_rate")
ROWS = (*JOB, "auc", "f1")
"""Nothing that is measured: a run that was killed and resumed writes the same."""

TIMES = (*JOB, "seconds")


def train_alone(config: RunConfig, settings: Alone, genotype: Genotype, seed: int, photos: PhotoSet, fabric: Fabric,
                validation: Batches) -> np.ndarray:
    """AUC and F1, P×2, on `validation` of the genotype's own network, trained with Adam from the weights of `seed`.

    The rate warms up over a tenth of the steps, then falls to 0 as a cosine: over the last steps the weights hardly
    move, so that running batch-norm statistics are those of the final ones. All genotypes see the same pictures in the
    same order.

    Raises:
        UserError: training diverges.
    """
    torch.manual_seed(torch_seed(config.seed, "alone", seed))
    network = alone_network(genotype, config.space.width, config.search.streams).to(fabric.device)
    adam = torch.optim.Adam(network.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, partial(share_of_rate, steps=settings.steps))
    optimizer: Any = fabric.setup_optimizers(adam)
    dataset = ForgeryDataset(photos.train, Recipe.of(config), config.seed, f"alone-{seed}",
                             settings.steps * settings.batch_size)
    key = f"search.{'rank_study' if isinstance(settings, RankStudy) else 'check'}.learning_rate"
    network.train()
    for step, (images, masks) in enumerate(make_loader(dataset, settings.batch_size, config.forgeries.workers)):
        with fabric.autocast():
            loss = binary_cross_entropy_with_logits(network.logits(images.to(fabric.device)), masks.to(fabric.device))
        if not math.isfinite(loss.item()):
            raise UserError(f"{genotype}, trained alone: the loss became {loss.item()} at step {step}; lower {key} and "
                            "add --resume")
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.inference_mode():
        return np.concatenate([score_maps(network.logits(images), masks, str(genotype))
                               for images, masks in validation])


def share_of_rate(step: int, steps: int) -> float:
    """Share of the learning rate at a step, counted from 0, of `steps`: it rises to 1 over the first tenth, at least
    one step, and falls to 0 after the last as a cosine."""
    warm = max(1, steps // 10)
    return (step + 1) / warm if step < warm else (1 + math.cos(math.pi * (step + 1 - warm) / (steps + 1 - warm))) / 2


def train_all(config: RunConfig, settings: Alone, roles: Sequence[tuple[str, Genotype]], seeds: int, photos: PhotoSet,
              fabric: Fabric, validation: Batches, path: Path, title: str) -> list[dict[str, str]]:
    """Trains each genotype with each seed, from 0; returns a row for each.

    Each is written to `path` as soon as it is there, and those that stand there are not trained again; seed by seed, so
    that what was finished before a kill compares all genotypes. How long it took stands in a file beside it, see
    `spent_seconds`.
    """
    rows, times = read_rows(path), read_rows(_times(path))
    done = {_key(row): row for row in rows}
    setting = {"steps": str(settings.steps), "batch_size": str(settings.batch_size),
               "learning_rate": str(settings.learning_rate)}
    jobs = [({"role": role, "genotype": str(genotype), "seed": str(seed), **setting}, genotype, seed)
            for seed in range(seeds) for role, genotype in roles]
    with Progress(title, len(jobs), sum(_key(job) in done for job, _, _ in jobs), unit="network") as progress:
        for job, genotype, seed in jobs:
            if _key(job) in done:
                continue
            started = time.monotonic()
            values = np.nanmean(train_alone(config, settings, genotype, seed, photos, fabric, validation), 0)
            row = {**job, "auc": f"{values[0]:.9g}", "f1": f"{values[1]:.9g}"}
            done[_key(job)] = row
            rows.append(row)
            times.append({**job, "seconds": f"{time.monotonic() - started:.2f}"})
            write_rows(_times(path), TIMES, times)
            write_rows(path, ROWS, rows)
            progress.update(auc=f"{values[0]:.3f}")
    return [done[_key(job)] for job, _, _ in jobs]


def spent_seconds(path: Path) -> float:
    """Device-seconds of all that `train_all` trained for `path`, also before a kill."""
    return sum(float(row["seconds"]) for row in read_rows(_times(path)))


def random_rivals(context: SearchContext, count: int, besides: Collection[Genotype] = ()) -> list[Genotype]:
    """At most `count` distinct genotypes within the limits, drawn uniformly, none of `besides`: what a search result is
    compared with."""
    return random_samples(context, stream(context.seed, "rivals"), count, set(map(str, besides)))


def _times(path: Path) -> Path:
    return path.with_name(f"{path.stem}_seconds.csv")


def _key(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in JOB)
