"""Inpainting methods by the short names of the literature. Heavy imports wait until a method runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from configs.errors import UserError

Fill = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""(RGB uint8 H×W×3, mask bool H×W, generator) to RGB uint8 H×W×3; pixels outside the mask are ignored."""


@dataclass(frozen=True)
class Method:
    """An inpainting method: how it fills (`kind`), what it is called and who published it."""

    name: str
    kind: str
    title: str
    source: str
    fill: Fill


def inpaint(image: np.ndarray, mask: np.ndarray, method: str, generator: np.random.Generator) -> np.ndarray:
    """`image` (RGB uint8 H×W×3) with the pixels of `mask` (bool H×W) painted by `method`.

    Outside the mask the result is the input, bit for bit.

    Raises:
        UserError: unknown method.
    """
    if method not in METHODS:
        raise UserError(f"method '{method}': unknown; known are {', '.join(METHODS)}")
    filled = METHODS[method].fill(image, mask, generator)
    return np.where(mask[..., None], filled, image)


def _telea(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    import cv2
    return cv2.inpaint(image, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA)


def _navier_stokes(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    import cv2
    return cv2.inpaint(image, mask.astype(np.uint8), 3, cv2.INPAINT_NS)


def _patch_match(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from patchmatch_cython import inpaint_pyramid
    return inpaint_pyramid(image, mask, patch_size=5, seed=int(generator.integers(2**31)), poisson_blend=False)


def _biharmonic(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from skimage.restoration import inpaint_biharmonic
    filled = inpaint_biharmonic(image, mask, channel_axis=-1, split_into_regions=True)
    return np.round(255 * filled.clip(0, 1)).astype(np.uint8)


def _poisson_clone(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    import cv2
    height, width = mask.shape
    # Reflected, so that every offset finds a source; at least a quarter of the picture away, so that it is another.
    far = [int(generator.choice([-1, 1]) * generator.integers(side // 4, side // 2 + 1)) for side in mask.shape]
    padded = np.pad(image, ((height // 2 + 1,) * 2, (width // 2 + 1,) * 2, (0, 0)), "reflect")
    top, left = height // 2 + 1 + far[0], width // 2 + 1 + far[1]
    source = padded[top:top + height, left:left + width]
    # The solver needs a border around the mask: one of the picture's own, replicated.
    border = 2
    frame = ((border,) * 2, (border,) * 2)
    target = np.pad(image, (*frame, (0, 0)), "edge")
    source = np.pad(source, (*frame, (0, 0)), "edge")
    area = np.pad(mask.astype(np.uint8) * 255, frame)
    x, y, w, h = cv2.boundingRect(area)
    blended = cv2.seamlessClone(source, target, area, (x + w // 2, y + h // 2), cv2.NORMAL_CLONE)
    return blended[border:-border, border:-border]


METHODS: Mapping[str, Method] = {method.name: method for method in (
    Method("TE", "diffusion", "fast marching", "Telea 2004", _telea),
    Method("NS", "diffusion", "Navier–Stokes", "Bertalmio et al. 2001", _navier_stokes),
    Method("PM", "patch", "PatchMatch", "Barnes et al. 2009", _patch_match),
    Method("BH", "smooth", "biharmonic equation", "Damelin & Hoang 2018", _biharmonic),
    Method("PC", "clone", "Poisson cloning from elsewhere in the picture", "Pérez et al. 2003", _poisson_clone),
)}
