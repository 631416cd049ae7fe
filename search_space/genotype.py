"""A genotype: which operation each slot of each cell holds, and the space it was chosen from."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from configs.errors import UserError
from configs.files import write_atomic
from search_space.registry import OPERATIONS

FORMAT = "giidnet-genotype/1"

CHOICES = ("streams", "attention")
"""What a space may have to choose beside the slots' operations."""


@dataclass(frozen=True)
class SpaceShape:
    """The space that a genotype is a point of; `channels`, `strides`, `dilations` have one entry per cell.

    `channels` are the cells' outputs at width 1. `streams` and `attention` hold what the enhancement's streams and
    the decision's attention are chosen from, such as "plain+bayar" and "none"; empty where there is no choice. The map
    is decoded at 1/`decoder` of the picture's sides.
    """

    operations: tuple[str, ...]
    slots: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    streams: tuple[str, ...] = ()
    attention: tuple[str, ...] = ()
    decoder: int = 1

    @classmethod
    def of(cls, space: Any) -> "SpaceShape":
        """From the `space` section of a configuration, or anything with the same attributes."""
        return cls(tuple(space.operations), space.slots, tuple(space.channels), tuple(space.strides),
                   tuple(space.dilations), tuple(map(join_parts, space.streams)),
                   tuple(map(join_parts, space.attention)), space.decoder)

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.channels)

    @property
    def size(self) -> int:
        """Number of genotypes."""
        return math.prod(map(len, self.options().values()))

    @property
    def reduction(self) -> int:
        """Factor by which the cells together shrink each side of their input."""
        return int(np.prod(self.strides))

    def labels(self) -> list[str]:
        """One label a slot, `cell1_slot1` first."""
        return [f"cell{cell}_slot{slot}" for cell in range(1, self.cells + 1) for slot in range(1, self.slots + 1)]

    def options(self) -> dict[str, tuple[str, ...]]:
        """What is chosen from under each label, in the order of the computation: "streams" where they are a choice,
        the slots' labels, "attention" where it is a choice."""
        slots = dict.fromkeys(self.labels(), self.operations)
        return {label: names for label, names in {"streams": self.streams, **slots,
                                                  "attention": self.attention}.items() if names}


def join_parts(parts: Iterable[str]) -> str:
    """Option of a choice that takes several parts: "plain+bayar", "none" for no part."""
    return "+".join(parts) or "none"


def split_parts(option: str) -> tuple[str, ...]:
    """Inverse of `join_parts`."""
    return () if option == "none" else tuple(option.split("+"))


PAPER_SPACE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 3, (128,) + (256,) * 9,
                         (2, 2) + (1,) * 8, (1,) * 3 + (2,) * 7)


@dataclass(frozen=True)
class Genotype:
    """Operation names by cell and slot, a point of `space`; `streams` and `attention` where the space has them to
    choose, else empty.

    Raises:
        UserError: the cells do not fit the space.
    """

    cells: tuple[tuple[str, ...], ...]
    space: SpaceShape
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Strategy, seed, score and cost of the search that found it."""
    streams: str = ""
    attention: str = ""

    def __post_init__(self) -> None:
        if len(self.cells) != self.space.cells:
            raise UserError(f"genotype: has {len(self.cells)} cells, the space has {self.space.cells}")
        for number, cell in enumerate(self.cells, 1):
            if len(cell) != self.space.slots:
                raise UserError(f"genotype: cell {number} has {len(cell)} slots, the space has {self.space.slots}")
            for name in cell:
                if name not in self.space.operations:
                    raise UserError(f"genotype: '{name}' in cell {number} is no operation of the space; it has "
                                    f"{', '.join(self.space.operations)}")
        for key in CHOICES:
            chosen, options = getattr(self, key), getattr(self.space, key)
            if chosen not in (options or ("",)):
                raise UserError(f"genotype: {key} '{chosen}' cannot be chosen in this space; it has "
                                f"{', '.join(options) or 'none to choose'}")

    def __str__(self) -> str:
        chosen = [f";{key}={getattr(self, key)}" for key in CHOICES if getattr(self, key)]
        return "|".join("-".join(cell) for cell in self.cells) + "".join(chosen)

    def sample(self) -> dict[str, str]:
        """Option by label, as NNI addresses choices, in the order of the space's `options`."""
        slots = dict(zip(self.space.labels(), (name for cell in self.cells for name in cell), strict=True))
        chosen = {"streams": self.streams, **slots, "attention": self.attention}
        return {label: name for label, name in chosen.items() if name}

    @classmethod
    def from_sample(cls, sample: Mapping[str, str], space: SpaceShape, **provenance: Any) -> "Genotype":
        """Inverse of `sample`."""
        names = [sample[label] for label in space.labels()]
        rows = tuple(tuple(names[start:start + space.slots]) for start in range(0, len(names), space.slots))
        return cls(rows, space, provenance, **{key: sample[key] for key in CHOICES if getattr(space, key)})

    @classmethod
    def parse(cls, text: str, space: SpaceShape) -> "Genotype":
        """Inverse of `str`."""
        cells, *chosen = text.split(";")
        return cls(tuple(tuple(cell.split("-")) for cell in cells.split("|")), space,
                   **dict(entry.split("=", 1) for entry in chosen))  # type: ignore[arg-type]


