"""Webdataset shards: uncompressed tar files whose members are read where they lie, without unpacking."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

from configs.files import PICTURE_SUFFIXES
from forgeries.readers.cases import AUTHENTIC, Case, Member, Problem


def read_shards(place: Path, root: Path) -> Iterator[Case | Problem]:
    """One shard, or a folder of them.

        place/
        ├── 000000.tar
        │   ├── <key>.png            or any other picture
        │   ├── <key>.mask.png
        │   └── <key>.json           optional: {"method": "TE", "source": "beach"}
        └── 000001.tar

    A picture without a mask is authentic if its JSON gives "authentic" as the method.
    """
    taken: dict[str, Path] = {}
    for shard in [place] if place.is_file() else sorted(place.glob("*.tar")):
        yield from _read_shard(shard, taken)


def _read_shard(shard: Path, taken: dict[str, Path]) -> Iterator[Case | Problem]:
    samples: dict[str, dict[str, Member]] = {}
    try:
        for member in _members(shard):
            folder, _, base = member.name.rpartition("/")
            stem, _, kind = base.partition(".")
            role = _role(kind.lower())
            if role and stem:
                parts = samples.setdefault(f"{folder}/{stem}" if folder else stem, {})
                if role in parts:
                    yield Problem(str(member), "name used twice", f"left out: {parts[role].name} is there as well")
                parts.setdefault(role, member)
    except (tarfile.TarError, OSError, EOFError) as error:
        yield Problem(str(shard), "unreadable", f"no complete, uncompressed tar file ({error}); what precedes is read")
    for key, parts in samples.items():
        if "image" not in parts:
            if "mask" in parts:
                yield Problem(str(parts["mask"]), "mask without picture", f"no picture {key}.* in {shard.name}")
            continue
        if key in taken:
            yield Problem(str(parts["image"]), "name used twice", f"left out: {taken[key].name} has a {key} as well")
            continue
        taken[key] = shard
        yield _case(key, parts)


def _case(key: str, parts: dict[str, Member]) -> Case | Problem:
    facts = {}
    if "json" in parts:
        try:
            facts = json.loads(parts["json"].read_bytes())
        except ValueError as error:
            return Problem(str(parts["json"]), "unreadable", f"not JSON ({error})")
        if not isinstance(facts, dict):
            return Problem(str(parts["json"]), "unreadable", "not a JSON object")
    method, source = str(facts.get("method") or ""), str(facts.get("source") or key)
    if "mask" not in parts and method != AUTHENTIC:
        return Problem(str(parts["image"]), "no mask", f'has no {key}.mask.png, nor "method": "{AUTHENTIC}" in '
                                                       f"{key}.json")
    return Case(parts["image"], parts.get("mask"), key, method, source)


def _members(shard: Path) -> Iterator[Member]:
    """Regular files of a tar file, in order."""
    length = shard.stat().st_size
    with tarfile.open(shard, "r:") as tar:
        while info := tar.next():
            # The library keeps every header that it has seen.
            tar.members = []  # type: ignore[attr-defined]
            if not info.isreg():
                continue
            if info.offset_data + info.size > length:
                raise tarfile.ReadError(f"cut off inside of {info.name}")
            yield Member(shard, info.name, info.offset_data, info.size)


def _role(kind: str) -> str | None:
    """What a member is, by what follows its key: image, mask, json or nothing of ours."""
    if kind == "json":
        return kind
    if f".{kind}" in PICTURE_SUFFIXES:
        return "image"
    return "mask" if kind.startswith("mask.") and kind.removeprefix("mask") in PICTURE_SUFFIXES else None
