"""Metrics of pictures as a whole, forged against authentic, from one score each."""

import numpy as np

from results.metrics.counts import Counts
from results.metrics.ranked import rank


def picture_auc(scores: np.ndarray, forged: np.ndarray) -> float:
    """Area under the ROC curve of scores float P against labels bool P, ties counting half; undefined, NaN, for one
    class.

    Raises:
        ValueError: a score is NaN or infinite, the lengths differ, or the labels are not bool.
    """
    return rank(scores, forged).auc if np.size(scores) else float("nan")


def picture_counts(scores: np.ndarray, forged: np.ndarray, threshold: float) -> Counts:
    """Which pictures are called forged, their score being at least `threshold`: gives `accuracy`, `f1`,
    `balanced_accuracy`, `recall` and `false_alarm` of pictures. Arrays as in `picture_auc`."""
    called = np.asarray(scores) >= np.float64(threshold)
    positives = int(np.count_nonzero(forged))
    return Counts(int(np.count_nonzero(called & forged)), int(np.count_nonzero(called & ~forged)), positives,
                  forged.size - positives)


def image_threshold(scores: np.ndarray, forged: np.ndarray) -> float:
    """The threshold of picture scores float P with the largest balanced accuracy against labels bool P.

    Every threshold between two neighbouring scores is as good as another; of the best such gaps the widest is taken
    (the highest of several), and its middle. Where no gap is better than chance, nothing is to be called forged: the
    threshold is just above the highest score. Undefined, NaN, where there are pictures of one class alone.
    """
    values = np.unique(np.asarray(scores, np.float64))
    positive, negative = (np.sort(np.asarray(scores, np.float64)[part]) for part in (forged, ~forged))
    if not positive.size or not negative.size:
        return float("nan")
    low, high = values[:-1], values[1:]
    # As integers, so that what is equally good is equal: TPR − FPR times the number of pairs.
    gain = (positive.size - positive.searchsorted(high)) * negative.size \
        - (negative.size - negative.searchsorted(high)) * positive.size
    if not gain.size or gain.max() <= 0:
        return float(np.nextafter(values[-1], np.inf))
    best = np.flatnonzero(gain == gain.max())
    widest = best[::-1][np.argmax((high - low)[best[::-1]])]
    # Between two neighbouring floats the middle may round to the lower one, which is not to be flagged.
    return float(max(low[widest] / 2 + high[widest] / 2, np.nextafter(low[widest], np.inf)))
