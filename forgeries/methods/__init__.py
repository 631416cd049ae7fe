"""Inpainting methods by the short names of the literature. Heavy imports wait until a method runs.

A method is named by its short name, by an entry point of the group `giidnet.methods` that an installed package
declares, by a YAML file that describes a model of the user's (`forgeries.methods.adapters`), or by a file of weights
that `giidnet train-inpainter` wrote.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

from configs.errors import UserError
from forgeries.methods.adapters import SUFFIXES, adapter_method, usable_declaration
from forgeries.methods.clone import CLONES
from forgeries.methods.decoders import DECODERS
from forgeries.methods.exemplar import EXEMPLARS
from forgeries.methods.families import Family, canonical, family_in_literature, family_of_kind, same_method
from forgeries.methods.learned import describe, learned_method, shipped
from forgeries.methods.local import LOCAL
from forgeries.methods.method import Fill, Method
from forgeries.methods.offsets import OFFSETS
from forgeries.methods.patch import PATCHES
from forgeries.methods.pde import PDE
from forgeries.methods.xphoto import XPHOTO

METHODS: Mapping[str, Method] = {method.name: method for method in (
    *PDE, *PATCHES, *EXEMPLARS, *OFFSETS, *CLONES, *XPHOTO, *DECODERS, *LOCAL,
    *(learned_method(path) for path in shipped().values()))}
"""Those that come with this project."""

GROUP = "giidnet.methods"
"""Entry points of other packages: NAME = "module:object", a `Method` of that name or a function that returns one."""

FILES = (*SUFFIXES, ".safetensors")
"""How names of files end that stand for methods."""


def list_methods() -> list[str]:
    """Short names of all methods: this project's, then those of installed packages."""
    return [*METHODS, *(name for name in sorted(entry_points(group=GROUP).names) if name not in METHODS)]


def check_method(spec: str) -> None:
    """Accepts names of methods, and files, which `method_name` looks into.

    Raises:
        ValueError: neither.
    """
    if not spec.endswith(FILES) and spec not in list_methods():
        raise ValueError(f"must be one of {_choices()}")


def _choices() -> str:
    return f"{', '.join(list_methods())}, or a file: .yaml that declares a method, .safetensors of train-inpainter"


def method_name(spec: str) -> str:
    """The short name of the method that `spec` stands for. Nothing heavy is imported, no model is loaded.

    Raises:
        UserError: there is no such method, or a file that declares it is wrong or has a taken name.
    """
    if spec in list_methods():
        return spec
    if not spec.endswith(FILES):
        raise UserError(f"method '{spec}': unknown; known are {_choices()}")
    name = usable_declaration(Path(spec)).name if spec.endswith(SUFFIXES) else str(describe(Path(spec))["name"])
    if name in list_methods():
        raise UserError(f"{spec}: name = '{name}': another method has that name; choose a new one")
    return name


def method_names(specs: Iterable[str]) -> list[str]:
    """Their short names, under which results are recorded, in order.

    Raises:
        UserError: see `method_name`; or two have one name.
    """
    found: dict[str, str] = {}
    for spec in specs:
        name = method_name(spec)
        if name in found:
            raise UserError(f"{spec}: name = '{name}': {found[name]} has that name too; rename one")
        found[name] = spec
    return list(found)


def family(name: str) -> Family:
    """The family of a method: "classical", "learned" or "diffusion".

    It goes by the kind of a method that can be used here, a name or a file, and else by names of the literature;
    "authentic" for unforged pictures, "unknown" where nothing is known of the name.

    Raises:
        UserError: a file that declares it is wrong, or an installed package's method cannot be loaded.
    """
    if name.endswith(FILES) or name in list_methods():
        return family_of_kind(find_method(name).kind)
    return family_in_literature(name)


@cache
def find_method(spec: str) -> Method:
    """The method that `spec`, a name or a file, stands for.

    Raises:
        UserError: there is none, its file is wrong, or an installed package's cannot be loaded.
    """
    name = method_name(spec)
    if spec.endswith(SUFFIXES):
        return adapter_method(Path(spec))
    if spec.endswith(FILES):
        return learned_method(Path(spec))
    if name in METHODS:
        return METHODS[name]
    found = entry_points(group=GROUP, name=name)
    if len(found) > 1:
        raise UserError(f"method '{name}': several installed packages declare it; uninstall all but one")
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


__all__ = ["METHODS", "Family", "Fill", "Method", "canonical", "check_method", "family", "find_method", "inpaint",
           "list_methods", "method_name", "method_names", "same_method"]
