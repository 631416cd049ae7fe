"""Forged datasets on disk.

    folder/
    ├── manifest.csv                 optional; its columns method, name, source_id tell dependent cases
    └── <METHOD>/
        ├── images/<name>.png
        └── masks/<name>.png         255 = inpainted
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs.errors import UserError
from configs.files import PICTURE_SUFFIXES, read_rows
from configs.pictures import read_photo


@dataclass(frozen=True)
class Case:
    """A forged picture and its mask, as files."""

    image: Path
    mask: Path
    name: str
    method: str
    source: str

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 H×W×3 and bool H×W.

        Raises:
            UserError: unreadable, or of different sizes.
        """
        image, mask = read_photo(self.image), read_photo(self.mask)[..., 0] >= 128
        if image.shape[:2] != mask.shape:
            raise UserError(f"{self.mask}: {mask.shape[1]}×{mask.shape[0]}, but its picture is "
                            f"{image.shape[1]}×{image.shape[0]}")
        return image, mask


def read_forged_folder(folder: Path) -> dict[str, list[Case]]:
    """Cases by method, sorted by name. Pictures and masks are paired by stem.

    Raises:
        UserError: no such layout, or a picture without a mask.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    sources = {(row.get("method"), row.get("name")): row["source_id"] for row in read_rows(folder / "manifest.csv")
               if row.get("source_id")}
    cases: dict[str, list[Case]] = {}
    for place in sorted(path.parent for path in folder.glob("*/images") if path.is_dir()):
        masks = {path.stem: path for path in (place / "masks").glob("*") if path.suffix.lower() in PICTURE_SUFFIXES}
        found = []
        for path in sorted((place / "images").iterdir()):
            if path.suffix.lower() not in PICTURE_SUFFIXES:
                continue
            if path.stem not in masks:
                raise UserError(f"{path}: has no mask {place.name}/masks/{path.stem}.png")
            found.append(Case(path, masks[path.stem], path.stem, place.name,
                              sources.get((place.name, path.stem), path.stem)))
        if found:
            cases[place.name] = found
    if not cases:
        raise UserError(f"{folder}: no <METHOD>/images/ with pictures there")
    return cases
