"""Writes a forged dataset to a folder, with all cores, and continues where it was interrupted."""

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from configs.errors import UserError
from configs.files import read_rows, write_atomic, write_rows
from configs.progress import Progress
from forgeries.card import data_card
from forgeries.dataset import ForgeryDataset, Recipe, one_thread
from forgeries.index import Photo, PhotoList
from forgeries.masks import files_digest
from forgeries.methods import find_method

COLUMNS = ("method", "name", "width", "height", "mask_fraction", "mask_kind", "composite", "perturbation", "applied",
           "photo", "source_id", "digest", "seed")

PART = "manifest.part.jsonl"
"""Rows of the pictures that an unfinished call has written, a line each: in CSV, a name can hold the end of a line."""


class _Pictures(Dataset[dict[str, Any]]):
    """Item `i` forges and writes a picture, and is its row of the manifest; methods come one after the other."""

    def __init__(self, photos: Sequence[Photo], out: Path, recipe: Recipe, seed: int, count: int) -> None:
        self.datasets = [ForgeryDataset(photos, recipe, seed, "synthesize", count, method=method, balanced=True)
                         for method in recipe.methods]
        self.methods, self.out, self.seed, self.count = recipe.methods, out, seed, count

    def __len__(self) -> int:
        return len(self.datasets) * self.count

    def __getitem__(self, i: int) -> dict[str, Any]:
        number, index = divmod(i, self.count)
        forgery, name = self.datasets[number].forgery(index), f"{index:05d}"
        mask = forgery.mask.astype(np.uint8) * 255
        for kind, pixels in (("originals", forgery.original), ("masks", mask), ("images", forgery.image)):
            png = cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes()
            try:
                write_atomic(self.out / forgery.method / kind / f"{name}.png", png, sync=False)
            except OSError as error:
                raise UserError(f"{self.out}: cannot write there ({error.strerror}); mend that, and the same command "
                                "continues") from None
        height, width = mask.shape
        return {"method": forgery.method, "name": name, "width": width, "height": height,
                "mask_fraction": f"{forgery.mask.mean():.6f}", "mask_kind": forgery.mask_kind,
                "composite": find_method(self.methods[number]).composite,
                "perturbation": forgery.perturbation, "applied": forgery.applied, "photo": forgery.photo,
                "source_id": forgery.source, "digest": forgery.digest, "seed": self.seed}


def synthesize(photos: Sequence[Photo], out: Path, recipe: Recipe, seed: int, count: int, jobs: int = 0) -> int:
    """Writes `<METHOD>/{images,masks,originals}/<name>.png`, `manifest.csv` and `README.md`, the data card; returns the
    number of pictures.

    `count` cases for each method of `recipe`, the same cases for all; mask 255 = inpainted. The same arguments give
    the same bytes, for any number of `jobs`, worker processes (0: none). Pictures that an interrupted call with the
    same arguments has written are not made again.

    Raises:
        UserError: `out` holds pictures of other arguments or cannot be written to, or a method cannot paint a mask.
    """
    arguments = {key: value for key, value in asdict(recipe).items() if key != "cache"}
    # Names and versions: the file that declares a method may lie anywhere.
    methods = {find_method(spec).name: find_method(spec).version for spec in recipe.methods}
    made_of = json.dumps({**arguments, "methods": methods, "mask_files": list(map(files_digest, recipe.masks)),
                          "seed": seed, "count": count, "photos": [photo.digest for photo in photos]}, indent=1)
    description, part = out / "recipe.json", out / PART
    rows = read_rows(out / "manifest.csv")
    if (rows or description.exists()) and (not description.exists() or description.read_text() != made_of):
        raise UserError(f"{out}: holds a dataset of another recipe (see recipe.json); name another --out")
    write_atomic(description, made_of)
    if rows:
        return len(rows)
    pictures, done = _Pictures(PhotoList(photos), out, recipe, seed, count), _written(part)
    with Progress("synthesize", len(pictures), done, unit="picture") as progress, part.open("a") as file:
        for row in _made(pictures, done, jobs):
            file.write(json.dumps(row) + "\n")
            file.flush()
            progress.update()
    rows = [json.loads(line) for line in part.read_text().splitlines()]
    for leftover in out.rglob(".*.png.*"):  # half-written by a killed process
        leftover.unlink()
    write_atomic(out / "README.md", data_card(recipe, rows, seed))
    write_rows(out / "manifest.csv", COLUMNS, rows)
    part.unlink()
    return len(rows)


def _made(pictures: _Pictures, start: int, jobs: int) -> Iterator[dict[str, Any]]:
    with warnings.catch_warnings():
        # The user chose so many.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        return iter(DataLoader(pictures, batch_size=None, sampler=range(start, len(pictures)), num_workers=jobs,
                               worker_init_fn=one_thread, generator=torch.Generator()))


def _written(part: Path) -> int:
    """Rows of an unfinished manifest; what a kill left of a last one is cut off."""
    if not part.exists():
        return 0
    text = part.read_bytes()
    whole = text[:text.rfind(b"\n") + 1]
    if whole != text:
        write_atomic(part, whole)
    return whole.count(b"\n")
