"""A map with its pixels in the order of their scores, from which all of its metrics follow."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from results.metrics.bins import EDGES
from results.metrics.boundary import boundary_f1
from results.metrics.counts import Counts

CALIBRATION_BINS = 15
"""Of equal width, as in Guo et al. 2017."""

THRESHOLD = 0.5
"""Of the metrics whose name names no other."""


def check(scores: np.ndarray, mask: np.ndarray) -> None:
    """Accepts a map and a bool mask of one shape, of at least one pixel; `rank` looks at the scores.

    Raises:
        ValueError: it is not so.
    """
    if scores.shape != mask.shape or not mask.size:
        raise ValueError(f"map {scores.shape} and mask {mask.shape} differ in shape or are empty")
    if mask.dtype != bool:
        raise ValueError(f"the mask is {mask.dtype}, not bool")


def check_finite(scores: np.ndarray) -> None:
    """Raises ValueError where a score is NaN or infinite."""
    if not np.isfinite(scores).all():
        raise ValueError("the map has NaN or infinite values")


@dataclass(frozen=True)
class RankedMap:
    """One picture's map and mask, from `rank`. All metrics are exact; one that has no meaning is NaN."""

    scores: np.ndarray
    """Float H×W."""
    mask: np.ndarray
    """Bool H×W, true where the picture was inpainted."""
    keys: np.ndarray
    """Unsigned, rising, one a pixel: twice a number that grows with the score, and 1 more where it is inpainted."""
    decode: Callable[[np.ndarray], np.ndarray]
    """Scores, float of at least 32 bits, from those numbers."""

    @cached_property
    def places(self) -> np.ndarray:
        """Where the inpainted pixels are in `keys`, int64."""
        return np.flatnonzero((self.keys.astype(np.uint8) & 1).view(bool))

    @property
    def positives(self) -> int:
        """Number of inpainted pixels."""
        return self.places.size

    @property
    def negatives(self) -> int:
        """Number of pristine pixels."""
        return self.keys.size - self.places.size

    @cached_property
    def values(self) -> np.ndarray:
        """The scores of `keys`, float of at least 32 bits."""
        return self.decode(self.keys >> 1)

    @property
    def _within(self) -> bool:
        """Whether all scores are in [0, 1]."""
        return bool(self.scores.min() >= 0 and self.scores.max() <= 1)

    @cached_property
    def _starts(self) -> np.ndarray:
        """Of the inpainted pixels, by rising score, the first of each score."""
        keys = self.keys[self.places]
        return np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if keys.size else self.places

    @cached_property
    def _tied(self) -> np.ndarray:
        """How many pristine pixels have the score of each of `_starts`; they stand right before them."""
        first = self.places[self._starts]
        with_ties = np.flatnonzero((first > 0) & (self.keys[first - 1] == self.keys[first] - 1))
        tied = np.zeros_like(first)
        tied[with_ties] = first[with_ties] - self.keys.searchsorted(self.keys[first[with_ties]] - 1)
        return tied

    @cached_property
    def steps(self) -> Counts:
        """What is flagged at each distinct score of an inpainted pixel as the threshold, by rising score. Between two
        of them only pristine pixels are gained, which makes every metric worse."""
        passed = self.places[self._starts] - self._starts - self._tied
        return Counts(self.positives - self._starts, self.negatives - passed, self.positives, self.negatives)

    def _value(self, step: int) -> float:
        """The score of a step."""
        place = self.places[self._starts[step]]
        return float(self.decode(self.keys[place:place + 1] >> 1)[0])

    @property
    def auc(self) -> float:
        """The area under the ROC curve."""
        if not self.positives or not self.negatives:
            return float("nan")
        gained = np.diff(self._starts, append=self.positives)
        lost = int(np.dot(gained, 2 * self.steps.false - self._tied))
        pairs = 2 * self.positives * self.negatives
        return (pairs - lost) / pairs

    @property
    def average_precision(self) -> float:
        """Σ (R_n − R_{n−1}) P_n over distinct thresholds."""
        if not self.positives or not self.negatives:
            return float("nan")
        return float(np.dot(np.diff(self._starts, append=self.positives), self.steps.precision) / self.positives)

    @property
    def best_f1_iou(self) -> tuple[float, float, float]:
        """The largest F1 over all thresholds, the largest IoU (at the same threshold: it grows with F1), and the
        highest threshold where they are reached."""
        if not self.positives or not self.negatives:
            return float("nan"), float("nan"), float("nan")
        iou = self.steps.iou
        best = _last_best(iou)
        return float(self.steps.f1[best]), float(iou[best]), self._value(best)

    @property
    def best_mcc(self) -> tuple[float, float]:
        """The largest MCC over all thresholds, and the highest threshold where it is reached. It is 0 at least, where
        all is flagged."""
        if not self.positives or not self.negatives:
            return float("nan"), float("nan")
        mcc = self.steps.mcc
        best = _last_best(mcc)
        if mcc[best] < 0:
            return 0.0, float(self.scores.min())
        return float(mcc[best]), self._value(best)

    def at(self, threshold: float) -> Counts:
        """What is flagged at `threshold`."""
        return flagged_counts(self.scores, self.mask, threshold)

    def calibration_error(self, bins: int = CALIBRATION_BINS) -> float:
        """The expected calibration error; undefined where a score is outside [0, 1]."""
        if not self._within:
            return float("nan")
        starts = self.values.searchsorted(np.arange(bins) / bins)
        starts = starts[starts < np.append(starts[1:], self.keys.size)]
        expected = np.add.reduceat(self.values, starts, dtype=np.float64)
        found = np.diff(self.places.searchsorted(starts), append=self.positives)
        return float(np.abs(found - expected).sum() / self.keys.size)

    def histogram(self) -> np.ndarray:
        """int64 2×`BINS`, see `histogram`.

        Raises:
            ValueError: a score is outside [0, 1].
        """
        if not self._within:
            raise ValueError(f"the map goes from {self.scores.min():g} to {self.scores.max():g}, and not within 0 to 1")
        starts = self.values.searchsorted(EDGES)
        positive = np.diff(self.places.searchsorted(starts), append=self.positives)
        return np.stack([np.diff(starts, append=self.keys.size) - positive, positive])

    def numbers(self, val_threshold: float = math.nan) -> dict[str, float]:
        """All of `score_map`."""
        best_f1, best_iou, best_threshold = self.best_f1_iou
        at = self.at(THRESHOLD)
        val = Counts(0, 0, 0, 0) if math.isnan(val_threshold) else self.at(val_threshold)
        return {
            "auc": self.auc, "ap": self.average_precision, "f1": float(at.f1), "iou": float(at.iou),
            "mcc": float(at.mcc), "precision": float(at.precision), "recall": float(at.recall),
            "balanced_accuracy": float(at.balanced_accuracy),
            "boundary_f1": boundary_f1(self.scores, self.mask, THRESHOLD),
            "best_f1": best_f1, "best_iou": best_iou, "best_mcc": self.best_mcc[0],
            "val_f1": float(val.f1), "val_iou": float(val.iou), "val_mcc": float(val.mcc),
            "calibration_error": self.calibration_error(), "false_alarm": float(at.false_alarm),
            "val_false_alarm": float(val.false_alarm), "best_threshold": best_threshold,
            "mask_fraction": self.positives / self.keys.size,
        }


