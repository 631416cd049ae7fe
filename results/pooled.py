"""`pooled.csv`: pixels of all pictures taken together, from the histograms of `curves.safetensors`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from results.pictures import AUTHENTIC, LABELS, Records
from results.records import as_text

POOLED = ("detector", "perturbation", "method", "seen", "pixels", "positives", "auc", "auc_error", "ap", "f1", "iou",
          "mcc", "best_f1", "best_iou", "best_threshold", "calibration_error")
FIGURES = POOLED[6:]


def pool_curves(path: Path, records: Records) -> Iterator[dict[str, str]]:
    """Rows of `pooled.csv`: by detector, perturbation and method, and "all seen", "all unseen", "all unknown" of
    forged methods. Of several seeds the numbers are means over seeds, `pixels` and `positives` of one."""
    labels = {(records.columns[column][0], records.methods[method]): LABELS[label] for column, method, label in
              zip(*np.unique(np.stack([records.column, records.method, records.label]), axis=1), strict=True)}
    groups: dict[tuple[str, str, str, str], dict[str, np.ndarray]] = {}
    for key, counts in load_file(path).items():
        detector, seed, perturbation, method = key.split("\t")
        seen = labels.get((detector, method), "unknown")
        for name in (method, f"all {seen}")[:1 if method == AUTHENTIC else 2]:
            seeds = groups.setdefault((detector, perturbation, name, seen), {})
            seeds[seed] = seeds.get(seed, 0) + counts
    order = [records.perturbations, [*records.methods, *(f"all {label}" for label in LABELS)], records.detectors]
    for detector, perturbation, method, seen in sorted(
            groups, key=lambda key: tuple(names.index(part) if part in names else len(names)
                                          for names, part in zip(order, (key[1], key[2], key[0]), strict=True))):
        found = list(groups[detector, perturbation, method, seen].values())
        figures = [pooled_figures(counts) for counts in found]
        yield {"detector": detector, "perturbation": perturbation, "method": method, "seen": seen,
               "pixels": str(max(int(counts.sum()) for counts in found)),
               "positives": str(max(int(counts[1].sum()) for counts in found))} | {
            name: as_text(float(np.mean([figure[name] for figure in figures]))) for name in FIGURES}


def pooled_figures(counts: np.ndarray) -> dict[str, float]:
    """All of `FIGURES` of a histogram, int64 2×bins: pristine and inpainted pixels by score, bins uniform in the logit
    over [−16, 16]; NaN where one class is missing. `auc_error` bounds what ties inside bins can change."""
    negatives, positives = (int(total) for total in counts.sum(1))
    if not negatives or not positives:
        return dict.fromkeys(FIGURES, float("nan"))
    bins = counts.shape[1]
    edges = 1 / (1 + np.exp(-np.linspace(-16, 16, bins + 1)))
    # From the highest bin down: what is flagged with each bin's lower edge as the threshold.
    pristine, painted = counts[:, ::-1].astype(float)
    false, true = np.cumsum(pristine), np.cumsum(painted)
    ties = float(np.sum(pristine * painted) / 2)
    auc = (float(np.sum(pristine * (true - painted))) + ties) / (negatives * positives)
    flagged = true + false
    precision = np.divide(true, flagged, out=np.ones_like(true), where=flagged > 0)
    iou = true / (false + positives)
    half, best = bins // 2 - 1, int(np.argmax(iou))
    tp, fp = true[half], false[half]
    fn, tn = positives - tp, negatives - fp
    margins = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    middle = (edges[:-1] + edges[1:]) / 2
    return {"auc": auc, "auc_error": ties / (negatives * positives),
            "ap": float(np.sum(painted * precision) / positives),
            "f1": 2 * tp / (2 * tp + fp + fn), "iou": tp / (tp + fp + fn),
            "mcc": (tp * tn - fp * fn) / np.sqrt(margins) if margins else float("nan"),
            "best_f1": 2 * iou[best] / (1 + iou[best]), "best_iou": float(iou[best]),
            "best_threshold": float(edges[bins - 1 - best]),
            "calibration_error": float(np.sum(np.abs(counts[1] - counts.sum(0) * middle)) / counts.sum())}
