"""`manifest.csv` of forged datasets, which `giidnet synthesize` writes: what each picture was made from, by what."""

import csv
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from configs.files import read_rows

MANIFEST = "manifest.csv"

LEVELS = 3
"""Folders that are looked in: `<METHOD>/images/<name>.png` lies two below its manifest."""


def manifest_finder() -> Callable[[Path], Mapping[str, str] | None]:
    """A function from a picture to its row in the manifest of the dataset that it lies in, None where there is none.

    The dataset may be entered anywhere: by a folder of it, by a list of some of its pictures, by a link. A row is the
    picture's by its columns `method` and `name`. Each manifest is read once.
    """
    @cache
    def rows(folder: Path) -> Mapping[tuple[str, str], Mapping[str, str]]:
        try:
            found = read_rows(folder / MANIFEST)
        except (csv.Error, OSError):
            # A file around the dataset that happens to be called so.
            return {}
        return {(row.get("method") or "", row.get("name") or ""): row for row in found}

    def find(image: Path) -> Mapping[str, str] | None:
        for path in dict.fromkeys((image.absolute(), image.resolve())):
            for folder in path.parents[:LEVELS]:
                if row := rows(folder).get((path.relative_to(folder).parts[0], path.stem)):
                    return row
        return None

    return find
