"""One picture in, one map out, and how a person sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np
import torch
from torch import nn

MINIMUM_SIDE = 16
TILE_POSITIONS = 128
"""Side of a tile in positions of attention, whose time grows with their square."""

LARGEST_TILE = 1024
ALIGNMENT = 32
"""Tiles begin at its multiples, so that a network strides over their pixels as over those of the whole."""

MARGIN = 16
"""Pixels at a tile's cut edges whose values do not count: padding that the picture does not have lies too near."""

SCORE_SHARE = 0.01
"""Share of a map's pixels, the most suspicious, whose mean is the score of the picture."""


def default_tile(module: nn.Module) -> int:
    """Side of the tiles of pictures that are too large for `module`, in pixels."""
    return min(LARGEST_TILE, TILE_POSITIONS * getattr(module, "reduction", LARGEST_TILE))


def predict_map(module: nn.Module, image: np.ndarray, tile: int | None = None,
                on_tile: Callable[[int, int], None] | None = None) -> np.ndarray:
    """Probability map float32 H×W in [0, 1] of an RGB uint8 H×W×3 picture with sides of at least 16.

    With `tile`, pictures of more than tile² pixels are cut into tiles of at most that side, which overlap and are
    blended. What a network takes from the whole picture (global attention, means and deviations) it then takes from
    a tile alone: docs/detect.md says what that changes. `on_tile` is told how many of how many tiles are done.
    """
    height, width = image.shape[:2]
    if tile is None or height * width <= tile**2:
        return _predict(module, image)
    total, weights = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    overlap = overlap_of(tile)
    tiles = list(product(tile_edges(height, tile), tile_edges(width, tile)))
    for number, ((top, bottom), (left, right)) in enumerate(tiles, 1):
        weight = np.outer(_ramp(top, bottom, height, overlap), _ramp(left, right, width, overlap))
        total[top:bottom, left:right] += weight * _predict(module, image[top:bottom, left:right])
        weights[top:bottom, left:right] += weight
        if on_tile:
            on_tile(number, len(tiles))
    np.divide(total, weights, out=total)
    return np.clip(total, 0, 1, out=total)


def overlap_of(tile: int) -> int:
    """Pixels that neighbouring tiles share at least."""
    return max(2 * ALIGNMENT, tile // 8)


def tile_edges(length: int, tile: int) -> list[tuple[int, int]]:
    """(start, stop) of tiles of at most `tile` that cover `length`, overlap, and start at multiples of `ALIGNMENT`."""
    if length <= tile:
        return [(0, length)]
    # Aligned starts cost up to one alignment of the overlap.
    count = -(-(length - overlap_of(tile) - ALIGNMENT) // (tile - overlap_of(tile) - ALIGNMENT))
    last = -(-(length - tile) // ALIGNMENT)
    starts = [ALIGNMENT * round(i * last / (count - 1)) for i in range(count)]
    return [(start, min(start + tile, length)) for start in starts]


def _ramp(start: int, stop: int, length: int, overlap: int) -> np.ndarray:
    """Weights of a tile's rows or columns: 1, falling to 0 towards edges that are not the picture's."""
    before = np.arange(stop - start) if start else np.full(stop - start, overlap)
    after = np.arange(stop - start)[::-1] if stop < length else np.full(stop - start, overlap)
    ends = np.minimum(before, after)
    return np.clip((ends - MARGIN + 0.5) / (overlap - 2 * MARGIN), 0, 1).astype(np.float32)


def _predict(module: nn.Module, image: np.ndarray) -> np.ndarray:
    # A baseline has no parameters.
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    batch = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return module(batch)[0, 0].float().cpu().numpy()


@dataclass(frozen=True)
class Findings:
    """What a map says of its picture, all at one threshold."""

    score: float
    """Mean of the most suspicious `SCORE_SHARE` of the pixels, in [0, 1]."""
    flagged_fraction: float
    """Share of the pixels at or above the threshold."""
    largest_region: int
    """Pixels of the largest connected flagged region."""
    box: tuple[int, int, int, int]
    """That region's left, top, width, height in pixels; zeros where there is none."""


def findings(probability: np.ndarray, threshold: float = 0.5) -> Findings:
    """Summary of a map float32 H×W in [0, 1]. Regions are 8-connected."""
    flat = probability.ravel()
    count = max(1, round(SCORE_SHARE * flat.size))
    score = float(np.partition(flat, flat.size - count)[-count:].mean(dtype=np.float64))
    flagged = (probability >= threshold).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(flagged, connectivity=8)
    regions = stats[1:]
    if not len(regions):
        return Findings(score, 0.0, 0, (0, 0, 0, 0))
    left, top, width, height, area = map(int, regions[regions[:, cv2.CC_STAT_AREA].argmax()])
    return Findings(score, float(flagged.mean(dtype=np.float64)), area, (left, top, width, height))


def to_grey(probability: np.ndarray) -> np.ndarray:
    """The map as uint8 H×W, 255 = surely inpainted."""
    return np.round(255 * probability).astype(np.uint8)


def overlay(image: np.ndarray, probability: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """The picture, RGB uint8 H×W×3, with the map as heat over its grey version and the flagged regions outlined."""
    heat = cv2.cvtColor(cv2.applyColorMap(to_grey(probability), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    blended = cv2.addWeighted(grey, 0.45, heat, 0.55, 0)
    outlines, _ = cv2.findContours((probability >= threshold).astype(np.uint8), cv2.RETR_EXTERNAL,
                                   cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(blended, outlines, -1, (0, 255, 255), max(1, round(min(image.shape[:2]) / 300)))
