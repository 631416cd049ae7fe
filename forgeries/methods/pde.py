"""Fills that continue the surroundings smoothly: solutions of partial differential equations."""

import numpy as np

from forgeries.methods.method import Method

RADIUS = 3
"""Neighbourhood, in pixels, that OpenCV's methods take each pixel from."""


def telea(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The fast marching method; see `Fill`."""
    import cv2
    return cv2.inpaint(_blanked(image, mask), mask.astype(np.uint8), RADIUS, cv2.INPAINT_TELEA)


def _navier_stokes(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    import cv2
    return cv2.inpaint(_blanked(image, mask), mask.astype(np.uint8), RADIUS, cv2.INPAINT_NS)


def _blanked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The hole in the mean colour of the rest: OpenCV's methods take some gradients from inside of it."""
    return np.where(mask[..., None], image[~mask].mean(0).round().astype(np.uint8), image)


def _biharmonic(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from skimage.restoration import inpaint_biharmonic
    filled = inpaint_biharmonic(image, mask, channel_axis=-1, split_into_regions=True)
    return np.round(255 * filled.clip(0, 1)).astype(np.uint8)


PDE = (
    Method("TE", "pde", "fast marching", "Telea 2004", telea, "fast", parameters={"radius": RADIUS}),
    Method("NS", "pde", "Navier–Stokes", "Bertalmio et al. 2001", _navier_stokes, "fast",
           parameters={"radius": RADIUS}),
    Method("BH", "pde", "biharmonic equation", "Damelin & Hoang 2018", _biharmonic, "medium"),
)
