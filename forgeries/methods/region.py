"""Where the hole is, and the picture without what it hides."""

import numpy as np


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
