"""The benchmark: each detector × perturbation × method, on photographs that no detector was trained on."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from configs.engine import pick_device
from configs.errors import UserError
from configs.files import read_rows, write_atomic, write_rows
from configs.progress import Progress
from configs.schema import RunConfig
from configs.streams import stream
from detectors.checkpoints import LoadedDetector, load_detector
from detectors.inference import predict_map, to_grey
from forgeries.dataset import ForgeryDataset, Recipe
from forgeries.methods import method_names
from forgeries.perturbations import covers, expand, perturb
from forgeries.photos import Photo, PhotoSet
from forgeries.readers import Case, Cases, read_by_method
from results.metrics import score_map
from results.summary import SUMMARY, summarize

RECORDS = ("detector", "method", "seen", "perturbation", "perturbation_seen", "image", "source", "mask_kind",
           "auc", "ap", "f1", "iou", "best_f1", "best_iou", "best_threshold", "mask_fraction")



@dataclass(frozen=True)
class TestCase:
    """A picture to score on: `image` RGB uint8 H×W×3, `mask` bool H×W."""

    __test__ = False

    name: str
    source: str
    mask_kind: str
    image: np.ndarray
    mask: np.ndarray


class ForgedCases(Dataset[TestCase]):
    """Cases forged from test photographs: the same photographs, crops and masks for all methods."""

    def __init__(self, config: RunConfig, photos: Sequence[Photo], method: str, perturbation: str) -> None:
        self.dataset = ForgeryDataset(photos, Recipe.of(config), config.seed, "test", config.benchmark.images,
                                      method=method, perturbation=perturbation, balanced=True, flip=False)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> TestCase:
        forgery = self.dataset.forgery(index)
        return TestCase(f"{forgery.photo}-{index:04d}", forgery.source, forgery.mask_kind, forgery.image,
                        forgery.mask)


class ReadCases(Dataset[TestCase]):
    """Cases of a forged dataset on disk."""

    def __init__(self, cases: Sequence[Case], perturbation: str, seed: int) -> None:
        self.cases, self.perturbation, self.seed = cases, perturbation, seed

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> TestCase:
        case = self.cases[index]
        generator = stream(self.seed, "perturb", case.method, case.name, self.perturbation)
        after = perturb(*case.load(), self.perturbation, generator)
        return TestCase(case.name, case.source, "", after.image, after.mask)


def run_benchmark(config: RunConfig, folder: Path, photos: PhotoSet | None) -> None:
    """Writes `results/records.csv`, one row a detector × perturbation × method × picture, `summary.csv` and
    the report's gallery. Finished (detector, perturbation, method) jobs of an interrupted run are kept.
    The photographs' test split is used, or where the configuration names `benchmark.data`, that dataset.

    Raises:
        UserError: no checkpoint, a test photograph that a detector was trained on, or a map of NaN.
    """
    out, settings = folder / "results", config.benchmark
    detectors = load_detectors(settings.detectors, folder, pick_device(config.device))
    sets = _case_sets(config, detectors, photos.test if photos else ())
    finished: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in read_rows(out / "records.csv"):
        finished.setdefault((row["perturbation"], row["method"], row["detector"]), []).append(row)
    jobs, first = [(*key, name) for key in sets for name in detectors], next(iter(sets))[0]

    def rows() -> list[dict[str, Any]]:
        return [row for job in jobs for row in finished.get(job, ())]

    with SummaryWriter(str(folder / "tensorboard" / "benchmark")) as board, \
            Progress("benchmark", sum(map(len, sets.values())), unit="picture") as progress:
        for (perturbation, method), cases in sets.items():
            pending = [name for name in detectors if (perturbation, method, name) not in finished]
            if not pending:
                progress.update(len(cases))
                continue
            # The gallery shows the first perturbation only.
            shown = settings.gallery if perturbation == first else 0
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in pending}
            for index, case in enumerate(_loaded(cases, config.forgeries.workers)):
                gallery = out / "gallery" / f"{method}-{index}" if index < shown else None
                if gallery:
                    _show_case(gallery, case, board, method)
                for name in pending:
                    found[name].append({"perturbation": perturbation, "method": method,
                                        **_score(name, detectors[name], case, method, perturbation, gallery)})
                progress.update(method=method)
            for name in pending:
                finished[perturbation, method, name] = found[name]
                aucs = [float(row["auc"]) for row in found[name] if row["auc"]]
                if aucs:
                    board.add_scalar(f"benchmark/{name}/{perturbation}/{method}", float(np.mean(aucs)))
            write_rows(out / "records.csv", RECORDS, rows())
    write_rows(out / "summary.csv", SUMMARY, summarize(rows(), settings.bootstrap, config.seed))


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
        name = path.resolve().parent.name if path.suffix == ".safetensors" else path.resolve().name
        if name in loaded:
            raise UserError(f"benchmark.detectors: two checkpoints are called {name}; rename one's folder")
        loaded[name] = load_detector(path, device)
    return loaded


def refuse_trained_on(name: str, provenance: Mapping[str, Any], photos: Iterable[tuple[str, str]]) -> None:
    """`photos` (path or name, digest) must not be among those that a detector was trained or selected on.

    Raises:
        UserError: one is, by digest.
    """
    known = {photo["digest"]: split for split, entries in provenance["photos"].items() for photo in entries}
    for label, digest in photos:
        if digest in known:
            raise UserError(f"{label}: a test photograph that is in the {known[digest]} split of {name}; "
                            "give other test photographs")


def _case_sets(config: RunConfig, detectors: Mapping[str, LoadedDetector], photos: Sequence[Photo]) \
        -> dict[tuple[str, str], ForgedCases | ReadCases]:
    """Test cases by perturbation and method, checked against what the detectors were trained on."""
    settings = config.benchmark
    read: dict[str, Cases] = {}
    if settings.data:
        read = read_by_method(Path(settings.data))
        known = [(row.get("photo", ""), row.get("digest", ""))
                 for row in read_rows(Path(settings.data) / "manifest.csv")]
    else:
        known = [(str(photo.path), photo.digest) for photo in photos]
    for name, detector in detectors.items():
        refuse_trained_on(name, detector.provenance, known)
    specs = {} if read else dict(zip(method_names(settings.methods), settings.methods, strict=True))
    return {(perturbation, method): ReadCases(read[method], perturbation, config.seed) if read
            else ForgedCases(config, photos, specs[method], perturbation)
            for perturbation in expand(settings.perturbations) for method in read or specs}


def _loaded(cases: Dataset[TestCase], workers: int) -> Iterator[TestCase]:
    """The cases in order, made by worker processes while detectors run."""
    return iter(DataLoader(cases, batch_size=None, num_workers=workers, worker_init_fn=_one_thread))


def _one_thread(worker: int) -> None:
    """Workers share the cores with the detectors."""
    cv2.setNumThreads(0)


def _score(name: str, detector: LoadedDetector, case: TestCase, method: str, perturbation: str,
           gallery: Path | None) -> dict[str, str]:
    probability = predict_map(detector.module, case.image)
    try:
        figures = score_map(probability, case.mask)
    except ValueError as error:
        raise UserError(f"{name}: cannot be scored on {method} picture {case.name}: {error}") from None
    if gallery:
        _write_png(gallery / f"map-{name}.png", to_grey(probability))
    trained_on = detector.provenance
    return {"detector": name, "seen": _seen(method, trained_on["methods"], str.__eq__),
            "perturbation_seen": _seen(perturbation, trained_on["perturbations"], covers),
            "image": case.name, "source": case.source, "mask_kind": case.mask_kind,
            **{key: "" if np.isnan(value) else f"{value:.9g}" for key, value in figures.items()}}


def _seen(name: str, trained_on: Sequence[str] | None, includes: Callable[[str, str], bool]) -> str:
    """What a detector was trained on is not known of every published checkpoint."""
    if trained_on is None:
        return "unknown"
    return "seen" if any(includes(trained, name) for trained in trained_on) else "unseen"


def _show_case(place: Path, case: TestCase, board: SummaryWriter, method: str) -> None:
    _write_png(place / "image.png", case.image[..., ::-1])
    _write_png(place / "mask.png", case.mask.astype(np.uint8) * 255)
    write_atomic(place / "name.txt", case.name + "\n")
    board.add_image(f"benchmark/{method}/{case.name}", case.image, dataformats="HWC")


def _write_png(path: Path, pixels: np.ndarray) -> None:
    write_atomic(path, cv2.imencode(".png", pixels)[1].tobytes())
