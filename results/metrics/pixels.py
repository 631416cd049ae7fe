"""Pixel metrics of one picture: a float map H×W, higher = more surely inpainted, against a bool mask H×W.

Each raises ValueError where a score is NaN or infinite, the shapes differ, or the mask is not bool, and is NaN, that is
undefined, where it has no meaning; docs/metrics.md has a table. Of several metrics of one map, `rank` it once.
"""

import math

import numpy as np

from results.metrics.boundary import boundary_f1 as _boundary_f1
from results.metrics.counts import Counts
from results.metrics.ranked import CALIBRATION_BINS, check, check_finite, flagged_counts, rank


def score_map(scores: np.ndarray, mask: np.ndarray, val_threshold: float = math.nan) -> dict[str, float]:
    """All of `results.records.METRICS`, `best_threshold` (of the best F1 and IoU) and `mask_fraction`, by name.

    Fixed-threshold metrics are at 0.5; those called `val_…` at `val_threshold`, and undefined where that is NaN.
    """
    return rank(scores, mask).numbers(val_threshold)


def auc(scores: np.ndarray, mask: np.ndarray) -> float:
    """Area under the ROC curve, in [0, 1]: the chance that an inpainted pixel scores above a pristine one, ties
    counting half."""
    return rank(scores, mask).auc


def auc_f1(scores: np.ndarray, mask: np.ndarray, threshold: float) -> tuple[float, float]:
    """`auc`, and F1 of the pixels whose score is at least `threshold`."""
    return rank(scores, mask).auc, float(flagged_counts(scores, mask, threshold).f1)


def average_precision(scores: np.ndarray, mask: np.ndarray) -> float:
    """Σ (R_n − R_{n−1}) P_n over distinct thresholds, in [0, 1]: step by step under the precision–recall curve."""
    return rank(scores, mask).average_precision


def at_threshold(scores: np.ndarray, mask: np.ndarray, threshold: float) -> Counts:
    """What is flagged where the score is at least `threshold`: its `precision`, `recall`, `f1`, `iou`, `mcc`,
    `balanced_accuracy` and `false_alarm`."""
    check(scores, mask)
    check_finite(scores)
    return flagged_counts(scores, mask, threshold)


def f1_iou(scores: np.ndarray, mask: np.ndarray, threshold: float) -> tuple[float, float]:
    """F1 and intersection over union of the pixels whose score is at least `threshold`, both in [0, 1]."""
    counts = at_threshold(scores, mask, threshold)
    return float(counts.f1), float(counts.iou)


def best_f1_iou(scores: np.ndarray, mask: np.ndarray) -> tuple[float, float, float]:
    """The largest F1 over all thresholds, the largest IoU (at the same one: it grows with F1), and the threshold, the
    highest where there are several. Chosen by the mask: an oracle, an upper bound that no one reaches in practice."""
    return rank(scores, mask).best_f1_iou


def best_mcc(scores: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """The largest Matthews correlation over all thresholds, and the threshold: an oracle, as `best_f1_iou`."""
    return rank(scores, mask).best_mcc


def boundary_f1(scores: np.ndarray, mask: np.ndarray, threshold: float, tolerance: float | None = None) -> float:
    """Boundary F-measure within `tolerance` pixels (Csurka et al. 2013), see `results.metrics.boundary`."""
    check(scores, mask)
    check_finite(scores)
    return _boundary_f1(scores, mask, threshold, tolerance)


def calibration_error(scores: np.ndarray, mask: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error (Guo et al., ICML 2017, equation 3) of the probability that a pixel is inpainted, in
    [0, 1]: Σ_b n_b / n · |share inpainted of bin b − mean score of bin b|, over `bins` bins [k / bins, (k + 1) / bins)
    of equal width, the last one closed. It has a meaning for masks of one class; undefined, NaN, for scores outside
    [0, 1]."""
    return rank(scores, mask).calibration_error(bins)


def histogram(scores: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pixels by class and score: int64 2×`BINS`, row 0 pristine, row 1 inpainted, per bin of `results.metrics.bins`.
    Histograms of pictures add up to that of their pooled pixels.

    Raises:
        ValueError: also where a score is outside [0, 1].
    """
    return rank(scores, mask).histogram()
