"""Metrics over batches, on any device and over any number of processes. Memory is constant, but `PictureLevel` keeps a
score a picture.

All are `torchmetrics.Metric`: `update` per batch, `compute` at the end, `reset`; called, they also give the batch's own
value. In a `torch.distributed` run `compute` is over the pictures of all processes. Maps are float N×1×H×W or N×H×W in
[0, 1], masks of the same shape, bool or 0 and 1.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from results.metrics import tensors
from results.metrics.curves import Curve
from results.metrics.pictures import picture_auc, picture_counts
from results.metrics.pixels import score_map
from results.metrics.ranked import THRESHOLD
from results.pooling import check_pooling, pool
from results.records import METRICS

ON_DEVICE = ("auc", "f1", "iou", "mcc", "precision", "recall", "balanced_accuracy", "false_alarm", "val_f1", "val_iou",
             "val_mcc", "val_false_alarm")
"""Computed where the maps are; the other metrics of a picture on the processor."""


class PictureMean(Metric):
    """Mean over pictures of pixel metrics that are computed picture by picture: every picture weighs the same.

    Input: maps and masks. Output: a dict of float64 scalars: each of `metrics`, names of `results.records.METRICS`, its
    mean over the pictures where it is defined (NaN where that is none); for each `<name>_undefined`, int64, how many
    pictures it is not defined for; and `pictures`, int64.

    >>> import torch
    >>> mean = PictureMean(["auc", "f1"])
    >>> maps = torch.tensor([[[0.1, 0.9], [0.2, 0.6]], [[0.1, 0.9], [0.2, 0.8]]])
    >>> mean.update(maps, torch.tensor([[[0, 1], [0, 1]], [[0, 0], [0, 0]]]))
    >>> found = mean.compute()
    >>> found["auc"].item(), found["auc_undefined"].item(), found["pictures"].item()
    (1.0, 1, 2)
    """

    full_state_update = False
    total: Tensor
    defined: Tensor
    pictures: Tensor

    def __init__(self, metrics: Sequence[str] = METRICS, val_threshold: float = math.nan, **options: Any) -> None:
        super().__init__(**options)
        wrong = [name for name in metrics if name not in METRICS]
        if wrong or not metrics:
            raise ValueError(f"{', '.join(wrong) or 'none'}: metrics must be of {', '.join(METRICS)}")
        self.metrics, self.val_threshold = tuple(metrics), val_threshold
        self.add_state("total", torch.zeros(len(metrics), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("defined", torch.zeros(len(metrics), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("pictures", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds a batch; an empty one adds nothing."""
        if not len(maps):
            return
        values = self._values(maps, masks).to(self.total.device)
        self.total += values.nan_to_num(0).sum(1)
        self.defined += values.isfinite().sum(1)
        self.pictures += len(maps)

    def compute(self) -> dict[str, Tensor]:
        """The means so far."""
        means = self.total / self.defined
        return {**dict(zip(self.metrics, means, strict=True)),
                **{f"{name}_undefined": self.pictures - count
                   for name, count in zip(self.metrics, self.defined, strict=True)}, "pictures": self.pictures}

    def _values(self, maps: Tensor, masks: Tensor) -> Tensor:
        """float64 M×N."""
        if set(self.metrics) <= set(ON_DEVICE):
            return torch.stack([self._on_device(name, maps, masks) for name in self.metrics])
        scores, truth = (part.reshape(maps.shape[0], *maps.shape[-2:]) for part in tensors.flat(maps, masks))
        numbers = [score_map(one.cpu().numpy(), mask.cpu().numpy(), self.val_threshold)
                   for one, mask in zip(scores, truth, strict=True)]
        return torch.tensor([[row[name] for row in numbers] for name in self.metrics], dtype=torch.float64)

    def _on_device(self, name: str, maps: Tensor, masks: Tensor) -> Tensor:
        if name == "auc":
            return tensors.auc(maps, masks)
        threshold = self.val_threshold if name.startswith("val_") else THRESHOLD
        if math.isnan(threshold):
            return torch.full((len(maps),), torch.nan, dtype=torch.float64, device=maps.device)
        counts = tensors.flagged_counts(maps, masks, threshold)
        return torch.from_numpy(getattr(counts, name.removeprefix("val_"))).to(maps.device)


