"""Maps on disk, by what computed them and of which picture: a new metric costs no inference."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

import detectors
import search_space
from configs.cache import Cache, cache_folder


class MapCache(Cache):
    """Entries are float32 maps of the picture's size, as they were computed."""

    def find(self, network: str, image: np.ndarray, predict: Callable[[], np.ndarray]) -> np.ndarray:
        """The map float32 H×W that `predict` gives of `image` (RGB uint8 H×W×3), made now or before; what it raises.

        `network` tells apart whatever computes other maps.
        """
        shape = image.shape[:2]
        key = hashlib.sha256(f"{network} {image.shape}".encode() + np.ascontiguousarray(image).data).hexdigest()[:40]
        found = self.read(key, 4 * shape[0] * shape[1])
        if found is not None:
            return np.frombuffer(found, "<f4").reshape(shape)
        made = predict()
        self.write(key, made.tobytes())
        return made


@cache
def code_digest() -> str:
    """Of the source of all networks: other code computes other maps of the same weights."""
    found = hashlib.sha256()
    for package in (detectors, search_space):
        for path in sorted(Path(package.__path__[0]).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()


def map_cache(gigabytes: float) -> MapCache | None:
    """The cache in the cache folder, of at most about `gigabytes`; None for 0."""
    return MapCache(cache_folder() / "maps", int(gigabytes * 2 ** 30)) if gigabytes else None
