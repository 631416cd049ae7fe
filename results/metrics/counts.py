"""Metrics of flagged pixels, or pictures, from how many there are of each kind."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """`true` of the `positives` and `false` of the `negatives` are flagged: integers, or int64 arrays of one shape, an
    entry a threshold or a picture, for which all metrics are float64 arrays of that shape.

    A metric that has no meaning is NaN. Flagging nothing where something is to be found is a failure, not an undefined
    case: recall, F1, IoU and MCC are 0, and only precision is undefined.
    """

    true: int | np.ndarray
    false: int | np.ndarray
    positives: int | np.ndarray
    negatives: int | np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """Share of what is flagged that is positive, in [0, 1]; undefined where nothing is flagged, or all is of one
        class."""
        return self._of_both(ratio(self.true, np.add(self.true, self.false)))

    @property
    def recall(self) -> np.ndarray:
        """Share of the positives that is flagged, in [0, 1]; undefined without any."""
        return ratio(self.true, self.positives)

    @property
    def false_alarm(self) -> np.ndarray:
        """Share of the negatives that is flagged, in [0, 1]; undefined without any."""
        return ratio(self.false, self.negatives)

    @property
    def f1(self) -> np.ndarray:
        """2 TP / (2 TP + FP + FN), in [0, 1]; undefined for one class."""
        return self._of_both(ratio(2 * np.asarray(self.true), np.add(self.true, self.false) + self.positives))

    @property
    def iou(self) -> np.ndarray:
        """TP / (TP + FP + FN), in [0, 1]; undefined for one class."""
        return self._of_both(ratio(self.true, np.add(self.false, self.positives)))

    @property
    def mcc(self) -> np.ndarray:
        """Matthews' correlation, in [−1, 1]; undefined for one class.

        Where all or nothing is flagged its formula is 0 / 0; it is 0 then, its limit (Chicco & Jurman 2020, BMC
        Genomics 21:6): the answer says nothing of the truth.
        """
        # As floats: products of four counts exceed 64 bits.
        true, false, positives, negatives = (np.asarray(part, np.float64) for part in
                                             (self.true, self.false, self.positives, self.negatives))
        flagged = true + false
        margins = np.sqrt(positives * negatives * flagged * (positives + negatives - flagged))
        return self._of_both(np.nan_to_num(ratio(true * negatives - false * positives, margins)))

    @property
    def balanced_accuracy(self) -> np.ndarray:
        """Mean of the shares of positives flagged and of negatives not flagged, in [0, 1]; undefined for one class."""
        return (self.recall + 1 - self.false_alarm) / 2

    @property
    def accuracy(self) -> np.ndarray:
        """Share that is judged right, in [0, 1]."""
        return ratio(np.subtract(self.true, self.false) + self.negatives, np.add(self.positives, self.negatives))

    def _of_both(self, values: np.ndarray) -> np.ndarray:
        return np.where(np.greater(self.positives, 0) & np.greater(self.negatives, 0), values, np.nan)


def ratio(part: int | np.ndarray, whole: int | np.ndarray) -> np.ndarray:
    """part / whole as float64, NaN where whole is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)