class PooledCurve(Metric):
    """Metrics of all pixels of all pictures pooled: every pixel weighs the same. Its state is a histogram of 16 kB.

    Input: maps and masks. Output: a dict of float64 scalars, `Curve.numbers`; `curve()` gives all the rest.

    >>> import torch
    >>> pooled = PooledCurve()
    >>> pooled.update(torch.tensor([[[0.1, 0.9], [0.2, 0.6]]]), torch.tensor([[[0, 1], [0, 0]]]))
    >>> pooled.update(torch.tensor([[[0.3, 0.7]]]), torch.tensor([[[1, 1]]]))
    >>> found = pooled.compute()
    >>> round(found["auc"].item(), 4), found["pixels"].item()
    (0.8889, 6.0)
    """

    full_state_update = False
    histogram: Tensor

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_state("histogram", torch.zeros(2, tensors.BINS, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds a batch; an empty one adds nothing."""
        if len(maps):
            self.histogram += tensors.histogram(maps, masks).to(self.histogram.device)

    def curve(self) -> Curve:
        """The curve of what was added in this process."""
        return Curve(self.histogram.cpu().numpy())

    def compute(self) -> dict[str, Tensor]:
        """The metrics so far."""
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in self.curve().numbers().items()}


class PictureLevel(Metric):
    """Forged pictures (with a mask of some pixels) against authentic ones, by `pool` of their maps.

    Input: maps and masks. Output: a dict of float64 scalars: auc, and accuracy, balanced_accuracy and f1 of calling
    forged what scores at least `threshold`. Keeps two numbers a picture.

    >>> import torch
    >>> level = PictureLevel("max")
    >>> level.update(torch.tensor([[[0.1, 0.9]], [[0.2, 0.6]]]), torch.tensor([[[0, 1]], [[0, 0]]]))
    >>> {name: value.item() for name, value in level.compute().items()}
    {'auc': 1.0, 'accuracy': 0.5, 'balanced_accuracy': 0.5, 'f1': 0.6666666666666666}
    """

    full_state_update = False
    scores: list[Tensor] | Tensor
    forged: list[Tensor] | Tensor

    def __init__(self, pooling: str = "top-0.01", threshold: float = THRESHOLD, **options: Any) -> None:
        super().__init__(**options)
        check_pooling(pooling)
        self.pooling, self.threshold = pooling, threshold
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("forged", [], dist_reduce_fx="cat")

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds a batch; an empty one adds nothing."""
        if not len(maps):
            return
        scores, truth = tensors.flat(maps, masks)
        pooled = [pool(row, self.pooling) for row in scores.cpu().numpy()]
        assert isinstance(self.scores, list) and isinstance(self.forged, list)
        self.scores.append(torch.tensor(pooled, dtype=torch.float64, device=self.device))
        self.forged.append(truth.any(1).to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """The metrics so far."""
        scores, forged = _joined(self.scores), _joined(self.forged).astype(bool)
        counts = picture_counts(scores, forged, self.threshold)
        numbers = {"auc": picture_auc(scores, forged), "accuracy": float(counts.accuracy),
                   "balanced_accuracy": float(counts.balanced_accuracy), "f1": float(counts.f1)}
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in numbers.items()}


class Authentic(Metric):
    """False alarms in authentic pictures: those whose mask is empty; others are passed over.

    Input: maps and masks. Output: a dict of scalars: `false_alarm`, the mean over pictures of the share of pixels that
    score at least `threshold` (NaN without a picture); `alarmed`, the share of pictures with any; `pictures`.

    >>> import torch
    >>> authentic = Authentic()
    >>> authentic.update(torch.tensor([[[0.1, 0.9]], [[0.2, 0.3]]]), torch.zeros(2, 1, 2))
    >>> {name: value.item() for name, value in authentic.compute().items()}
    {'false_alarm': 0.25, 'alarmed': 0.5, 'pictures': 2}
    """

    full_state_update = False
    total: Tensor
    alarmed: Tensor
    pictures: Tensor

    def __init__(self, threshold: float = THRESHOLD, **options: Any) -> None:
        super().__init__(**options)
        self.threshold = threshold
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("alarmed", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("pictures", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds a batch; an empty one adds nothing."""
        if not len(maps):
            return
        counts = tensors.flagged_counts(maps, masks, self.threshold)
        shares = np.asarray(counts.false_alarm)[np.asarray(counts.positives) == 0]
        self.total += float(shares.sum())
        self.alarmed += int(np.count_nonzero(shares))
        self.pictures += shares.size

    def compute(self) -> dict[str, Tensor]:
        """The numbers so far."""
        return {"false_alarm": self.total / self.pictures, "alarmed": self.alarmed.double() / self.pictures,
                "pictures": self.pictures}


def _joined(state: list[Tensor] | Tensor) -> np.ndarray:
    """A list state as an array; torchmetrics joins it where it gathered several processes."""
    parts = [state] if isinstance(state, Tensor) else state
    return torch.cat([part.cpu() for part in parts]).numpy() if parts else np.zeros(0)
