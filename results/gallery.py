"""Single pictures in the report: a gallery of some, and the numbers of many."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from results.bench_view import AUTHENTIC, Bench

CASES, MAPS, SIDE = 60, 6, 220
"""At most: pictures of the gallery, maps of each, and pixels of a thumbnail's longer side. A page stays small."""

LISTED = 2000
"""Pictures whose numbers are in the page, at most."""

OUTLINE = (255, 255, 0)
"""Of a mask, blue, green, red."""


@dataclass(frozen=True)
class GalleryCase:
    """A picture of the gallery as data URLs; `maps` are (detector, its map, that picture's AUC). `rank` is by mean
    score: "best", "median", "worst", or "quantile-75" and the like."""

    method: str
    rank: str
    name: str
    score: str
    perturbation: str
    image: str
    mask: str
    maps: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Listing:
    """Scores by picture for the script: `rows` are [picture, method, mean AUC, AUC by detector, F1 by detector] in
    thousandths, None where undefined, worst first; `of` is how many there are in all. A name that pictures of several
    sources bear is "source: picture"."""

    detectors: Sequence[str]
    rows: Sequence[list[Any]]
    of: int


def read_gallery(bench: Bench) -> list[GalleryCase]:
    """Up to `CASES` of the pictures that the benchmark kept, in the order of methods, with the maps of the leading
    detectors."""
    methods = [*bench.methods, AUTHENTIC]
    places = sorted((path.parent for path in (bench.folder / "gallery").glob("*/*/case.json")
                     if path.parent.parent.name in methods),
                    key=lambda place: (methods.index(place.parent.name), -_per_cent(place.name)))
    # Where there is no room for all, the extremes of every method come first.
    chosen = sorted(places, key=lambda place: 50 - abs(_per_cent(place.name) - 50))[:CASES]
    return [_case(place, bench.detectors) for place in places if place in chosen]


def list_pictures(bench: Bench) -> Listing:
    """AUC and F1 of every detector, means over seeds, for pictures taken evenly from the worst to the best."""
    if not bench.perturbations or bench.records.empty:
        return Listing(bench.detectors, [], 0)
    frame = bench.records
    frame = frame[(frame["perturbation"] == bench.perturbations[0]) & (frame["method"] != AUTHENTIC)]
    keys = ["method", "source", "image"]
    means = frame.groupby(keys, observed=True)["auc"].mean().dropna().sort_index().sort_values(kind="stable")
    if means.empty:
        return Listing(bench.detectors, [], 0)
    chosen = means.iloc[np.unique(np.linspace(0, len(means) - 1, min(LISTED, len(means))).round().astype(int))]
    wanted = frame.join(chosen.rename("mean"), on=keys, how="inner")
    table = wanted.groupby([*keys, "detector"], observed=True)[["auc", "f1"]].mean()
    aucs, f1s = (table[key].unstack("detector").reindex(index=chosen.index, columns=bench.detectors).to_numpy()
                 for key in ("auc", "f1"))
    shared = means.reset_index(["source"]).index.duplicated(keep=False)
    ambiguous = set(means.index[shared])
    return Listing(bench.detectors, [
        [f"{source}: {image}" if key in ambiguous else str(image), str(method), _thousandths(mean),
         [*map(_thousandths, auc)], [*map(_thousandths, f1)]]
        for key, mean, auc, f1 in zip(chosen.index, chosen, aucs, f1s, strict=True)
        for method, source, image in [key]], len(means))


def _thousandths(value: float) -> int | None:
    return None if np.isnan(value) else round(1000 * float(value))


def _case(place: Path, detectors: Sequence[str]) -> GalleryCase:
    about = json.loads((place / "case.json").read_text())
    scores = {name: float(score) for name, score in about["auc"].items() if score}
    mask = _read(place / "mask.png", cv2.IMREAD_GRAYSCALE)
    image = _outlined(_read(place / "image.png"), mask)
    maps = []
    for name in [name for name in detectors if (place / f"map-{name}.png").exists()][:MAPS]:
        heat = cv2.applyColorMap(_fit(_read(place / f"map-{name}.png", cv2.IMREAD_GRAYSCALE)), cv2.COLORMAP_INFERNO)
        maps.append((name, _embed(heat, ".webp"), f"{scores[name]:.3f}" if name in scores else ""))
    return GalleryCase(place.parent.name, place.name, about["image"],
                       f"{np.mean(list(scores.values())):.3f}" if scores else "", about["perturbation"],
                       _embed(image, ".webp"), _embed(_fit(mask), ".png"), maps)


def _per_cent(rank: str) -> float:
    """Of the names of ranks: 75 of "quantile-75"."""
    return {"best": 100.0, "median": 50.0, "worst": 0.0}.get(rank) or float(rank.partition("-")[2] or 0)


def _read(path: Path, flags: int = cv2.IMREAD_COLOR) -> np.ndarray:
    image = cv2.imread(str(path), flags)
    assert image is not None, path
    return image


def _fit(image: np.ndarray) -> np.ndarray:
    """With `SIDE` pixels on the longer side."""
    scale = SIDE / max(image.shape[:2])
    return cv2.resize(image, None, fx=scale, fy=scale,
                      interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)


def _outlined(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    image = _fit(image)
    size = image.shape[1], image.shape[0]
    outlines, _ = cv2.findContours(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST), cv2.RETR_LIST,
                                   cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image, outlines, -1, OUTLINE, 1)


def _embed(image: np.ndarray, suffix: str) -> str:
    """Data URL; the same pixels give the same bytes."""
    data = cv2.imencode(suffix, image, [cv2.IMWRITE_WEBP_QUALITY, 80] if suffix == ".webp" else [])[1]
    return f"data:image/{suffix[1:]};base64," + base64.b64encode(data.tobytes()).decode()
