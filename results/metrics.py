"""Pixel metrics of one picture: a float map H×W, higher = more surely inpainted, against a bool mask H×W.

All are NaN, that is undefined, where they have no meaning: for a mask of one class.
"""

from dataclasses import asdict, dataclass

import numpy as np

METRICS = ("auc", "ap", "f1", "iou", "best_f1", "best_iou")
"""Those that tables show; all in [0, 1]."""


@dataclass(frozen=True)
class MapScores:
    """All metrics of one map. `f1` and `iou` are at 0.5; the best ones at the map's own best threshold, an
    upper bound that no one can choose in practice."""

    auc: float
    ap: float
    f1: float
    iou: float
    best_f1: float
    best_iou: float
    best_threshold: float
    mask_fraction: float


@dataclass(frozen=True)
class _Counts:
    """True and false positives at each distinct score taken as the threshold, from the highest down."""

    true: np.ndarray
    false: np.ndarray
    thresholds: np.ndarray
    positives: int
    negatives: int


def score_map(scores: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """All of `MapScores` by name.

    Raises:
        ValueError: a score is NaN or infinite, the shapes differ, or the mask is not bool.
    """
    counts = _count(scores, mask)
    f1, iou = f1_iou(scores, mask, 0.5)
    best_f1, best_iou, threshold = _best(counts)
    return asdict(MapScores(_auc(counts), _average_precision(counts), f1, iou, best_f1, best_iou, threshold,
                            float(np.mean(mask))))


def auc(scores: np.ndarray, mask: np.ndarray) -> float:
    """Area under the ROC curve: the chance that an inpainted pixel scores above another, ties counting half.

    Raises:
        ValueError: a score is NaN or infinite, the shapes differ, or the mask is not bool.
    """
    _check(scores, mask)
    return _area(np.sort(scores[mask]), np.sort(scores[~mask]))


def auc_f1(scores: np.ndarray, mask: np.ndarray, threshold: float) -> tuple[float, float]:
    """`auc`, and F1 of the pixels whose score is at least `threshold`, for less than the two apart. Raises as `auc`."""
    _check(scores, mask)
    positive, negative = np.sort(scores[mask]), np.sort(scores[~mask])
    if not positive.size or not negative.size:
        return float("nan"), float("nan")
    missed, passed = (int(values.searchsorted(values.dtype.type(threshold))) for values in (positive, negative))
    true = positive.size - missed
    return _area(positive, negative), 2 * true / (2 * true + missed + negative.size - passed)


def average_precision(scores: np.ndarray, mask: np.ndarray) -> float:
    """Σ (R_n − R_{n−1}) P_n over distinct thresholds. Raises as `auc`."""
    return _average_precision(_count(scores, mask))


def f1_iou(scores: np.ndarray, mask: np.ndarray, threshold: float) -> tuple[float, float]:
    """F1 and intersection over union of the pixels whose score is at least `threshold`. Raises as `auc`."""
    _check(scores, mask)
    if not mask.any() or mask.all():
        return float("nan"), float("nan")
    flagged = scores >= threshold
    true = int(np.sum(flagged & mask))
    wrong = int(np.sum(flagged ^ mask))
    return 2 * true / (2 * true + wrong), true / (true + wrong)


def best_f1_iou(scores: np.ndarray, mask: np.ndarray) -> tuple[float, float, float]:
    """The largest F1 over all thresholds, the IoU there (also the largest: it grows with F1), that threshold.

    Raises as `auc`.
    """
    return _best(_count(scores, mask))


def _check(scores: np.ndarray, mask: np.ndarray) -> None:
    if scores.shape != mask.shape or not mask.size:
        raise ValueError(f"map {scores.shape} and mask {mask.shape} differ in shape or are empty")
    if mask.dtype != bool:
        raise ValueError(f"the mask is {mask.dtype}, not bool")
    if not np.isfinite(scores).all():
        raise ValueError("the map has NaN or infinite values")


def _area(positive: np.ndarray, negative: np.ndarray) -> float:
    """AUC from the sorted scores of each class."""
    # Two sorts of values and a look-up take half the time of ranking all, which needs their order.
    if not positive.size or not negative.size:
        return float("nan")
    few, many = sorted((positive, negative), key=np.size)
    below = many.searchsorted(few)
    tied = many.take(below, mode="clip") == few
    doubled = 2 * int(below.sum()) + int((many.searchsorted(few[tied], "right") - below[tied]).sum())
    pairs = 2 * positive.size * negative.size
    return (doubled if few is positive else pairs - doubled) / pairs


def _count(scores: np.ndarray, mask: np.ndarray) -> _Counts:
    _check(scores, mask)
    order = np.argsort(scores, axis=None)[::-1]
    ranked, positive = scores.ravel()[order], mask.ravel()[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    true = np.cumsum(positive)[last]
    return _Counts(true, last + 1 - true, ranked[last], int(true[-1]), int(mask.size - true[-1]))


def _auc(counts: _Counts) -> float:
    if not counts.positives or not counts.negatives:
        return float("nan")
    true, false = np.append(0, counts.true), np.append(0, counts.false)
    doubled = np.sum(np.diff(false) * (true[1:] + true[:-1]))
    return float(doubled / (2 * counts.positives * counts.negatives))


def _average_precision(counts: _Counts) -> float:
    if not counts.positives or not counts.negatives:
        return float("nan")
    gained = np.diff(np.append(0, counts.true))
    return float(np.sum(gained * counts.true / (counts.true + counts.false)) / counts.positives)


def _best(counts: _Counts) -> tuple[float, float, float]:
    if not counts.positives or not counts.negatives:
        return float("nan"), float("nan"), float("nan")
    union = counts.false + counts.positives
    best = int(np.argmax(counts.true / union))
    iou = float(counts.true[best] / union[best])
    return 2 * iou / (1 + iou), iou, float(counts.thresholds[best])
