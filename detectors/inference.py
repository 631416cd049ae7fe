"""One picture in, one map out, and how a person sees it."""

import cv2
import numpy as np
import torch
from torch import nn

MINIMUM_SIDE = 16
OVERLAP = 64
"""Pixels that neighbouring tiles share; their maps are blended linearly there."""


def predict_map(module: nn.Module, image: np.ndarray, tile: int | None = None) -> np.ndarray:
    """Probability map float32 H×W in [0, 1] of an RGB uint8 H×W×3 picture with sides of at least 16.

    With `tile` (more than `OVERLAP`), larger pictures are cut into tiles of at most that side: the time of attention
    grows with the square of what it sees. Attention is then global within a tile only.
    """
    height, width = image.shape[:2]
    if tile is None or max(height, width) <= tile:
        return _predict(module, image)
    total, weights = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    for top, bottom in tile_edges(height, tile):
        for left, right in tile_edges(width, tile):
            weight = np.outer(_ramp(bottom - top), _ramp(right - left))
            total[top:bottom, left:right] += weight * _predict(module, image[top:bottom, left:right])
            weights[top:bottom, left:right] += weight
    return (total / weights).clip(0, 1)


def tile_edges(length: int, tile: int) -> list[tuple[int, int]]:
    """(start, stop) of tiles of equal length, at most `tile`, that cover `length` and overlap by `OVERLAP` or more."""
    if length <= tile:
        return [(0, length)]
    count = -(-(length - OVERLAP) // (tile - OVERLAP))
    return [(start, start + tile) for start in (round(i * (length - tile) / (count - 1)) for i in range(count))]


def _ramp(length: int) -> np.ndarray:
    """1 in the middle, falling towards both ends over the overlap, never 0."""
    ends = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1))
    return np.minimum(ends / OVERLAP, 1).astype(np.float32)


def _predict(module: nn.Module, image: np.ndarray) -> np.ndarray:
    device = next(module.parameters()).device
    batch = torch.from_numpy(np.ascontiguousarray(image)).to(device).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return module(batch)[0, 0].float().cpu().numpy()


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
