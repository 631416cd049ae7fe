"""What may have been done to a whole patch: seven families of manipulation, each of several kinds and strengths.

The families are those by whose classification ManTraNet's trace extractor is trained (Wu, AbdAlmageed & Natarajan,
CVPR 2019, section 3); their kinds and ranges of strength are this project's.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np
from skimage.filters import rank

from configs.errors import UserError

Kind = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""(patch RGB uint8 H×W×3, strength in (0, 1], generator) to uint8 H×W×3."""

LEVELS = 14
"""Strengths of one kind that differ on patches of 32 pixels and more: discs, sides and qualities are whole numbers."""

DISCS = sorted({x * x + y * y for x in range(6) for y in range(6)})[1:LEVELS + 1]
"""Squared radii of the smallest discs that hold different pixels: from 1, a cross, to 26, eleven pixels wide."""

BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]])
"""Order of the thresholds of 4×4 pixels in ordered dithering (Bayer 1973)."""


@dataclass(frozen=True)
class Manipulation:
    """One class of the trace extractor's training; without a family, a patch as it is."""

    family: str = "pristine"
    kind: str = ""
    strength: float = 0.0

    @property
    def name(self) -> str:
        """Such as `blurring/gaussian/0.5`."""
        return f"{self.family}/{self.kind}/{self.strength:.3g}" if self.kind else self.family

    def apply(self, patch: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """`patch` (RGB uint8 H×W×3) after the manipulation, of the same shape; it is left as it was."""
        return FAMILIES[self.family][self.kind](patch, self.strength, generator) if self.kind else patch


def manipulation_classes(count: int) -> tuple[Manipulation, ...]:
    """`count` classes: the pristine one, then the others spread evenly over families, their kinds and strengths.

    Raises:
        UserError: fewer than 2, or more than there are strengths that differ.
    """
    if not 2 <= count <= MAXIMUM:
        raise UserError(f"{count} classes of manipulation: must be from 2 to {MAXIMUM}")
    share, more = divmod(count - 1, len(FAMILIES))
    classes = [Manipulation()]
    for number, (family, kinds) in enumerate(FAMILIES.items()):
        turns = (kind for _ in range(LEVELS) for kind in kinds)
        for kind, levels in Counter(islice(turns, share + (number < more))).items():
            classes += [Manipulation(family, kind, (level + 0.5) / levels) for level in range(levels)]
    return tuple(classes)


def _between(low: float, high: float, strength: float) -> float:
    """From `low` to `high` in equal ratios."""
    return low * (high / low) ** strength


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _disc(strength: float) -> np.ndarray:
    """Footprint, uint8, of the disc that is as far down `DISCS` as the strength is."""
    square = DISCS[int(np.ceil(strength * len(DISCS))) - 1]
    y, x = np.ogrid[-5:6, -5:6]
    disc = (x * x + y * y <= square).astype(np.uint8)
    return disc[np.ix_(disc.any(1), disc.any(0))]


def _per_channel(function: Callable[[np.ndarray, float], np.ndarray]) -> Kind:
    def apply(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        return np.stack([function(np.ascontiguousarray(patch[..., channel]), strength) for channel in range(3)], 2)
    return apply


def _gaussian_blur(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    return _to_uint8(cv2.GaussianBlur(patch.astype(np.float32), (0, 0), _between(0.4, 4, strength)))


def _line(length: float) -> np.ndarray:
    """Kernel of a mean over `length` > 1 positions; the two at its ends count in part."""
    inner = 2 * int((length - 1) / 2) + 1
    kernel = np.ones(inner + 2)
    kernel[[0, -1]] = (length - inner) / 2
    return kernel / length


def _box_blur(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    line = _line(_between(1.4, 9, strength))
    return _to_uint8(cv2.sepFilter2D(patch.astype(np.float32), -1, line, line))


def _motion_blur(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Along rows or columns, by chance."""
    line = _line(_between(1.5, 15, strength))[:, None]
    return _to_uint8(cv2.filter2D(patch.astype(np.float32), -1, line if generator.random() < 0.5 else line.T))


def _median(channel: np.ndarray, strength: float) -> np.ndarray:
    return rank.median(channel, _disc(strength))


def _bilateral(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    return cv2.bilateralFilter(patch, 7, _between(15, 250, strength), 2)


def _morphology(operation: int) -> Kind:
    def apply(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        return cv2.morphologyEx(patch, operation, _disc(strength))
    return apply


def _gamma(strongest: float) -> Kind:
    def apply(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        exponent = _between(strongest ** 0.05, strongest, strength)
        return _to_uint8(255 * (np.arange(256) / 255) ** exponent)[patch]
    return apply


def _gain(strongest: float) -> Kind:
    """Differences from middle grey are multiplied."""
    def apply(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        gain = _between(strongest ** 0.05, strongest, strength)
        return _to_uint8(127.5 + gain * (np.arange(256) - 127.5))[patch]
    return apply


def _equalise(channel: np.ndarray, strength: float) -> np.ndarray:
    """A mixture with the equalised channel."""
    return _to_uint8((1 - strength) * channel + strength * cv2.equalizeHist(channel))


def _gaussian_noise(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    return _to_uint8(patch + generator.normal(0, _between(1, 32, strength), patch.shape))


def _uniform_noise(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    span = _between(2, 55, strength)
    return _to_uint8(patch + generator.uniform(-span, span, patch.shape))


def _poisson_noise(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    photons = _between(10, 0.1, strength)
    return _to_uint8(generator.poisson(patch * photons) / photons)


def _impulse_noise(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """A share of the pixels becomes black or white."""
    count = int(np.ceil(_between(0.005, 0.2, strength) * patch[..., 0].size))
    noisy = patch.reshape(-1, 3).copy()
    noisy[generator.permutation(len(noisy))[:count]] = 255 * generator.integers(2, size=(count, 1))
    return noisy.reshape(patch.shape)


def _speckle_noise(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    return _to_uint8(patch * (1 + generator.normal(0, _between(0.01, 0.3, strength), patch.shape)))


def _resampling(down: int, up: int) -> Kind:
    """Shrunk, then enlarged to the size that it had."""
    def apply(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        height, width = patch.shape[:2]
        factor = _between(0.97, 0.25, strength)
        small = min(round(width * factor), width - 1), min(round(height * factor), height - 1)
        return cv2.resize(cv2.resize(patch, small, interpolation=down), (width, height), interpolation=up)
    return apply


def _posterise(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    step = _between(2, 64, strength)
    return _to_uint8(np.rint(patch / step) * step)


def _dither(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Fewer levels, with thresholds drawn for each value."""
    step = _between(2, 64, strength)
    return _to_uint8(np.floor(patch / step + generator.random(patch.shape)) * step)


def _ordered(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Fewer levels, with Bayer's thresholds."""
    step, (rows, columns) = _between(2, 64, strength), np.ogrid[:patch.shape[0], :patch.shape[1]]
    thresholds = (BAYER[rows % 4, columns % 4] + 0.5) / 16
    return _to_uint8(np.floor(patch / step + thresholds[..., None]) * step)


def _fewer(channels: slice) -> Kind:
    """Fewer levels of these channels of YCrCb."""
    def apply(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        values = cv2.cvtColor(patch, cv2.COLOR_RGB2YCrCb)
        values[..., channels] = _posterise(values[..., channels], strength, generator)
        return cv2.cvtColor(values, cv2.COLOR_YCrCb2RGB)
    return apply


def _compression(suffix: str, quality_flag: int, *flags: int) -> Kind:
    def apply(patch: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
        data = cv2.imencode(suffix, patch[..., ::-1], [quality_flag, round(97 - 90 * strength), *flags])[1]
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None
        return np.ascontiguousarray(decoded[..., ::-1])
    return apply


def _jpeg(sampling: int) -> Kind:
    """With this chroma subsampling."""
    return _compression(".jpg", cv2.IMWRITE_JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling)


FAMILIES: Mapping[str, Mapping[str, Kind]] = {
    "blurring": {"gaussian": _gaussian_blur, "median": _per_channel(_median), "box": _box_blur,
                 "motion": _motion_blur, "bilateral": _bilateral},
    "morphology": {"dilate": _morphology(cv2.MORPH_DILATE), "erode": _morphology(cv2.MORPH_ERODE),
                   "open": _morphology(cv2.MORPH_OPEN), "close": _morphology(cv2.MORPH_CLOSE)},
    "contrast": {"lighten": _gamma(0.3), "darken": _gamma(3), "stretch": _gain(3), "flatten": _gain(0.3),
                 "equalise": _per_channel(_equalise)},
    "noise": {"gaussian": _gaussian_noise, "impulse": _impulse_noise, "uniform": _uniform_noise,
              "poisson": _poisson_noise, "speckle": _speckle_noise},
    "resampling": {"bilinear": _resampling(cv2.INTER_LINEAR, cv2.INTER_LINEAR),
                   "bicubic": _resampling(cv2.INTER_CUBIC, cv2.INTER_CUBIC),
                   "nearest": _resampling(cv2.INTER_NEAREST, cv2.INTER_NEAREST),
                   "area": _resampling(cv2.INTER_AREA, cv2.INTER_LINEAR),
                   "lanczos": _resampling(cv2.INTER_LANCZOS4, cv2.INTER_LANCZOS4)},
    "quantization": {"levels": _posterise, "dither": _dither, "ordered": _ordered,
                     "luma": _fewer(slice(0, 1)), "chroma": _fewer(slice(1, 3))},
    "compression": {"jpeg": _jpeg(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
                    "webp": _compression(".webp", cv2.IMWRITE_WEBP_QUALITY),
                    "jpeg-444": _jpeg(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
                    "jpeg-422": _jpeg(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422)},
}
"""Kinds by family; where there are fewer classes than kinds, the first ones count."""

MAXIMUM = 1 + len(FAMILIES) * min(map(len, FAMILIES.values())) * LEVELS
"""Classes that can be told apart, with as many of each family."""
