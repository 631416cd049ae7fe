"""Scores that are finished, kept as files, so that a kill loses at most the unit under way and workers can add to
them."""

import hashlib
import io
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from configs.files import digest, write_atomic
from search.scoring import Batches, ScoringData, Unit

Compute = Callable[[Unit], np.ndarray]
Finished = Callable[[Unit, np.ndarray], None]


@dataclass(frozen=True)
class Store:
    """Scores of units, one file each in `folder`, which only holds those of the same weights and pictures."""

    folder: Path

    @classmethod
    def open(cls, place: Path, fingerprint: str) -> "Store":
        """The store in `place` of a fingerprint; those of other weights or pictures are deleted."""
        for other in place.glob("*"):
            if other.name != fingerprint:
                shutil.rmtree(other, ignore_errors=True)
        store = cls(place / fingerprint)
        store.folder.mkdir(parents=True, exist_ok=True)
        return store

    def get(self, unit: Unit) -> np.ndarray | None:
        """What `score_unit` gave, G×P×2; None where it is not known."""
        try:
            with np.load(self._path(unit)) as found:
                return found["values"]
        except FileNotFoundError:
            return None

    def compute(self, unit: Unit, compute: Compute) -> None:
        """Computes and saves what is not known, with the seconds that it took."""
        if self._path(unit).exists():
            return
        started, values, data = time.monotonic(), compute(unit), io.BytesIO()
        np.savez(data, values=values, seconds=time.monotonic() - started)
        # A worker may finish when the search has no use for it any more, and has deleted the folder.
        if self.folder.exists():
            write_atomic(self._path(unit), data.getvalue())

    def cost(self) -> tuple[float, int]:
        """Seconds, summed over processes, and scored pictures (of one genotype each) of all that is stored."""
        seconds, pictures = 0.0, 0
        for path in sorted(self.folder.glob("*.npz")):
            with np.load(path) as found:
                seconds += float(found["seconds"])
                pictures += found["values"].shape[0] * found["values"].shape[1]
        return seconds, pictures

    def _path(self, unit: Unit) -> Path:
        return self.folder / f"{unit.key}.npz"


def fingerprint(supernet: Path, data: ScoringData) -> str:
    """The same for the same weights (those in the file `supernet`) and the same pictures and masks."""
    parts = hashlib.sha256(digest(supernet).encode())
    for batches in (data.validation, data.recalibration):
        parts.update(_digest(batches))
    return parts.hexdigest()[:16]


def _digest(batches: Batches) -> bytes:
    parts = hashlib.sha256()
    for batch in batches:
        for tensor in batch:
            parts.update(str(tuple(tensor.shape)).encode())
            parts.update(tensor.cpu().numpy().tobytes())
    return parts.digest()


def evaluate_here(units: Sequence[Unit], store: Store, compute: Compute, finished: Finished) -> list[np.ndarray]:
    """Scores of the units, one after the other, computed where they are not stored."""
    results = []
    for unit in units:
        store.compute(unit, compute)
        values = store.get(unit)
        assert values is not None
        finished(unit, values)
        results.append(values)
    return results