def rank(scores: np.ndarray, mask: np.ndarray) -> RankedMap:
    """`scores` float H×W, of any range, and `mask` bool H×W, ranked once for all metrics.

    Raises:
        ValueError: a score is NaN or infinite, the shapes differ, or the mask is not bool.
    """
    check(scores, mask)
    numbers, decode = _ordered(scores.ravel())
    return RankedMap(scores, mask, _sorted(numbers << 1 | mask.ravel()), decode)


def flagged_counts(scores: np.ndarray, mask: np.ndarray, threshold: float) -> Counts:
    """What is flagged where a score is at least `threshold`, compared exactly, as float64."""
    flagged = scores >= np.float64(threshold)
    true, called, positives = (int(np.count_nonzero(part)) for part in (flagged & mask, flagged, mask))
    return Counts(true, called - true, positives, mask.size - positives)


def _ordered(scores: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Unsigned numbers, of fewer bits than their type has, in the order of `scores`; and what gives these back."""
    if scores.dtype != np.float32 and scores.dtype != np.float64:
        scores = scores.astype(np.float32 if scores.dtype == np.float16 else np.float64)
    if _is_grey(scores[:256]) and _is_grey(scores):
        return np.rint(scores * 255).astype(np.uint16), (np.arange(256, dtype=scores.dtype) / 255).__getitem__
    bits = scores.view(f"u{scores.itemsize}")
    # Bits of floats grow with them from 0 to infinity; what is negative or NaN has larger ones.
    if bits.max() < np.array(np.inf, scores.dtype).view(bits.dtype):
        return bits, lambda numbers: numbers.view(scores.dtype)
    check_finite(scores)
    # Steps between floats, counted from 0 both ways, where those from the smallest to the largest fit.
    limit = 1 << (8 * scores.itemsize - 2)
    signed = scores.view(f"i{scores.itemsize}")
    magnitude = signed & (2 * limit - 1)
    least = max(int(magnitude.max()) - limit + 1, 0)
    steps = np.maximum(magnitude - least, 0)
    if ((steps == 0) & (magnitude > 0)).any():
        levels, ranks = np.unique(scores, return_inverse=True)
        return ranks.astype(bits.dtype), levels.__getitem__

    def decode(numbers: np.ndarray) -> np.ndarray:
        away = numbers.view(steps.dtype) - limit
        floats = np.where(away == 0, 0, np.abs(away) + least).view(scores.dtype)
        return np.where(away < 0, -floats, floats)

    return (np.where(signed < 0, -steps, steps) + limit).view(bits.dtype), decode


def _is_grey(scores: np.ndarray) -> bool:
    """Whether all are of 8 bits, k / 255: a sixteenth of the numbers to sort by."""
    return bool(scores.min() >= 0 and scores.max() <= 1 and (np.rint(scores * 255) / 255 == scores).all())


def _sorted(keys: np.ndarray) -> np.ndarray:
    """`keys` rising. Stable sorts of 16 bits at a time, which NumPy does by radix, take half the time of its sort."""
    if keys.dtype == np.uint16:
        return np.sort(keys, kind="stable")
    for shift in range(0, int(keys.max()).bit_length(), 16):
        keys = keys.take(np.argsort((keys >> shift).astype(np.uint16), kind="stable"))
    return keys


def _last_best(values: np.ndarray) -> int:
    return values.size - 1 - int(np.argmax(values[::-1]))
