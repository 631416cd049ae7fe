"""A picture with its mask wherever they lie, many of them in little memory, and what is wrong with a dataset."""

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, overload

import numpy as np

from configs.errors import UserError
from configs.pictures import decode_photo

AUTHENTIC = "authentic"
"""Method of a picture in which every pixel is pristine."""

TEXTS = 7
"""Strings of a packed case: paths and members of picture and mask, name, method, source."""


@dataclass(frozen=True)
class Member:
    """A file inside of an uncompressed tar shard: `size` bytes from `offset`."""

    shard: Path
    name: str
    offset: int
    size: int

    def read_bytes(self) -> bytes:
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    def __str__(self) -> str:
        return f"{self.shard}:{self.name}"


File = Path | Member


@dataclass(frozen=True)
class Case:
    """A picture and its mask, as files. Without a mask (None) every pixel is pristine.

    `method` is the inpainting method, "" where it is not known, `AUTHENTIC` where there is none; `source` names the
    scene: cases of one scene are dependent.
    """

    image: File
    mask: File | None
    name: str
    method: str
    source: str

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """RGB uint8 H×W×3 and bool H×W, True = inpainted.

        Raises:
            UserError: unreadable, or of different sizes.
        """
        image = decode_photo(read_bytes(self.image), str(self.image))
        if self.mask is None:
            return image, np.zeros(image.shape[:2], bool)
        mask = to_mask(decode_photo(read_bytes(self.mask), str(self.mask)))
        if image.shape[:2] != mask.shape:
            raise UserError(f"{self.mask}: {different_sizes(image, mask)}")
        return image, mask


def different_sizes(image: np.ndarray, mask: np.ndarray) -> str:
    """Both sizes in words."""
    return f"{mask.shape[1]}×{mask.shape[0]}, but its picture is {image.shape[1]}×{image.shape[0]}"


