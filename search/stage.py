"""The search stage: photographs and a configuration in, `search/genotype.yaml` and `candidates.csv` out."""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch.utils.tensorboard import SummaryWriter

from configs.engine import Checkpointer, check_finite, git_revision, make_fabric, versions
from configs.errors import UserError
from configs.files import read_rows, write_atomic, write_rows
from configs.progress import Progress
from configs.schema import RunConfig
from configs.streams import torch_seed
from forgeries.dataset import ForgeryDataset, Recipe, make_loader
from forgeries.methods import method_names
from forgeries.photos import PhotoSet
from search import STRATEGIES
from search.network import SearchNetwork
from search.scoring import Batches, score
from search.strategy import SearchContext, Strategy
from search_space.cells import STEM_CHANNELS, build_extraction, scaled
from search_space.cost import count_flops, count_parameters, measure_latency
from search_space.genotype import Genotype, SpaceShape, write_genotype

HISTORY = ("epoch", "train_loss", "val_auc")
CANDIDATES = ("index", "genotype", "auc", "params", "flops", "latency_ms")
PROBES = 4
"""Proposals whose mean score makes the curve over epochs."""


def make_strategy(name: str) -> Strategy:
    """A strategy by its name in `STRATEGIES`."""
    module, cls = STRATEGIES[name][0].split(":")
    return getattr(importlib.import_module(module), cls)()


def run_search(config: RunConfig, folder: Path, photos: PhotoSet) -> Genotype:
    """Runs, or continues, the search of `config` in the run folder `folder`; returns the genotype found.

    Writes `search/genotype.yaml`, `candidates.csv`, `history.csv` and `supernet.safetensors`.
    """
    out, settings, space = folder / "search", config.search, SpaceShape.of(config.space)
    fabric = make_fabric(config)
    torch.manual_seed(torch_seed(config.seed, "supernet"))
    network = SearchNetwork(space, config.space.width, settings.streams).to(fabric.device)
    strategy = make_strategy(settings.strategy)
    strategy.set_up(SearchContext(fabric, network, space, settings, config.seed))
    validation, recalibration = _scoring_batches(config, photos, fabric.device)
    with SummaryWriter(str(folder / "tensorboard" / "search")) as board:
        _train(config, out, photos, network, strategy, validation, recalibration, board)
        rows = _score_candidates(config, out, network, strategy, validation, recalibration, board)
    best = max(rows, key=lambda row: float(row["auc"])) if strategy.chooses_best else rows[0]
    genotype = replace(Genotype.parse(best["genotype"], space), provenance={
        "strategy": settings.strategy, "seed": config.seed, "score": float(best["auc"]),
        "metric": "mean per-image AUC on validation photographs, inherited weights",
        "width": config.space.width, "candidates_scored": len(rows),
        "pictures_seen": settings.epochs * settings.steps * settings.batch_size * (1 + strategy.uses_validation),
        "methods": method_names(config.forgeries.methods), "photos_train": [photo.name for photo in photos.train][:50],
        "photos_val": [photo.name for photo in photos.val][:50], "versions": versions(),
        "git_revision": git_revision()})
    state = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomic(out / "supernet.safetensors", save(state))
    write_genotype(out / "genotype.yaml", genotype)
    Checkpointer(out / "checkpoint.pt", 0).remove()
    return genotype


def _scoring_batches(config: RunConfig, photos: PhotoSet, device: torch.device) -> tuple[Batches, Batches]:
    recipe, settings = Recipe.of(config), config.search

    def batches(dataset: ForgeryDataset) -> Batches:
        loader = make_loader(dataset, settings.batch_size, config.forgeries.workers)
        return [(images.to(device), masks.to(device)) for images, masks in loader]

    validation = ForgeryDataset(photos.val, recipe, config.seed, "search-score", settings.validation_images,
                                balanced=True, flip=False)
    count = settings.recalibration_batches * settings.batch_size
    if not count:
        return batches(validation), []
    return batches(validation), batches(
        ForgeryDataset(photos.train, recipe, config.seed, "recalibrate", count))


