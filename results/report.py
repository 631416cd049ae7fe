"""The report: one HTML file with everything inside, made from the files of a run folder alone."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib.figure import Figure

from configs.files import read_rows, write_atomic
from detectors.checkpoints import read_description
from forgeries.methods import METHODS
from results.metrics import METRICS
from results.plots import auc_by_method, curves, svg
from results.searches import COSTS, SearchFiles, cost_rows, read_search, search_figures, study_rows
from results.tables import columns_of, not_detected

TITLES = {"auc": "AUC", "ap": "Average precision", "f1": "F1 at 0.5", "iou": "IoU at 0.5",
          "best_f1": "F1 at the best threshold", "best_iou": "IoU at the best threshold"}
SEARCHED = "giidnet"

Row = Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """A metric's table: rows of cells, each (mean, interval, seen) or None."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, str, str] | None]]]


@dataclass(frozen=True)
class GalleryCase:
    """A picture of the gallery; `maps` are (detector, its map, that picture's AUC)."""

    method: str
    name: str
    image: str
    mask: str
    maps: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class RunFiles:
    """What a report is made of: the configuration, rows of the benchmark, trained detectors and the search.

    `models` describe the detectors, `histories` are of their training; `first` are the rows of `summary` for the first
    perturbation, `methods` those rows' methods.
    """

    config: Mapping[str, Any]
    config_text: str
    summary: Sequence[Row]
    records: Sequence[Row]
    models: Mapping[str, Any]
    histories: Mapping[str, Sequence[Row]]
    search: SearchFiles

    @property
    def perturbations(self) -> list[str]:
        return list(dict.fromkeys(row["perturbation"] for row in self.summary))

    @property
    def first(self) -> list[Row]:
        return [row for row in self.summary if row["perturbation"] == self.perturbations[0]]

    @property
    def methods(self) -> list[str]:
        return [name for name in columns_of(self.first) if not name.startswith("mean ")]


def read_run(folder: Path) -> RunFiles:
    """The files of a run folder, as far as they are there."""
    config_text = (folder / "config.yaml").read_text()
    config = yaml.safe_load(config_text)
    models = {path.parent.name: read_description(path) for path in
              sorted((folder / "retrain").glob("*/model.safetensors"))}
    return RunFiles(config, config_text, read_rows(folder / "results" / "summary.csv"),
                    read_rows(folder / "results" / "records.csv"), models,
                    {name: read_rows(folder / "retrain" / name / "history.csv") for name in models},
                    read_search(folder, config))


def run_figures(run: RunFiles) -> dict[str, Figure]:
    """All figures of the report by name: of the benchmark, the search and the training of detectors."""
    figures = {"auc_by_method": auc_by_method(run.first, run.methods)} if run.summary else {}
    figures |= search_figures(run.search)
    if run.histories:
        figures |= {f"training_{key}": curves(run.histories, key, label) for key, label in
                    (("train_loss", "training loss"), ("val_auc", "validation AUC"))}
    return figures


