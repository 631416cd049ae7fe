"""Where the hole is, the picture without what it hides, and the patches that it leaves whole."""

from collections.abc import Sequence

import numpy as np

from configs.errors import UserError


def around(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Rows and columns of the smallest box that holds `mask` (bool H×W, not empty) and `margin` pixels on each side of
    it, as far as the picture goes."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (slice(max(0, rows[0] - margin), rows[-1] + 1 + margin),
            slice(max(0, columns[0] - margin), columns[-1] + 1 + margin))


def blanked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A copy of `image` (uint8 H×W×3) with the pixels of `mask` (bool H×W) in the mean colour of the others."""
    import cv2
    result = image.copy()
    result[mask] = np.round(cv2.mean(image, (~mask).view(np.uint8))[:3])
    return result


def whole_patches(mask: np.ndarray, sides: Sequence[int], method: str) -> tuple[int, np.ndarray]:
    """The first of `sides` (pixels) of which `mask` (bool H×W) leaves a square patch whole, and bool H×W: the pixels
    `side // 2` below and right of the upper left pixel of such a patch, which are the anchors of OpenCV's filters.

    Raises:
        UserError: there is none; the line names `method`.
    """
    import cv2
    known = (~mask).view(np.uint8)
    for side in sides:
        whole = cv2.erode(known, np.ones((side, side)), borderType=cv2.BORDER_CONSTANT, borderValue=0).view(bool)
        if whole.any():
            return side, whole
    raise UserError(f"method '{method}': the mask leaves no patch of {sides[-1]}×{sides[-1]} pixels whole; "
                    "lower forgeries.mask_fraction or --fraction")
