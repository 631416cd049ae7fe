"""Pictures that show the same: a perceptual hash, and pairs of nearly equal hashes in different sets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

BLOCKS = 9
BANDS, BAND_BITS = 4, 16

FLAT = np.uint64(0)
"""Hash of a picture with too little structure to be told from others; it is a duplicate of nothing."""

FLAT_BITS, FLAT_LEVEL = 8, 0.1
"""So many bits may rest on less than so many grey levels. Those are equal in all pictures with, say, a white margin."""

NEAR = 10
"""Distance up to which two pictures are taken for one; docs/data.md tells what that finds and misses."""


@dataclass(frozen=True)
class Pair:
    """Two nearly equal pictures: split and position of each, and the bits in which their hashes differ."""

    split: str
    index: int
    other_split: str
    other_index: int
    distance: int


def perceptual_hash(image: np.ndarray) -> np.uint64:
    """64 bits that survive compression, resizing and repainted regions of `image` (RGB uint8 H×W×3).

    The grey picture is averaged over 9×9 blocks, m. Bit 8i + j, counted from the highest, is 1 where
    m[i, j] + m[i + 1, j + 1] > m[i, j + 1] + m[i + 1, j]: a difference hash (Krawetz, *Kind of like that*, 2013) of
    second order. As a bit rests on four blocks alone, a repainted region changes the bits around it only, whereas
    it would change every coefficient of a cosine transform; and as the second difference of a gradient is 0, bits of
    different pictures hardly depend on one another, as those of first order do.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    means = cv2.resize(grey, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)
    second = means[:-1, :-1] + means[1:, 1:] - means[:-1, 1:] - means[1:, :-1]
    if np.sum(np.abs(second) < FLAT_LEVEL) > FLAT_BITS:
        return FLAT
    return np.packbits(second > 0).view(">u8")[0].astype(np.uint64)


def hash_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Bits, uint8, in which uint64 hashes differ, by element."""
    return np.bitwise_count(np.bitwise_xor(a, b))


def near_duplicates(hashes: Mapping[str, Sequence[np.uint64] | np.ndarray], distance: int = NEAR) -> list[Pair]:
    """All pairs of hashes in different splits that differ in at most `distance` bits, in order; FLAT has none.

    Multi-index hashing (Norouzi, Punjani & Fleet, CVPR 2012): of two hashes that differ in d bits, at least one of
    four bands of 16 bits differs in at most d/4. So for every band, hashes are looked up in a table of the other
    split's bands, under each value that is this near.
    """
    splits = {name: np.asarray(values, np.uint64) for name, values in hashes.items()}
    found: list[Pair] = []
    for (name, own), (other_name, others) in combinations(splits.items(), 2):
        found += [Pair(name, i, other_name, j, d) for i, j, d in _near(own, others, distance)]
    return found


def _near(own: np.ndarray, others: np.ndarray, distance: int) -> list[tuple[int, int, int]]:
    """(i, j, bits in which own[i] and others[j] differ), sorted."""
    pairs = [np.empty((0, 3), np.int64)]
    values = np.arange(2**BAND_BITS, dtype=np.uint64)
    probes = values[np.bitwise_count(values) <= distance // BANDS]
    for band in range(BANDS):
        shift = np.uint64(band * BAND_BITS)
        mine, theirs = (hashes >> shift & values[-1] for hashes in (own, others))
        order = np.argsort(theirs, kind="stable")
        starts = np.searchsorted(theirs[order], np.arange(2**BAND_BITS + 1))
        for probe in probes:
            value = (mine ^ probe).astype(np.int64)
            counts = starts[value + 1] - starts[value]
            i = np.repeat(np.arange(len(own)), counts)
            # Positions within each run of equal bands, one run after the other.
            within = np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
            j = order[np.repeat(starts[value], counts) + within]
            bits = hash_distance(own[i], others[j])
            near = (bits <= distance) & (own[i] != FLAT) & (others[j] != FLAT)
            pairs.append(np.stack([i[near], j[near], bits[near].astype(np.int64)], 1))
    return [(i, j, bits) for i, j, bits in np.unique(np.concatenate(pairs), axis=0).tolist()]
