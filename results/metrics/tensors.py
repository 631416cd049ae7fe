"""The same metrics for batches of tensors, on the device where these are; equal to those of NumPy to the last bit.

Maps are float N×1×H×W or N×H×W, masks of the same shape: bool, or numbers above 0.5 where the picture was inpainted.
"""

import torch
from torch import Tensor

from results.metrics.bins import BINS, EDGES
from results.metrics.counts import Counts


def flat(maps: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Scores, float N×P, and bool N×P.

    Raises:
        ValueError: a score is NaN or infinite, or the shapes differ or are none of a batch of maps.
    """
    if maps.shape != masks.shape or maps.ndim not in (3, 4) or (maps.ndim == 4 and maps.shape[1] != 1) \
            or not maps[:1].numel():
        raise ValueError(f"maps {tuple(maps.shape)} and masks {tuple(masks.shape)} are not both N×1×H×W or N×H×W")
    if not torch.isfinite(maps).all():
        raise ValueError("the map has NaN or infinite values")
    return maps.detach().flatten(1), (masks if masks.dtype == torch.bool else masks > 0.5).flatten(1)


def auc(maps: Tensor, masks: Tensor) -> Tensor:
    """Area under the ROC curve of each picture, float64 N, exact with ties; NaN for a mask of one class.

    >>> auc(torch.tensor([[[0.1, 0.4], [0.4, 0.9]]]), torch.tensor([[[0, 0], [1, 1]]]))
    tensor([0.8750], dtype=torch.float64)
    """
    scores, truth = flat(maps, masks)
    values, order = scores.sort(dim=1)
    passed = torch.nn.functional.pad((~truth).gather(1, order).cumsum(1), (1, 0))
    wanted = values.contiguous()
    below, below_or_tied = (passed.gather(1, torch.searchsorted(wanted, wanted, right=right))
                            for right in (False, True))
    doubled = ((below + below_or_tied) * truth.gather(1, order)).sum(1)
    positives = truth.sum(1)
    pairs = 2 * positives * (truth.shape[1] - positives)
    return torch.where(pairs > 0, doubled.double() / pairs, torch.nan)


def flagged_counts(maps: Tensor, masks: Tensor, threshold: float) -> Counts:
    """What is flagged in each picture where its score is at least `threshold`: NumPy arrays int64 N.

    >>> flagged_counts(torch.tensor([[[0.1, 0.5], [0.4, 0.9]]]), torch.tensor([[[0, 0], [1, 1]]]), 0.5).f1
    array([0.5])
    """
    scores, truth = flat(maps, masks)
    flagged = scores.double() >= threshold
    true, false, positives = (part.sum(1).cpu().numpy() for part in (flagged & truth, flagged & ~truth, truth))
    return Counts(true, false, positives, truth.shape[1] - positives)


def histogram(maps: Tensor, masks: Tensor) -> Tensor:
    """Pixels of the whole batch by class and score, int64 2×`BINS`, on its device; see `results.metrics.histogram`.

    Raises:
        ValueError: as `flat`, or a score is outside [0, 1].
    """
    scores, truth = flat(maps, masks)
    if scores.min() < 0 or scores.max() > 1:
        raise ValueError(f"the maps go from {scores.min():g} to {scores.max():g}, and not within 0 to 1")
    edges = torch.from_numpy(EDGES[1:]).to(scores.device)
    bins = torch.bucketize(scores.double(), edges, right=True) + BINS * truth
    return torch.bincount(bins.flatten(), minlength=2 * BINS).view(2, BINS)
