"""Pre-training of ManTraNet's trace extractor: which of many manipulations was done to a patch?

Self-supervised, as by its authors (Wu, AbdAlmageed & Natarajan, CVPR 2019, section 3): patches of the training
photographs are manipulated here, and the extractor's features must tell how.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from configs.errors import UserError
from configs.schema import RunConfig
from detectors.mantranet import TraceExtractor
from forgeries.dataset import Recipe
from forgeries.manipulations import Manipulation, manipulation_classes
from forgeries.patches import PatchDataset
from forgeries.photos import PhotoSet
from retrain.trainer import Batches, Task, Trained, fit


class Classifier(nn.Module):
    """Trace extractor with a linear classifier of its mean features."""

    def __init__(self, traces: TraceExtractor, classes: int) -> None:
        super().__init__()
        self.traces = traces
        channels = traces.convs[-1].out_channels
        assert isinstance(channels, int)
        # Features have length 1 and are near each other at first: the differences need a scale, and it is learnt here.
        self.norm = nn.BatchNorm1d(channels)
        self.head = nn.Linear(channels, classes)

    def logits(self, patches: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1] to logits N×classes."""
        return self.head(self.norm(self.traces(patches * 2 - 1).float().mean((2, 3))))


def pretrain(name: str, traces: TraceExtractor, config: RunConfig, photos: PhotoSet, folder: Path,
             board: SummaryWriter | None) -> Trained:
    """Trains `traces`, in place, to classify manipulations; leaves it with the best epoch's weights.

    Continues from `folder/checkpoint.pt`, where finished work is kept too; writes `folder/history.csv`.

    Raises:
        UserError: the loss is not finite.
    """
    settings, shrink = config.retrain.pretrain, Recipe.of(config).shrink
    classes = manipulation_classes(settings.classes)
    task = Task(
        "retrain.pretrain", "retrain.pretrain.learning_rate", settings,
        PatchDataset(photos.train, classes, settings.patch, shrink, config.seed, "pretrain",
                     settings.steps * settings.batch_size, settings.epochs),
        PatchDataset(photos.val, classes, settings.patch, shrink, config.seed, "pretrain-validate",
                     settings.validation_patches, balanced=True),
        F.cross_entropy, partial(validate, classes), "val_accuracy")
    classifier = Classifier(traces, len(classes))
    trained = fit(name, classifier, task, config, folder, board)
    classifier.load_state_dict(trained.state)
    return trained


def validate(classes: Sequence[Manipulation], network: Any, batches: Batches,
             device: torch.device) -> dict[str, float]:
    """Loss and accuracy on `batches`, in eval mode: of all, of the family alone, and of all in each family.

    Raises:
        UserError: logits are not finite: training diverged in the step before.
    """
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network.logits(patches.to(device)).float().cpu() for patches, _ in batches])
    network.train()
    if not logits.isfinite().all():
        raise UserError("logits of validation patches are not finite; lower retrain.pretrain.learning_rate")
    targets = torch.cat([numbers for _, numbers in batches])
    right, families = (logits.argmax(1) == targets).numpy(), np.array([entry.family for entry in classes])
    family = families[targets]
    return {"val_loss": F.cross_entropy(logits, targets).item(), "val_accuracy": float(right.mean()),
            "val_family_accuracy": float((families[logits.argmax(1)] == family).mean())} | {
        f"val_{kind}": float(right[family == kind].mean()) for kind in dict.fromkeys(family)}
