"""What happens to a picture after it was forged: named operations in chains, such as `resize-0.75+jpeg-60..95`.

    none | step+step+…      step: operation-value, or operation-low..high, of which one value is drawn

Heavy imports wait until a picture is perturbed.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from configs.errors import UserError

Apply = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], tuple[np.ndarray, np.ndarray]]
"""(image RGB uint8 H×W×3, mask bool H×W, value, generator) to both after the operation, of one size."""

NUMBER = r"([0-9]+(?:\.[0-9]+)?)"

GRID = "grid:"
"""Begins the name of a grid."""

SMALLEST = 16
"""Sides that no operation goes below: detectors take no smaller pictures."""


@dataclass(frozen=True)
class Operation:
    """What can be done to a picture: its values from `low` to `high`, what they mean, and how it is done.

    `step` is 0 for real values, 1 for whole ones, 2 for odd ones.
    """

    name: str
    low: float
    high: float
    step: int
    meaning: str
    apply: Apply

    @property
    def values(self) -> str:
        """Such as `0.25..1` or `3..15 odd`."""
        return f"{_number(self.low)}..{_number(self.high)}{('', ' whole', ' odd')[self.step]}"

    def takes(self, value: float) -> bool:
        """Whether `value` is one of the operation's."""
        return self.low <= value <= self.high and (not self.step or (value - self.low) % self.step == 0)


