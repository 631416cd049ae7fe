"""Methods of the user's own models, declared in YAML files; see docs/adapters.md."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from configs.errors import UserError
from forgeries.methods.declarations import Declaration, read_declaration
from forgeries.methods.method import Fill, Method

SUFFIXES = (".yaml", ".yml")

LONGEST = 300
"""Characters of another program's message that are shown; the end says most."""

Paint = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(RGB uint8 H×W×3, mask bool H×W) to RGB uint8 H×W×3."""


def adapter_method(path: Path) -> Method:
    """The method that a YAML file declares. Its model is loaded when it first paints.

    Raises:
        UserError: the declaration is wrong, or its model or a package that runs it is missing.
    """
    declaration, folder = usable_declaration(path), path.absolute().parent
    title = declaration.title or f"{declaration.type} model of the user"
    return Method(declaration.name, declaration.kind, title, declaration.source, _fill(declaration, path),
                  declaration.speed, declaration.deterministic, declaration.composite, declaration.blind,
                  _parameters(declaration), _digest((path, *declaration.files(folder))))


def usable_declaration(path: Path) -> Declaration:
    """The declaration in a YAML file, whose model is there; nothing heavy is imported.

    Raises:
        UserError: the declaration is wrong, or its model or a package that runs it is missing.
    """
    declaration = read_declaration(path)
    lacking = declaration.lacking(path.absolute().parent)
    if lacking:
        raise UserError(f"{path}: {lacking}")
    return declaration


def fit(image: np.ndarray, mask: np.ndarray, declaration: Declaration, paint: Paint) -> np.ndarray:
    """`paint` at a size that the model takes: resized, padded by reflection below and on the right, and back.

    Raises:
        ValueError: what `paint` gives is of another size than what it was given.
    """
    import cv2
    height, width = mask.shape
    goal = _goal(height, width, declaration)
    way = cv2.INTER_AREA if goal[0] * goal[1] < height * width else cv2.INTER_LINEAR
    small, hole = image, mask
    if goal != (height, width):
        small = cv2.resize(image, goal[::-1], interpolation=way)
        # Every pixel into which something of the hole was mixed is hole.
        hole = cv2.resize(mask.astype(np.float32), goal[::-1], interpolation=way) > 0
    pads = [(0, -side % declaration.multiple) for side in goal]
    padded, padded_hole = np.pad(small, (*pads, (0, 0)), "reflect"), np.pad(hole, pads, "reflect")
    painted = paint(padded, padded_hole)
    if painted.shape != padded.shape:
        raise ValueError(f"it gives {painted.shape[1]}×{painted.shape[0]} for a picture of {padded.shape[1]}×"
                         f"{padded.shape[0]}; set multiple or size to what it takes")
    painted = painted[:goal[0], :goal[1]]
    if goal == (height, width):
        return painted
    back = cv2.INTER_AREA if way == cv2.INTER_LINEAR else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(painted), (width, height), interpolation=back)


def _goal(height: int, width: int, declaration: Declaration) -> tuple[int, int]:
    """Height and width to resize to."""
    if declaration.size:
        return declaration.size[0], declaration.size[1]
    if declaration.shorter_side:
        factor = declaration.shorter_side / min(height, width)
        return round(height * factor), round(width * factor)
    return height, width


def _parameters(declaration: Declaration) -> dict[str, str | int | float]:
    """What the file says about the model itself, as far as it is short."""
    given = declaration.model_dump(exclude_unset=True, exclude=set(Declaration.model_fields) - {"type"})
    return {key: value for key, value in given.items() if isinstance(value, str | int | float)}


def _fill(declaration: Declaration, path: Path) -> Fill:
    folder = path.absolute().parent

    def fill(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        from forgeries.methods.runners import RUNNERS
        run = RUNNERS[declaration.type]
        try:
            return fit(image, mask, declaration, lambda part, hole: run(declaration, folder, part, hole, generator))
        except Exception as error:  # whatever a model of the user's raises
            raise UserError(f"{path}: the model fails: {_told(error)}") from error
    return fill


def _told(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "forked subprocess" in text:
        return "device = 'cuda' cannot be used in loader processes here; set forgeries.workers=0, or device: cpu"
    if isinstance(error, ImportError):
        text = f"{text}; install what it needs"
    return text if len(text) <= LONGEST else f"… {text[-LONGEST:]}"


def _digest(files: tuple[Path, ...]) -> str:
    """Tells apart what files hold; each is read once in a process, unless it is written to."""
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        digest.update(_file_digest(path, status.st_mtime_ns, status.st_size))
    return digest.hexdigest()[:16]


@cache
def _file_digest(path: Path, changed: int, size: int) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
