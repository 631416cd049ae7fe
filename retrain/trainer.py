"""One training run of one network: the same code for every task, the same data and budget for every detector."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.tensorboard import SummaryWriter

from configs.engine import Checkpointer, check_finite, make_fabric
from configs.errors import UserError
from configs.files import write_rows
from configs.progress import Progress
from configs.schema import Optimisation, Retrain, RunConfig
from forgeries.dataset import ForgeryDataset, PictureDataset, Recipe, make_loader
from forgeries.photos import PhotoSet
from results.metrics import auc
from retrain.losses import training_loss

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; then it falls along a cosine to a hundredth."""

Batches = Sequence[tuple[Tensor, Tensor]]


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


@dataclass(frozen=True)
class Trained:
    """State dict of the best epoch by its score, that epoch (from 1), and all figures of its validation; `epochs` were
    trained in all."""

    state: dict[str, Tensor]
    epoch: int
    figures: dict[str, float]
    epochs: int = 0


def learning_rate(step: int, total: int, peak: float) -> float:
    """Rate of step `step` (from 0) of `total`: linear warm-up, then a cosine from `peak` to a hundredth of it."""
    warm = max(1, round(WARM_UP * total))
    if step < warm:
        return peak * (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)


def make_optimizer(module: nn.Module, rules: Optimisation, rate: float) -> torch.optim.Optimizer:
    """Adam, or AdamW (Loshchilov & Hutter 2019), which decays all weights but those of one dimension."""
    if rules.optimizer == "adam":
        return torch.optim.Adam(module.parameters(), rate)
    parameters = list(module.parameters())
    return torch.optim.AdamW([
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": rules.weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0}], rate)


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    """Moves `average`, weights and running statistics, towards `module` after step `step` (from 0).

    average ← d · average + (1 − d) · module with d = min(decay, (1 + step) / (10 + step)), TensorFlow's
    `ExponentialMovingAverage` with `num_updates`: short runs do not keep the initial weights. Counts are copied.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, weight)
        else:
            mean.copy_(value)


def train(name: str, module: nn.Module, config: RunConfig, photos: PhotoSet, folder: Path,
          board: SummaryWriter) -> Trained:
    """Trains `module` to localise forgeries of `photos.train`; the best epoch is that of the highest AUC on forgeries
    of `photos.val`, by `retrain.validation_methods` where they are given.

    Every detector sees the same pictures in the same order.

    Raises:
        UserError: the loss is not finite.
    """
    settings, recipe = config.retrain, Recipe.of(config)
    task = Task(
        "retrain", "retrain.learning_rate", settings,
        ForgeryDataset(photos.train, recipe, config.seed, "train", pictures_per_epoch(settings),
                       settings.epochs),
        ForgeryDataset(photos.val, recipe, config.seed, "validate", settings.validation_images, balanced=True,
                       flip=False, turns=settings.validation_methods),
        lambda logits, masks: training_loss(logits, masks, settings.focal_weight),
        lambda network, batches, device: validate(network, batches, device, settings.focal_weight), "val_auc",
        settings)
    return fit(name, module, task, config, folder, board)


def pictures_per_epoch(settings: Retrain) -> int:
    """Training pictures of an epoch."""
    return settings.steps * settings.batch_size * settings.accumulate


def fit(name: str, module: nn.Module, task: Task, config: RunConfig, folder: Path, board: SummaryWriter) -> Trained:
    """Trains `module`, whose `logits` maps images to logits; continues from `folder/checkpoint.pt` if there is one.

    Writes `folder/history.csv`; pictures per second stand in TensorBoard alone, for they differ from run to run.

    Raises:
        UserError: the loss is not finite.
    """
    budget, rules, score, workers = task.budget, task.optimisation, task.score, config.forgeries.workers
    fabric, total, size, parts = make_fabric(config), budget.epochs * budget.steps, budget.batch_size, rules.accumulate
    optimizer = make_optimizer(module, rules, budget.learning_rate)
    plateau = ReduceLROnPlateau(optimizer, "max", 0.5, rules.plateau_patience) if rules.schedule == "plateau" else None
    average = deepcopy(module) if rules.ema else None
    kept = module if average is None else average
    checkpointer = Checkpointer(folder / "checkpoint.pt", config.checkpoint_seconds)
    done, losses, norms, history = 0, [], [], []
    best: Trained | None = None
    if state := checkpointer.load():
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        if plateau:
            plateau.load_state_dict(state["plateau"])
        if average is not None:
            average.load_state_dict(state["average"])
        done, losses, norms, history = state["step"], state["losses"], state["norms"], state["history"]
        best = Trained(**state["best"]) if state["best"] else None
    network, optimizer = fabric.setup(module, optimizer)
    validated = network if average is None else fabric.setup_module(average)
    for each in (network, validated):
        each.mark_forward_method("logits")

    def save_state(step: int) -> None:
        checkpointer.save({"module": module.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
                           "plateau": plateau.state_dict() if plateau else None,
                           "average": average.state_dict() if average is not None else None,
                           "losses": losses, "norms": norms, "history": history, "best": vars(best) if best else None})

    def ended() -> bool:
        """Whether no better epoch is waited for any more."""
        return bool(rules.patience and best and len(history) - best.epoch >= rules.patience)

    if ended():
        done = total
    held_out = list(make_loader(task.held_out, size, workers)) if done < total else []
    network.train()
    with Progress(f"{task.section} {name}", total, done) as progress:
        batches: Iterator[tuple[Tensor, Tensor]] = \
            iter(make_loader(task.items, size, workers, start=done * parts * size) if done < total else ())
        clock, trained = time.perf_counter(), 0
        for step in range(done, total):
            if not plateau:
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(step, total, budget.learning_rate)
            mean_loss = 0.0
            for part, (images, targets) in enumerate(islice(batches, parts)):
                loss = task.loss(network.logits(images.to(fabric.device)), targets.to(fabric.device)) / parts
                if part == 0:
                    optimizer.zero_grad()
                fabric.backward(loss)
                mean_loss += loss.item()
                trained += len(images)
            # Without a limit it only measures.
            norm = fabric.clip_gradients(network, optimizer, max_norm=rules.clip_norm or math.inf,
                                         error_if_nonfinite=False)
            assert norm is not None
            optimizer.step()
            losses.append(check_finite(mean_loss, step, task.rate))
            norms.append(norm.item())
            if average is not None:
                update_average(average, module, rules.ema, step)
            epoch, position = divmod(step + 1, budget.steps)
            if position == 0:
                speed = trained / (time.perf_counter() - clock)
                figures = task.validate(validated, held_out, fabric.device)
                if best is None or score is None or figures[score] > best.figures[score]:
                    best = Trained({key: value.detach().cpu().clone() for key, value in kept.state_dict().items()},
                                   epoch, figures)
                row = {"train_loss": sum(losses) / len(losses), **figures,
                       "learning_rate": optimizer.param_groups[0]["lr"], "gradient_norm": median(norms)}
                history.append({"epoch": str(epoch)} | {key: f"{value:.9g}" for key, value in row.items()})
                losses.clear()
                norms.clear()
                for key, scalar in {**row, "pictures_per_second": speed}.items():
                    board.add_scalar(f"{task.section}/{name}/{key}", scalar, epoch)
                if plateau and score:
                    plateau.step(figures[score])
                clock, trained = time.perf_counter(), 0
            if checkpointer.due():
                save_state(step + 1)
            progress.update(loss=f"{mean_loss:.3f}", best=f"{best.figures[score]:.3f}" if best and score else "–")
            if position == 0 and ended():
                break
    assert best is not None
    save_state(total)
    write_rows(folder / "history.csv", tuple(history[0]), history)
    return replace(best, epochs=len(history))


def validate(network: Any, batches: Batches, device: torch.device, focal_weight: float) -> dict[str, float]:
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
            losses.append(training_loss(logits, masks, focal_weight).item())
            scores += [auc(logit[0].numpy(), mask[0].numpy() > 0.5)
                       for logit, mask in zip(logits, masks, strict=True)]
    network.train()
    return {"val_loss": float(np.mean(losses)), "val_auc": float(np.nanmean(scores))}
