"""Forgeries: photographs, masks and inpainting methods become pictures with an exact mask, on the fly."""

from forgeries.masks import MASKS
from forgeries.methods import METHODS, list_methods
from forgeries.perturbations import PERTURBATIONS


def list_masks() -> list[str]:
    """Kinds of masks."""
    return list(MASKS)


def list_perturbations() -> list[str]:
    """Names of what can be done to a picture after it was forged."""
    return list(PERTURBATIONS)


__all__ = ["MASKS", "METHODS", "PERTURBATIONS", "list_masks", "list_methods", "list_perturbations"]
