"""Pictures as arrays, from whatever file they come in."""

from pathlib import Path

import cv2
import numpy as np

from configs.errors import UserError

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def read_photo(path: Path) -> np.ndarray:
    """RGB uint8 H×W×3 of a file, as `decode_photo`.

    Raises:
        UserError: empty, unreadable, no picture or one too large.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return decode_photo(data, str(path))


def decode_photo(data: bytes, origin: str) -> np.ndarray:
    """RGB uint8 H×W×3: grey is replicated, alpha dropped, 16 bits reduced to 8, the orientation tag respected.

    Raises:
        UserError: empty, no picture or one too large; the line begins with `origin`.
    """
    if not data:
        raise UserError(f"{origin}: the file is empty")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:  # more pixels than OpenCV takes
        raise UserError(f"{origin}: cannot be decoded ({error.err})") from None
    if image is None:
        raise UserError(f"{origin}: no picture that can be decoded")
    return image
