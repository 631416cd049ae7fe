"""Fills that copy patches of the picture."""

import numpy as np

from configs.errors import UserError
from forgeries.methods.method import Method

PATCH = 5
"""Side of PatchMatch's patches."""


def patch_match(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator, blend: bool = False) -> np.ndarray:
    """Coarse to fine. Scattered holes may leave nothing to copy at the coarsest level: then at full size alone, with
    smaller patches if need be. With `blend`, colours go over into those around the hole (Pérez et al. 2003).

    Raises:
        UserError: the mask leaves no patch of 3×3 pixels whole.
    """
    from patchmatch_cython import inpaint_pyramid, inpaint_single
    seed = int(generator.integers(2**31))
    for paint, side in ((inpaint_pyramid, PATCH), (inpaint_single, PATCH), (inpaint_single, 3)):
        try:
            return paint(image, mask, patch_size=side, seed=seed, poisson_blend=blend)
        except ValueError as error:
            reason = error
    raise UserError(f"PatchMatch: {reason}; lower forgeries.mask_fraction or --fraction")


PATCHES = (
    Method("PM", "patch", "PatchMatch", "Barnes et al. 2009", patch_match, "medium", deterministic=False,
           parameters={"patch": PATCH}),
)
