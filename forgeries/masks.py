"""Random masks of a given area: what an inpainting replaces, from plain rectangles to objects of the picture itself.

Heavy imports wait until a mask is drawn.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from configs.errors import UserError
from configs.files import PICTURE_SUFFIXES, digest

Draw = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""(image RGB uint8 H×W×3, fraction, generator) to bool H×W whose area is near the fraction."""

TRIES = 50

FILES = "files:"
"""Begins the kind of masks from files; a folder, or one file, follows."""

PARTS = 1000
"""Most scratches or holes of one mask: as they overlap, areas near the whole picture would never be met."""

REGIONS = 8
"""About how many regions of the picture an object is joined from."""

SEGMENTED_SIDE = 256
"""Larger pictures are segmented at this size."""

FONTS = 8
"""OpenCV's, numbered from 0."""

SAMPLED = 16
"""Of so many values, one is sorted to bracket a rank."""

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


@dataclass(frozen=True)
class Mask:
    """A kind of mask: its name, what it looks like, and how it is drawn."""

    name: str
    title: str
    draw: Draw


def draw_mask(kind: str, image: np.ndarray, fraction_range: tuple[float, float],
              generator: np.random.Generator) -> np.ndarray:
    """A mask, bool H×W, for `image` (RGB uint8 H×W×3, sides of at least 16), whose share of the pixels is within
    `fraction_range`.

    It is never empty and never full; a range between two numbers of pixels gives one of them. A shape that misses the
    range again and again, as any does where the range is narrower than its parts, is thickened or thinned until its
    area is the middle of the range to the pixel.

    Raises:
        UserError: unknown kind, or files that are missing, unreadable, or all black or all white.
    """
    draw, (low, high) = _drawing(kind, fraction_range), fraction_range
    for _ in range(TRIES):
        mask = draw(image, float(generator.uniform(low, high)), generator)
        if low <= _share(mask) <= high and 0 < np.count_nonzero(mask) < mask.size:
            return mask
    return _fit(mask, (low + high) / 2)


def check_kind(kind: str) -> None:
    """Accepts names of kinds, and `files:` with a place; whether masks lie there is seen by `check_masks`.

    Raises:
        ValueError: neither.
    """
    if kind not in MASKS and (kind == FILES or not kind.startswith(FILES)):
        raise ValueError(f"must be one of {', '.join(MASKS)}, or {FILES}FOLDER")


def check_masks(kind: str) -> None:
    """Accepts a kind that can be drawn, its files in place.

    Raises:
        UserError: unknown kind, or no masks at the place.
    """
    _drawing(kind, (0, 1))


def files_digest(kind: str) -> str:
    """SHA-256 of the masks that `kind` draws from files, "" where it draws from none.

    Raises:
        UserError: no masks at the place.
    """
    if not kind.startswith(FILES):
        return ""
    files = _mask_files(kind.removeprefix(FILES))
    return hashlib.sha256("".join(map(digest, files)).encode()).hexdigest()


def _drawing(kind: str, fraction_range: tuple[float, float]) -> Draw:
    try:
        check_kind(kind)
    except ValueError as error:
        raise UserError(f"mask {kind!r}: {error}") from None
    if kind in MASKS:
        return MASKS[kind].draw
    return partial(_from_file, _mask_files(kind.removeprefix(FILES)), fraction_range)


