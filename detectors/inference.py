"""One picture in, one map out, and how a person sees it."""

import cv2
import numpy as np
import torch
from torch import nn

MINIMUM_SIDE = 16


def predict_map(module: nn.Module, image: np.ndarray) -> np.ndarray:
    """Probability map float32 H×W in [0, 1] of an RGB uint8 H×W×3 picture with sides of at least 16."""
    device = next(module.parameters()).device
    batch = torch.from_numpy(image).to(device).permute(2, 0, 1)[None].float() / 255
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
