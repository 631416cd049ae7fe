"""Fills that copy patches of the picture."""

import numpy as np

from configs.errors import UserError
from forgeries.methods.method import Method

PATCH = 5
"""Side of PatchMatch's patches."""


def _patch_match(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    from patchmatch_cython import inpaint_pyramid
    try:
        return inpaint_pyramid(image, mask, patch_size=PATCH, seed=int(generator.integers(2**31)), poisson_blend=False)
    except ValueError as error:  # at a coarse level of its pyramid the mask may cover everything
        raise UserError(f"method 'PM': {error}; lower forgeries.mask_fraction or --fraction") from None


PATCHES = (
    Method("PM", "patch", "PatchMatch", "Barnes et al. 2009", _patch_match, "medium", deterministic=False,
           parameters={"patch": PATCH}),
)