def _train(config: RunConfig, out: Path, photos: PhotoSet, network: SearchNetwork, strategy: Strategy,
           validation: Batches, recalibration: Batches, board: SummaryWriter) -> None:
    settings, recipe = config.search, Recipe.of(config)
    total, size = settings.epochs * settings.steps, settings.batch_size
    checkpointer = Checkpointer(out / "checkpoint.pt", config.checkpoint_seconds)
    done, losses, history = 0, [], []
    if state := checkpointer.load():
        network.load_state_dict(state["network"])
        strategy.load_state_dict(state["strategy"])
        done, losses, history = state["step"], state["losses"], state["history"]

    def batches(stream_name: str, source: Sequence[Any]) -> Any:
        dataset = ForgeryDataset(source, recipe, config.seed, stream_name, settings.steps * size, settings.epochs)
        return iter(make_loader(dataset, size, config.forgeries.workers, start=done * size))

    def save_state(step: int) -> None:
        checkpointer.save({"network": network.state_dict(), "strategy": strategy.state_dict(), "step": step,
                           "losses": losses, "history": history})

    if done < total:
        device = next(network.parameters()).device
        train = batches("search-train", photos.train)
        held_out = batches("search-architecture", photos.val) if strategy.uses_validation else None
        network.train()
        with Progress(f"search ({settings.strategy})", total, done) as progress:
            for step, (images, masks) in enumerate(islice(train, total - done), done):
                other = None
                if held_out is not None:
                    other_images, other_masks = next(held_out)
                    other = other_images.to(device), other_masks.to(device)
                loss = strategy.step(step, (images.to(device), masks.to(device)), other)
                losses.append(check_finite(loss, step, "search.learning_rate"))
                epoch, position = divmod(step + 1, settings.steps)
                if position == 0:
                    strategy.epoch_end(epoch - 1)
                    probes = [score(network, genotype, validation, recalibration)
                              for genotype in strategy.propose(PROBES)]
                    history.append({"epoch": epoch, "train_loss": f"{sum(losses) / len(losses):.9g}",
                                    "val_auc": f"{sum(probes) / len(probes):.9g}"})
                    losses.clear()
                    for key in HISTORY[1:]:
                        board.add_scalar(f"search/{key}", float(history[-1][key]), epoch)
                if checkpointer.due() or step + 1 == total:
                    save_state(step + 1)
                progress.update(loss=f"{loss:.3f}", auc=f"{float(history[-1]['val_auc']):.3f}" if history else "–")
    write_rows(out / "history.csv", HISTORY, history)


def _score_candidates(config: RunConfig, out: Path, network: SearchNetwork, strategy: Strategy, validation: Batches,
                      recalibration: Batches, board: SummaryWriter) -> list[dict[str, str]]:
    path, settings = out / "candidates.csv", config.search
    rows = read_rows(path)
    proposals = strategy.propose(settings.candidates)
    if [row["genotype"] for row in rows] != [str(genotype) for genotype in proposals[:len(rows)]]:
        raise UserError(f"{path}: holds other candidates than this search proposes; delete it to score anew")
    best = max((float(row["auc"]) for row in rows), default=0.0)
    with Progress("score candidates", len(proposals), len(rows), unit="candidate") as progress:
        for index, genotype in enumerate(proposals[len(rows):], len(rows)):
            value = score(network, genotype, validation, recalibration)
            rows.append({"index": str(index), "genotype": str(genotype), "auc": f"{value:.9g}",
                         **_costs(genotype, config)})
            write_rows(path, CANDIDATES, rows)
            board.add_scalar("search/candidate_auc", value, index)
            best = max(best, value)
            progress.update(best=f"{best:.3f}")
    return rows


def _costs(genotype: Genotype, config: RunConfig) -> dict[str, str]:
    """Parameters, FLOPs and (where asked for) latency of the extraction block on one training picture."""
    width, side = config.space.width, config.forgeries.image_size // 2
    shape = (1, scaled(STEM_CHANNELS, width), side, side)
    block = build_extraction(genotype, width)
    latency = f"{measure_latency(block, shape):.3f}" if config.search.latency else ""
    return {"params": str(count_parameters(block)), "flops": str(count_flops(block, shape)), "latency_ms": latency}
