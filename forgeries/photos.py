"""Photographs: where they come from, what is wrong with them, and which split each belongs to."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from configs.cache import cache_folder
from configs.errors import UserError
from configs.files import PICTURE_SUFFIXES
from configs.pictures import decode_photo
from configs.progress import Progress
from configs.schema import Photos
from forgeries.duplicates import near_duplicates, perceptual_hash
from forgeries.index import Checked, CheckedFiles, Photo, PhotoList, stamp

SCIKIT_IMAGE = {
    "train": ("coffee.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "rocket.jpg"),
    "val": ("motorcycle_left.png", "motorcycle_right.png"),
    "test": ("astronaut.png", "chelsea.png"),
}
"""The colour photographs inside scikit-image, split by picture; the two motorcycles are one scene."""

CHUNK = 1000
"""Files that are decoded before what was found is kept."""


@dataclass(frozen=True)
class Scan:
    """The usable photographs of some folders, sorted, their perceptual hashes (uint64), and those left out with the
    reason. Photographs that look nearly the same have one source."""

    photos: PhotoList
    hashes: np.ndarray
    skipped: tuple[tuple[Path, str], ...]


@dataclass(frozen=True)
class PhotoSet:
    """Photographs by split, and those left out with the reason."""

    train: PhotoList
    val: PhotoList
    test: PhotoList
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
    named = {split: PhotoList(replace(photo, source=photo.name.split("_")[0]) for photo in found.photos)
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
    photos: dict[str, Photo] = {}
    found_hashes: list[int] = []
    skipped: list[tuple[Path, str]] = []
    for path, found in zip(files, check_files(files), strict=True):
        if found.problem:
            skipped.append((path, found.problem))
        elif min(found.height, found.width) < minimum_side:
            skipped.append((path, f"{found.width}×{found.height} is smaller than {minimum_side} pixels"))
        elif found.digest in photos:
            skipped.append((path, f"the same as {photos[found.digest].name}"))
        else:
            # A file's name alone is not enough: cameras count from 1 on every card.
            photos[found.digest] = Photo(path, path.stem, f"{path.stem}-{found.digest[:8]}", found.digest,
                                         found.hash)
            found_hashes.append(found.hash)
    if not photos:
        raise UserError(f"{where}: none of {len(files)} photographs can be used; {skipped[0][0].name}: {skipped[0][1]}")
    hashes = np.array(found_hashes, np.uint64)
    return Scan(PhotoList(_one_source(list(photos.values()), hashes)), hashes, tuple(skipped))


def _one_source(photos: Sequence[Photo], hashes: np.ndarray) -> Iterator[Photo]:
    """The photographs, where those that look nearly the same have the source of the first of them."""
    pairs = [(pair.index, pair.other_index) for pair in near_duplicates({"": hashes, "again": hashes})]
    first, second = np.array(pairs, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (first, second)), (len(photos),) * 2)
    groups = connected_components(graph, directed=False)[1]
    leaders = np.unique(groups, return_index=True)[1]
    return (replace(photo, source=photos[leaders[group]].source) for photo, group in zip(photos, groups, strict=True))


def check_files(files: Sequence[Path]) -> list[Checked]:
    """Size, digest and perceptual hash of each file, or what is wrong with it.

    Every file is decoded once; what was found is kept in the cache folder until the file changes.
    """
    known = CheckedFiles(cache_folder() / "photos.sqlite")
    stamps = [stamp(path) for path in files]
    found = known.find(stamps)
    missing = [i for i, entry in enumerate(found) if entry is None]
    progress = Progress("photographs", len(missing), unit="photograph") if len(missing) > CHUNK else None
    with ThreadPoolExecutor() as pool, progress or nullcontext():
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start:start + CHUNK]
            for i, checked in zip(chunk, pool.map(_check, [files[i] for i in chunk]), strict=True):
                found[i] = checked
            known.keep((stamps[i], entry) for i in chunk if (entry := found[i]))
            if progress:
                progress.update(len(chunk))
    return [entry or Checked() for entry in found]


def hold_out(photos: Sequence[Photo], held_out: Sequence[Photo] = ()) -> tuple[tuple[Photo, ...], tuple[Photo, ...]]:
    """Photographs to train on, and to validate on: `held_out`, or by default a tenth of all, by a hash. Those that show
    a scene of the latter are left out of the former.

    Raises:
        UserError: one alone cannot be split, or none is left to train on.
    """
    ranked = sorted(photos, key=_rank)
    held = tuple(held_out) or tuple(ranked[:max(1, len(ranked) // 10)])
    digests, sources = {photo.digest for photo in held}, {photo.source for photo in held}
    rest = tuple(photo for photo in ranked if photo.digest not in digests and photo.source not in sources)
    if not rest:
        raise UserError("no photographs are left to train on: all are held out; give more")
    return rest, held


def _rank(photo: Photo) -> bytes:
    """The same pictures are ranked the same wherever they lie."""
    return hashlib.sha256(f"split {photo.digest}".encode()).digest()


def _check(path: Path) -> Checked:
    try:
        return check_data(path.read_bytes())
    except OSError as error:
        return Checked(problem=f"cannot be read ({error.strerror})")


def check_data(data: bytes) -> Checked:
    """Size, digest and perceptual hash of the picture in a file's bytes, or what is wrong with it."""
    try:
        image = decode_photo(data, "")
    except UserError as error:
        return Checked(problem=str(error).removeprefix(": "))
    height, width = image.shape[:2]
    return Checked(height, width, hashlib.sha256(data).hexdigest(), int(perceptual_hash(image)))


