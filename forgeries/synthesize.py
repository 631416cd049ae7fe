"""Writes a forged dataset to a folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from configs.errors import UserError
from configs.files import write_atomic, write_rows
from configs.progress import Progress
from forgeries.dataset import ForgeryDataset, Recipe
from forgeries.photos import Photo

COLUMNS = ("method", "name", "width", "height", "mask_fraction", "mask_kind", "perturbation", "photo", "source_id",
           "digest", "seed")


def synthesize(photos: Sequence[Photo], out: Path, recipe: Recipe, seed: int, count: int) -> int:
    """Writes `<METHOD>/{images,masks,originals}/<name>.png` and `manifest.csv`; returns the number of pictures.

    `count` cases for each method of `recipe`, the same cases for all; mask 255 = inpainted. The same arguments give
    the same bytes. Pictures that an interrupted call with the same arguments has written are kept.

    Raises:
        UserError: `out` holds pictures of other arguments.
    """
    made_of = json.dumps({**asdict(recipe), "seed": seed, "count": count,
                          "photos": [photo.digest for photo in photos]}, indent=1)
    description = out / "recipe.json"
    if description.exists() and description.read_text() != made_of:
        raise UserError(f"{out}: holds a dataset of another recipe (see recipe.json); name another --out")
    write_atomic(description, made_of)
    rows = []
    with Progress("synthesize", count * len(recipe.methods), unit="picture") as progress:
        for method in recipe.methods:
            dataset = ForgeryDataset(photos, recipe, seed, "synthesize", count, method=method, balanced=True)
            for index in range(count):
                forgery, name = dataset.forgery(index), f"{index:05d}"
                mask = forgery.mask.astype(np.uint8) * 255
                for kind, pixels in (("originals", forgery.original), ("masks", mask), ("images", forgery.image)):
                    _write_png(out / method / kind / f"{name}.png", pixels)
                height, width = forgery.mask.shape
                rows.append({
                    "method": method, "name": name, "width": width, "height": height,
                    "mask_fraction": f"{forgery.mask.mean():.6f}", "mask_kind": forgery.mask_kind,
                    "perturbation": forgery.perturbation, "photo": forgery.photo, "source_id": forgery.source,
                    "digest": forgery.digest, "seed": seed})
                progress.update()
    write_rows(out / "manifest.csv", COLUMNS, rows)
    return len(rows)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    """RGB or grey uint8, atomically; a file that is there is whole, and the same."""
    if not path.exists():
        write_atomic(path, cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes())