def read_bytes(file: File) -> bytes:
    """The content of a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None


def to_mask(pixels: np.ndarray) -> np.ndarray:
    """Bool H×W of a decoded mask (uint8 H×W×3): True from 128 on in any channel, or from 1 on where that is all."""
    brightest = pixels.max(2)
    return brightest >= (1 if brightest.max() <= 1 else 128)


class Cases(Sequence[Case]):
    """An immutable sequence of cases in a few arrays, some hundred bytes a case.

    Loader workers share the arrays of their parent. A hundred thousand `Case` objects they would copy: to read an
    object is to count a reference, which writes to its page.
    """

    def __init__(self, cases: Iterable[Case]) -> None:
        texts, ends, extents = bytearray(), array("q"), array("q")
        for case in cases:
            image, mask = _pack(case.image), _pack(case.mask)
            for text in (*image[:2], *mask[:2], case.name, case.method, case.source):
                texts += text.encode("utf-8", "surrogateescape")
                ends.append(len(texts))
            extents.extend((*image[2:], *mask[2:]))
        self._texts = np.array(texts, np.uint8)
        self._ends = np.array(ends, np.int64)
        self._extents = np.array(extents, np.int64).reshape(-1, 4)
        self._rows = np.arange(len(self._extents))

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> "Cases": ...

    def __getitem__(self, index: int | slice) -> "Case | Cases":
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        row = int(self._rows[index])
        first = row * TEXTS
        bounds = [int(self._ends[first - 1]) if first else 0, *self._ends[first:first + TEXTS].tolist()]
        data = self._texts[bounds[0]:bounds[-1]].tobytes()
        texts = [data[start - bounds[0]:stop - bounds[0]].decode("utf-8", "surrogateescape")
                 for start, stop in pairwise(bounds)]
        offset, size, mask_offset, mask_size = self._extents[row].tolist()
        image = _unpack(texts[0], texts[1], offset, size)
        assert image is not None
        return Case(image, _unpack(texts[2], texts[3], mask_offset, mask_size), *texts[4:])

    def __iter__(self) -> Iterator[Case]:
        return (self[index] for index in range(len(self)))

    def select(self, rows: Sequence[int] | np.ndarray) -> "Cases":
        """The cases at `rows`; the arrays are shared."""
        chosen = copy(self)
        chosen._rows = self._rows[np.asarray(rows, np.int64)]
        return chosen

    def by_method(self) -> dict[str, "Cases"]:
        """Cases of each method, methods in the order in which they first appear."""
        return self._grouped(case.method for case in self)

    def _grouped(self, keys: Iterable[str]) -> dict[str, "Cases"]:
        rows: dict[str, array[int]] = {}
        for row, key in enumerate(keys):
            rows.setdefault(key, array("q")).append(row)
        return {key: self.select(np.array(found)) for key, found in rows.items()}

    @property
    def nbytes(self) -> int:
        """Memory of the arrays."""
        return sum(column.nbytes for column in (self._texts, self._ends, self._extents, self._rows))


def _pack(file: File | None) -> tuple[str, str, int, int]:
    if isinstance(file, Member):
        return str(file.shard), file.name, file.offset, file.size
    return str(file or ""), "", 0, 0


def _unpack(path: str, name: str, offset: int, size: int) -> File | None:
    if name:
        return Member(Path(path), name, offset, size)
    return Path(path) if path else None


def split_by_source(cases: Cases, shares: Mapping[str, float]) -> dict[str, Cases]:
    """Cases by split, all cases of a source in one.

    A hash of the source, taken as a number in [0, 1), falls into one of the `shares` laid end to end. So the split of
    a source depends on its name alone, and cases that are added move none; the shares are met on average only.

    Raises:
        UserError: shares that do not sum to 1, or a negative one.
    """
    if min(shares.values(), default=0) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise UserError(f"shares of splits: must be at least 0 and sum to 1, not {dict(shares)}")
    names, bounds = list(shares), np.cumsum(list(shares.values()))

    def split_of(source: str) -> str:
        digest = hashlib.sha256(f"split {source}".encode("utf-8", "surrogateescape")).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        return names[min(int(np.searchsorted(bounds, place, "right")), len(names) - 1)]

    found = cases._grouped(split_of(case.source) for case in cases)
    return {name: found.get(name, cases[:0]) for name in names}


@dataclass(frozen=True)
class Kind:
    """A kind of problem: an error makes scores wrong or leaves cases out, a warning asks for a look."""

    severity: Literal["error", "warning"]
    advice: str


KINDS: Mapping[str, Kind] = {
    "missing file": Kind("error", "correct the list, or name the folder that its paths start from with --root"),
    "line not understood": Kind("error", "correct the line; docs/data.md shows each format"),
    "no mask": Kind("error", "add the mask, or remove the picture; authentic pictures need to be marked as such"),
    "several masks": Kind("error", "keep the one that belongs to the picture"),
    "mask without picture": Kind("warning", "add the picture, or remove the mask"),
    "name used twice": Kind("error", "rename or remove one: pictures and masks are paired by name"),
    "folder not read": Kind("warning", "move its pictures into images/ and masks/, or check it by itself"),
    "unreadable": Kind("error", "replace the file"),
    "different sizes": Kind("error", "make the mask again: resizing it moves its outline"),
    "masks look inverted": Kind("error", "invert the masks: 255 or 1 must mark what was inpainted"),
    "mask looks inverted": Kind("warning", "look at it: 255 or 1 must mark what was inpainted"),
    "mask not binary": Kind("warning", "save masks with 0 and 255 only; from 128 on counts as inpainted"),
    "mask is JPEG": Kind("warning", "save masks as PNG: JPEG blurs their outline; from 128 on counts as inpainted"),
    "mask has colours": Kind("warning", "save masks grey; from 128 on in any channel counts as inpainted"),
    "empty mask": Kind("warning", "mark the picture as authentic, or correct the mask"),
    "full mask": Kind("warning", "correct the mask: no metric of a map is defined for it"),
    "same picture twice": Kind("warning", "remove one: it counts twice in every mean"),
    "same picture in two sets": Kind("error", "remove it from one: a test must not know it"),
    "nearly the same picture in two sets": Kind("warning", "look at both; remove one if they show one scene"),
}
"""Every kind of problem, the most pressing first within its severity."""


@dataclass(frozen=True)
class Problem:
    """Something wrong with `file` of a dataset: a kind of `KINDS`, and what it is here."""

    file: str
    kind: str
    what: str

    @property
    def severity(self) -> str:
        """error or warning."""
        return KINDS[self.kind].severity
