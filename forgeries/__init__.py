"""Forgeries: photographs, masks and inpainting methods become pictures with an exact mask, on the fly."""

from forgeries.masks import MASKS
from forgeries.methods import METHODS, list_methods
from forgeries.perturbations import GRIDS, OPERATIONS


def list_masks() -> list[str]:
    """Kinds of masks; beside them there are masks from files, `files:FOLDER`."""
    return list(MASKS)


__all__ = ["GRIDS", "MASKS", "METHODS", "OPERATIONS", "list_masks", "list_methods"]