def _rectangle(image: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    ratio = np.exp(generator.uniform(-0.7, 0.7))
    rows = int(np.clip(round(np.sqrt(fraction * height * width * ratio)), 1, height))
    columns = int(np.clip(round(fraction * height * width / rows), 1, width))
    top, left = generator.integers(height - rows + 1), generator.integers(width - columns + 1)
    mask = np.zeros((height, width), bool)
    mask[top:top + rows, left:left + columns] = True
    return mask


def _stroke(image: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Free-form strokes in the manner of Yu et al. 2019 (section 3.3): turning brush lines until the area is met."""
    import cv2
    height, width = image.shape[:2]
    mask, side = np.zeros((height, width), np.uint8), min(height, width)
    while _share(mask) < fraction:
        x, y = int(generator.integers(width)), int(generator.integers(height))
        angle, brush = generator.uniform(0, 2 * np.pi), int(generator.integers(max(2, side // 16), side // 6 + 2))
        for _ in range(generator.integers(2, 9)):
            angle += generator.normal(0, 0.9)
            length = generator.uniform(0.05, 0.25) * side
            end_x = int(np.clip(x + length * np.cos(angle), 0, width - 1))
            end_y = int(np.clip(y + length * np.sin(angle), 0, height - 1))
            cv2.line(mask, (x, y), (end_x, end_y), 1, brush)
            cv2.circle(mask, (end_x, end_y), brush // 2, 1, -1)
            x, y = end_x, end_y
            if _share(mask) >= fraction:
                break
    return mask.astype(bool)


def _blob(image: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """One or two organic shapes: the lowest values of distance plus smooth noise."""
    import cv2
    height, width = image.shape[:2]
    grid = generator.normal(size=(6, 6)).astype(np.float32)
    # Cubic interpolation as two small products: what it makes of unit vectors are its weights.
    down, right = (cv2.resize(np.eye(6, dtype=np.float32), (6, side), interpolation=cv2.INTER_CUBIC)
                   for side in (height, width))
    noise = down @ grid @ right.T
    distance = _distance(height, width, generator)
    if generator.random() < 0.3:
        distance = np.minimum(distance, _distance(height, width, generator))
    return _lowest(distance + 0.12 * noise, fraction)


def _object(image: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Neighbouring regions of the picture, joined by likeness to what was joined before until the area is met."""
    import cv2
    height, width = image.shape[:2]
    factor = min(1.0, SEGMENTED_SIDE / max(height, width))
    small = cv2.resize(image, (max(1, round(width * factor)), max(1, round(height * factor))),
                       interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 1)
    regions = _regions(small, REGIONS / fraction, generator)
    areas = np.bincount(regions.ravel())
    # Colour in CIELAB; the place weighs enough to keep an object together where the picture is of one colour.
    rows, columns = np.mgrid[:small.shape[0], :small.shape[1]] * (100 / max(small.shape[:2]))
    planes = [*cv2.split(cv2.cvtColor(small, cv2.COLOR_RGB2LAB)), rows, columns]
    sums = np.stack([np.bincount(regions.ravel(), plane.ravel(), len(areas)) for plane in planes], 1)
    beside = np.zeros((len(areas), len(areas)), bool)
    for a, b in ((regions[1:], regions[:-1]), (regions[:, 1:], regions[:, :-1])):
        beside[a, b] = beside[b, a] = True
    joined = np.zeros(len(areas), bool)
    joined[regions[tuple(generator.integers(regions.shape))]] = True
    while areas[joined].sum() < fraction * regions.size:
        reach = np.flatnonzero(beside[joined].any(0) & ~joined)
        here = sums[joined].sum(0) / areas[joined].sum()
        joined[reach[np.square(sums[reach] / areas[reach, None] - here).sum(1).argmin()]] = True
    shape = joined[regions].astype(np.uint8)
    # An object has no holes: regions that it encloses are its own.
    outlines = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    cv2.drawContours(shape, outlines, -1, 1, -1)
    return cv2.resize(shape * 255, (width, height), interpolation=cv2.INTER_LINEAR) >= 128


def _regions(image: np.ndarray, count: float, generator: np.random.Generator) -> np.ndarray:
    """About `count` connected regions of `image`, int H×W numbered from 0, whose outlines follow its edges.

    Watershed by colour differences (Meyer 1992), flooded from one random pixel in each cell of a grid.
    """
    import cv2
    height, width = image.shape[:2]
    cell = max(3.0, (height * width / count) ** 0.5)
    down, across = max(2, round(height / cell)), max(2, round(width / cell))
    y, x = np.mgrid[:down, :across] + generator.random((2, down, across))
    # OpenCV gives no region the outermost pixels; they are those of a margin.
    markers = np.zeros((height + 2, width + 2), np.int32)
    markers[1 + (y * height / down).astype(int), 1 + (x * width / across).astype(int)] = \
        np.arange(1, down * across + 1).reshape(down, across)
    cv2.watershed(np.ascontiguousarray(np.pad(image, ((1, 1), (1, 1), (0, 0)), "edge")), markers)
    # Nor the lines between regions; each pixel of them joins a neighbour.
    grown = cv2.dilate(markers.astype(np.float32), np.ones((3, 3), np.uint8)).astype(int)
    found = np.where(markers > 0, markers, grown)[1:-1, 1:-1]
    return np.unique(found, return_inverse=True)[1].reshape(height, width)


def _text(image: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Lines of words, or by chance a watermark: one word again and again, slanted, over the whole picture."""
    import cv2
    height, width = image.shape[:2]
    font = int(generator.integers(FONTS))
    # A word of few pixels where few are asked for, and bold letters where a page of thin ones would not do.
    letter = max(5.0, min(generator.uniform(0.08, 0.22) * min(height, width), 0.5 * (fraction * height * width) ** 0.5))
    thickness = max(1, round(letter * (generator.uniform(0.06, 0.12) + 0.4 * fraction)))
    scale = cv2.getFontScaleFromHeight(font, round(letter), thickness)

    def word() -> str:
        return "".join(generator.choice(LETTERS, generator.integers(3, 9)))

    def length(text: str) -> int:
        return int(cv2.getTextSize(text, font, scale, thickness)[0][0])

    def write(page: np.ndarray, text: str, x: float, y: float) -> None:
        cv2.putText(page, text, (round(x), round(y)), font, scale, 255, thickness)

    if generator.random() < 0.5:
        page = np.zeros((height, width), np.uint8)
        for y in generator.permutation(np.arange(generator.uniform(1, 1.5) * letter, height + 0.5 * letter,
                                                 1.5 * letter)):
            x = generator.uniform(0, 0.5) * width
            while x < width and np.count_nonzero(page > 127) < fraction * page.size:
                text = word()
                write(page, text, x, y)
                x += length(text) + 0.6 * letter
        return page > 127
    mark, side = word(), int(np.hypot(height, width)) + 2
    long, high = length(mark) + 0.6 * letter, 1.5 * letter
    sample, page = np.zeros((round(3 * letter), round(long + letter)), np.uint8), np.zeros((side, side), np.uint8)
    write(sample, mark, 0.5 * letter, 2 * letter)
    spread = max(1.0, np.count_nonzero(sample > 127) / (fraction * long * high)) ** 0.5
    for line, y in enumerate(np.arange(generator.uniform(0, spread * high), side + letter, spread * high)):
        for x in np.arange((line % 2 / 2 - 1) * spread * long, side, spread * long):
            write(page, mark, x, y)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), generator.uniform(-45, 45), 1)
    turn[:, 2] -= (side - width) / 2, (side - height) / 2
    return cv2.warpAffine(page, turn, (width, height)) > 127


def _scratch(image: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Long thin curves, as on a damaged print: more of them for more area, never thicker ones."""
    import cv2
    height, width = image.shape[:2]
    side = min(height, width)

    def add(mask: np.ndarray) -> None:
        angles = generator.uniform(0, 2 * np.pi) + generator.normal(0, 0.03) * np.arange(40) \
            + generator.normal(0, 0.06, 40).cumsum()
        steps = generator.uniform(0.4, 1.2) * side / 40 * np.stack([np.cos(angles), np.sin(angles)], 1)
        points = generator.uniform(0, (width, height)) + steps.cumsum(0)
        cv2.polylines(mask, [points.round().astype(np.int32)], False, 1, int(generator.integers(1, side // 96 + 2)))

    return _add_until(fraction, height, width, add)


def _holes(image: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Many small ellipses of about one size."""
    import cv2
    height, width = image.shape[:2]
    # At least about ten, whatever the area.
    size = min(generator.uniform(1 / 64, 1 / 24) * min(height, width), (fraction * height * width / 30) ** 0.5)

    def add(mask: np.ndarray) -> None:
        place = int(generator.integers(width)), int(generator.integers(height))
        axes = np.maximum(size * generator.uniform(0.6, 1.4, 2), 0.5).round().astype(int).tolist()
        cv2.ellipse(mask, place, axes, generator.uniform(0, 180), 0, 360, 1, -1)

    return _add_until(fraction, height, width, add)


def _add_until(fraction: float, height: int, width: int, add: Callable[[np.ndarray], None]) -> np.ndarray:
    """What `add` draws in a uint8 H×W, again until the area is met."""
    mask = np.zeros((height, width), np.uint8)
    for _ in range(PARTS):
        if np.count_nonzero(mask) >= fraction * mask.size:
            break
        add(mask)
    return mask.astype(bool)


def _border(image: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Bands along one to four borders, of different widths, or by chance a frame of one width, as in outpainting."""
    height, width = image.shape[:2]
    weights = np.where(generator.permutation(4) < generator.integers(1, 5), generator.uniform(0.3, 1, 4), 1e-6)
    if generator.random() < 0.25:
        weights = np.ones(4)
    rows, columns = np.mgrid[:height, :width]
    depth = np.min([plane / weight for plane, weight in zip(
        (rows + 1, columns + 1, height - rows, width - columns), weights, strict=True)], 0)
    # Whole rows and columns: the outlines of what is outpainted are straight.
    last = int(np.clip(fraction * depth.size, 1, depth.size)) - 1
    return depth <= np.partition(depth, last, axis=None)[last]


@lru_cache(maxsize=32)
def _mask_files(place: str) -> tuple[Path, ...]:
    """Pictures at or below `place`, sorted; hidden ones are left out.

    Raises:
        UserError: there is none.
    """
    folder = Path(place)
    files = [folder] if folder.is_file() else sorted(
        path for path in folder.rglob("*")
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file())
    if not files:
        raise UserError(f"mask '{FILES}{place}': no masks there; give a folder with pictures, white where to inpaint, "
                        "or one such picture")
    return tuple(files)


@lru_cache(maxsize=32)
def _read_mask(path: Path) -> np.ndarray:
    """Bool H×W.

    Raises:
        UserError: unreadable, or without an outline.
    """
    from configs.pictures import read_photo
    mask = read_photo(path)[..., 0] >= 128
    if mask.all() or not mask.any():
        raise UserError(f"{path}: all {'white' if mask.all() else 'black'}; a mask is white where to inpaint, black "
                        "elsewhere")
    mask.flags.writeable = False
    return mask


def _from_file(files: tuple[Path, ...], fraction_range: tuple[float, float], image: np.ndarray, fraction: float,
               generator: np.random.Generator) -> np.ndarray:
    """One of the files at the size of the picture, mirrored by chance.

    Where its area is not within the range, the shape is enlarged or shrunk to the given fraction and laid elsewhere.
    """
    import cv2
    height, width = image.shape[:2]
    mask = cv2.resize(_read_mask(files[generator.integers(len(files))]).astype(np.uint8), (width, height),
                      interpolation=cv2.INTER_NEAREST_EXACT)
    for axis in (0, 1):
        mask = np.flip(mask, axis) if generator.random() < 0.5 else mask
    if fraction_range[0] <= _share(mask) <= fraction_range[1] or not mask.any():
        return mask.astype(bool)
    zoom = (fraction / _share(mask)) ** 0.5
    # Anywhere inside of the picture, or where it has become larger than that, anywhere that fills it.
    moves = []
    for axis, side in ((0, width), (1, height)):
        taken = np.flatnonzero(mask.any(axis))
        moves.append(generator.uniform(*sorted((-zoom * taken[0], side - 1 - zoom * taken[-1]))))
    turn = np.array([[zoom, 0, moves[0]], [0, zoom, moves[1]]])
    return cv2.warpAffine(np.ascontiguousarray(mask), turn, (width, height), flags=cv2.INTER_NEAREST).astype(bool)


def _distance(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Distance to a random point, in units of the picture's sides."""
    y, x = generator.uniform(0.15, 0.85, 2)
    rows, columns = (np.arange(side, dtype=np.float32) / side - np.float32(centre)
                     for side, centre in ((height, y), (width, x)))
    return np.sqrt(rows[:, None] ** 2 + columns ** 2)


def _share(mask: np.ndarray) -> float:
    """Share of the pixels that are not 0; much faster than the mean."""
    return np.count_nonzero(mask) / mask.size


def _lowest(values: np.ndarray, fraction: float) -> np.ndarray:
    """The given fraction of pixels with the lowest values, at least one and never all; of equal ones the first."""
    count = int(np.clip(round(fraction * values.size), 1, values.size - 1))
    last = _smallest(values.ravel(), count)
    mask = values < last
    mask.flat[np.flatnonzero(values == last)[:count - np.count_nonzero(mask)]] = True
    return mask


def _smallest(values: np.ndarray, rank: int) -> np.floating:
    """The value of the given rank, from 1. A sorted sample brackets it, so that few values need sorting."""
    sample, spread = np.sort(values[::SAMPLED]), 4 * int((values.size / SAMPLED) ** 0.5) + 1
    middle = rank // SAMPLED
    low, high = sample[max(0, middle - spread)], sample[min(len(sample) - 1, middle + spread)]
    inner, place = values[(low <= values) & (values <= high)], rank - 1 - int(np.count_nonzero(values < low))
    if not 0 <= place < inner.size:
        inner, place = values, rank - 1
    return np.partition(inner, place)[place]


def _fit(mask: np.ndarray, fraction: float) -> np.ndarray:
    """`mask` thickened or thinned evenly to the given fraction of the pixels."""
    import cv2
    inside, outside = (cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, 5) for part in (mask, ~mask))
    return _lowest(outside - inside, fraction)


MASKS: Mapping[str, Mask] = {mask.name: mask for mask in (
    Mask("rectangle", "one rectangle", _rectangle),
    Mask("stroke", "free-form brush strokes (Yu et al. 2019)", _stroke),
    Mask("blob", "one or two organic shapes", _blob),
    Mask("object", "neighbouring regions of the picture that look alike", _object),
    Mask("text", "lines of words, or a slanted watermark all over", _text),
    Mask("scratch", "long thin curves", _scratch),
    Mask("border", "bands along one to four borders, or a frame", _border),
    Mask("holes", "many small holes", _holes),
)}
