"""Methods of OpenCV's extra module `xphoto`, where the installed OpenCV has it (wheels named opencv-contrib-python)."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from configs.errors import UserError
from forgeries.methods.method import Method
from forgeries.methods.region import blanked


def has_xphoto() -> bool:
    """Whether OpenCV's wheel has `xphoto`, told from its folder: importing it would slow down every usage error."""
    found = find_spec("cv2")
    return found is not None and any(Path(place, "xphoto").is_dir() for place in found.submodule_search_locations or ())


def _shift_map(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """In CIELAB, as OpenCV asks for; as float32, because 8 bits of it would shift all colours that are copied."""
    import cv2
    lab = cv2.cvtColor(blanked(image, mask).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    filled = cv2.cvtColor(_inpaint(lab, mask, "INPAINT_SHIFTMAP"), cv2.COLOR_LAB2RGB)
    return np.round(255 * filled.clip(0, 1)).astype(np.uint8)


def _frequency_selective(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
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
    Method("SM", "patch", "shift map", "He & Sun 2012 (OpenCV xphoto)", _shift_map, "slow"),
    Method("FSR", "frequency", "frequency-selective reconstruction", "Genser et al. 2018 (OpenCV xphoto)",
           _frequency_selective, "slow", parameters={"quality": "fast"}),
) if has_xphoto() else ()
