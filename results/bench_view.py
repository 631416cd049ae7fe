"""What a benchmark left in its results folder, read once, for tables, figures and the report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open

from configs.files import read_rows
from results.pictures import AUTHENTIC
from results.records import METRICS, frame_of, read_records
from results.tables import is_mean, shares_methods

TITLES = {
    "auc": "AUC", "ap": "Average precision", "f1": "F1 at 0.5", "iou": "IoU at 0.5", "mcc": "MCC at 0.5",
    "precision": "Precision at 0.5", "recall": "Recall at 0.5", "balanced_accuracy": "Balanced accuracy at 0.5",
    "boundary_f1": "Boundary F1 at 0.5", "best_f1": "F1 at the best threshold",
    "best_iou": "IoU at the best threshold", "best_mcc": "MCC at the best threshold",
    "val_f1": "F1 at the validation threshold", "val_iou": "IoU at the validation threshold",
    "val_mcc": "MCC at the validation threshold", "calibration_error": "Calibration error",
    "false_alarm": "False-alarm area at 0.5", "val_false_alarm": "False-alarm area at the validation threshold"}
"""Names of `METRICS` for people; those at the best threshold use each map's own."""

LOWER = frozenset({"calibration_error", "false_alarm", "val_false_alarm"})
"""Metrics of which less is better."""

KINDS = ("classical", "learned", "diffusion", "unknown")
PREFERRED = ("mean unseen", "mean unknown", "mean seen")
"""The mean that ranks a detector: the first of these that it has."""

COLUMNS = ("detector", "method", "perturbation", "image", "source", "error", "auc", "f1", "score",
           "perturbation_seen")
"""Of `records.csv`, those that the report reads."""

Row = Mapping[str, str]


@dataclass(frozen=True)
class Bench:
    """The files of a results folder, empty where they are missing. Rows are those of the CSV files, `about` is
    `benchmark.json`."""

    folder: Path
    about: Mapping[str, Any]
    summary: Sequence[Row]
    pooled: Sequence[Row]
    images: Sequence[Row]
    sizes: Sequence[Row]
    comparisons: Sequence[Row]
    ranks: Sequence[Row]
    variance: Sequence[Row]
    power: Sequence[Row]
    thresholds: Sequence[Row]
    variants: Sequence[Row]

    @property
    def perturbations(self) -> list[str]:
        """The first is the one that tables and figures are of where they do not say."""
        return list(dict.fromkeys(row["perturbation"] for row in self.summary))

    @property
    def metrics(self) -> list[str]:
        """Those that the summary holds."""
        return [metric for metric in METRICS if self.summary and metric in self.summary[0]]

    @cached_property
    def detectors(self) -> list[str]:
        """Best first, by mean AUC over the methods that they never saw, as far as there are any."""
        names = list(dict.fromkeys(row["detector"] for row in self.summary))
        return sorted(names, key=lambda name: -self.overall(name))

    @cached_property
    def methods(self) -> dict[str, str]:
        """Kinds by method: classical, learned, diffusion, others; in the benchmark's order within a kind."""
        found = {row["method"]: row.get("kind") or "unknown" for row in self.summary
                 if not is_mean(row["method"]) and row["method"] != AUTHENTIC}
        return dict(sorted(found.items(), key=lambda item: KINDS.index(item[1]) if item[1] in KINDS else len(KINDS)))

    @property
    def means(self) -> list[str]:
        """The means over methods that any detector has: "mean unseen" and the like."""
        found = {row["method"] for row in self.summary}
        return [name for name in PREFERRED if name in found]

    @property
    def main(self) -> str:
        """The mean that most of what is drawn shows."""
        return next(iter(self.means), "")

    @cached_property
    def ranked(self) -> frozenset[str]:
        """Those means that are over the same methods for all detectors."""
        return frozenset(name for name in self.means if shares_methods(self.summary, name))

    @property
    def unseen(self) -> list[str]:
        """Methods that no detector was trained on, or all where there is none such."""
        seen = {row["method"] for row in self.summary if row["seen"] == "seen"}
        return [method for method in self.methods if method not in seen] or list(self.methods)

    @cached_property
    def cells(self) -> dict[tuple[str, str, str], Row]:
        """Rows of the summary by perturbation, detector and method."""
        return {(row["perturbation"], row["detector"], row["method"]): row for row in self.summary}

    def overall(self, detector: str) -> float:
        """Mean AUC at the first perturbation by the preferred mean; −1 where undefined."""
        found = (self.cells.get((self.perturbations[0], detector, name), {}).get("auc") for name in PREFERRED)
        return next((float(value) for value in found if value), -1.0)

    def first(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the first perturbation."""
        return [row for row in rows if row["perturbation"] == self.perturbations[0]]

    @cached_property
    def trainings(self) -> dict[str, Mapping[str, Any]]:
        """What each detector was trained on, as far as `benchmark.json` says."""
        return {name: entries[0].get("trained_on") or {} for name, entries in self.about.get("detectors", {}).items()
                if entries}

    @cached_property
    def records(self) -> pd.DataFrame:
        """Columns `COLUMNS` of the records, texts as categories and numbers as float32."""
        path = self.folder / "records.csv"
        return read_records(path, COLUMNS) if path.exists() else frame_of([])

    @cached_property
    def trained_after(self) -> frozenset[tuple[str, str]]:
        """(detector, perturbation) where the detector was trained on pictures after the perturbation."""
        known = self.records.loc[self.records["perturbation_seen"] == "seen", ["detector", "perturbation"]]
        pairs = known.drop_duplicates().itertuples(index=False)
        return frozenset((str(detector), str(name)) for detector, name in pairs if name != "none")

    def histograms(self, methods: Sequence[str]) -> dict[str, np.ndarray]:
        """Pooled histograms by detector, int64 2×1024, summed over seeds and those of `methods` that it has, at the
        first perturbation; see `curves.safetensors`."""
        path, found = self.folder / "curves.safetensors", dict[str, np.ndarray]()
        if not path.exists():
            return {}
        with safe_open(path, "numpy") as file:
            for key in sorted(file.keys()):
                detector, _, perturbation, method = key.split("\t")
                if perturbation == self.perturbations[0] and method in methods:
                    found[detector] = found.get(detector, 0) + file.get_tensor(key)
        return {name: found[name] for name in self.detectors if name in found}


def read_bench(folder: Path) -> Bench:
    """The benchmark in the results folder `folder`, as far as it is there."""
    about = folder / "benchmark.json"
    return Bench(folder, json.loads(about.read_text()) if about.exists() else {}, *(
        read_rows(folder / f"{name}.csv") for name in ("summary", "pooled", "images", "sizes", "comparisons", "ranks",
                                                       "variance", "power", "thresholds", "variants")))
