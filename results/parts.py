"""Finished rows of a benchmark that is under way: a line of JSON each, so that a kill costs the picture at hand."""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from results.metrics import BINS


@dataclass(frozen=True)
class Part:
    """The row of picture `index`, and its map's histogram int64 2×BINS; None where the detector failed."""

    index: int
    row: dict[str, str]
    histogram: np.ndarray | None
    variants: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By published protocol what it needs of the picture."""


class Writer:
    """Appends to a file of its own, which no other process and no earlier run has written to."""

    def __init__(self, folder: Path, rank: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = sum(path.name.startswith(f"{rank}-") for path in folder.iterdir())
        self.file: BinaryIO = (folder / f"{rank}-{number}.jsonl").open("xb")

    def add(self, part: Part) -> None:
        """Writes the line before it returns."""
        counts = None if part.histogram is None else base64.b85encode(
            zlib.compress(part.histogram.astype("<u4").tobytes(), 1)).decode()
        line: dict[str, Any] = {"index": part.index, "row": part.row, "histogram": counts,
                                "variants": part.variants}
        self.file.write(json.dumps(line, ensure_ascii=True).encode() + b"\n")
        self.file.flush()

    def close(self) -> None:
        """Closes the file."""
        self.file.close()


def read_parts(folder: Path) -> list[Part]:
    """What all processes of all runs have finished, by index; a torn line is left out, and of several attempts at a
    picture the one that gave a map stands."""
    found: dict[int, dict[str, Any]] = {}
    for line in _lines(folder):
        if line["index"] not in found or found[line["index"]]["histogram"] is None:
            found[line["index"]] = line
    return [Part(index, line["row"], None if (counts := line["histogram"]) is None else np.frombuffer(
        zlib.decompress(base64.b85decode(counts)), "<u4").reshape(2, BINS).astype(np.int64), line["variants"])
        for index, line in sorted(found.items())]


def finished(folder: Path) -> set[int]:
    """Indices of the pictures that there is a map of; the others are tried again."""
    return {line["index"] for line in _lines(folder) if line["histogram"] is not None}


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                # A kill tears the last line of its file.
                if line.endswith(b"\n"):
                    yield json.loads(line)
