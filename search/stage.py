"""The search stage: photographs and a configuration in, `search/genotype.yaml` and `candidates.csv` out."""

import importlib
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import distributed
from torch.utils.tensorboard import SummaryWriter

from configs.engine import (
    Checkpointer,
    check_finite,
    check_shares,
    check_weights,
    git_revision,
    make_fabric,
    versions,
)
from configs.errors import UserError
from configs.files import make_folder, read_rows, write_atomic, write_json, write_rows
from configs.processes import apart, join_norms
from configs.progress import Progress
from configs.schema import RunConfig
from configs.streams import stream, torch_seed
from forgeries.dataset import ForgeryDataset, Recipe, make_loader
from forgeries.methods import method_names
from forgeries.photos import PhotoSet
from search import SCORES, STRATEGIES, remove_leftovers
from search.alone import ROWS, random_rivals, spent_seconds, train_all
from search.costs import costs_of_run
from search.network import SearchNetwork
from search.samplers import price, random_samples
from search.scoring import Batches, ScoringData, Unit, race, score_unit
from search.strategy import Scored, SearchContext, Strategy
from search.units import Finished, Store, evaluate_here, fingerprint
from search_space.cost import Cost
from search_space.genotype import Genotype, SpaceShape, write_genotype

HISTORY = ("epoch", "train_loss", "val_auc", "best_auc")
CANDIDATES = ("index", "genotype", "score", "auc", "f1", "pictures", "exact", "params", "flops", "latency_ms")
RANKING = ("epoch", "genotype", "auc")
ARCHITECTURE = ("epoch", "label", "option", "weight")

@dataclass
class Meter:
    """What the search has cost, also before it was interrupted; `search/cost.json`."""

    train_seconds: float = 0.0
    train_pictures: int = 0
    score_seconds: float = 0.0
    score_pictures: int = 0
    check_seconds: float = 0.0
    check_pictures: int = 0


def make_strategy(name: str) -> Strategy:
    """A strategy by its name in `STRATEGIES`."""
    module, cls, *arguments = STRATEGIES[name][0].split(":")
    return getattr(importlib.import_module(module), cls)(*arguments)


def run_search(config: RunConfig, folder: Path, photos: PhotoSet) -> Genotype | None:
    """Runs, or continues, the search of `config` in the run folder `folder`; returns the genotype found.

    Writes `search/genotype.yaml`, `candidates.csv`, `history.csv`, `ranking.csv`, `supernet.safetensors`,
    `alone.csv`, `cost.json`, for differentiable strategies `architecture.csv`, with latencies `costs.json`. Of several
    processes the first alone writes; the others take part in the training, then score with it where there is a storage,
    and return None.

    Raises:
        UserError: see `open_storage`; the processes do not divide a batch; training diverges.
    """
    out, settings, space = folder / "search", config.search, SpaceShape.of(config.space)
    check_shares("search", settings.batch_size)
    fabric = make_fabric(config)
    storage = None
    if settings.storage and fabric.is_global_zero:
        from configs.storage import open_storage
        storage = open_storage(settings.storage, make_folder(folder))
    network = make_network(config, fabric.device)
    data = scoring_data(config, photos, fabric.device)
    compute = scorer(config, network, data)

    def evaluate_one(genotype: Genotype) -> np.ndarray:
        # By each process, to the same end, rather than by one for which the others wait.
        with apart(network):
            return compute(Unit((str(genotype),), 0, len(data.validation), len(data.recalibration)))[0]

    costs = costs_of_run(config, out / "costs.json", fabric.device) if fabric.is_global_zero else None
    if fabric.world_size > 1:
        # Measured latencies differ, and limits on them must not.
        costs = fabric.broadcast(costs)
    assert costs is not None
    context = SearchContext(fabric, network, space, settings, config.seed, costs, evaluate_one)
    strategy = make_strategy(settings.strategy)
    if fabric.world_size > 1:
        join_norms(network)
    strategy.set_up(context)
    board = SummaryWriter(str(folder / "tensorboard" / "search")) if fabric.is_global_zero else None
    meter = _train(config, out, photos, context, strategy, board)
    if fabric.world_size > 1:
        distributed.destroy_process_group()
    if board is None:
        if settings.storage:
            assist(config, folder, photos, fabric.device)
        return None
    with board, apart(network):
        mark = fingerprint(out / "supernet.safetensors", data)
        offers = None
        if storage:
            from search.workers import Offers, draw_token, evaluate_shared
            offers = Offers.open(storage, f"{config.name}-{mark}-{draw_token(folder)}")
            offers.set_finished(False)
        store = Store.open(out / SCORES, mark)

        def evaluate(units: Sequence[Unit], finished: Finished) -> list[np.ndarray]:
            return evaluate_shared(units, store, compute, finished, offers) if offers \
                else evaluate_here(units, store, compute, finished)

        history = _score_candidates(config, out, context, strategy, data, evaluate, board)
        if offers:
            # All scores are here; workers also go when these are deleted.
            with suppress(UserError):
                offers.set_finished(True)
        meter.score_seconds, meter.score_pictures = store.cost()
    best = strategy.choose(history)
    genotype = replace(best.genotype, provenance={
        "strategy": settings.strategy, "seed": config.seed, "score": best.score, "auc": best.auc,
        "metric": f"mean per-image {settings.objective.metric.upper()} on validation photographs, inherited weights",
        "width": config.space.width, "candidates_scored": len(history),
        "pictures_seen": meter.train_pictures,
        "methods": method_names(config.forgeries.methods), "methods_scored": scored_methods(config),
        "photos_train": [photo.name for photo in photos.train][:50],
        "photos_val": [photo.name for photo in photos.val][:50], "versions": versions(),
        "git_revision": git_revision()})
    _check(config, out, photos, context, genotype, meter)
    write_genotype(out / "genotype.yaml", genotype)
    remove_leftovers(folder)
    return genotype