def write_report(folder: Path) -> Path:
    """Writes `results/report.html` of the run folder; the same files give the same bytes."""
    environment = Environment(loader=PackageLoader("results"), autoescape=select_autoescape(),
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    path = folder / "results" / "report.html"
    write_atomic(path, environment.get_template("report.html").render(_context(folder, read_run(folder))))
    return path


def _context(folder: Path, run: RunFiles) -> dict[str, Any]:
    search, first, methods = run.search, run.first, run.methods
    return {
        "config": run.config, "config_text": run.config_text,
        "figures": {name: svg(figure) for name, figure in run_figures(run).items()},
        "headline": headline(first), "methods": methods,
        "titles": {name: f"{METHODS[name].title} ({METHODS[name].source})" for name in methods if name in METHODS},
        "weak": "; ".join(f"{name}: {', '.join(found)}" for name, found in not_detected(first).items()),
        "tables": {perturbation: [_table(metric, [row for row in run.summary if row["perturbation"] == perturbation])
                                  for metric in METRICS] for perturbation in run.perturbations},
        "genotype": search.genotype, "comparison": search.comparison, "chosen": search.chosen, "study": search.study,
        "study_rows": study_rows(search.study),
        "cost_weight": search.cost_weight, "costs": cost_rows(search.cost), "cost": search.cost,
        "price": COSTS[search.price],
        "top": sorted(search.candidates, key=lambda row: (row["exact"] != "1", -float(row["score"])))[:10],
        "candidate_count": len(search.candidates),
        "raced": sum(row["exact"] != "1" for row in search.candidates),
        "models": run.models,
        "gallery": _gallery(folder / "results" / "gallery", list(run.models), run.records, methods),
        "pictures": len({row["image"] for row in run.records}),
        "sources": sorted({row["source"] for row in run.records}),
        "undefined": sum(not row["auc"] for row in run.records),
    }


def headline(rows: Sequence[Row]) -> list[str]:
    """What the run found, in sentences that claim no more than the intervals support."""
    means = {(row["detector"], row["method"]): row for row in rows if row["method"].startswith("mean ")}
    sentences = []
    for kind, words in (("mean seen", "methods it was trained on"), ("mean unseen", "methods it never saw")):
        own = means.get((SEARCHED, kind))
        if own is None or not own["auc"]:
            continue
        text = f"On {words}, the searched network reaches a mean AUC of {_with_interval(own)}"
        others = [row for (name, method), row in means.items() if method == kind and name != SEARCHED and row["auc"]]
        above = [row["detector"] for row in others if float(own["auc_low"]) > float(row["auc_high"])]
        below = [row["detector"] for row in others if float(own["auc_high"]) < float(row["auc_low"])]
        level = [row["detector"] for row in others if row["detector"] not in above + below]
        clauses = [f"{word} {', '.join(names)}" for word, names in (
            ("above", above), ("below", below), ("not distinguishable from (intervals overlap)", level)) if names]
        sentences.append(text + (": " + "; ".join(clauses) if clauses else "") + ".")
    return sentences


def _with_interval(row: Row, metric: str = "auc") -> str:
    return f"{float(row[metric]):.3f} [{float(row[metric + '_low']):.3f}, {float(row[metric + '_high']):.3f}]"


def _table(metric: str, rows: Sequence[Row]) -> Table:
    columns = list(columns_of(rows))
    cells = {(row["detector"], row["method"]): None if not row[metric] else (
        f"{float(row[metric]):.3f}", f"{float(row[metric + '_low']):.2f}–{float(row[metric + '_high']):.2f}",
        row["seen"]) for row in rows}
    names = dict.fromkeys(row["detector"] for row in rows)
    return Table(TITLES[metric], columns, [(name, [cells.get((name, column)) for column in columns])
                                           for name in names])


def _gallery(folder: Path, detectors: Sequence[str], records: Sequence[Row], methods: Sequence[str],
             ) -> list[GalleryCase]:
    scores = {(row["detector"], row["method"], row["image"]): row["auc"] for row in reversed(records)}
    places = sorted(folder.glob("*-*"), key=lambda place: (methods.index(_method(place)), place.name)) \
        if folder.exists() else []
    cases = []
    for place in places:
        method, name = _method(place), (place / "name.txt").read_text().strip()
        maps = []
        for path in sorted(place.glob("map-*.png"), key=lambda path: path.stem):
            detector = path.stem.removeprefix("map-")
            score = scores.get((detector, method, name))
            maps.append((detector, _embed(_heat(path)), f"{float(score):.3f}" if score else "undefined"))
        cases.append(GalleryCase(method, name, _embed(_outlined(place)), _embed(_read(place / "mask.png")),
                                 maps))
    return cases


def _method(place: Path) -> str:
    return place.name.rpartition("-")[0]


def _read(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    image = cv2.imread(str(path), flags)
    assert image is not None, path
    return image


def _heat(path: Path) -> np.ndarray:
    return cv2.applyColorMap(_read(path, cv2.IMREAD_GRAYSCALE), cv2.COLORMAP_INFERNO)


def _outlined(place: Path) -> np.ndarray:
    """The picture, magnified where it is small, with the mask's outline."""
    image, mask = _read(place / "image.png"), _read(place / "mask.png", cv2.IMREAD_GRAYSCALE)
    if max(image.shape) <= 256:
        image = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
        mask = cv2.resize(mask, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image, outlines, -1, (255, 255, 0), 1)


def _embed(image: np.ndarray, longest: int = 360) -> str:
    """PNG data URL; larger pictures are shrunk."""
    scale = longest / max(image.shape[:2])
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return "data:image/png;base64," + base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode()
