"""Painted regions on disk, so that a slow method paints the same hole of the same picture once.

An entry is addressed by what it is made of: picture, mask, method with its version and parameters, the versions of the
libraries, and the state of the generator where the method draws from it. Whoever asks for the same gets the same bytes,
in any process and run.
"""

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from platformdirs import user_cache_path

from configs.files import write_atomic
from forgeries.methods import Method

FOLDER = "GIIDNET_CACHE"
"""Environment variable that names another folder than the user's cache folder."""

SHARDS = 256
SWEEP = 16
"""One in so many writes looks whether its shard of the cache is full."""

KEPT = 0.9
"""Share of its limit that a full shard is brought back to."""

STALE = 3600.0
"""Seconds after which a half-written file is that of a killed process."""


def cache_folder() -> Path:
    """Where this project keeps what it can make again."""
    return Path(os.environ.get(FOLDER) or user_cache_path("giidnet"))


@dataclass(frozen=True)
class PaintCache:
    """A folder of painted regions of at most about `limit` bytes.

    Safe with any number of processes and under a kill: entries appear whole, by renaming, and a damaged one is made
    again. A full shard loses entries by chance rather than the oldest: a training set larger than the cache, read in
    turns, would lose each entry just before it is needed.
    """

    folder: Path
    limit: int

    def paint(self, method: Method, image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The same as `method.paint`, made now or before; where it was made before, the generator stays as it is.

        Raises:
            UserError: as `method.paint`.
        """
        name = key(method, image, mask, generator)
        path = self.folder / name[:2] / name[2:]
        where = np.flatnonzero(mask) if method.composite else np.arange(mask.size)
        found = _read(path, 3 * where.size)
        if found is None:
            painted = np.ascontiguousarray(method.paint(image, mask, generator))
            self._write(path, painted.reshape(-1, 3)[where].tobytes())
            return painted
        result = image.copy()
        result.reshape(-1, 3)[where] = found.reshape(-1, 3)
        return result

    def _write(self, path: Path, data: bytes) -> None:
        """Writes an entry where that is possible: with the disk full, or the folder deleted meanwhile, the cache costs
        time only."""
        with suppress(OSError):
            write_atomic(path, hashlib.blake2b(data, digest_size=8).digest() + data, sync=False)
            if int(path.name[:4], 16) % SWEEP == 0:
                sweep(path.parent, self.limit // SHARDS)


def paint_cache(gigabytes: float) -> PaintCache | None:
    """The cache in the cache folder, of at most about `gigabytes`; None for 0."""
    return PaintCache(cache_folder() / "painted", int(gigabytes * 2 ** 30)) if gigabytes else None


def key(method: Method, image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> str:
    """Address of a painted region: 40 hexadecimal digits."""
    digest = hashlib.sha256(_libraries())
    drawn = "" if method.deterministic else repr(generator.bit_generator.state)
    digest.update(repr((method.name, method.version, sorted(method.parameters.items()), method.composite, mask.shape,
                        drawn)).encode())
    digest.update(np.packbits(mask).tobytes())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:40]


@cache
def _libraries() -> bytes:
    """Versions of what methods compute with."""
    names = ("numpy", "scipy", "scikit-image", "patchmatch-cython", "torch")
    return repr([cv2.__version__, *map(version, names)]).encode()


def _read(path: Path, size: int) -> np.ndarray | None:
    """uint8 of the given size; None where there is none, or a damaged one."""
    try:
        body = path.read_bytes()
    except OSError:
        return None
    data = body[8:]
    if len(data) != size or hashlib.blake2b(data, digest_size=8).digest() != body[:8]:
        return None
    return np.frombuffer(data, np.uint8)


def sweep(shard: Path, limit: int) -> None:
    """Brings a folder of more than `limit` bytes back to `KEPT` of it, by chance, and removes what kills left.

    Other processes may do the same at the same time.
    """
    entries: list[tuple[str, int]] = []
    for entry in os.scandir(shard):
        try:
            stat = entry.stat()
            if not entry.name.startswith("."):
                entries.append((entry.path, stat.st_size))
            elif time.time() - stat.st_mtime > STALE:
                Path(entry.path).unlink()
        except FileNotFoundError:
            continue
    total = sum(size for _, size in entries)
    if total <= limit:
        return
    # Folders list their files in an order that has nothing to do with their age; names are hashes.
    for path, size in sorted(entries, key=lambda entry: hashlib.blake2b(f"{entry[0]}{total}".encode()).digest()):
        Path(path).unlink(missing_ok=True)
        total -= size
        if total <= KEPT * limit:
            return
