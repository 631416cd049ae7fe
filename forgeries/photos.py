"""Photographs: where they come from, what is wrong with them, and which split each belongs to."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from configs.errors import UserError
from configs.files import PICTURE_SUFFIXES
from configs.pictures import read_photo
from configs.schema import Photos

SCIKIT_IMAGE = {
    "train": ("coffee.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "rocket.jpg"),
    "val": ("motorcycle_left.png", "motorcycle_right.png"),
    "test": ("astronaut.png", "chelsea.png"),
}
"""The colour photographs inside scikit-image, split by picture; the two motorcycles are one scene."""


@dataclass(frozen=True)
class Photo:
    """A photograph on disk. `source` names its scene: pictures of one scene are dependent, and no two scenes share
    it; `digest` is the SHA-256 of the file."""

    path: Path
    name: str
    source: str
    digest: str


@dataclass(frozen=True)
class Scan:
    """The usable photographs of some folders, sorted, and those left out with the reason."""

    photos: tuple[Photo, ...]
    skipped: tuple[tuple[Path, str], ...]


@dataclass(frozen=True)
class PhotoSet:
    """Photographs by split, and those left out with the reason."""

    train: tuple[Photo, ...]
    val: tuple[Photo, ...]
    test: tuple[Photo, ...]
    skipped: tuple[tuple[Path, str], ...] = ()


def find_photos(photos: Photos, minimum_side: int) -> PhotoSet:
    """Photographs by split: by given folders, by share of `dirs`, or scikit-image's own.

    Raises:
        UserError: a folder is missing or holds no usable photograph, or a split would be empty.
    """
    if photos.train:
        scans = {split: scan(getattr(photos, split), minimum_side) for split in ("train", "val", "test")}
        return _disjoint(scans)
    if photos.dirs:
        found = scan(photos.dirs, minimum_side)
        return _shares(found, (photos.split.train, photos.split.val))
    spec = find_spec("skimage")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "data"
    scans = {split: scan([folder / name for name in names], minimum_side) for split, names in SCIKIT_IMAGE.items()}
    named = {split: tuple(replace(photo, source=photo.name.split("_")[0]) for photo in found.photos)
             for split, found in scans.items()}
    skipped = tuple(entry for found in scans.values() for entry in found.skipped)
    return PhotoSet(named["train"], named["val"], named["test"], skipped)


def scan(places: Iterable[str | Path], minimum_side: int) -> Scan:
    """All photographs at or below `places` whose sides are at least `minimum_side`, each content once.

    Raises:
        UserError: a place is missing, or nothing usable is there.
    """
    files: list[Path] = []
    folders = [Path(place) for place in places]
    for place in folders:
        if not place.exists():
            raise UserError(f"{place}: no such folder of photographs")
        below = place.rglob("*") if place.is_dir() else ()
        files += sorted(path for path in below if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
        files += [place] if place.is_file() else []
    where = ", ".join(map(str, folders[:3]))
    if not files:
        raise UserError(f"{where}: no photographs there (looked for {', '.join(sorted(PICTURE_SUFFIXES))})")
    with ThreadPoolExecutor() as pool:
        checked = list(pool.map(lambda path: _check(path, minimum_side), files))
    photos: dict[str, Photo] = {}
    skipped: list[tuple[Path, str]] = []
    for path, result in zip(files, checked, strict=True):
        if isinstance(result, str):
            skipped.append((path, result))
        elif result.digest in photos:
            skipped.append((path, f"the same as {photos[result.digest].name}"))
        else:
            photos[result.digest] = result
    if not photos:
        raise UserError(f"{where}: none of {len(files)} photographs can be used; {skipped[0][0].name}: {skipped[0][1]}")
    return Scan(tuple(photos.values()), tuple(skipped))


def hold_out(photos: Sequence[Photo], held_out: Sequence[Photo] = ()) -> tuple[tuple[Photo, ...], tuple[Photo, ...]]:
    """Photographs to train on, and to validate on: `held_out`, or by default a tenth of all, by a hash.

    Raises:
        UserError: one alone cannot be split, or none is left to train on.
    """
    ranked = sorted(photos, key=_rank)
    held = tuple(held_out) or tuple(ranked[:max(1, len(ranked) // 10)])
    digests = {photo.digest for photo in held}
    rest = tuple(photo for photo in ranked if photo.digest not in digests)
    if not rest:
        raise UserError("no photographs are left to train on: all are held out; give more")
    return rest, held


def _rank(photo: Photo) -> bytes:
    """The same pictures are ranked the same wherever they lie."""
    return hashlib.sha256(f"split {photo.digest}".encode()).digest()


def _check(path: Path, minimum_side: int) -> Photo | str:
    """The photograph, or what is wrong with it."""
    try:
        height, width = read_photo(path).shape[:2]
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
    if min(height, width) < minimum_side:
        return f"{width}×{height} is smaller than {minimum_side} pixels"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    # A file's name alone is not enough: cameras count from 1 on every card.
    return Photo(path, path.stem, f"{path.stem}-{digest[:8]}", digest)


def _disjoint(scans: dict[str, Scan]) -> PhotoSet:
    """A content that stands in two splits stays in the later one of train, val, test."""
    kept: dict[str, tuple[Photo, ...]] = {}
    skipped = [entry for found in scans.values() for entry in found.skipped]
    taken: dict[str, str] = {}
    for split in ("test", "val", "train"):
        photos = []
        for photo in scans[split].photos:
            if photo.digest in taken:
                skipped.append((photo.path, f"the same as a photograph of {taken[photo.digest]}"))
            else:
                photos.append(photo)
        if not photos:
            raise UserError(f"photos.{split}: all its photographs are in other splits too")
        taken |= {photo.digest: split for photo in photos}
        kept[split] = tuple(photos)
    return PhotoSet(kept["train"], kept["val"], kept["test"], tuple(skipped))


def _shares(found: Scan, shares: Sequence[float]) -> PhotoSet:
    """Splits by the rank of a hash of the content."""
    count = len(found.photos)
    if count < 3:
        raise UserError(f"photos.dirs: {count} usable photograph{'s' * (count > 1)} cannot be split into train, val "
                        "and test; give at least 3")
    ranked = sorted(found.photos, key=_rank)
    first = min(max(1, round(shares[0] * count)), count - 2)
    second = min(max(first + 1, round((shares[0] + shares[1]) * count)), count - 1)
    return PhotoSet(tuple(ranked[:first]), tuple(ranked[first:second]), tuple(ranked[second:]), found.skipped)
