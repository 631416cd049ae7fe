"""Fills that continue the surroundings smoothly: solutions of partial differential equations."""

import numpy as np

from forgeries.methods.method import Method
from forgeries.methods.poisson import poisson_fill
from forgeries.methods.region import around, blanked

RADIUS = 3
"""Neighbourhood, in pixels, that OpenCV's methods take each pixel from."""


def telea(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The fast marching method; see `Fill`."""
    import cv2
    return _march(image, mask, cv2.INPAINT_TELEA)


def _navier_stokes(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    import cv2
    return _march(image, mask, cv2.INPAINT_NS)


def _march(image: np.ndarray, mask: np.ndarray, algorithm: int) -> np.ndarray:
    """OpenCV's inpainting of the hole and what it looks at: gradients, one pixel beyond the radius."""
    import cv2
    box = around(mask, RADIUS + 1)
    result = image.copy()
    # It takes some gradients from inside of the hole, where it must not find what the hole hides.
    result[box] = cv2.inpaint(blanked(image, mask)[box], mask[box].astype(np.uint8), RADIUS, algorithm)
    return result


def _harmonic(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return poisson_fill(image, mask)


def _biharmonic(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from skimage.restoration import inpaint_biharmonic
    filled = inpaint_biharmonic(image, mask, channel_axis=-1, split_into_regions=True)
    return np.round(255 * filled.clip(0, 1)).astype(np.uint8)


PDE = (
    Method("TE", "pde", "fast marching", "Telea 2004", telea, "fast", parameters={"radius": RADIUS}),
    Method("NS", "pde", "Navier–Stokes", "Bertalmio et al. 2001", _navier_stokes, "fast",
           parameters={"radius": RADIUS}),
    Method("HD", "pde", "harmonic diffusion", "Chan & Shen 2001", _harmonic, "fast"),
    Method("BH", "pde", "biharmonic equation", "Damelin & Hoang 2018", _biharmonic, "medium"),
)
