"""Pooled pixels: metrics, curves and thresholds from histograms of scores."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from results.metrics.bins import BINS, CENTRES, EDGES
from results.metrics.counts import Counts, ratio
from results.metrics.ranked import CALIBRATION_BINS, THRESHOLD

CONFIDENCE = 0.95
"""Of the limit that a quiet threshold keeps."""


@dataclass(frozen=True)
class Curve:
    """Metrics of the pixels of a `histogram`, int64 2×`BINS`, or a sum of such: all pictures' pixels pooled, as if they
    were one picture. Large pictures and large masks weigh most.

    Metrics at 0.5, or at another edge of a bin, are exact. The AUC is so to `auc_error`. Metrics over all thresholds
    are over the edges; so their best ones are at most too small. One class alone makes a metric undefined, NaN, as for
    one map.
    """

    histogram: np.ndarray

    def __post_init__(self) -> None:
        if self.histogram.shape != (2, BINS):
            raise ValueError(f"a histogram is 2×{BINS}, not {self.histogram.shape}")

    @property
    def thresholds(self) -> np.ndarray:
        """The edges, rising, float64 `BINS`."""
        return EDGES

    @cached_property
    def counts(self) -> Counts:
        """What is flagged at each of the thresholds, int64 `BINS`."""
        false, true = np.cumsum(self.histogram[:, ::-1], axis=1)[:, ::-1]
        return Counts(true, false, self.positives, self.negatives)

    @property
    def positives(self) -> int:
        """Number of inpainted pixels."""
        return int(self.histogram[1].sum())

    @property
    def negatives(self) -> int:
        """Number of pristine pixels."""
        return int(self.histogram[0].sum())

    def at(self, threshold: float) -> Counts:
        """What is flagged at `threshold`, or the next edge above it."""
        index = int(EDGES.searchsorted(threshold))
        false, true = self.histogram[:, index:].sum(1)
        return Counts(int(true), int(false), self.positives, self.negatives)

    @property
    def auc(self) -> float:
        """Area under the ROC curve; pixels of one bin count as ties. Trapezoidal, hence the mean of the two extremes
        between which the exact one lies."""
        negative, positive = self.histogram.astype(np.float64)
        lower = np.cumsum(negative) - negative
        return float(ratio(positive @ (2 * lower + negative), 2 * negative.sum() * positive.sum()))

    @property
    def auc_error(self) -> float:
        """The largest difference of `auc` from that of the exact scores: reached where in every bin all inpainted
        pixels score above all pristine ones, or all below."""
        negative, positive = self.histogram.astype(np.float64)
        return float(ratio(positive @ negative, 2 * negative.sum() * positive.sum()))

    @property
    def average_precision(self) -> float:
        """Σ (R_n − R_{n−1}) P_n over the thresholds."""
        return float(ratio(self.histogram[1] @ np.nan_to_num(self.counts.precision),
                           self.positives if self.negatives else 0))

    @property
    def best_f1_iou(self) -> tuple[float, float, float]:
        """The largest F1, the IoU there, which is the largest too, and the threshold, the highest if several: an
        oracle."""
        best = self._best(self.counts.f1)
        return float(self.counts.f1[best]), float(self.counts.iou[best]), self._edge(best)

    @property
    def best_mcc(self) -> tuple[float, float]:
        """The largest MCC and its threshold, the highest if several: an oracle."""
        best = self._best(self.counts.mcc)
        return float(self.counts.mcc[best]), self._edge(best)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error over 15 bins of equal width, each score taken for the centre of its bin here: it
        differs from the exact one by less than 1/128, and twice the share of pixels that this moves to a neighbour."""
        groups = np.minimum((CENTRES * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
        pixels = self.histogram.sum(0)
        gaps = np.bincount(groups, self.histogram[1] - CENTRES * pixels)
        return float(ratio(np.abs(gaps).sum(), pixels.sum()))

    @property
    def roc(self) -> tuple[np.ndarray, np.ndarray]:
        """False- and true-positive rates, float64 `BINS` + 1, rising from (0, 0) to (1, 1)."""
        return (np.append(0.0, self.counts.false_alarm[::-1]), np.append(0.0, self.counts.recall[::-1]))

    @property
    def precision_recall(self) -> tuple[np.ndarray, np.ndarray]:
        """Recall, rising, and precision at thresholds where something is flagged, float64."""
        flagged = np.flatnonzero(self.histogram.sum(0))[::-1]
        return self.counts.recall[flagged], self.counts.precision[flagged]

    def numbers(self) -> dict[str, float]:
        """All metrics by name, and the numbers of `pixels` and `positives`."""
        at = self.at(THRESHOLD)
        best_f1, best_iou, best_threshold = self.best_f1_iou
        return {"pixels": int(self.histogram.sum()), "positives": self.positives, "auc": self.auc,
                "auc_error": self.auc_error, "ap": self.average_precision, "f1": float(at.f1), "iou": float(at.iou),
                "mcc": float(at.mcc), "best_f1": best_f1, "best_iou": best_iou, "best_mcc": self.best_mcc[0],
                "best_threshold": best_threshold, "calibration_error": self.calibration_error}

    def _best(self, values: np.ndarray) -> int:
        return BINS - 1 - int(np.argmax(values[::-1]))

    def _edge(self, index: int) -> float:
        return float(EDGES[index]) if self.positives and self.negatives else float("nan")


def best_threshold(histograms: Iterable[np.ndarray], least: float = 0.0) -> float:
    """The threshold, of those from `least` on, with the largest mean F1 per picture, over those pictures that have
    pixels of both classes.

    `histograms` holds a picture each, int64 2×`BINS`, such as an array P×2×`BINS`. The threshold is an edge of the
    bins; of a run of edges that are equally good, the middle of the longest run. NaN where no picture has both classes.
    """
    total, pictures = np.zeros(BINS), 0
    for histogram in histograms:
        if histogram.any(1).all():
            total += Curve(histogram).counts.f1
            pictures += 1
    if not pictures:
        return float("nan")
    total[: int(EDGES.searchsorted(least))] = -1
    # Sums of the same numbers in the same order: where no picture changes between two edges they are equal.
    bounds = np.flatnonzero(np.diff(total == total.max(), prepend=False, append=False)).reshape(-1, 2)
    start, stop = bounds[np.argmax(bounds[:, 1] - bounds[:, 0])]
    return float(EDGES[(start + stop - 1) // 2])


def quiet_threshold(forged: Iterable[np.ndarray], authentic: Iterable[np.ndarray], share: float) -> float:
    """The `best_threshold` of the `forged` pictures among those from which on the mean flagged share of pictures like
    the `authentic` ones is at most `share`, with a nominal confidence of 95 %.

    Both hold a picture's histogram each, int64 2×`BINS`; authentic ones are taken for independent. Of their mean share
    the one-sided upper limit of Student's t counts, which is low where a few pictures have most of it. The threshold
    that the mean itself allows would flag more than `share` of about every second other set of pictures. NaN without a
    forged picture, with fewer than two authentic ones, which have no limit, or where no edge of the bins flags so
    little.
    """
    shares = np.array([Curve(histogram).counts.false_alarm for histogram in authentic])
    if len(shares) < 2:
        return float("nan")
    error = shares.std(0, ddof=1) / len(shares) ** 0.5
    loud = np.flatnonzero(shares.mean(0) + stats.t.ppf(CONFIDENCE, len(shares) - 1) * error > share)
    least = loud[-1] + 1 if loud.size else 0
    return best_threshold(forged, float(EDGES[least])) if least < BINS else float("nan")
