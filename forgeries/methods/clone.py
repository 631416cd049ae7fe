"""Fills that are taken from elsewhere in the picture as a whole."""

import numpy as np

from forgeries.methods.method import Method
from forgeries.methods.pde import telea

OFFSETS = 8
"""Places that cloning chooses its source from."""


def _poisson_clone(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    height, width = mask.shape
    # Where the source reaches into the hole itself, it must not show what the hole hides.
    known = np.where(mask[..., None], telea(image, mask, generator), image)
    # At least a quarter of the picture away, so that the source is another part; of some, the least hidden one.
    offsets = [tuple(int(generator.choice([-1, 1]) * generator.integers(side // 4, side // 2 + 1))
                     for side in mask.shape) for _ in range(OFFSETS)]
    margin = ((height // 2 + 1,) * 2, (width // 2 + 1,) * 2)

    def moved(padded: np.ndarray, offset: tuple[int, ...]) -> np.ndarray:
        top, left = margin[0][0] + offset[0], margin[1][0] + offset[1]
        return padded[top:top + height, left:left + width]

    hidden = np.pad(mask, margin, "reflect")
    best = min(offsets, key=lambda offset: int(moved(hidden, offset)[mask].sum()))
    return poisson_blend(known, mask, moved(np.pad(known, (*margin, (0, 0)), "reflect"), best))


def poisson_blend(target: np.ndarray, mask: np.ndarray, source: np.ndarray) -> np.ndarray:
    """`target` with the gradients of `source` inside of `mask`, continuous at its outline (Pérez et al. 2003, eq. 7).

    RGB uint8 H×W×3, mask bool H×W. The picture's border is free (Neumann): no value is invented beyond it.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu
    numbers = np.full(mask.shape, -1)
    numbers[mask] = np.arange(mask.sum())
    diagonal, right = np.zeros(mask.sum()), np.zeros((mask.sum(), 3))
    rows, columns = [], []
    goal, guide = target.astype(float), source.astype(float)
    upper, lower, left, right_side = np.s_[:-1, :], np.s_[1:, :], np.s_[:, :-1], np.s_[:, 1:]
    for here, there in ((upper, lower), (lower, upper), (left, right_side), (right_side, left)):
        inside = mask[here]
        row, column = numbers[here][inside], numbers[there][inside]
        diagonal[row] += 1
        right[row] += guide[here][inside] - guide[there][inside]
        outer = column < 0
        right[row[outer]] += goal[there][inside][outer]
        rows.append(row[~outer])
        columns.append(column[~outer])
    row, column = np.concatenate(rows), np.concatenate(columns)
    own = np.arange(diagonal.size)
    system = coo_array((np.concatenate([diagonal, -np.ones(row.size)]),
                        (np.concatenate([own, row]), np.concatenate([own, column]))))
    result = target.copy()
    result[mask] = splu(system.tocsc()).solve(right).round().clip(0, 255).astype(np.uint8)
    return result


CLONES = (
    Method("PC", "clone", "Poisson cloning from elsewhere in the picture", "Pérez et al. 2003", _poisson_clone, "fast",
           deterministic=False, parameters={"places": OFFSETS}),
)
