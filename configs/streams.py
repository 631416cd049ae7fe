"""Named random streams: every random choice derives from the seed and a name, never from what ran before."""

import zlib

import numpy as np


def entropy(seed: int, *key: int | str) -> list[int]:
    """Entropy words for `numpy.random.SeedSequence`: the seed, then each key (strings as CRC-32)."""
    return [seed, *(zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key)]


def stream(seed: int, *key: int | str) -> np.random.Generator:
    """Generator for (seed, key): `stream(0, "train", epoch, index)` gives the same draws in any process."""
    return np.random.default_rng(entropy(seed, *key))


def torch_seed(seed: int, *key: int | str) -> int:
    """A 63-bit integer for `torch.manual_seed`, derived as `stream` derives its draws."""
    return int(np.random.SeedSequence(entropy(seed, *key)).generate_state(1, np.uint64)[0] >> np.uint64(1))