def assist(config: RunConfig, folder: Path, photos: PhotoSet, device: torch.device | str) -> None:
    """Scores candidates for the search that runs in `folder`, from the end of its training to that of its scoring.

    Raises:
        UserError: the search has no storage, or other pictures come out here than there.
    """
    from configs.storage import open_storage
    from search.workers import Offers, read_token, work
    out, settings = folder / "search", config.search
    if settings.storage is None:
        raise UserError(f"{folder}: its search shares nothing; start it with search.storage=journal:scores.log or "
                        "another storage")
    storage = open_storage(settings.storage, folder)
    found = _wait_for_scoring(out)
    if found is None:
        return
    network = make_network(config, device)
    network.load_state_dict(load((out / "supernet.safetensors").read_bytes()))
    data = scoring_data(config, photos, device)
    mark = fingerprint(out / "supernet.safetensors", data)
    if mark != found and (out / SCORES / found).exists():
        raise UserError(f"{folder}: other validation pictures come out here than in the search; a worker needs the "
                        "same photographs and the same versions of the packages")
    store = Store(out / SCORES / mark)
    offers = Offers.open(storage, f"{config.name}-{mark}-{read_token(folder)}")
    count = work(store, scorer(config, network, data), offers)
    print(f"worker: {count} units scored; the search needs no more", file=sys.stderr, flush=True)


def _wait_for_scoring(out: Path) -> str | None:
    """The fingerprint of what is scored once that has begun; None when all is finished."""
    told = False
    while not (out / "genotype.yaml").exists():
        if found := sorted((out / SCORES).glob("*")):
            return found[0].name
        if not told:
            print(f"waiting for the training of the search in {out.parent}", file=sys.stderr, flush=True)
            told = True
        time.sleep(0.5)
    return None


def make_network(config: RunConfig, device: torch.device | str) -> SearchNetwork:
    """The search network with the initial weights of the run's seed."""
    torch.manual_seed(torch_seed(config.seed, "supernet"))
    return SearchNetwork(SpaceShape.of(config.space), config.space.width, config.search.streams).to(device)


def scorer(config: RunConfig, network: SearchNetwork, data: ScoringData) -> Callable[[Unit], np.ndarray]:
    """`score_unit` with the network's present weights."""
    memory = config.search.prefix_megabytes * 2**20
    return lambda unit: score_unit(network, unit, data, memory)


def objective_methods(config: RunConfig) -> list[str]:
    """Methods that candidates are scored on, and that architecture weights are trained by."""
    return config.search.objective.methods or list(config.forgeries.methods)


def scored_methods(config: RunConfig) -> list[str]:
    """Names of `objective_methods`."""
    return method_names(objective_methods(config))


def scoring_data(config: RunConfig, photos: PhotoSet, device: torch.device | str) -> ScoringData:
    """Validation forgeries, of each method of the objective as many, and training ones for batch-norm statistics."""
    settings, recipe = config.search, Recipe.of(config)
    count = settings.recalibration_batches * settings.batch_size
    recalibration = _batches(ForgeryDataset(photos.train, recipe, config.seed, "recalibrate", count), config,
                             device) if count else []
    return ScoringData(validation_batches(config, photos, device, "search-score"), recalibration)


def validation_batches(config: RunConfig, photos: PhotoSet, device: torch.device | str, stream_name: str) -> Batches:
    """`search.validation_images` forgeries of validation photographs; the methods of the objective take turns, on the
    same photographs, crops and masks."""
    settings = config.search
    return _batches(ForgeryDataset(photos.val, Recipe.of(config), config.seed, stream_name, settings.validation_images,
                                   balanced=True, flip=False, turns=objective_methods(config)), config, device)


