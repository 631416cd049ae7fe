"""Fills that are taken from elsewhere in the picture as a whole."""

import numpy as np

from forgeries.methods.method import Method
from forgeries.methods.pde import telea
from forgeries.methods.poisson import poisson_blend
from forgeries.methods.region import around

OFFSETS = 8
"""Places that cloning chooses its source from."""


def _poisson_clone(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    # At least a quarter of the picture away, so that the source is another part; of some, the least hidden one.
    low, high = np.array(mask.shape) // 4, np.array(mask.shape) // 2
    offsets = generator.choice((-1, 1), (OFFSETS, 2)) * generator.integers(low, high, (OFFSETS, 2), endpoint=True)
    box = around(mask, 1)
    hole = mask[box]
    sources = [np.ix_(*(_mirrored(np.arange(part.start, part.start + length) + shift, side)
                        for part, length, shift, side in zip(box, hole.shape, offset, mask.shape, strict=True)))
               for offset in offsets]
    hidden = [int(mask[source].sum()) for source in sources]
    best = int(np.argmin(hidden))
    # Where the source reaches into the hole itself, it must not show what the hole hides.
    known = telea(image, mask, generator) if hidden[best] else image
    result = image.copy()
    result[box] = poisson_blend(image[box], hole, known[sources[best]])
    return result


def _mirrored(index: np.ndarray, side: int) -> np.ndarray:
    """`index` reflected into 0 … side - 1 at the outermost pixels."""
    folded = abs(index) % (2 * side - 2)
    return np.minimum(folded, 2 * side - 2 - folded)


CLONES = (
    Method("PC", "clone", "Poisson cloning from elsewhere in the picture", "Pérez et al. 2003", _poisson_clone, "fast",
           deterministic=False, parameters={"places": OFFSETS}),
)
