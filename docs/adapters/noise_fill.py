"""A painting function as small as can be, for callable.yaml."""

import numpy as np


def fill(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The hole in the mean colour of the rest, with noise."""
    known = image[~mask].astype(float)
    noise = generator.normal(known.mean(0), known.std(0), image.shape)
    return np.where(mask[..., None], noise.round().clip(0, 255), image).astype(np.uint8)