def _batches(dataset: ForgeryDataset, config: RunConfig, device: torch.device | str) -> Batches:
    loader = make_loader(dataset, config.search.batch_size, config.forgeries.workers)
    return [(images.to(device), masks.to(device)) for images, masks in loader]


def _train(config: RunConfig, out: Path, photos: PhotoSet, context: SearchContext, strategy: Strategy,
           board: SummaryWriter | None) -> Meter:
    settings, recipe, network, fabric = config.search, Recipe.of(config), context.network, context.fabric
    total, size = settings.epochs * settings.steps, settings.batch_size
    checkpointer = Checkpointer(out / "checkpoint.pt", config.checkpoint_seconds)
    meter, done, losses, history, ranking, weights = Meter(), 0, [], [], [], []
    probes = random_samples(context, stream(config.seed, "probes"), settings.probes)
    if state := checkpointer.load():
        network.load_state_dict(state["network"])
        strategy.load_state_dict(state["strategy"])
        done, losses, history = state["step"], state["losses"], state["history"]
        ranking, weights, meter = state["ranking"], state["weights"], Meter(**state["meter"])

    def batches(stream_name: str, source: Sequence[Any], recipe: Recipe) -> Any:
        dataset = ForgeryDataset(source, recipe, config.seed, stream_name, settings.steps * size, settings.epochs)
        return iter(make_loader(dataset, size, config.forgeries.workers, done * size, fabric.global_rank,
                                fabric.world_size))

    def save_state(step: int) -> None:
        check_weights(network.state_dict(), step - 1, "search.learning_rate")
        checkpointer.save({"network": network.state_dict(), "strategy": strategy.state_dict(), "step": step,
                           "losses": losses, "history": history, "ranking": ranking, "weights": weights,
                           "meter": vars(meter)})

    if done < total:
        device = context.fabric.device
        train = batches("search-train", photos.train, recipe)
        scored = replace(recipe, methods=tuple(objective_methods(config)), method_weights=None)
        held_out = batches("search-architecture", photos.val, scored) if strategy.uses_validation else None
        network.train()
        started = time.monotonic()
        with Progress(f"search ({settings.strategy})", total, done) as progress:
            for step, (images, masks) in enumerate(islice(train, total - done), done):
                other = None
                if held_out is not None:
                    other_images, other_masks = next(held_out)
                    other = other_images.to(device), other_masks.to(device)
                loss = strategy.step(step, (images.to(device), masks.to(device)), other)
                losses.append(check_finite(loss, step, "search.learning_rate"))
                meter.train_pictures += size * (1 + strategy.uses_validation)
                epoch, position = divmod(step + 1, settings.steps)
                ended = position == 0 and strategy.epoch_end(epoch - 1)
                if position == 0:
                    scores = [float(np.nanmean(context.evaluate(genotype)[:, 0])) for genotype in probes] \
                        if strategy.shares_weights else []
                    ranking += [{"epoch": epoch, "genotype": str(genotype), "auc": f"{score:.9g}"}
                                for genotype, score in zip(probes, scores, strict=False)]
                    weights += [{"epoch": epoch, "label": label, "option": option, "weight": f"{weight:.6g}"}
                                for label, strengths in (strategy.architecture() or {}).items()
                                for option, weight in zip(context.space.options()[label], strengths, strict=True)]
                    history.append({"epoch": epoch, "train_loss": f"{sum(losses) / len(losses):.9g}",
                                    "val_auc": f"{np.mean(scores):.9g}" if scores else "",
                                    "best_auc": f"{max(scores):.9g}" if scores else ""})
                    losses.clear()
                    for key in HISTORY[1:]:
                        if board and history[-1][key]:
                            board.add_scalar(f"search/{key}", float(history[-1][key]), epoch)
                now = time.monotonic()
                meter.train_seconds, started = meter.train_seconds + now - started, now
                if board and (ended or checkpointer.due() or step + 1 == total):
                    save_state(total if ended else step + 1)
                figure = history[-1]["best_auc"] if history else ""
                progress.update(loss=f"{loss:.3f}", best=f"{float(figure):.3f}" if figure else "–")
                if ended:
                    break
    if board is None:
        return meter
    write_rows(out / "history.csv", HISTORY, history)
    write_rows(out / "ranking.csv", RANKING, ranking)
    if weights:
        write_rows(out / "architecture.csv", ARCHITECTURE, weights)
    tensors = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomic(out / "supernet.safetensors", save(tensors))
    return meter


