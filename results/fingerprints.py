"""What test pictures are recognized by, so that none is among those of a training."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from configs.files import read_rows
from forgeries.photos import Photo, check_data, check_files
from forgeries.readers import Cases
from forgeries.readers.cases import AUTHENTIC, Member, read_bytes
from forgeries.readers.manifests import MANIFEST, manifest_finder
from results.guards import Fingerprint


def of_photos(photos: Sequence[Photo]) -> list[Fingerprint]:
    """Of photographs."""
    return [Fingerprint(str(photo.path), photo.digest, photo.hash) for photo in photos]


def of_dataset(place: Path, read: Mapping[str, Cases]) -> list[Fingerprint]:
    """Of the pictures of a dataset, each once, and of the photographs that manifests say they were made from."""
    images = _images(read)
    paths = [image for image in images if isinstance(image, Path)]
    found = [Fingerprint(str(path), checked.digest, checked.hash)
             for path, checked in zip(paths, check_files(paths), strict=True)]
    for member in (image for image in images if isinstance(image, Member)):
        checked = check_data(read_bytes(member))
        found.append(Fingerprint(str(member), checked.digest, checked.hash))
    photos = dict.fromkeys((row.get("photo") or "", row["digest"]) for row in _origins(place, images))
    return found + [Fingerprint(photo, digest) for photo, digest in photos]


def origins_known(place: Path, read: Mapping[str, Cases]) -> bool:
    """Whether a manifest tells of any forgery of a dataset which photograph it was made from; True where it has none.

    What was made from a photograph need not look like it: by its pixels alone it may go unrecognized.
    """
    forged = _images({method: cases for method, cases in read.items() if method != AUTHENTIC})
    return not forged or bool(_origins(place, forged))


def _images(read: Mapping[str, Cases]) -> list[Path | Member]:
    return list(dict.fromkeys(case.image for cases in read.values() for case in cases))


def _origins(place: Path, images: Iterable[Path | Member]) -> list[Mapping[str, str]]:
    """Rows with digests: all of the dataset's own manifest, and those of pictures that lie in a dataset around it."""
    row_of = manifest_finder()
    rows: list[Mapping[str, str] | None] = [*read_rows(place / MANIFEST)] if place.is_dir() else []
    rows += [row_of(image) for image in images if isinstance(image, Path)]
    return [row for row in rows if row and row.get("digest")]
