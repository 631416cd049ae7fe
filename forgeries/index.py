"""Large sets of photographs: lists that cost little memory, and what is known of each file from before."""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np


@dataclass(frozen=True)
class Photo:
    """A photograph on disk. `source` names its scene: pictures of one scene are dependent, and no two scenes share
    it; `digest` is the SHA-256 of the file, `hash` the perceptual one of its pixels, 0 where that is not known."""

    path: Path
    name: str
    source: str
    digest: str
    hash: int = 0


class PhotoList(Sequence[Photo]):
    """Photographs as one block of bytes; a `Photo` is made when it is asked for.

    Python objects of a hundred thousand photographs would be copied into every worker process as it counts
    references to them.
    """

    def __init__(self, photos: Iterable[Photo] = ()) -> None:
        rows = ["\0".join((str(photo.path), photo.name, photo.source, photo.digest, f"{photo.hash:x}"))
                .encode("utf-8", "surrogateescape") for photo in photos]
        self._ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
        self._text = np.frombuffer(b"".join(rows), np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Photo: ...
    @overload
    def __getitem__(self, index: slice) -> "PhotoList": ...

    def __getitem__(self, index: int | slice) -> "Photo | PhotoList":
        if isinstance(index, slice):
            return PhotoList(self[i] for i in range(*index.indices(len(self))))
        place = range(len(self))[index]
        row = self._text[self._ends[place - 1] if place else 0:self._ends[place]].tobytes()
        path, name, source, digest, number = row.decode("utf-8", "surrogateescape").split("\0")
        return Photo(Path(path), name, source, digest, int(number, 16))

    def __iter__(self) -> Iterator[Photo]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PhotoList) and self._ends.tobytes() == other._ends.tobytes() \
            and self._text.tobytes() == other._text.tobytes()

    def __hash__(self) -> int:
        return hash(self._text.tobytes())


@dataclass(frozen=True)
class Checked:
    """What was found when a file was last decoded: its size in pixels, SHA-256 and perceptual hash, or the problem."""

    height: int = 0
    width: int = 0
    digest: str = ""
    hash: int = 0
    problem: str = ""


Stamp = tuple[bytes, int, int]
"""Absolute path, size in bytes and time of change in nanoseconds: the same stamp, the same file."""


def stamp(path: Path) -> Stamp:
    """The stamp of a file; one that is gone has no size."""
    try:
        stat = path.stat()
    except OSError:
        return os.fsencode(path.absolute()), -1, 0
    return os.fsencode(path.absolute()), stat.st_size, stat.st_mtime_ns


class CheckedFiles:
    """A table, in one SQLite file, of files that were decoded before; safe with several processes and under a kill.

    Where the file cannot be opened or written, nothing is known and nothing is kept.
    """

    VERSION = 4
    """To be raised where the table or what is found in a file changes, such as the perceptual hash."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def find(self, stamps: Sequence[Stamp]) -> list[Checked | None]:
        """What is known of each file."""
        try:
            with closing(self._open()) as table:
                rows = (table.execute("SELECT height, width, digest, hash, problem FROM files "
                                      "WHERE path = ? AND size = ? AND changed = ?", entry).fetchone()
                        for entry in stamps)
                return [Checked(row[0], row[1], row[2], int(row[3], 16), row[4]) if row else None for row in rows]
        except (sqlite3.Error, OSError):
            return [None] * len(stamps)

    def keep(self, entries: Iterable[tuple[Stamp, Checked]]) -> None:
        """Adds what was found."""
        try:
            with closing(self._open()) as table, table:
                table.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (
                    (*entry, found.height, found.width, found.digest, f"{found.hash:016x}", found.problem)
                    for entry, found in entries))
        except (sqlite3.OperationalError, OSError):
            return
        except sqlite3.DatabaseError:  # damaged: the next one is new
            with suppress(OSError):
                self.path.unlink()

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        table = sqlite3.connect(self.path, timeout=30)
        table.execute("PRAGMA journal_mode = WAL")
        if table.execute("PRAGMA user_version").fetchone()[0] != self.VERSION:
            table.executescript(f"BEGIN; DROP TABLE IF EXISTS files; CREATE TABLE files (path BLOB PRIMARY KEY, "
                                "size INTEGER, changed INTEGER, height INTEGER, width INTEGER, digest TEXT, hash TEXT, "
                                f"problem TEXT) WITHOUT ROWID; PRAGMA user_version = {self.VERSION}; COMMIT;")
        return table
