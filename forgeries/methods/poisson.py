"""Poisson's equation in a hole: the picture whose differences between neighbours come nearest to given ones."""

from typing import Literal

import numpy as np

from forgeries.methods.region import around

BANDWIDTH = 64
"""Up to it, a banded Cholesky factor takes half the time of a general sparse one. Beyond, LAPACK works in blocks, whose
threads, on cores that loader workers keep busy, can take a hundred times as long."""


def poisson_blend(target: np.ndarray, mask: np.ndarray, source: np.ndarray) -> np.ndarray:
    """`target` with the gradients of `source` inside of `mask`, continuous at its outline (Pérez et al. 2003, eq. 7).

    RGB uint8 H×W×3, mask bool H×W. Of `source`, the pixels of the mask and their neighbours count.
    """
    guide = source.astype(float)
    return poisson_fill(target, mask, np.diff(guide, axis=0, append=guide[-1:]),
                        np.diff(guide, axis=1, append=guide[:, -1:]))


def poisson_fill(target: np.ndarray, mask: np.ndarray, down: np.ndarray | float = 0.0,
                 right: np.ndarray | float = 0.0) -> np.ndarray:
    """`target` (uint8 H×W×3) with the pixels of `mask` (bool H×W) such that differences come nearest to given ones.

    `down[y, x]` is wanted of pixel (y + 1, x) minus pixel (y, x), `right[y, x]` of (y, x + 1) minus (y, x), in grey
    levels, float H×W×3; zero gives Laplace's equation. Least squares over all pairs of neighbours with one in the mask
    (Pérez et al. 2003, eq. 6 and 7). The picture's border is free (Neumann): no value is invented beyond it.
    """
    box = around(mask, 1)
    hole = mask[box]
    values, down, right = (np.broadcast_to(part, target.shape)[box].astype(float) for part in (target, down, right))
    values[hole] = 0
    neighbours, wanted = np.zeros(hole.shape), np.zeros(values.shape)
    # Numbers run along the shorter side of the box, so that those of neighbours differ little.
    order: Literal["C", "F"] = "F" if hole.shape[1] > hole.shape[0] else "C"
    numbers = np.cumsum(hole.ravel(order)).reshape(hole.shape, order=order) - 1
    low, high = [], []
    for guide, here, there in ((down, np.s_[:-1], np.s_[1:]), (right, np.s_[:, :-1], np.s_[:, 1:])):
        neighbours[here] += 1
        neighbours[there] += 1
        wanted[here] += values[there] - guide[here]
        wanted[there] += values[here] + guide[here]
        both = hole[here] & hole[there]
        low.append(numbers[here][both])
        high.append(numbers[there][both])
    place = numbers[hole]
    diagonal, sums = np.empty(place.size), np.empty((place.size, target.shape[2]))
    diagonal[place], sums[place] = neighbours[hole], wanted[hole]
    result = target.copy()
    result[box][hole] = _solve(diagonal, np.concatenate(low), np.concatenate(high), sums)[place].round().clip(0, 255)
    return result


def _solve(diagonal: np.ndarray, low: np.ndarray, high: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Solution of the symmetric system with -1 at the pairs of a lower and a higher number, float N×C."""
    from scipy.linalg import solveh_banded
    bandwidth = int((high - low).max(initial=0))
    if bandwidth <= BANDWIDTH:
        band = np.zeros((bandwidth + 1, diagonal.size), order="F")
        band[0] = diagonal
        band[high - low, low] = -1
        return solveh_banded(band, sums, overwrite_ab=True, overwrite_b=True, lower=True, check_finite=False)
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu
    own = np.arange(diagonal.size)
    system = coo_array((np.concatenate([diagonal, -np.ones(2 * low.size)]),
                        (np.concatenate([own, low, high]), np.concatenate([own, high, low]))))
    return splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(sums)
