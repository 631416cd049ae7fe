"""Where pictures and weights are, and what maps are called. Imports nothing heavy: mistakes are told at once."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from configs.errors import UserError
from configs.files import PICTURE_SUFFIXES


def find_pictures(places: Sequence[str]) -> list[Path]:
    """Files in order: those named, those below folders, those that a pattern like `photos/*.jpg` matches.

    Raises:
        UserError: a place that is not there or has no pictures.
    """
    return list(dict.fromkeys(path for place in places for path in _pictures(place)))


def _pictures(place: str) -> Iterator[Path]:
    path = Path(place)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file())
        if not found:
            raise UserError(f"{path}: no pictures there (looked for {', '.join(sorted(PICTURE_SUFFIXES))})")
        yield from found
    elif path.exists():
        yield path
    elif glob.has_magic(place):
        names = glob.glob(place, recursive=True)  # noqa: PTH207 - a Path's glob takes no absolute pattern
        matches = sorted(file for file in map(Path, names) if file.is_file())
        if not matches:
            raise UserError(f"{place}: no file matches")
        yield from matches
    else:
        raise UserError(f"{path}: no such file or folder")


def default_weights(name: str) -> Path:
    """Folder of the weights that the `quick` run trained for a detector, or else of imported ones.

    Raises:
        UserError: there are none.
    """
    places = [Path("runs/quick/retrain") / name, Path("weights") / name]
    for place in places:
        if (place / "model.safetensors").exists():
            return place
    raise UserError(f"{' or '.join(map(str, places))}: no trained weights there; train some with 'giidnet run', import "
                    "published ones with 'giidnet weights import', or name a file of weights")


def unique_stems(files: Sequence[Path]) -> dict[Path, str]:
    """Names of the outputs: the stem, with its folder's name or a number where stems collide."""
    used: set[str] = set()
    stems: dict[Path, str] = {}
    for path in files:
        options = [path.stem, f"{path.parent.name}_{path.stem}"]
        number = 2
        while options[0] in used and options[-1] in used:
            options.append(f"{path.stem}_{number}")
            number += 1
        stems[path] = options[0] if options[0] not in used else options[-1]
        used.add(stems[path])
    return stems
