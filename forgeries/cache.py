"""Painted regions on disk, so that a slow method paints the same hole of the same picture once.

An entry is addressed by what it is made of: picture, mask, method with its version and parameters, the versions of the
libraries, and the state of the generator where the method draws from it. Whoever asks for the same gets the same bytes,
in any process and run.
"""

import hashlib
from functools import cache
from importlib.metadata import version

import cv2
import numpy as np

from configs.cache import Cache, cache_folder
from forgeries.methods import Method


class PaintCache(Cache):
    """Entries are the painted pixels, or the whole picture of a method that makes it anew."""

    def paint(self, method: Method, image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The same as `method.paint`, made now or before; where it was made before, the generator stays as it is.

        Raises:
            UserError: as `method.paint`.
        """
        name = key(method, image, mask, generator)
        where = np.flatnonzero(mask) if method.composite else np.arange(mask.size)
        found = self.read(name, 3 * where.size)
        if found is None:
            painted = np.ascontiguousarray(method.paint(image, mask, generator))
            self.write(name, painted.reshape(-1, 3)[where].tobytes())
            return painted
        result = image.copy()
        result.reshape(-1, 3)[where] = np.frombuffer(found, np.uint8).reshape(-1, 3)
        return result


def paint_cache(gigabytes: float) -> PaintCache | None:
    """The cache in the cache folder, of at most about `gigabytes`; None for 0."""
    return PaintCache(cache_folder() / "painted", int(gigabytes * 2 ** 30)) if gigabytes else None


def key(method: Method, image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> str:
    """Address of a painted region: 40 hexadecimal digits."""
    digest = hashlib.sha256(_libraries())
    drawn = "" if method.deterministic else repr(generator.bit_generator.state)
    digest.update(repr((method.name, method.version, sorted(method.parameters.items()), method.composite, mask.shape,
                        drawn)).encode())
    digest.update(np.packbits(mask).tobytes())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:40]


@cache
def _libraries() -> bytes:
    """Versions of what methods compute with."""
    names = ("numpy", "scipy", "scikit-image", "patchmatch-cython", "torch")
    return repr([cv2.__version__, *map(version, names)]).encode()
