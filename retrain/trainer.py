"""One training run of one network: the same code for every task, the same data and budget for every detector."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from configs.engine import Checkpointer, check_finite, make_fabric
from configs.errors import UserError
from configs.files import write_rows
from configs.progress import Progress
from configs.schema import RunConfig
from forgeries.dataset import ForgeryDataset, PictureDataset, Recipe, make_loader
from forgeries.photos import PhotoSet
from results.metrics import auc
from retrain.losses import training_loss

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; then it falls along a cosine to a hundredth."""

CLIP = 1.0
"""Largest norm of a step's gradient."""

Batches = Sequence[tuple[Tensor, Tensor]]

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

    `score` names the figure by which the best epoch is told; None keeps the last one. `section` is the part of the
    configuration that `budget` is, `rate` what the user sets its learning rate by.
    """

    section: str
    rate: str
    budget: Budget
    items: PictureDataset
    held_out: PictureDataset
    loss: Callable[[Any, Tensor], Tensor]
    validate: Callable[[Any, Batches, torch.device], dict[str, float]]
    score: str | None


@dataclass(frozen=True)
class Trained:
    """State dict of the best epoch by its score, that epoch (from 1), and all figures of its validation."""

    state: dict[str, Tensor]
    epoch: int
    figures: dict[str, float]


def learning_rate(step: int, total: int, peak: float) -> float:
    """Rate of step `step` (from 0) of `total`: linear warm-up, then a cosine from `peak` to a hundredth of it."""
    warm = max(1, round(WARM_UP * total))
    if step < warm:
        return peak * (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)


def train(name: str, module: nn.Module, config: RunConfig, photos: PhotoSet, folder: Path,
          board: SummaryWriter, validation: RunConfig | None = None, on_epoch: OnEpoch | None = None) -> Trained:
    """Trains `module` to localise forgeries of `photos.train`; the best epoch is that of the highest validation AUC.

    Every detector sees the same pictures in the same order. `validation` makes the held-out pictures where these must
    not change with `config`.

    Raises:
        UserError: the loss is not finite.
    """
    settings, recipe, judge = config.retrain, Recipe.of(config), validation or config
    task = Task(
        "retrain", "retrain.learning_rate", settings,
        ForgeryDataset(photos.train, recipe, config.seed, "train", settings.steps * settings.batch_size,
                       settings.epochs),
        ForgeryDataset(photos.val, Recipe.of(judge), judge.seed, "validate", judge.retrain.validation_images,
                       balanced=True, flip=False),
        lambda logits, masks: training_loss(logits, masks, settings.focal_weight),
        lambda network, batches, device: validate(network, batches, device, settings.focal_weight), "val_auc")
    return fit(name, module, task, config, folder, board, on_epoch)


def fit(name: str, module: nn.Module, task: Task, config: RunConfig, folder: Path, board: SummaryWriter,
        on_epoch: OnEpoch | None = None) -> Trained:
    """Trains `module`, whose `logits` maps images to logits; continues from `folder/checkpoint.pt` if there is one.

    Writes `folder/history.csv`.

    Raises:
        UserError: the loss is not finite.
    """
    budget, fabric, score, workers = task.budget, make_fabric(config), task.score, config.forgeries.workers
    total, size = budget.epochs * budget.steps, budget.batch_size
    optimizer = torch.optim.Adam(module.parameters(), budget.learning_rate)
    checkpointer = Checkpointer(folder / "checkpoint.pt", config.checkpoint_seconds)
    done, losses, history = 0, [], []
    best: Trained | None = None
    if state := checkpointer.load():
        module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        done, losses, history = state["step"], state["losses"], state["history"]
        best = Trained(**state["best"]) if state["best"] else None
    network, optimizer = fabric.setup(module, optimizer)
    network.mark_forward_method("logits")

    def save_state(step: int) -> None:
        checkpointer.save({"module": module.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
                           "losses": losses, "history": history, "best": vars(best) if best else None})

    held_out = list(make_loader(task.held_out, size, workers)) if done < total else []
    network.train()
    with Progress(f"{task.section} {name}", total, done) as progress:
        batches = islice(make_loader(task.items, size, workers, start=done * size), total - done) \
            if done < total else ()
        for step, (images, targets) in enumerate(batches, done):
            rate = learning_rate(step, total, budget.learning_rate)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = task.loss(network.logits(images.to(fabric.device)), targets.to(fabric.device))
            optimizer.zero_grad()
            fabric.backward(loss)
            fabric.clip_gradients(network, optimizer, max_norm=CLIP, error_if_nonfinite=False)
            optimizer.step()
            losses.append(check_finite(loss.item(), step, task.rate))
            epoch, position = divmod(step + 1, budget.steps)
            if position == 0:
                figures = task.validate(network, held_out, fabric.device)
                if best is None or score is None or figures[score] > best.figures[score]:
                    best = Trained({key: value.detach().cpu().clone() for key, value in module.state_dict().items()},
                                   epoch, figures)
                row = {"train_loss": sum(losses) / len(losses), **figures, "learning_rate": rate}
                history.append({"epoch": str(epoch)} | {key: f"{value:.9g}" for key, value in row.items()})
                losses.clear()
                for key, value in row.items():
                    board.add_scalar(f"{task.section}/{name}/{key}", value, epoch)
                if on_epoch:
                    on_epoch(epoch, figures)
            if checkpointer.due():
                save_state(step + 1)
            progress.update(loss=f"{loss.item():.3f}", best=f"{best.figures[score]:.3f}" if best and score else "–")
    assert best is not None
    save_state(total)
    write_rows(folder / "history.csv", tuple(history[0]), history)
    return best


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
