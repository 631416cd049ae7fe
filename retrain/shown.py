"""Maps of a few fixed validation pictures, to see in TensorBoard what a training learns."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from forgeries.dataset import ForgeryDataset, Recipe
from forgeries.photos import Photo

SIDE = 128
"""Longest side at which a picture is shown, in pixels."""


def fixed_forgeries(photos: Sequence[Photo], recipe: Recipe, seed: int, methods: Sequence[str],
                    count: int) -> list[tuple[Tensor, Tensor]]:
    """`count` validation forgeries, (image float32 3×H×W in [0, 1], mask 1×H×W of 0 and 1), the same for each call.

    `methods` take turns on the same photograph, crop and mask, then on the next; of more than `count` methods some,
    evenly chosen.
    """
    turns = min(count, len(methods))
    dataset = ForgeryDataset(photos, recipe, seed, "validate", count, balanced=True, flip=False,
                             turns=[methods[turn * len(methods) // turns] for turn in range(turns)])
    return [dataset[i] for i in range(len(dataset))]


def draw_maps(network: Any, forgeries: Sequence[tuple[Tensor, Tensor]], device: torch.device) -> np.ndarray:
    """RGB uint8 H×W×3 with a row for each forgery: picture, mask and map, at most `SIDE` pixels each.

    `network.logits` maps images to logits; it is evaluated in eval mode, and its mode restored.
    """
    training = network.training
    network.eval()
    with torch.no_grad():
        rows = [(image, mask, network.logits(image[None].to(device))[0].float().sigmoid().cpu())
                for image, mask in forgeries]
    network.train(training)
    return np.vstack([np.hstack([_small(part) for part in row]) for row in rows])


def _small(part: Tensor) -> np.ndarray:
    pixels = np.rint(part.expand(3, -1, -1).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    factor = min(1.0, SIDE / max(pixels.shape[:2]))
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else pixels
