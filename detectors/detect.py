"""Heat maps of pictures on disk: what `giidnet detect` does."""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from torch import nn

from configs.errors import UserError
from configs.files import write_atomic, write_rows
from configs.pictures import read_photo
from configs.progress import Progress
from detectors.inference import MINIMUM_SIDE, Findings, default_tile, findings, overlay, predict_map, to_grey
from detectors.places import unique_stems
from detectors.sheet import Thumbnail, contact_sheets

DETECTIONS = ("image", "detector", "width", "height", "score", "threshold", "flagged_fraction", "largest_region",
              "region_left", "region_top", "region_width", "region_height", "seconds", "map", "overlay", "error")
SECONDS_BETWEEN_SAVES = 5.0


@dataclass(frozen=True)
class Options:
    """How to look: flag from `threshold` on, or from those of `thresholds` by detector; also write raw maps; side of
    the tiles (None: the detector's own, 0: never cut)."""

    threshold: float = 0.5
    raw: bool = False
    tile: int | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def threshold_of(self, detector: str) -> float:
        """The probability from which this detector flags a pixel."""
        return self.thresholds.get(detector, self.threshold)


def detect(files: Sequence[Path], detectors: Mapping[str, nn.Module], out: Path, options: Options,
           sheets: bool) -> tuple[int, list[str]]:
    """Writes maps and overlays of `files`, `detections.csv` with a row a picture and detector, and contact sheets.

    A picture that cannot be read costs a row with its error. Returns how many pictures were read, and those errors.
    """
    stems, several = unique_stems(files), len(detectors) > 1
    rows: list[dict[str, object]] = []
    thumbnails: list[Thumbnail] = []
    errors: list[str] = []
    saved = time.monotonic()
    progress = Progress("detect", len(files), unit="picture")
    try:
        for path in files:
            try:
                image = _read(path)
                results = [(name, *_look(module, image, options, options.threshold_of(name), progress))
                           for name, module in detectors.items()]
            except (UserError, RuntimeError, MemoryError) as error:
                errors.append(str(error).splitlines()[0] if isinstance(error, UserError) else f"{path}: {error!r}")
                rows.append({"image": path, "error": errors[-1].removeprefix(f"{path}: ")})
                progress.update()
                continue
            overlays = []
            for name, probability, found, seconds in results:
                stem = out / (f"{stems[path]}_{name}" if several else stems[path])
                overlays.append(overlay(image, probability, options.threshold_of(name)))
                _write_maps(stem, probability, overlays[-1], options.raw)
                rows.append({"image": path, "detector": name, "width": image.shape[1], "height": image.shape[0],
                             "threshold": f"{options.threshold_of(name):.6g}", **_figures(found),
                             "seconds": f"{seconds:.3f}", "map": f"{stem.name}_map.png",
                             "overlay": f"{stem.name}_overlay.png"})
            if sheets or several:
                scores = [found.score for _, _, found, _ in results]
                thumbnails.append(Thumbnail.of(path.name, image, overlays, scores))
            progress.update()
            if time.monotonic() - saved >= SECONDS_BETWEEN_SAVES:
                write_rows(out / "detections.csv", DETECTIONS, rows)
                saved = time.monotonic()
    finally:
        progress.close()
        write_rows(out / "detections.csv", DETECTIONS, rows)
    for number, data in enumerate(contact_sheets(thumbnails, list(detectors)), 1):
        write_atomic(out / f"contact_sheet_{number:02}.png", data)
    return len(files) - len(errors), errors


def _read(path: Path) -> np.ndarray:
    image = read_photo(path)
    if min(image.shape[:2]) < MINIMUM_SIDE:
        raise UserError(f"{path}: {image.shape[1]}×{image.shape[0]} is smaller than {MINIMUM_SIDE} pixels")
    return image


def _look(module: nn.Module, image: np.ndarray, options: Options, threshold: float,
          progress: Progress) -> tuple[np.ndarray, Findings, float]:
    """Map, findings, seconds."""
    started = time.perf_counter()
    tile = default_tile(module) if options.tile is None else options.tile
    probability = predict_map(module, image, tile or None,
                              lambda done, count: progress.update(0, tile=f"{done}/{count}"))
    return probability, findings(probability, threshold), time.perf_counter() - started


def _figures(found: Findings) -> dict[str, object]:
    left, top, width, height = found.box
    return {"score": f"{found.score:.6f}", "flagged_fraction": f"{found.flagged_fraction:.6f}",
            "largest_region": found.largest_region, "region_left": left, "region_top": top,
            "region_width": width, "region_height": height}


def _write_maps(stem: Path, probability: np.ndarray, shown: np.ndarray, raw: bool) -> None:
    for part, picture in (("map", to_grey(probability)), ("overlay", shown[..., ::-1])):
        write_atomic(stem.with_name(f"{stem.name}_{part}.png"), cv2.imencode(".png", picture)[1].tobytes())
    if raw:
        buffer = io.BytesIO()
        np.save(buffer, probability)
        write_atomic(stem.with_name(f"{stem.name}_map.npy"), buffer.getvalue())
