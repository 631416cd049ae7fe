"""The benchmark: each detector × perturbation × method on test photographs that no detector was trained on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch.utils.tensorboard import SummaryWriter

from configs.engine import resolve_device
from configs.errors import UserError
from configs.files import read_rows, write_atomic, write_rows
from configs.progress import Progress
from configs.schema import RunConfig
from detectors.checkpoints import LoadedDetector, load_detector
from detectors.inference import predict_map, to_grey
from forgeries.dataset import ForgeryDataset, Recipe
from forgeries.perturbations import perturb
from forgeries.photos import Photo, find_photos
from forgeries.readers import read_forged_folder
from results.metrics import score_map
from results.summary import SUMMARY, summarize

RECORDS = ("detector", "method", "seen", "perturbation", "perturbation_seen", "image", "source", "mask_kind", "auc",
           "ap", "f1", "iou", "best_f1", "best_iou", "best_threshold", "mask_fraction")


@dataclass(frozen=True)
class TestCase:
    """A picture to score on: `image` RGB uint8 H×W×3, `mask` bool H×W."""

    __test__ = False

    name: str
    source: str
    mask_kind: str
    image: np.ndarray
    mask: np.ndarray


def run_benchmark(config: RunConfig, folder: Path) -> None:
    """Writes `results/records.csv`, one row a detector × perturbation × method × picture, `summary.csv` and the
    report's gallery. Finished (detector, perturbation, method) jobs of an interrupted run are kept.

    Raises:
        UserError: no checkpoint, or a test photograph that a detector was trained on.
    """
    out, settings = folder / "results", config.benchmark
    detectors = load_detectors(settings.detectors, folder, resolve_device(config))
    photos = () if settings.data else find_photos(config.photos, config.forgeries.image_size).test
    for name, detector in detectors.items():
        refuse_trained_on(name, detector.provenance, photos)
    methods = list(read_forged_folder(Path(settings.data))) if settings.data else settings.methods
    jobs = [(name, perturbation, method) for perturbation in settings.perturbations for method in methods
            for name in detectors]
    finished: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in read_rows(out / "records.csv"):
        finished.setdefault((row["detector"], row["perturbation"], row["method"]), []).append(row)
    with SummaryWriter(str(folder / "tensorboard" / "benchmark")) as board, \
            Progress("benchmark", len(jobs), unit="job") as progress:
        for perturbation in settings.perturbations:
            for method in methods:
                pending = [name for name in detectors if (name, perturbation, method) not in finished]
                cases = list(_cases(config, photos, method, perturbation)) if pending else []
                if pending and perturbation == settings.perturbations[0]:
                    _save_gallery_cases(out, method, cases[:settings.gallery])
                for name in pending:
                    rows = _score(name, detectors[name], cases, method, perturbation,
                                  out if perturbation == settings.perturbations[0] else None, settings.gallery)
                    finished[name, perturbation, method] = rows
                    write_rows(out / "records.csv", RECORDS, [row for job in jobs for row in finished.get(job, ())])
                    aucs = [float(row["auc"]) for row in rows if row["auc"]]
                    if aucs:
                        board.add_scalar(f"benchmark/{name}/{perturbation}/{method}", float(np.mean(aucs)), 0)
                progress.update(len(detectors), method=method)
    rows = [row for job in jobs for row in finished[job]]
    write_rows(out / "summary.csv", SUMMARY, summarize(rows, settings.bootstrap, config.seed))


def load_detectors(paths: Sequence[str], folder: Path, device: str) -> dict[str, LoadedDetector]:
    """Detectors by the name of their checkpoint's folder; by default all that were retrained in `folder`.

    Raises:
        UserError: there is none, or two have one name.
    """
    found = [Path(path) for path in paths] or sorted(
        path.parent for path in (folder / "retrain").glob("*/model.safetensors"))
    if not found:
        raise UserError(f"{folder}: no retrained detector there; run retrain first, or name checkpoints "
                        "with --detectors")
    loaded: dict[str, LoadedDetector] = {}
    for path in found:
        name = path.parent.name if path.suffix == ".safetensors" else path.name
        if name in loaded:
            raise UserError(f"benchmark.detectors: two checkpoints are called {name}; rename one's folder")
        loaded[name] = load_detector(path, device)
    return loaded


def refuse_trained_on(name: str, provenance: Mapping[str, Any], photos: Sequence[Photo]) -> None:
    """Test photographs must not be among those that a detector was trained or selected on.

    Raises:
        UserError: one is, by digest.
    """
    known = {photo["digest"] for split in provenance["photos"].values() for photo in split}
    for photo in photos:
        if photo.digest in known:
            raise UserError(f"{photo.path}: a test photograph that {name} was trained on; give other test photographs")


def _cases(config: RunConfig, photos: Sequence[Photo], method: str, perturbation: str) -> Iterator[TestCase]:
    if config.benchmark.data:
        for case in read_forged_folder(Path(config.benchmark.data))[method]:
            image, mask = case.load()
            yield TestCase(case.name, case.source, "", perturb(image, perturbation), mask)
        return
    dataset = ForgeryDataset(photos, Recipe.of(config), config.seed, "test", config.benchmark.images, method=method,
                             perturbation=perturbation, balanced=True, flip=False)
    for index in range(len(dataset)):
        forgery = dataset.forgery(index)
        yield TestCase(f"{forgery.photo}-{index:04d}", forgery.source, forgery.mask_kind, forgery.image, forgery.mask)


def _score(name: str, detector: LoadedDetector, cases: Sequence[TestCase], method: str, perturbation: str,
           gallery: Path | None, shown: int) -> list[dict[str, str]]:
    seen = {True: "seen", False: "unseen"}
    rows = []
    for index, case in enumerate(cases):
        probability = predict_map(detector.module, case.image)
        if gallery is not None and index < shown:
            _write_png(_gallery(gallery, method, index) / f"map-{name}.png", to_grey(probability))
        figures = score_map(probability, case.mask)
        rows.append({
            "detector": name, "method": method, "seen": seen[method in detector.provenance["methods"]],
            "perturbation": perturbation,
            "perturbation_seen": seen[perturbation in detector.provenance["perturbations"]],
            "image": case.name, "source": case.source, "mask_kind": case.mask_kind,
            **{key: "" if np.isnan(value) else f"{value:.9g}" for key, value in figures.items()}})
    return rows


def _gallery(out: Path, method: str, index: int) -> Path:
    return out / "gallery" / f"{method}-{index}"


def _save_gallery_cases(out: Path, method: str, cases: Sequence[TestCase]) -> None:
    for index, case in enumerate(cases):
        place = _gallery(out, method, index)
        _write_png(place / "image.png", case.image[..., ::-1])
        _write_png(place / "mask.png", case.mask.astype(np.uint8) * 255)
        write_atomic(place / "name.txt", case.name + "\n")


def _write_png(path: Path, pixels: np.ndarray) -> None:
    write_atomic(path, cv2.imencode(".png", pixels)[1].tobytes())