@dataclass(frozen=True)
class Step:
    """An operation and the range that its value is drawn from, ends included; equal ends are a value."""

    operation: str
    low: float
    high: float

    def __str__(self) -> str:
        ends = [_number(self.low), _number(self.high)]
        return f"{self.operation}-{'..'.join(ends[:1 if self.low == self.high else 2])}"

    def draw(self, generator: np.random.Generator) -> "Step":
        """With one value, uniform; drawn ones have two decimals. Takes one number, also where there is no choice, so
        that what an operation draws after it is the same."""
        share, step = generator.random(), OPERATIONS[self.operation].step
        if step:
            value = self.low + step * float(int(share * ((self.high - self.low) // step + 1)))
        else:
            value = min(max(round(self.low + share * (self.high - self.low), 2), self.low), self.high)
        return Step(self.operation, value, value)


Chain = tuple[Step, ...]
"""Steps in their order; none leave the picture as it is."""


@dataclass(frozen=True)
class Perturbed:
    """`image` RGB uint8 H×W×3 and `mask` bool H×W of one size, and `applied`: the chain with the drawn values."""

    image: np.ndarray
    mask: np.ndarray
    applied: str


def perturb(image: np.ndarray, mask: np.ndarray, name: str, generator: np.random.Generator) -> Perturbed:
    """`image` (RGB uint8 H×W×3) and its `mask` (bool H×W) after the perturbation `name`.

    What changes the size of the picture changes the mask with it. `applied`, given as name with a generator in the
    same state, gives the same pixels.

    Raises:
        UserError: no such perturbation.
    """
    steps = [step.draw(generator) for step in parse(name)]
    for step in steps:
        image, mask = OPERATIONS[step.operation].apply(image, mask, step.low, generator)
    return Perturbed(image, mask, chain_name(steps))


def parse(name: str) -> Chain:
    """The steps that `name` stands for.

    Raises:
        UserError: it is none of a chain.
    """
    try:
        return _read(name)
    except ValueError as error:
        raise UserError(f"perturbation {name!r}: {error}") from None


def chain_name(steps: Iterable[Step]) -> str:
    """The name that `parse` reads back."""
    return "+".join(map(str, steps)) or "none"


def check_name(name: str) -> None:
    """Accepts names of chains and of grids.

    Raises:
        ValueError: neither.
    """
    if not name.startswith(GRID):
        _read(name)
    elif name.removeprefix(GRID) not in GRIDS:
        raise ValueError(f"must be one of {', '.join(GRID + grid for grid in GRIDS)}")


def expand(names: Iterable[str]) -> list[str]:
    """`names` with the chains of a grid in place of its name, each once.

    Raises:
        UserError: no such perturbation or grid.
    """
    found: list[str] = []
    for name in names:
        try:
            check_name(name)
        except ValueError as error:
            raise UserError(f"perturbation {name!r}: {error}") from None
        found += GRIDS[name.removeprefix(GRID)] if name.startswith(GRID) else [name]
    return list(dict.fromkeys(found))


def covers(trained: str, tested: str) -> bool:
    """Whether all that `tested` does was drawn by `trained`: the same operations in order, values within its ranges.

    Raises:
        UserError: no such perturbation.
    """
    first, second = parse(trained), parse(tested)
    return len(first) == len(second) and all(
        a.operation == b.operation and a.low <= b.low <= b.high <= a.high for a, b in zip(first, second, strict=True))


def _read(name: str) -> Chain:
    return () if name == "none" else tuple(_read_step(word) for word in name.split("+"))


def _read_step(word: str) -> Step:
    """Raises ValueError with the known operations, or with the values of this one."""
    name, _, value = word.partition("-")
    operation, found = OPERATIONS.get(name), re.fullmatch(rf"{NUMBER}(?:\.\.{NUMBER})?", value)
    if operation is None:
        known = ", ".join(f"{each.name} {each.values}" for each in OPERATIONS.values())
        raise ValueError(f"no operation {name!r}; must be none or like resize-0.75+jpeg-60..95, of {known}")
    low, high = (float(found[1]), float(found[2] or found[1])) if found else (np.nan, np.nan)
    if not (operation.takes(low) and operation.takes(high) and low <= high):
        raise ValueError(f"{word!r} must be {name}-VALUE or {name}-LOW..HIGH with values in {operation.values} "
                         f"({operation.meaning})")
    return Step(name, low, high)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _pixels(function: Callable[[np.ndarray, float], np.ndarray]) -> Apply:
    """An operation that leaves the mask as it is and draws nothing."""
    def apply(image: np.ndarray, mask: np.ndarray, value: float, generator: np.random.Generator) \
            -> tuple[np.ndarray, np.ndarray]:
        return function(image, value), mask
    return apply


def _encoded(image: np.ndarray, suffix: str, quality: str, value: float) -> np.ndarray:
    import cv2
    data = cv2.imencode(suffix, image[..., ::-1], [getattr(cv2, quality), int(value)])[1]
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[..., ::-1])


def _jpeg(image: np.ndarray, quality: float) -> np.ndarray:
    return _encoded(image, ".jpg", "IMWRITE_JPEG_QUALITY", quality)


def _webp(image: np.ndarray, quality: float) -> np.ndarray:
    return _encoded(image, ".webp", "IMWRITE_WEBP_QUALITY", quality)


def _resize(image: np.ndarray, factor: float) -> np.ndarray:
    import cv2
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(1, round(width * factor)), max(1, round(height * factor))),
                       interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _sides(image: np.ndarray, factor: float) -> tuple[int, int]:
    """Height and width times `factor`, but not below `SMALLEST` where they were above."""
    height, width = (max(round(side * factor), min(side, SMALLEST)) for side in image.shape[:2])
    return height, width


def _scale(image: np.ndarray, mask: np.ndarray, factor: float, generator: np.random.Generator) \
        -> tuple[np.ndarray, np.ndarray]:
    return resized(image, mask, *_sides(image, factor))


def resized(image: np.ndarray, mask: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """`image` (RGB uint8 H×W×3) and `mask` (bool H×W) at another size: area interpolation down, linear up; the mask
    takes its nearest pixels."""
    import cv2
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return image, cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(bool)


def _crop(image: np.ndarray, mask: np.ndarray, factor: float, generator: np.random.Generator) \
        -> tuple[np.ndarray, np.ndarray]:
    """A random part, of those that show some of the mask and some of the rest, where there are any."""
    height, width = _sides(image, factor)
    sums = np.pad(mask, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    both = np.flatnonzero((inside > 0) & (inside < height * width))
    place = int(both[generator.integers(both.size)] if both.size else generator.integers(inside.size))
    top, left = divmod(place, inside.shape[1])
    part = np.s_[top:top + height, left:left + width]
    return np.ascontiguousarray(image[part]), np.ascontiguousarray(mask[part])


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    import cv2
    return cv2.GaussianBlur(image, (0, 0), sigma)


def _noise(image: np.ndarray, mask: np.ndarray, sigma: float, generator: np.random.Generator) \
        -> tuple[np.ndarray, np.ndarray]:
    return _to_uint8(image + np.float32(sigma) * generator.standard_normal(image.shape, np.float32)), mask


def _median(image: np.ndarray, side: float) -> np.ndarray:
    import cv2
    return cv2.medianBlur(image, int(side))


def _gamma(image: np.ndarray, exponent: float) -> np.ndarray:
    return _to_uint8(255 * (np.arange(256) / 255) ** exponent)[image]


def _sharpen(image: np.ndarray, amount: float) -> np.ndarray:
    """Unsharp masking: the difference from a Gaussian blur of 1 pixel, times `amount`, is added."""
    import cv2
    pixels = image.astype(np.float32)
    return _to_uint8(pixels + np.float32(amount) * (pixels - cv2.GaussianBlur(pixels, (0, 0), 1)))


def _defocus(image: np.ndarray, mask: np.ndarray, sigma: float, generator: np.random.Generator) \
        -> tuple[np.ndarray, np.ndarray]:
    """What lies near or far is out of focus: a Gaussian blur where a smooth random field is low, none where it is
    high."""
    import cv2
    height, width = image.shape[:2]
    field = cv2.resize(generator.standard_normal((5, 5), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    share = 1 / (1 + np.exp(-8 * field[..., None]))
    pixels = image.astype(np.float32)
    return _to_uint8(share * pixels + (1 - share) * cv2.GaussianBlur(pixels, (0, 0), sigma)), mask


OPERATIONS: Mapping[str, Operation] = {operation.name: operation for operation in (
    Operation("jpeg", 1, 100, 1, "quality of JPEG compression", _pixels(_jpeg)),
    Operation("webp", 1, 100, 1, "quality of WebP compression", _pixels(_webp)),
    Operation("resize", 0.1, 1, 0, "factor of shrinking, then back to the size", _pixels(_resize)),
    Operation("scale", 0.25, 2, 0, "factor on the sides; the size changes", _scale),
    Operation("crop", 0.25, 1, 0, "share of each side that is kept, at a random place; the size changes", _crop),
    Operation("blur", 0.2, 10, 0, "standard deviation of a Gaussian blur, in pixels", _pixels(_blur)),
    Operation("defocus", 0.5, 10, 0, "standard deviation of a Gaussian blur of about half of the picture", _defocus),
    Operation("noise", 0.5, 50, 0, "standard deviation of Gaussian noise, in grey levels of 255", _noise),
    Operation("median", 3, 15, 2, "side of the median's window, in pixels", _pixels(_median)),
    Operation("gamma", 0.2, 5, 0, "exponent on values in [0, 1]", _pixels(_gamma)),
    Operation("sharpen", 0.1, 5, 0, "amount of unsharp masking of 1 pixel", _pixels(_sharpen)),
)}


def _kernel_sigma(side: int) -> float:
    """Standard deviation, in pixels, that OpenCV takes for a Gaussian kernel of `side` where none is given (its
    documentation of getGaussianKernel)."""
    return round(0.3 * ((side - 1) * 0.5 - 1) + 0.8, 2)


GRIDS: Mapping[str, tuple[str, ...]] = {
    "jpeg": tuple(f"jpeg-{quality}" for quality in (95, 90, 75, 60, 50, 30)),
    "webp": tuple(f"webp-{quality}" for quality in (95, 90, 75, 50, 30)),
    "resize": ("resize-0.9", "resize-0.75", "resize-0.5", "resize-0.25"),
    "scale": ("scale-0.5", "scale-0.75", "scale-1.25", "scale-1.5"),
    "crop": ("crop-0.9", "crop-0.75", "crop-0.5"),
    "blur": ("blur-0.5", "blur-1", "blur-2", "blur-3"),
    "noise": ("noise-2", "noise-5", "noise-10", "noise-20"),
    "median": ("median-3", "median-5", "median-7"),
    "gamma": ("gamma-0.5", "gamma-0.8", "gamma-1.25", "gamma-2"),
    "sharpen": ("sharpen-0.5", "sharpen-1", "sharpen-2"),
    "social": ("resize-0.75+jpeg-85", "resize-0.5+sharpen-0.5+jpeg-75", "scale-0.75+jpeg-80", "scale-0.5+webp-75",
               "crop-0.75+scale-0.75+jpeg-75", "jpeg-90+scale-0.75+sharpen-0.5+jpeg-70"),
    # IMDLBenCo (Ma et al. 2024), lists of its robustness test: JPEG qualities, sides of Gaussian kernels from 3 to 23,
    # and variances from 3 to 23 of noise, here as standard deviations.
    "imdlbenco-jpeg": tuple(f"jpeg-{quality}" for quality in (100, 90, 80, 70, 60, 50)),
    "imdlbenco-blur": tuple(f"blur-{_kernel_sigma(side):g}" for side in (3, 7, 11, 15, 19, 23)),
    "imdlbenco-noise": tuple(f"noise-{round(variance ** 0.5, 2):g}" for variance in (3, 7, 11, 15, 19, 23)),
    # SPAN (Hu et al. 2020), the table of robustness on NIST16 and Columbia that others went on with: resizing by 0.78
    # and 0.25, Gaussian kernels of sides 3 and 15, noise of deviation 3 and 15, JPEG. Masks are resized with pictures.
    "span": ("scale-0.78", "scale-0.25", f"blur-{_kernel_sigma(3):g}", f"blur-{_kernel_sigma(15):g}", "noise-3",
             "noise-15", "jpeg-100", "jpeg-50"),
}
"""Chains to test on, by what they vary; `social` is like what sharing a picture does to it, and those that are called
after a paper hold its steps. Papers tell blur by the side of a kernel, which cuts the Gaussian off; ours goes on."""
