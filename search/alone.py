"""Architectures trained alone, alike and from scratch: what inherited scores and search results are compared with."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch.nn.functional import binary_cross_entropy_with_logits

from configs.engine import check_finite
from configs.files import read_rows, write_rows
from configs.progress import Progress
from configs.schema import Alone, RunConfig
from configs.streams import stream, torch_seed
from forgeries.dataset import ForgeryDataset, Recipe, make_loader
from forgeries.photos import PhotoSet
from search.network import AloneNetwork
from search.scoring import Batches, score_maps
from search_space.genotype import Genotype, SpaceShape, random_genotype

ROWS = ("role", "genotype", "seed", "auc", "f1", "seconds")


def train_alone(config: RunConfig, settings: Alone, genotype: Genotype, seed: int, photos: PhotoSet, fabric: Fabric,
                validation: Batches) -> np.ndarray:
    """AUC and F1, P×2, on `validation` of the genotype's own network, trained with Adam and a cosine rate from the
    weights of `seed`; all genotypes see the same pictures in the same order."""
    torch.manual_seed(torch_seed(config.seed, "alone", seed))
    network = AloneNetwork(genotype, config.space.width, config.search.streams).to(fabric.device)
    adam = torch.optim.Adam(network.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, settings.learning_rate, total_steps=settings.steps + 1,
                                                   pct_start=0.1, cycle_momentum=False)
    optimizer: Any = fabric.setup_optimizers(adam)
    dataset = ForgeryDataset(photos.train, Recipe.of(config), config.seed, f"alone-{seed}",
                             settings.steps * settings.batch_size)
    network.train()
    for step, (images, masks) in enumerate(make_loader(dataset, settings.batch_size, config.forgeries.workers)):
        with fabric.autocast():
            loss = binary_cross_entropy_with_logits(network(images.to(fabric.device)), masks.to(fabric.device))
        check_finite(loss.item(), step, "search.*.learning_rate")
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.inference_mode():
        return np.concatenate([score_maps(network(images), masks, str(genotype)) for images, masks in validation])


def train_all(config: RunConfig, settings: Alone, roles: Sequence[tuple[str, Genotype]], seeds: int, photos: PhotoSet,
              fabric: Fabric, validation: Batches, path: Path, title: str) -> list[dict[str, str]]:
    """Trains each genotype with each seed, from 0; writes a row for each to `path`, and keeps those that stand there.

    Seed by seed, so that what was finished before a kill compares all genotypes.
    """
    rows = read_rows(path)
    done = {(row["role"], row["genotype"], row["seed"]) for row in rows}
    jobs = [(role, genotype, seed) for seed in range(seeds) for role, genotype in roles]
    with Progress(title, len(jobs), sum((role, str(genotype), str(seed)) in done for role, genotype, seed in jobs),
                  unit="network") as progress:
        for role, genotype, seed in jobs:
            if (role, str(genotype), str(seed)) in done:
                continue
            started = time.monotonic()
            values = np.nanmean(train_alone(config, settings, genotype, seed, photos, fabric, validation), 0)
            rows.append({"role": role, "genotype": str(genotype), "seed": str(seed), "auc": f"{values[0]:.9g}",
                         "f1": f"{values[1]:.9g}", "seconds": f"{time.monotonic() - started:.1f}"})
            write_rows(path, ROWS, rows)
            progress.update(auc=f"{values[0]:.3f}")
    return rows


def random_rivals(space: SpaceShape, seed: int, count: int) -> list[Genotype]:
    """`count` genotypes drawn uniformly, for the comparison with what a search found."""
    generator = stream(seed, "rivals")
    return [random_genotype(space, generator) for _ in range(count)]
