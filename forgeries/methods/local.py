"""Fills that are the picture itself, processed otherwise: the content stays, its history differs."""

import numpy as np

from forgeries.methods.method import Method
from forgeries.methods.region import around

MARGIN = 16
"""Pixels around the hole that are processed with it, so that its outline is not that of a picture."""

FAMILIES = ("blurring", "noise", "resampling", "quantization", "compression", "morphology")
"""Families of manipulation that are drawn from: those that leave colours as they are."""


def _processed(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from forgeries.manipulations import FAMILIES as MANIPULATIONS
    place = around(mask, MARGIN)
    part = image[place]
    for _ in range(int(generator.integers(1, 3))):
        kinds = MANIPULATIONS[str(generator.choice(FAMILIES))]
        apply = kinds[str(generator.choice(list(kinds)))]
        part = apply(part, (1 - generator.random()) ** 2, generator)  # mostly weak: strong ones are learned at once
    result = image.copy()
    result[place] = part
    return result


LOCAL = (
    Method("LM", "manipulation", "the region itself, processed otherwise", "this project", _processed, "fast",
           deterministic=False, blind=False, version="2"),
)
