"""Bytes on disk that can be made again: bounded, whole, shared by all processes."""

import hashlib
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from configs.files import write_atomic

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
class Cache:
    """A folder of at most about `limit` bytes in entries that hexadecimal keys address.

    Safe with any number of processes and under a kill: entries appear whole, by renaming, and a damaged one is made
    again. A full shard loses entries by chance rather than the oldest: what is read in turns and larger than the cache
    would lose each entry just before it is needed.
    """

    folder: Path
    limit: int

    def read(self, key: str, size: int) -> bytes | None:
        """The `size` bytes of an entry; None where there is none, or a damaged one."""
        try:
            body = self._path(key).read_bytes()
        except OSError:
            return None
        data = body[8:]
        if len(data) != size or hashlib.blake2b(data, digest_size=8).digest() != body[:8]:
            return None
        return data

    def write(self, key: str, data: bytes) -> None:
        """Writes an entry where that is possible: with the disk full, or the folder deleted meanwhile, the cache costs
        time only."""
        with suppress(OSError):
            path = self._path(key)
            write_atomic(path, hashlib.blake2b(data, digest_size=8).digest() + data, sync=False)
            if int(key[:4], 16) % SWEEP == 0:
                sweep(path.parent, self.limit // SHARDS)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]


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
