"""One training run of one detector: the same code, data and budget for every network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from configs.engine import Checkpointer, check_finite, make_fabric
from configs.errors import UserError
from configs.files import write_rows
from configs.progress import Progress
from configs.schema import RunConfig
from forgeries.dataset import ForgeryDataset, Recipe, make_loader
from forgeries.photos import PhotoSet
from results.metrics import auc
from retrain.losses import training_loss

HISTORY = ("epoch", "train_loss", "val_loss", "val_auc", "learning_rate")
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; then it falls along a cosine to a hundredth."""

CLIP = 1.0
"""Largest norm of a step's gradient."""


@dataclass(frozen=True)
class Trained:
    """State dict of the best epoch by validation AUC, that epoch (from 1), and its AUC."""

    state: dict[str, Tensor]
    epoch: int
    auc: float


def learning_rate(step: int, total: int, peak: float) -> float:
    """Rate of step `step` (from 0) of `total`: linear warm-up, then a cosine from `peak` to a hundredth of it."""
    warm = max(1, round(WARM_UP * total))
    if step < warm:
        return peak * (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2)


def train(name: str, module: nn.Module, config: RunConfig, photos: PhotoSet, folder: Path,
          board: SummaryWriter) -> Trained:
    """Trains `module` on forgeries of `photos.train`; continues from `folder/checkpoint.pt` if there is one.

    Every detector sees the same pictures in the same order. Writes `folder/history.csv`.

    Raises:
        UserError: the loss is not finite.
    """
    settings, recipe, fabric = config.retrain, Recipe.of(config), make_fabric(config)
    total, size = settings.epochs * settings.steps, settings.batch_size
    optimizer = torch.optim.Adam(module.parameters(), settings.learning_rate)
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
        kept = {"state": best.state, "epoch": best.epoch, "auc": best.auc} if best else None
        checkpointer.save({"module": module.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
                           "losses": losses, "history": history, "best": kept})

    dataset = ForgeryDataset(photos.train, recipe, config.seed, "train", settings.steps * size, settings.epochs)
    validation = list(make_loader(
        ForgeryDataset(photos.val, recipe, config.seed, "validate", settings.validation_images, balanced=True,
                       flip=False), size, config.forgeries.workers)) if done < total else []
    network.train()
    with Progress(f"train {name}", total, done) as progress:
        batches = islice(make_loader(dataset, size, config.forgeries.workers, start=done * size), total - done) \
            if done < total else ()
        for step, (images, masks) in enumerate(batches, done):
            rate = learning_rate(step, total, settings.learning_rate)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = training_loss(network.logits(images.to(fabric.device)), masks.to(fabric.device),
                                 settings.focal_weight)
            optimizer.zero_grad()
            fabric.backward(loss)
            fabric.clip_gradients(network, optimizer, max_norm=CLIP, error_if_nonfinite=False)
            optimizer.step()
            losses.append(check_finite(loss.item(), step, "retrain.learning_rate"))
            epoch, position = divmod(step + 1, settings.steps)
            if position == 0:
                figures = validate(network, validation, fabric.device, settings.focal_weight)
                if best is None or figures["val_auc"] > best.auc:
                    best = Trained({key: value.detach().cpu().clone() for key, value in module.state_dict().items()},
                                   epoch, figures["val_auc"])
                row = {"train_loss": sum(losses) / len(losses), **figures, "learning_rate": rate}
                history.append({"epoch": str(epoch)} | {key: f"{value:.9g}" for key, value in row.items()})
                losses.clear()
                for key, value in row.items():
                    board.add_scalar(f"retrain/{name}/{key}", value, epoch)
            if checkpointer.due():
                save_state(step + 1)
            progress.update(loss=f"{loss.item():.3f}", auc=f"{best.auc:.3f}" if best else "–")
    assert best is not None
    save_state(total)
    write_rows(folder / "history.csv", HISTORY, history)
    return best


def validate(network: Any, batches: Sequence[tuple[Tensor, Tensor]], device: torch.device,
             focal_weight: float) -> dict[str, float]:
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
