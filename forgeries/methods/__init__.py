"""Inpainting methods by the short names of the literature. Heavy imports wait until a method runs.

A method is named by its short name, by an entry point of the group `giidnet.methods` that an installed package
declares, by a YAML file that describes a model of the user's (`forgeries.methods.adapters`), or by a file of weights
that `giidnet train-inpainter` wrote.
"""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

from configs.errors import UserError
from forgeries.methods.clone import CLONES
from forgeries.methods.exemplar import EXEMPLARS
from forgeries.methods.learned import learned_method, shipped
from forgeries.methods.method import Fill, Method
from forgeries.methods.offsets import OFFSETS
from forgeries.methods.patch import PATCHES
from forgeries.methods.pde import PDE
from forgeries.methods.xphoto import XPHOTO

METHODS: Mapping[str, Method] = {method.name: method for method in (
    *PDE, *PATCHES, *EXEMPLARS, *OFFSETS, *CLONES, *XPHOTO,
    *(learned_method(path) for path in shipped().values()))}
"""Those that come with this project."""

GROUP = "giidnet.methods"
"""Entry points of other packages: NAME = "module:object", a `Method` of that name or a function that returns one."""


def list_methods() -> list[str]:
    """Short names of all methods: this project's, then those of installed packages."""
    return [*METHODS, *(name for name in sorted(entry_points(group=GROUP).names) if name not in METHODS)]


@cache
def find_method(name: str) -> Method:
    """The method that `name` stands for.

    Raises:
        UserError: there is none, or an installed package's cannot be loaded.
    """
    if name in METHODS:
        return METHODS[name]
    if name.endswith(".safetensors"):
        return learned_method(Path(name))
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise UserError(f"method '{name}': unknown; known are {', '.join(list_methods())}")
    try:
        loaded = next(iter(found)).load()
        method = loaded if isinstance(loaded, Method) else loaded()
    except Exception as error:
        raise UserError(f"method '{name}': the package that declares it fails ({error})") from None
    if not isinstance(method, Method) or method.name != name:
        raise UserError(f"method '{name}': its entry point must give a forgeries.methods.Method of that name")
    return method


def inpaint(image: np.ndarray, mask: np.ndarray, method: str, generator: np.random.Generator) -> np.ndarray:
    """`image` (RGB uint8 H×W×3) with the pixels of `mask` (bool H×W) painted by `method`; see `Method.paint`.

    Raises:
        UserError: unknown method, or one that cannot paint this mask.
    """
    return find_method(method).paint(image, mask, generator)


__all__ = ["METHODS", "Fill", "Method", "find_method", "inpaint", "list_methods"]
