"""`pooled.csv`: pixels of all pictures taken together, from the histograms of `curves.safetensors`."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from results.metrics import Curve
from results.pictures import AUTHENTIC, LABELS, Records
from results.records import as_text

POOLED = ("detector", "perturbation", "method", "seen", "pixels", "positives", "auc", "auc_error", "ap", "f1", "iou",
          "mcc", "best_f1", "best_iou", "best_threshold", "calibration_error")
FIGURES = POOLED[6:]


def pool_curves(path: Path, records: Records) -> Iterator[dict[str, str]]:
    """Rows of `pooled.csv`, numbers as `results.metrics.Curve` has them: by detector, perturbation and method, and "all
    seen", "all unseen", "all unknown" of forged methods. Of several seeds the numbers are means over seeds, `pixels`
    and `positives` of one."""
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
        numbers = [Curve(counts).numbers() for counts in found]
        yield {"detector": detector, "perturbation": perturbation, "method": method, "seen": seen,
               "pixels": str(max(seed["pixels"] for seed in numbers)),
               "positives": str(max(seed["positives"] for seed in numbers))} | {
            name: as_text(float(np.mean([seed[name] for seed in numbers]))) for name in FIGURES}
