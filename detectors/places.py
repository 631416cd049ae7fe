"""Where pictures and weights are, and what maps are called. Imports nothing heavy: mistakes are told at once."""

import glob
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.files import PICTURE_SUFFIXES
from detectors import DETECTORS

WEIGHTS = Path(__file__).parent / "weights"
"""Weights that come with this project: `<name>.safetensors`, as `giidnet weights publish` writes them."""


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


def shipped() -> dict[str, Path]:
    """Files of the weights that come with this project, by name."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def known_names() -> list[str]:
    """What a detector can be called: registered ones, and names that only weights of this project have."""
    return list(dict.fromkeys([*DETECTORS, *shipped()]))


def default_detector() -> str:
    """`giidnet`, or where only others come with weights, the first of those."""
    names = list(shipped()) or ["giidnet"]
    return "giidnet" if "giidnet" in names else names[0]


def default_weights(name: str) -> Path:
    """File of a detector's weights that comes with this project; or else the folder of those that the `quick` run
    trained, or of imported ones.

    Raises:
        UserError: there are none.
    """
    if found := _found(name):
        return found
    raise UserError(f"{' or '.join(map(str, _folders(name)))}: no trained weights there; train some with 'giidnet "
                    "run', import published ones with 'giidnet weights import', or name a file of weights")


def told_weights(name: str, path: Path) -> str:
    """Which weights are used, in one line for the user."""
    return f"weights of {name}: {'those that come with giidnet' if path.parent == WEIGHTS else path}"


def _folders(name: str) -> list[Path]:
    return [Path("runs/quick/retrain") / name, Path("weights") / name]


def _found(name: str) -> Path | None:
    # Those of a short run, which may lie in any folder, must not take the place of better ones unasked.
    return shipped().get(name) or next((place for place in _folders(name) if (place / "model.safetensors").exists()),
                                       None)


def read_description(path: Path) -> dict[str, Any] | None:
    """Name, options, parameters and provenance, from the header that `detectors.checkpoints.save_detector` wrote; None
    in another's file.

    Raises:
        UserError: a damaged safetensors file.
    """
    if path.suffix != ".safetensors":
        return None
    from safetensors import SafetensorError, safe_open
    try:
        with safe_open(path, "numpy") as file:
            header = (file.metadata() or {}).get("giidnet")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a safetensors checkpoint ({error})") from None
    return None if header is None else json.loads(header)


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
