"""Baselines without weights, classical and trivial: what a trained network has to beat.

Their maps order the pixels of a picture; they are no calibrated probabilities, and 0.5 is no chosen threshold.
"""

import hashlib
from abc import abstractmethod
from math import pi, sqrt

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from configs.streams import stream
from detectors.blocks import window_mean

LOGIT_EPS = 1e-6
"""Probabilities this near to 0 and 1 have finite logits."""

QUANTIZATION = 1 / (255 * sqrt(12))
"""Standard deviation of what rounding to 8 bits does; less noise cannot be told from none."""


class Baseline(nn.Module):
    """A detector that has nothing to train."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to a map N×1×H×W in [0, 1]."""

    def logits(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1] to logits N×1×H×W of the map, up to ±13.8."""
        return self(images).logit(LOGIT_EPS)


class NoiseVariance(Baseline):
    """Where the noise differs from that of the picture (idea: Mahdian & Saic, *Using noise inconsistencies for blind
    image forensics*, Image and Vision Computing 2009).

    σ of a window is √(π/2)/6 times the mean absolute response of the luminance to the difference of two Laplacians
    (Immerkær, *Fast noise variance estimation*, CVIU 1996, eq. 4), and at least that of rounding. The map is
    1 − min(σ, m) / max(σ, m), m the picture's median σ: 0.5 where noise is half or twice as strong. `window` is odd.
    """

    def __init__(self, window: int = 15) -> None:
        super().__init__()
        self.window = window

    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to a map N×1×H×W in [0, 1]."""
        grey = (images * images.new_tensor((0.299, 0.587, 0.114)).view(3, 1, 1)).sum(1, keepdim=True)
        kernel = grey.new_tensor(((1, -2, 1), (-2, 4, -2), (1, -2, 1)))[None, None]
        residual = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernel)
        sigma = (sqrt(pi / 2) / 6 * window_mean(residual.abs(), self.window)).clamp(min=QUANTIZATION)
        median = sigma.flatten(1).median(1).values.view(-1, 1, 1, 1)
        return 1 - torch.minimum(sigma, median) / torch.maximum(sigma, median)


class ErrorLevel(Baseline):
    """Error-level analysis (Krawetz, *A Picture's Worth*, Hacker Factor 2007): how much each pixel changes when the
    picture is saved as JPEG once more.

    The map is the absolute difference, over colours and a window (odd), divided by its largest value in the picture.
    """

    def __init__(self, quality: int = 95, window: int = 9) -> None:
        super().__init__()
        self.quality, self.window = quality, window

    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to a map N×1×H×W in [0, 1]."""
        saved = torch.stack([self._saved(picture) for picture in pixels(images)]).to(images) / 255
        level = window_mean((images - saved.permute(0, 3, 1, 2)).abs().mean(1, keepdim=True), self.window)
        return level / level.amax((2, 3), keepdim=True).clamp(min=LOGIT_EPS)

    def _saved(self, picture: np.ndarray) -> Tensor:
        """RGB uint8 H×W×3 after JPEG."""
        packed = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
        return torch.from_numpy(cv2.imdecode(packed, cv2.IMREAD_COLOR_RGB))


class Constant(Baseline):
    """0.5 everywhere."""

    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W to 0.5, N×1×H×W."""
        return torch.full_like(images[:, :1], 0.5)


class Random(Baseline):
    """Uniform noise in [0, 1), the same for the same picture."""

    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1] to noise N×1×H×W."""
        return torch.stack([torch.from_numpy(_noise(picture)) for picture in pixels(images)])[:, None].to(images)


def pixels(images: Tensor) -> np.ndarray:
    """RGB N×3×H×W in [0, 1] as uint8 N×H×W×3."""
    return (images.detach() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().contiguous().numpy()


def _noise(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    content = int.from_bytes(hashlib.sha256(picture.tobytes()).digest())
    return stream(0, "random detector", height, width, content).random((height, width), np.float32)
