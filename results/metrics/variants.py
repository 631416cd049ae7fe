"""Metrics as the published evaluation code of other projects computes them, under the names of these: to compare with
numbers of their papers, not to judge by. docs/metrics.md says where each misleads.

Each takes maps, float32 H×W in [0, 1], with their masks, bool H×W, one by one, and gives numbers by name. All flag
strictly *above* the threshold. Maps have the size of their masks here; what a project does to get them there (resizing
pictures to a fixed size and maps back) is not part of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np

from results.metrics.pictures import picture_auc
from results.metrics.pixels import auc
from results.metrics.ranked import check, check_finite

Pairs = Iterable[tuple[np.ndarray, np.ndarray]]
"""Map and mask of each picture; passed through once."""

Scores = tuple[float, ...]
"""What a protocol needs of one picture."""


@dataclass(frozen=True)
class Variant:
    """How a project scores: what it needs of a picture, and what it makes of that of all of them (float P×N)."""

    score: Callable[[np.ndarray, np.ndarray], Scores]
    combine: Callable[[np.ndarray], dict[str, float]]
    text: str
    """What differs from this project's metrics, in a sentence."""

    def function(self, pairs: Pairs) -> dict[str, float]:
        """The numbers of a dataset by name.

        Raises:
            ValueError: a score is NaN or infinite, the shapes differ, or the mask is not bool.
        """
        rows = []
        for scores, mask in pairs:
            check(scores, mask)
            check_finite(scores)
            rows.append(self.score(scores, mask))
        return self.combine(np.array(rows, np.float64))


def iid_net(rows: np.ndarray) -> dict[str, float]:
    """`auc`: the mean over pictures of the exact pixel AUC, times 100 (repository HighwayWu/InpaintingForensics,
    `main.py`, validation). NaN as soon as one mask is of one class; the published code stops there, or with newer
    versions of scikit-learn does the same."""
    return {"auc": 100 * _mean(_column(rows, 0))}


def imdlbenco(rows: np.ndarray) -> dict[str, float]:
    """Means over pictures of `f1` and `iou` above 0.5 and of `auc` (repository scu-zjz/IMDLBenCo,
    `IMDLBenCo/evaluation`, `PixelF1`, `PixelIOU`, `PixelAUC`, mode "origin").

    An authentic picture counts as 0 in each, whatever the map: also F1 of a perfect answer. The AUC ranks pixels of
    equal score one after the other, in row order (torch promises no order there): a constant map gets anything between
    0 and 1, by where the mask lies. Where the whole picture was inpainted, AUC is NaN, and so is the mean.
    """
    return {name: _mean(_column(rows, number)) for number, name in enumerate(("f1", "iou", "auc"))}


def trufor(rows: np.ndarray) -> dict[str, float]:
    """Means over pictures of `best_f1`, at each picture's own best threshold, and `f1`, above 0.5; `skipped`, how many
    pictures the second is not defined for and leaves out (repository grip-unina/TruFor, `test_docker/metrics.py`).

    Pixels at the edge of the mask are ignored: inpainted ones that a 15×15 erosion of the mask removes, and pristine
    ones that a 11×11 dilation reaches. Both F1 are the larger one of the map's and of the inverted map's, pristine and
    inpainted exchanged in the map but not in the mask: a map that is wrong everywhere has F1 1. A mask too thin to
    survive the erosion leaves nothing to find, and both F1 are 0 then, or skipped.
    """
    best, fixed = _column(rows, 0), _column(rows, 1)
    return {"best_f1": _mean(best[~np.isnan(best)]), "f1": _mean(fixed[~np.isnan(fixed)]),
            "skipped": float(np.isnan(fixed).sum())}


def mvss(rows: np.ndarray) -> dict[str, float]:
    """`pixel_f1`, the mean of F1 above 0.5 over forged pictures alone; of pictures, by the maximum of the map, which is
    called forged above 0.5: `image_auc`, `accuracy`, `sensitivity`, `specificity`, `image_f1`; and `combined_f1`, the
    harmonic mean of both F1 (repository dong03/MVSS-Net, `evaluate.py`, `common/utils.py`).

    Maps are read from files of 8 bits, which were cut off to them, not rounded. `image_f1` is the harmonic mean of
    sensitivity and specificity, not of precision and recall. Its AUC is 0 for pictures of one class alone, and one
    bright pixel makes a picture forged.
    """
    score, truth, found = _column(rows, 0), _column(rows, 1).astype(bool), _column(rows, 2)
    called, pixel_f1 = score > 0.5, _mean(found[truth])
    sensitivity = np.count_nonzero(called & truth) / (np.count_nonzero(truth) + 1e-6)
    specificity = np.count_nonzero(~called & ~truth) / (np.count_nonzero(~truth) + 1e-6)
    image_f1 = _harmonic(sensitivity, specificity)
    return {"pixel_f1": pixel_f1, "image_auc": float(np.nan_to_num(picture_auc(score, truth))),
            "accuracy": np.count_nonzero(called == truth) / (truth.size + 1e-6), "sensitivity": sensitivity,
            "specificity": specificity, "image_f1": image_f1,
            "combined_f1": 2 * pixel_f1 * image_f1 / (pixel_f1 + image_f1 + 1e-6)}


