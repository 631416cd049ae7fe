"""Files of a run: written whole or not at all, and a folder that one process at a time may write to."""

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from configs.errors import UserError

PICTURE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""Names of files that are looked at where a folder of pictures is given, in lower case."""


@contextmanager
def open_atomic(path: Path, sync: bool = True) -> Iterator[BinaryIO]:
    """A file to write to that becomes `path` at the end, so that a reader, or a kill at any moment, sees the old file
    or the new one; after an exception the old one.

    Without `sync` that does not hold for a power failure, and many small files are written several times faster.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(file.fileno())
        # mkstemp makes private files; a run's files are as public as any other file of the user.
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes | str, sync: bool = True) -> None:
    """Writes `data` to `path` as `open_atomic` does."""
    with open_atomic(path, sync) as file:
        # Names of files may be any bytes, which Python holds as surrogates.
        file.write(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data)


def digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes `rows` as CSV with a header line, atomically and one by one. None becomes an empty field."""
    with open_atomic(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        text.flush()
        text.detach()


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file with a header line, every value a string; an absent file has none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def make_folder(path: Path) -> Path:
    """Makes `path` and checks that files can be written in it.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot write there ({error.strerror}); name another folder with --out") from None
    return path


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder` for this process. The lock goes with the process, also when that is killed.

    Raises:
        UserError: another process holds it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder}: another process is running in it; wait for it or name another --out") from None
    try:
        yield
    finally:
        lock.release()
