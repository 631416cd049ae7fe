"""One training run of one network: the same code for every task, the same data and budget for every detector."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.compiler import set_stance
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import Subset
from torch.utils.tensorboard import SummaryWriter

from configs.engine import Checkpointer, check_finite, check_shares, keep_freed_memory, make_fabric
from configs.errors import UserError
from configs.files import write_rows
from configs.processes import by_first, join_norms
from configs.progress import Progress
from configs.schema import Loss, Optimisation, Retrain, RunConfig
from forgeries.dataset import ForgeryDataset, PictureDataset, Recipe, make_loader
from forgeries.photos import PhotoSet
from results.metrics import auc
from retrain.gradients import Batches, Gradients, compile_logits
from retrain.losses import training_loss
from retrain.mining import HardExamples
from retrain.optimisation import at_average, learning_rate, make_optimizer, update_average
from retrain.shown import draw_maps, fixed_forgeries
from retrain.start import freeze

RECALIBRATION = 8
"""Training batches from which batch-norm statistics of averaged weights are taken."""

OnEpoch = Callable[[int, dict[str, float]], None]
"""Told an epoch (from 1) and the figures of its validation; what it raises ends the training, which can be continued
from its checkpoint."""


class Budget(Protocol):
    """How long something is trained."""

    @property
    def epochs(self) -> int: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...


@dataclass(frozen=True)
class Task:
    """What a network is trained for: items (image, target), a loss of (logits, targets), figures on held-out items.

    `score` names the figure by which the best epoch is told, higher being better; None keeps the last one, and then
    there is neither `plateau` nor `patience`. `items` are, per epoch, those of all parts of its steps. `section` is the
    part of the configuration that `budget` is, `rate` what the user sets its learning rate by.
    """

    section: str
    rate: str
    budget: Budget
    items: PictureDataset
    held_out: PictureDataset
    loss: Callable[[Any, Tensor], Tensor]
    validate: Callable[[Any, Batches, torch.device], dict[str, float]]
    score: str | None
    optimisation: Optimisation = field(default_factory=Optimisation)
    hard: HardExamples | None = None
    """Decides what `items` are, where they are to depend on losses."""
    frozen: Sequence[str] = ()
    """Parts of the network that are not trained."""
    show: Callable[[Any, torch.device, int], None] | None = None
    """Logs pictures of the validated network after an epoch."""


@dataclass(frozen=True)
class Trained:
    """State dict of the best epoch by its score, that epoch (from 1), and all figures of its validation; `epochs` were
    trained in all."""

    state: dict[str, Tensor]
    epoch: int
    figures: dict[str, float]
    epochs: int = 0


def train(name: str, module: nn.Module, config: RunConfig, photos: PhotoSet, folder: Path,
          board: SummaryWriter | None, validation: RunConfig | None = None, on_epoch: OnEpoch | None = None) -> Trained:
    """Trains `module` to localise forgeries of `photos.train`; the best epoch is that of the highest AUC on forgeries
    of `photos.val`, by `retrain.validation_methods` where they are given. Without a `board` nothing is logged.

    Every detector sees the same pictures in the same order. `validation` makes the held-out pictures where these must
    not change with `config`.

    Raises:
        UserError: the loss is not finite.
    """
    settings, recipe, judge = config.retrain, Recipe.of(config), validation or config
    trained = replace(recipe, authentic=config.forgeries.authentic, inverted=config.forgeries.inverted)
    items = ForgeryDataset(photos.train, trained, config.seed, "train", pictures_per_epoch(settings), settings.epochs)

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        return training_loss(logits, masks, settings)

    def show(network: Any, device: torch.device, epoch: int) -> None:
        assert board is not None
        board.add_image(f"retrain/{name}/pictures", draw_maps(network, fixed, device), epoch, dataformats="HWC")

    fixed = fixed_forgeries(photos.val, recipe, config.seed, settings.validation_methods or list(recipe.methods),
                            settings.pictures) if settings.pictures and board else []
    hard = HardExamples(items, loss, settings.hard_examples) if settings.hard_examples else None
    task = Task(
        "retrain", "retrain.learning_rate", settings, items,
        ForgeryDataset(photos.val, Recipe.of(judge), judge.seed, "validate", judge.retrain.validation_images,
                       balanced=True, flip=False, turns=judge.retrain.validation_methods),
        hard.loss if hard else loss,
        lambda network, batches, device: validate(network, batches, device, settings), "val_auc",
        settings, hard, settings.freeze, show if fixed else None)
    return fit(name, module, task, config, folder, board, on_epoch)


def pictures_per_epoch(settings: Retrain) -> int:
    """Training pictures of an epoch."""
    return settings.steps * settings.batch_size * settings.accumulate


def fit(name: str, module: nn.Module, task: Task, config: RunConfig, folder: Path, board: SummaryWriter | None,
        on_epoch: OnEpoch | None = None) -> Trained:
    """Trains `module`, whose `logits` maps images to logits; continues from `folder/checkpoint.pt` if there is one.

    Writes `folder/history.csv`; pictures per second, and the share of the time spent waiting for them, stand in
    TensorBoard alone, for they differ from run to run.

    Of several processes (torchrun) each takes its share of every batch; the first alone validates and writes. Batch
    norms of `module` are from then on those of all processes together.

    Raises:
        UserError: the processes do not divide a batch; the loss is not finite; a picture is too much for the memory.
    """
    check_shares(task.section, task.budget.batch_size)
    budget, rules, score, workers = task.budget, task.optimisation, task.score, config.forgeries.workers
    fabric, total, size, parts = make_fabric(config), budget.epochs * budget.steps, budget.batch_size, rules.accumulate
    if fabric.world_size > 1:
        join_norms(module)
    if fabric.device.type == "cpu":
        keep_freed_memory()
    freeze(module, task.frozen)
    optimizer = make_optimizer(module, rules, budget.learning_rate)
    better: Literal["min", "max"] = "min" if "plateau-minimises" in rules.defects else "max"
    plateau = ReduceLROnPlateau(optimizer, better, 0.5, rules.plateau_patience) if rules.schedule == "plateau" else None
    kept = deepcopy(module) if rules.ema else module
    # Of the precisions float16 alone has a state, the scale of its loss.
    precision = fabric.strategy.precision
    stateful: dict[str, Any] = {"module": module, "optimizer": optimizer, "plateau": plateau,
                                "average": kept if rules.ema else None, "hard": task.hard,
                                "precision": precision if precision.state_dict() else None}
    stateful = {key: each for key, each in stateful.items() if each is not None}
    checkpointer = Checkpointer(folder / "checkpoint.pt", config.checkpoint_seconds)
    done, losses, norms, history = 0, [], [], []
    best: Trained | None = None
    network, stepper = fabric.setup(module, optimizer)
    validated = fabric.setup_module(kept) if rules.ema else network
    for each in (network, validated):
        each.mark_forward_method("logits")
    if rules.compile:
        compile_logits(module, fabric.device)
    gradients = Gradients(fabric, network, stepper, task.loss, task.section)
    if state := by_first(fabric, checkpointer.load):
        for key, each in stateful.items():
            each.load_state_dict(state[key])
        done, losses, norms, history = state["step"], state["losses"], state["norms"], state["history"]
        gradients.pieces = state["pieces"]
        best = Trained(**state["best"]) if state["best"] else None

    def save_state(step: int) -> None:
        if fabric.is_global_zero:
            checkpointer.save({key: each.state_dict() for key, each in stateful.items()}
                              | {"step": step, "losses": losses, "norms": norms, "history": history,
                                 "pieces": gradients.pieces, "best": vars(best) if best else None})

    def pass_through(step: int) -> None:
        """The last batches until step `step`, once more."""
        end = (step + 1) * parts * size
        items = task.hard.items() if task.hard else task.items
        last = Subset(items, range(max(0, end - RECALIBRATION * size), end))
        for images, _ in make_loader(last, size, workers, 0,  # type: ignore[arg-type]
                                     fabric.global_rank, fabric.world_size):
            network.logits(images.to(fabric.device))

    def ended() -> bool:
        """Whether no better epoch is waited for any more."""
        return bool(rules.patience and best and len(history) - best.epoch >= rules.patience)

    if ended():
        done = total
    held_out = list(make_loader(task.held_out, size, workers)) if done < total and fabric.is_global_zero else []

    def batches_from(step: int) -> Iterator[tuple[Tensor, Tensor]]:
        items = task.hard.items() if task.hard else task.items
        return iter(make_loader(items, size, workers, step * parts * size, fabric.global_rank, fabric.world_size))

    network.train()
    freeze(module, task.frozen)
    with Progress(f"{task.section} {name}", total, done) as progress:
        batches = batches_from(done) if done < total else iter(())
        clock, first, waited = time.perf_counter(), done, 0.0
        for step in range(done, total):
            if not plateau:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(step, total, budget.learning_rate, rules.schedule)
            asked = time.perf_counter()
            drawn = list(islice(batches, parts))
            waited += time.perf_counter() - asked
            loss = gradients(drawn)
            # Without a limit it only measures.
            norm = fabric.clip_gradients(network, stepper, max_norm=rules.clip_norm or math.inf,
                                         error_if_nonfinite=False)
            assert norm is not None
            stepper.step()
            losses.append(check_finite(loss, step, task.rate))
            norms.append(norm.item())
            if task.hard:
                task.hard.end_step(fabric, parts * size // fabric.world_size)
            if rules.ema:
                update_average(kept, module, rules.ema, step)
            epoch, position = divmod(step + 1, budget.steps)
            if position == 0:
                spent = time.perf_counter() - clock
                speed = {"pictures_per_second": (step + 1 - first) * parts * size / spent, "waiting": waited / spent}
                with set_stance("force_eager") if rules.compile else nullcontext(), \
                        at_average(optimizer, module, partial(pass_through, step)):
                    figures = by_first(fabric, lambda: task.validate(validated, held_out, fabric.device))
                    if task.show and fabric.is_global_zero:
                        task.show(kept, fabric.device, epoch)
                    freeze(module, task.frozen)
                    if best is None or score is None or figures[score] > best.figures[score]:
                        best = Trained({key: value.detach().cpu().clone() for key, value in kept.state_dict().items()},
                                       epoch, figures)
                row = {"train_loss": sum(losses) / len(losses), **figures,
                       "learning_rate": optimizer.param_groups[0]["lr"], "gradient_norm": median(norms)}
                history.append({"epoch": str(epoch)} | {key: f"{value:.9g}" for key, value in row.items()})
                losses.clear()
                norms.clear()
                if board:
                    for key, value in {**row, **speed}.items():
                        board.add_scalar(f"{task.section}/{name}/{key}", value, epoch)
                if plateau and score:
                    plateau.step(figures[score])
                if on_epoch:
                    on_epoch(epoch, figures)
                if task.hard and step + 1 < total:
                    batches = batches_from(step + 1)
                clock, first, waited = time.perf_counter(), step + 1, 0.0
            if checkpointer.due():
                save_state(step + 1)
            progress.update(loss=f"{loss:.3f}", best=f"{best.figures[score]:.3f}" if best and score else "–")
            if position == 0 and ended():
                break
    assert best is not None
    vars(module).pop("logits", None)
    if len(history) < budget.epochs:
        print(f"{task.section} {name}: ended after epoch {len(history)}, none was better than epoch {best.epoch}",
              file=sys.stderr, flush=True)
    save_state(total)
    if fabric.is_global_zero:
        write_rows(folder / "history.csv", tuple(history[0]), history)
    return replace(best, epochs=len(history))


def validate(network: Any, batches: Batches, device: torch.device, terms: Loss) -> dict[str, float]:
    """Loss and mean per-image AUC on `batches`, in eval mode.

    Raises:
        UserError: a map is not finite: training diverged in the step before.
    """
    network.eval()
    losses, scores = [], []
    with torch.no_grad():
        for images, masks in batches:
            logits = network.logits(images.to(device)).float().cpu()
            if not logits.isfinite().all():
                raise UserError("maps of validation pictures are not finite; lower retrain.learning_rate")
            losses.append(training_loss(logits, masks, terms).item())
            scores += [auc(logit[0].numpy(), mask[0].numpy() > 0.5)
                       for logit, mask in zip(logits, masks, strict=True)]
    network.train()
    return {"val_loss": float(np.mean(losses)), "val_auc": float(np.nanmean(scores))}
