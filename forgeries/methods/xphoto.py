"""Methods of OpenCV's extra module `xphoto`, where the installed OpenCV has it (wheels named opencv-contrib-python)."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from configs.errors import UserError
from forgeries.methods.method import Method
from forgeries.methods.region import blanked, whole_patches

PATCH = 8
"""Side of the patches, in pixels, that OpenCV's shift map matches."""


def has_xphoto() -> bool:
    """Whether OpenCV has `xphoto`, told from its wheel's folder: importing it would slow down every usage error."""
    found = find_spec("cv2")
    return found is not None and any(Path(place, "xphoto").is_dir() for place in found.submodule_search_locations or ())


def _shift_map(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """In CIELAB, as OpenCV asks for; not by its own conversion, which does not lead back to all colours it came from.

    Raises:
        UserError: the mask leaves no patch of 8×8 pixels whole; OpenCV would leave the hole black.
    """
    from skimage.color import lab2rgb, rgb2lab
    whole_patches(mask, (PATCH,), "SM")
    lab = rgb2lab(blanked(image, mask)).astype(np.float32)
    return np.round(255 * lab2rgb(_inpaint(lab, mask, "INPAINT_SHIFTMAP")).clip(0, 1)).astype(np.uint8)


def _frequency_selective(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """In BGR, as OpenCV asks for. A picture of one colour all over comes back black: no frequency can be selected."""
    return _inpaint(blanked(image, mask)[..., ::-1], mask, "INPAINT_FSR_FAST")[..., ::-1]


def _inpaint(image: np.ndarray, mask: np.ndarray, algorithm: str) -> np.ndarray:
    """`cv2.xphoto.inpaint`, whose masks are 255 where the picture is known, and which writes to an argument."""
    import cv2
    if not hasattr(cv2, "xphoto"):
        raise UserError("OpenCV's module xphoto is damaged, as happens where two of its wheels are installed over each "
                        "other; keep opencv-contrib-python alone")
    result = np.zeros(image.shape, image.dtype)
    cv2.xphoto.inpaint(np.ascontiguousarray(image), np.where(mask, np.uint8(0), np.uint8(255)), result,
                       getattr(cv2.xphoto, algorithm))
    return result


XPHOTO = (
    Method("SM", "patch", "shift map", "He & Sun 2012, as OpenCV has it", _shift_map, "slow",
           parameters={"patch": PATCH}),
    Method("FSR", "frequency", "frequency-selective reconstruction", "Genser et al. 2018, as OpenCV has it",
           _frequency_selective, "slow", parameters={"quality": "fast"}),
) if has_xphoto() else ()
