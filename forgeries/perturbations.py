"""What happens to a picture after it was forged."""

from collections.abc import Callable, Mapping

import numpy as np

from configs.errors import UserError


def perturb(image: np.ndarray, name: str) -> np.ndarray:
    """`image` (RGB uint8 H×W×3) after the perturbation `name`; the size, and so the mask, stays.

    Raises:
        UserError: unknown name.
    """
    if name not in PERTURBATIONS:
        raise UserError(f"perturbation '{name}': unknown; known are {', '.join(PERTURBATIONS)}")
    return PERTURBATIONS[name](image)


def _jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
    def apply(image: np.ndarray) -> np.ndarray:
        import cv2
        data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None
        return np.ascontiguousarray(decoded[..., ::-1])
    return apply


def _resize(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def apply(image: np.ndarray) -> np.ndarray:
        import cv2
        height, width = image.shape[:2]
        small = cv2.resize(image, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return apply


PERTURBATIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda image: image,
    **{f"jpeg-{quality}": _jpeg(quality) for quality in (95, 90, 75, 50)},
    **{f"resize-{factor}": _resize(factor) for factor in (0.75, 0.5)},
}
"""JPEG by quality; resizing by a factor and back."""