def _disjoint(scans: dict[str, Scan]) -> PhotoSet:
    """What stands in two splits, or nearly does, stays in the later one of train, val, test."""
    kept: dict[str, PhotoList] = {}
    skipped = [entry for found in scans.values() for entry in found.skipped]
    taken: dict[str, str] = {}
    # Of a pair, the split that comes first in this order loses its photograph.
    alike: dict[tuple[str, int], str] = {}
    for pair in near_duplicates({split: scans[split].hashes for split in ("train", "val", "test")}):
        other = scans[pair.other_split].photos[pair.other_index]
        alike.setdefault((pair.split, pair.index), f"nearly the same as {other.name} of {pair.other_split}")
    for split in ("test", "val", "train"):
        photos = []
        for index, photo in enumerate(scans[split].photos):
            if photo.digest in taken:
                skipped.append((photo.path, f"the same as a photograph of {taken[photo.digest]}"))
            elif (split, index) in alike:
                skipped.append((photo.path, alike[split, index]))
            else:
                photos.append(photo)
        if not photos:
            raise UserError(f"photos.{split}: all its photographs are in other splits too")
        taken |= {photo.digest: split for photo in photos}
        kept[split] = PhotoList(photos)
    return PhotoSet(kept["train"], kept["val"], kept["test"], tuple(skipped))


def _shares(found: Scan, shares: Sequence[float]) -> PhotoSet:
    """Splits by the rank of a hash of the content."""
    count = len(found.photos)
    if count < 3:
        raise UserError(f"photos.dirs: {count} usable photograph{'s' * (count > 1)} cannot be split into train, val "
                        "and test; give at least 3")
    leaders: dict[str, Photo] = {}
    for photo in found.photos:
        leaders.setdefault(photo.source, photo)
    ranked = sorted(found.photos, key=lambda photo: (_rank(leaders[photo.source]), photo.digest))

    def whole(cut: int) -> int:
        """The next place that separates no two photographs of one source."""
        while 0 < cut < count and ranked[cut].source == ranked[cut - 1].source:
            cut += 1
        return cut

    first = whole(min(max(1, round(shares[0] * count)), count - 2))
    second = whole(min(max(first + 1, round((shares[0] + shares[1]) * count)), count - 1))
    if second >= count:
        raise UserError(f"photos.dirs: {count} usable photographs of {len(leaders)} scenes cannot be split into train, "
                        "val and test; give more, or give the splits as photos.train, photos.val and photos.test")
    return PhotoSet(PhotoList(ranked[:first]), PhotoList(ranked[first:second]), PhotoList(ranked[second:]),
                    found.skipped)
