"""Exemplar-based inpainting: patches along the outline are completed from the rest of the picture, edges first."""

import numpy as np

from forgeries.methods.method import Method
from forgeries.methods.region import around, blanked, whole_patches

SIDES = (9, 7, 5, 3)
"""Sides of the patches, in pixels: the first of which the picture has a whole one. The paper's default is 9."""
SEARCH = 64
"""Exemplars are at most so many pixels away along each axis, if there are any."""
FLAT = 1e-3
"""Least data term: without it all priorities in flat surroundings are zero, and their order arbitrary."""


def _exemplar(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Criminisi, Pérez & Toyama 2004 (sections III.A–C, table I).

    Differences from the paper: the search is bounded by `SEARCH`, the data term by `FLAT` from below; patches that
    reach beyond the picture's border are compared within it.

    Raises:
        UserError: the mask leaves no patch of the smallest side whole.
    """
    side, centres = whole_patches(mask, SIDES, "EB")
    return _fill(image, mask, centres, side)


def _fill(image: np.ndarray, mask: np.ndarray, centres: np.ndarray, side: int) -> np.ndarray:
    import cv2
    reach = side // 2
    # A frame of unknown pixels that are not to be painted lets patches at the border be like all others.
    known, hole, centres = (np.pad(part, reach) for part in (~mask, mask, centres))
    result = np.pad(blanked(image, mask), ((reach, reach), (reach, reach), (0, 0)))
    lab = cv2.cvtColor(result.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[..., 0] -= 50  # about zero, where float32 is finest
    planes = [np.ascontiguousarray(lab[..., channel]) for channel in range(3)]
    squares = np.square(lab).sum(2)
    confidence = known.astype(np.float32)
    box = around(hole, side)
    while hole.any():
        y, x, confident = _most_urgent(lab[box][..., 0], known[box], hole[box], confidence[box], side)
        y, x = y + box[0].start, x + box[1].start
        patch = np.s_[y - reach:y + reach + 1, x - reach:x + reach + 1]
        best = _best_exemplar(planes, squares, centres, lab[patch], known[patch], y, x)
        source = np.s_[best[0] - reach:best[0] + reach + 1, best[1] - reach:best[1] + reach + 1]
        missing = hole[patch].copy()
        for values in (result, lab):
            values[patch][missing] = values[source][missing]
        confidence[patch][missing] = confident
        known[patch][missing], hole[patch][missing] = True, False
    return result[reach:-reach, reach:-reach]


def _most_urgent(lightness: np.ndarray, known: np.ndarray, hole: np.ndarray, confidence: np.ndarray,
                 side: int) -> tuple[int, int, float]:
    """Row, column and confidence of the pixel of the hole's outline with the greatest priority (equations 1 and 2)."""
    import cv2
    here = known.astype(np.uint8)
    rows, columns = np.nonzero(hole & cv2.dilate(here, np.ones((3, 3))).view(bool))
    confident = cv2.boxFilter(confidence, -1, (side, side), borderType=cv2.BORDER_CONSTANT)[rows, columns]
    # The strongest gradient in the patch among those that see known pixels only.
    certain = cv2.erode(here, np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    gradient = np.stack([cv2.Sobel(lightness, cv2.CV_32F, *order, scale=1 / 8) * certain for order in ((0, 1), (1, 0))])
    reach = side // 2
    gradient = np.pad(gradient, ((0, 0), (reach, reach), (reach, reach)))
    patches = np.lib.stride_tricks.sliding_window_view(np.square(gradient).sum(0), (side, side))[rows, columns]
    row, column = np.divmod(patches.reshape(rows.size, -1).argmax(1), side)
    down, right = gradient[:, rows + row, columns + column]
    smooth = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), 1)
    y, x = (cv2.Sobel(smooth, cv2.CV_32F, *order)[rows, columns] for order in ((0, 1), (1, 0)))
    # An isophote is at a right angle to the gradient; the lightness of CIELAB ends at 100.
    data = abs(right * y - down * x) / np.maximum(np.hypot(y, x), 1e-6) / 100
    best = int((confident * (data + FLAT)).argmax())
    return int(rows[best]), int(columns[best]), float(confident[best])


def _best_exemplar(planes: list[np.ndarray], squares: np.ndarray, centres: np.ndarray, patch: np.ndarray,
                   known: np.ndarray, y: int, x: int) -> tuple[int, int]:
    """Centre of the exemplar with the least sum of squared differences from the known pixels of `patch` (equation 5).

    Expanded into correlations: Σ m (a - b)² = Σ m a² - 2 Σ m a b + Σ m b², the last being the same for all.
    """
    import cv2
    reach = known.shape[0] // 2
    inner = np.s_[reach:-reach, reach:-reach]
    area = np.s_[max(0, y - SEARCH - reach):y + SEARCH + reach + 1, max(0, x - SEARCH - reach):x + SEARCH + reach + 1]
    if not centres[area][inner].any():
        area = np.s_[0:centres.shape[0], 0:centres.shape[1]]
    weights = known.astype(np.float32)
    products = sum(cv2.filter2D(plane[area], -1, weights * patch[..., channel]) for channel, plane in enumerate(planes))
    costs = np.where(centres[area], cv2.filter2D(squares[area], -1, weights) - 2 * products, np.inf)[inner]
    row, column = divmod(int(costs.argmin()), costs.shape[1])
    return area[0].start + reach + row, area[1].start + reach + column


EXEMPLARS = (
    Method("EB", "patch", "exemplar-based, edges first", "Criminisi et al. 2004", _exemplar, "medium",
           parameters={"patch": SIDES[0], "search": SEARCH}),
)
