"""How well the outline of what is flagged follows that of the mask."""

import math

import cv2
import numpy as np

TOLERANCE = 0.0075
"""Share of the picture's diagonal, as in Csurka et al. 2013."""

LARGEST_DISK = 16
"""Tolerance in pixels up to which dilation by a disk takes less time than a distance transform."""

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def boundary_f1(scores: np.ndarray, mask: np.ndarray, threshold: float, tolerance: float | None = None) -> float:
    """Boundary F-measure of the region whose score is at least `threshold` (Csurka, Larlus & Perronnin, BMVC 2013,
    section 2.3; Perazzi et al., CVPR 2016, section 3.2), in [0, 1].

    A region's boundary is its pixels with a pixel outside it above, below, left or right; the frame of the picture is
    none. Precision is the share of the prediction's boundary that lies within `tolerance` pixels (Euclidean) of the
    mask's boundary, recall the reverse, F their harmonic mean. By default the tolerance is 0.75 % of the diagonal, and
    at least 1 pixel. Where the prediction has no boundary, because all or nothing is flagged, F is 0: all of the mask's
    is missed. Undefined, NaN, for a mask of one class, which has none.
    """
    if tolerance is None:
        tolerance = max(1.0, TOLERANCE * math.hypot(*mask.shape))
    found, wanted = _boundary(scores >= np.float64(threshold)), _boundary(mask)
    if not wanted.any():
        return float("nan")
    if not found.any():
        return 0.0
    precision, recall = _near(found, wanted, tolerance), _near(wanted, found, tolerance)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boundary(region: np.ndarray) -> np.ndarray:
    """bool H×W. Erosion takes what is beyond the frame for inside."""
    inside = region.view(np.uint8)
    return (inside - cv2.erode(inside, _CROSS)).view(bool)


def _near(points: np.ndarray, others: np.ndarray, tolerance: float) -> float:
    """Share of the `points` within `tolerance` of one of the `others`, both bool H×W with some."""
    return np.count_nonzero(points & _grown(others, tolerance)) / np.count_nonzero(points)


def _grown(points: np.ndarray, tolerance: float) -> np.ndarray:
    """Where one of the `points` lies within `tolerance`, both bool H×W."""
    if tolerance >= LARGEST_DISK:
        distance = cv2.distanceTransform((~points).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        # The distances are float32: whether 5 is within 5 is not to depend on their rounding.
        return distance <= tolerance * (1 + 1e-6)
    reach = np.arange(-int(tolerance), int(tolerance) + 1)
    disk = np.add.outer(reach**2, reach**2) <= tolerance**2
    return cv2.dilate(points.view(np.uint8), disk.view(np.uint8)).view(bool)
