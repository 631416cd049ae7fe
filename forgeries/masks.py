"""Random masks of a given area."""

from collections.abc import Callable, Mapping

import numpy as np

from configs.errors import UserError

Draw = Callable[[int, int, float, np.random.Generator], np.ndarray]
"""(height, width, fraction, generator) to bool H×W whose area is near the fraction."""

TRIES = 50


def draw_mask(kind: str, height: int, width: int, fraction_range: tuple[float, float],
              generator: np.random.Generator) -> np.ndarray:
    """A mask, bool H×W, whose area divided by H·W is within `fraction_range`; never empty, never full.

    Raises:
        UserError: unknown kind.
    """
    if kind not in MASKS:
        raise UserError(f"mask '{kind}': unknown; known are {', '.join(MASKS)}")
    low, high = fraction_range
    for _ in range(TRIES):
        mask = MASKS[kind](height, width, float(generator.uniform(low, high)), generator)
        if low <= mask.mean() <= high and 0 < mask.sum() < mask.size:
            return mask
    # A narrow range at a small size can be missed by shapes; the pixels nearest to a point hit it exactly.
    return _nearest(_distance(height, width, generator), (low + high) / 2)


def _rectangle(height: int, width: int, fraction: float, generator: np.random.Generator) -> np.ndarray:
    ratio = np.exp(generator.uniform(-0.7, 0.7))
    rows = int(np.clip(round(np.sqrt(fraction * height * width * ratio)), 1, height))
    columns = int(np.clip(round(fraction * height * width / rows), 1, width))
    top, left = generator.integers(height - rows + 1), generator.integers(width - columns + 1)
    mask = np.zeros((height, width), bool)
    mask[top:top + rows, left:left + columns] = True
    return mask


def _stroke(height: int, width: int, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Free-form strokes in the manner of Yu et al. 2019 (section 3.3): turning brush lines until the area is met."""
    import cv2
    mask, side = np.zeros((height, width), np.uint8), min(height, width)
    while mask.mean() < fraction:
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
            if mask.mean() >= fraction:
                break
    return mask.astype(bool)


def _blob(height: int, width: int, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """One or two organic shapes: the lowest values of distance plus smooth noise."""
    import cv2
    grid = generator.normal(size=(6, 6)).astype(np.float32)
    noise = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    distance = _distance(height, width, generator)
    if generator.random() < 0.3:
        distance = np.minimum(distance, _distance(height, width, generator))
    return _nearest(distance + 0.12 * noise, fraction)


def _distance(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Distance to a random point, in units of the picture's sides."""
    y, x = generator.uniform(0.15, 0.85, 2)
    rows, columns = np.mgrid[:height, :width]
    return np.hypot(rows / height - y, columns / width - x)


def _nearest(values: np.ndarray, fraction: float) -> np.ndarray:
    """The given fraction of pixels with the lowest values, at least one and never all."""
    count = int(np.clip(round(fraction * values.size), 1, values.size - 1))
    mask = np.zeros(values.size, bool)
    mask[np.argsort(values, axis=None, kind="stable")[:count]] = True
    return mask.reshape(values.shape)


MASKS: Mapping[str, Draw] = {"rectangle": _rectangle, "stroke": _stroke, "blob": _blob}
