"""What test pictures are recognized by, so that none is among those of a training."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from configs.errors import UserError
from configs.files import read_rows
from configs.pictures import decode_photo
from forgeries.duplicates import perceptual_hash
from forgeries.photos import Photo, check_files
from forgeries.readers import Cases
from forgeries.readers.cases import Member, read_bytes
from results.guards import Fingerprint


def of_photos(photos: Sequence[Photo]) -> list[Fingerprint]:
    """Of photographs."""
    return [Fingerprint(str(photo.path), photo.digest, photo.hash) for photo in photos]


def of_dataset(place: Path, read: Mapping[str, Cases]) -> list[Fingerprint]:
    """Of the pictures of a dataset, each once, and of the photographs that its manifest says they were made from."""
    images = list(dict.fromkeys(case.image for cases in read.values() for case in cases))
    paths = [image for image in images if isinstance(image, Path)]
    found = [Fingerprint(str(path), checked.digest, checked.hash)
             for path, checked in zip(paths, check_files(paths), strict=True)]
    found += _of_members(image for image in images if isinstance(image, Member))
    rows = read_rows(place / "manifest.csv") if place.is_dir() else []
    return found + [Fingerprint(photo, digest) for photo, digest in
                    dict.fromkeys((row.get("photo", ""), row.get("digest", "")) for row in rows) if digest]


def _of_members(members: Iterable[Member]) -> list[Fingerprint]:
    found = []
    for member in members:
        data = read_bytes(member)
        try:
            value = int(perceptual_hash(decode_photo(data, "")))
        except UserError:
            # That it cannot be decoded is told where it is scored.
            value = 0
        found.append(Fingerprint(str(member), hashlib.sha256(data).hexdigest(), value))
    return found