def selection_methods(genotype: Genotype) -> list[str] | None:
    """Inpainting methods that the search of a genotype trained or scored on, [] where nothing was searched; None where
    its provenance does not say."""
    found = genotype.provenance
    if not isinstance(found.get("methods"), list):
        return None
    return list(dict.fromkeys([*found["methods"], *(found.get("methods_scored") or ())]))


def random_genotype(space: SpaceShape, generator: np.random.Generator) -> Genotype:
    """A genotype drawn uniformly, which no picture had a say in."""
    return Genotype.from_sample({label: str(generator.choice(options)) for label, options in space.options().items()},
                                space, strategy="drawn at random", methods=[])


def released_genotype() -> Genotype:
    """The genotype that Wu & Zhou released, chosen as the best of 1,000 candidates of their one-shot supernet."""
    names = {operation.code: operation.name for operation in OPERATIONS.values()}
    codes = ("01 03 00", "02 00 00", "03 02 00", "01 00 01", "00 02 00", "00 01 00", "02 03 02", "03 03 00",
             "02 02 00", "00 01 03")
    return Genotype(tuple(tuple(names[code] for code in cell.split()) for cell in codes), PAPER_SPACE,
                    {"strategy": "released by Wu & Zhou (2021)"})


def genotype_dict(genotype: Genotype) -> dict[str, Any]:
    """Plain lists and dictionaries, as in `genotype.yaml` and in a checkpoint's options."""
    space = asdict(genotype.space) | {"cells": genotype.space.cells}
    return {
        "format": FORMAT,
        "cells": [list(cell) for cell in genotype.cells],
        **{key: getattr(genotype, key) for key in CHOICES if getattr(genotype, key)},
        "space": {key: list(value) if isinstance(value, tuple) else value for key, value in space.items()},
        "search": dict(genotype.provenance),
    }


def genotype_from_dict(value: Any, origin: str = "genotype") -> Genotype:
    """Inverse of `genotype_dict`.

    Raises:
        UserError: not such a dictionary, or cells that do not fit its space.
    """
    if not isinstance(value, Mapping) or value.get("format") != FORMAT:
        raise UserError(f"{origin}: not a genotype (no 'format: {FORMAT}')")
    try:
        space = value["space"]
        shape = SpaceShape(tuple(space["operations"]), int(space["slots"]), tuple(map(int, space["channels"])),
                           tuple(map(int, space["strides"])), tuple(map(int, space["dilations"])),
                           tuple(map(str, space.get("streams", ()))), tuple(map(str, space.get("attention", ()))),
                           int(space.get("decoder", 1)))
        cells = tuple(tuple(map(str, cell)) for cell in value["cells"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{origin}: incomplete ({error!r})") from None
    unknown = [name for name in shape.operations if name not in OPERATIONS]
    if unknown:
        raise UserError(f"{origin}: unknown operation '{unknown[0]}'; known are {', '.join(OPERATIONS)}")
    if not len(shape.channels) == len(shape.strides) == len(shape.dilations):
        raise UserError(f"{origin}: channels, strides and dilations need one entry per cell")
    try:
        return Genotype(cells, shape, dict(value.get("search") or {}),
                        *(str(value.get(key, "")) for key in CHOICES))
    except UserError as error:
        raise UserError(f"{origin}: {str(error).removeprefix('genotype: ')}") from None


def write_genotype(path: Path, genotype: Genotype) -> None:
    """Writes `genotype.yaml`, atomically."""
    text = yaml.safe_dump(genotype_dict(genotype), sort_keys=False, default_flow_style=None, width=110)
    write_atomic(path, text)


def read_genotype(path: Path, space: SpaceShape | None = None) -> Genotype:
    """Reads `genotype.yaml`.

    Raises:
        UserError: unreadable, not a genotype, or of another space than `space`.
    """
    try:
        value = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not YAML"
        raise UserError(f"{path}: cannot be read as a genotype ({reason})") from None
    genotype = genotype_from_dict(value, str(path))
    if space is not None and genotype.space != space:
        raise UserError(f"{path}: of another space ({describe(genotype.space)}) than this run's "
                        f"({describe(space)}); use the config it was found with")
    return genotype


def describe(space: SpaceShape) -> str:
    """The space in a few words."""
    return (f"{space.cells} cells × {space.slots} slots × {len(space.operations)} operations, channels "
            f"{'/'.join(map(str, space.channels))}, strides {'/'.join(map(str, space.strides))}, dilations "
            f"{'/'.join(map(str, space.dilations))}"
            + "".join(f", {key} {' or '.join(getattr(space, key))}" for key in CHOICES if getattr(space, key))
            + (f", decoded at 1/{space.decoder}" if space.decoder > 1 else ""))