def _imdlbenco(scores: np.ndarray, mask: np.ndarray) -> Scores:
    flagged = scores > 0.5
    true, positives, called = (np.count_nonzero(part) for part in (flagged & mask, mask, flagged))
    precision, recall = true / (called + 1e-8), true / (positives + 1e-8)
    return (2 * precision * recall / (precision + recall + 1e-8), true / (positives + called - true + 1e-8),
            _auc_without_ties(scores, mask))


def _mvss(scores: np.ndarray, mask: np.ndarray) -> Scores:
    """The map's maximum, whether the picture is forged, and F1."""
    written = np.floor(scores.astype(np.float32) * np.float32(255)) / 255.0
    flagged = written > 0.5
    true, wrong = np.count_nonzero(flagged & mask), np.count_nonzero(flagged ^ mask)
    return float(written.max()), float(mask.any()), 2 * true / (2 * true + wrong + 1e-6)



def _auc_without_ties(scores: np.ndarray, mask: np.ndarray) -> float:
    if not mask.any():
        return 0.0
    if mask.all():
        return float("nan")
    truth = mask.ravel()[np.argsort(-scores.ravel(), kind="stable")]
    # For each pristine pixel the inpainted ones before it: trapezoids of one step are rectangles.
    return int(np.cumsum(truth)[~truth].sum()) / (np.count_nonzero(truth) * np.count_nonzero(~truth))


def _trufor_f1(scores: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    image, around = mask.view(np.uint8), cv2.BORDER_REFLECT
    inpainted = cv2.erode(image, np.ones((15, 15), np.uint8), borderType=around).view(bool)
    pristine = ~cv2.dilate(image, np.ones((11, 11), np.uint8), borderType=around).view(bool)
    kept = inpainted | pristine
    values, truth = scores[kept].astype(np.float32), inpainted[kept]
    if not values.size:
        return float("nan"), float("nan")
    order = np.argsort(values)
    last = np.append(np.flatnonzero(np.diff(values[order])), values.size - 1)
    missed = np.cumsum(truth[order])[last]
    best = _larger_f1(truth.sum() - missed, values.size - 1 - last - (truth.sum() - missed), missed,
                      last + 1 - missed)
    flagged = values > 0.5
    fixed = _larger_f1(*(np.array(np.count_nonzero(part)) for part in
                         (flagged & truth, flagged & ~truth, ~flagged & truth, ~flagged & ~truth)))
    # A confusion matrix of one cell, for which the published code fails.
    alone = (not truth.any() and not flagged.any()) or bool(truth.all() and flagged.all())
    return best, float("nan") if alone else fixed


def _larger_f1(true: np.ndarray, false: np.ndarray, missed: np.ndarray, passed: np.ndarray) -> float:
    """The largest of all entries, of the map and of the inverted one."""
    straight = 2 * true / np.maximum(2 * true + missed + false, 1e-32)
    inverted = 2 * missed / np.maximum(2 * missed + true + passed, 1e-32)
    return float(max(straight.max(), inverted.max()))


def _harmonic(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second else float("nan")


def _column(rows: np.ndarray, number: int) -> np.ndarray:
    return rows[:, number] if len(rows) else np.empty(0)


def _mean(values: np.ndarray | Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


VARIANTS: Mapping[str, Variant] = MappingProxyType({
    "iid-net": Variant(
        lambda scores, mask: (auc(scores, mask),), iid_net,
        "mean over pictures of the pixel AUC, in percent; undefined as soon as a picture is authentic"),
    "imdlbenco": Variant(
        _imdlbenco, imdlbenco,
        "F1, IoU and AUC as means over pictures, above 0.5; authentic pictures count as 0 whatever the map, and equal "
        "scores are ranked by their place in the picture"),
    "trufor": Variant(
        _trufor_f1, trufor,
        "F1 without the border of the mask, of the map or of the inverted map, whichever is larger"),
    "mvss": Variant(
        _mvss, mvss,
        "F1 of forged pictures above 0.5, pictures by the maximum of their map, their F1 from sensitivity and "
        "specificity"),
})
"""By name."""
