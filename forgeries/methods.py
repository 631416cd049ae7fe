"""Inpainting methods by the short names of the literature. Heavy imports wait until a method runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from configs.errors import UserError

Fill = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""(RGB uint8 H×W×3, mask bool H×W, generator) to RGB uint8 H×W×3; pixels outside the mask are ignored."""

OFFSETS = 8
"""Places that cloning chooses its source from."""


@dataclass(frozen=True)
class Method:
    """An inpainting method: how it fills (`kind`), what it is called and who published it."""

    name: str
    kind: str
    title: str
    source: str
    fill: Fill


def inpaint(image: np.ndarray, mask: np.ndarray, method: str, generator: np.random.Generator) -> np.ndarray:
    """`image` (RGB uint8 H×W×3) with the pixels of `mask` (bool H×W) painted by `method`.

    Outside the mask the result is the input, bit for bit.

    Raises:
        UserError: unknown method, or PatchMatch and a mask that leaves no patch to copy.
    """
    if method not in METHODS:
        raise UserError(f"method '{method}': unknown; known are {', '.join(METHODS)}")
    filled = METHODS[method].fill(image, mask, generator)
    return np.where(mask[..., None], filled, image)


def _telea(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    import cv2
    return cv2.inpaint(_blanked(image, mask), mask.astype(np.uint8), 3, cv2.INPAINT_TELEA)


def _navier_stokes(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    import cv2
    return cv2.inpaint(_blanked(image, mask), mask.astype(np.uint8), 3, cv2.INPAINT_NS)


def _blanked(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The hole in the mean colour of the rest: OpenCV's methods take some gradients from inside of it."""
    return np.where(mask[..., None], image[~mask].mean(0).round().astype(np.uint8), image)


def _patch_match(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from patchmatch_cython import inpaint_pyramid
    try:
        return inpaint_pyramid(image, mask, patch_size=5, seed=int(generator.integers(2**31)), poisson_blend=False)
    except ValueError as error:  # at a coarse level of its pyramid the mask may cover everything
        raise UserError(f"method 'PM': {error}; lower forgeries.mask_fraction") from None


def _biharmonic(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from skimage.restoration import inpaint_biharmonic
    filled = inpaint_biharmonic(image, mask, channel_axis=-1, split_into_regions=True)
    return np.round(255 * filled.clip(0, 1)).astype(np.uint8)


def _poisson_clone(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    height, width = mask.shape
    # Where the source reaches into the hole itself, it must not show what the hole hides.
    known = np.where(mask[..., None], _telea(image, mask, generator), image)
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


METHODS: Mapping[str, Method] = {method.name: method for method in (
    Method("TE", "diffusion", "fast marching", "Telea 2004", _telea),
    Method("NS", "diffusion", "Navier–Stokes", "Bertalmio et al. 2001", _navier_stokes),
    Method("PM", "patch", "PatchMatch", "Barnes et al. 2009", _patch_match),
    Method("BH", "smooth", "biharmonic equation", "Damelin & Hoang 2018", _biharmonic),
    Method("PC", "clone", "Poisson cloning from elsewhere in the picture", "Pérez et al. 2003", _poisson_clone),
)}