def _score_candidates(config: RunConfig, out: Path, context: SearchContext, strategy: Strategy, data: ScoringData,
                      evaluate: Callable[[Sequence[Unit], Finished], list[np.ndarray]], board: SummaryWriter,
                      ) -> list[Scored]:
    """Scores what the strategy proposes, batch by batch, and writes `candidates.csv` after each.

    `evaluate` is told what to do with each unit that is finished.
    """
    path, settings = out / "candidates.csv", config.search
    objective = settings.objective
    largest = price(context.costs.range()[1], objective.cost)

    def value_of(text: str, values: np.ndarray) -> float:
        mean = float(np.nanmean(values[:, int(objective.metric == "f1")]))
        if not objective.cost_weight:
            return mean
        cost = context.costs.of(Genotype.parse(text, context.space))
        return mean - objective.cost_weight * price(cost, objective.cost) / largest

    saved = [_parse(row, context.space) for row in read_rows(path)]
    part, best = 0.0, (0, -np.inf)

    def show(unit: Unit, values: np.ndarray) -> None:
        nonlocal part, best
        # How far a batch is, in candidates (the last one counts when its row is written); the best of those that a
        # race has looked at longest.
        before = int(part)
        part = min(part + len(unit.genotypes) * (unit.stop - unit.start) / len(data.validation), len(proposals) - 1)
        best = max(best, (unit.stop, max(map(value_of, unit.genotypes, values))))
        progress.update(int(part) - before, best=f"{best[1]:.3f}")

    history: list[Scored] = []
    with Progress("score candidates", settings.candidates, 0, unit="candidate") as progress:
        while proposals := strategy.propose(history):
            found = saved[len(history):len(history) + len(proposals)]
            if [scored.genotype for scored in found] != proposals[:len(found)]:
                raise UserError(f"{path}: holds other candidates than this search proposes; delete it to score anew")
            part, best = 0.0, (0, -np.inf)
            if len(found) < len(proposals):
                found = []
                own = {str(genotype): values for genotype in proposals
                       if (values := strategy.own_scores(genotype)) is not None}
                others = [str(genotype) for genotype in proposals if str(genotype) not in own]
                racing = strategy.racing(settings.racing)
                values_of = own | (race(others, data, racing, lambda units: evaluate(units, show), value_of)
                                   if others else {})
                for genotype in proposals:
                    values = values_of[str(genotype)]
                    auc, f1 = map(float, np.nanmean(values, 0))
                    found.append(Scored(genotype, value_of(str(genotype), values), auc, f1, len(values),
                                        len(values) == data.pictures, context.costs.of(genotype)))
                write_rows(path, CANDIDATES, [_row(index, scored) for index, scored in enumerate(history + found)])
                for index, scored in enumerate(found, len(history)):
                    board.add_scalar("search/candidate_score", scored.score, index)
            history += found
            leader = max(history, key=lambda scored: (scored.exact, scored.score))
            progress.update(len(found) - int(part), best=f"{leader.score:.3f}")
    return history


def _row(index: int, scored: Scored) -> dict[str, str]:
    return {"index": str(index), "genotype": str(scored.genotype), "score": f"{scored.score:.17g}",
            "auc": f"{scored.auc:.17g}", "f1": f"{scored.f1:.17g}", "pictures": str(scored.pictures),
            "exact": str(int(scored.exact)), "params": str(scored.cost.params), "flops": str(scored.cost.flops),
            "latency_ms": f"{scored.cost.latency_ms:.17g}" if scored.cost.latency_ms else ""}


def _parse(row: dict[str, str], space: SpaceShape) -> Scored:
    """Inverse of `_row`."""
    cost = Cost(int(row["params"]), int(row["flops"]), float(row["latency_ms"] or 0))
    return Scored(Genotype.parse(row["genotype"], space), float(row["score"]), float(row["auc"]), float(row["f1"]),
                  int(row["pictures"]), row["exact"] == "1", cost)


def _check(config: RunConfig, out: Path, photos: PhotoSet, context: SearchContext, genotype: Genotype,
           meter: Meter) -> None:
    """Trains the result and random genotypes alone, alike; `alone.csv`, and what all has cost, `cost.json`."""
    settings = config.search.check
    if settings.random:
        rivals = random_rivals(context, settings.random, [genotype])
        roles = [("chosen", genotype), *(("random", rival) for rival in rivals)]
        path = out / "alone.csv"
        rows = train_all(config, settings, roles, settings.seeds, photos, context.fabric,
                         validation_batches(config, photos, context.fabric.device, "alone-score"), path,
                         "compare with random")
        # Not those of another budget, where a first one diverged.
        write_rows(path, ROWS, rows)
        meter.check_seconds = spent_seconds(path)
        meter.check_pictures = len(roles) * settings.seeds * settings.steps * settings.batch_size
    write_json(out / "cost.json", {"device": str(context.fabric.device), "processes": context.fabric.world_size,
                                   **{key: round(value, 1) for key, value in vars(meter).items()}})
