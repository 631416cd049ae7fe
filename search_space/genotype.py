"""A genotype: which operation each slot of each cell holds, and the space it was chosen from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from configs.errors import UserError
from configs.files import write_atomic
from search_space.registry import OPERATIONS

FORMAT = "giidnet-genotype/1"


@dataclass(frozen=True)
class SpaceShape:
    """The space that a genotype is a point of; `channels`, `strides`, `dilations` have one entry per cell.

    `channels` are the cells' outputs at width 1.
    """

    operations: tuple[str, ...]
    slots: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    @classmethod
    def of(cls, space: Any) -> "SpaceShape":
        """From the `space` section of a configuration, or anything with the same attributes."""
        return cls(tuple(space.operations), space.slots, tuple(space.channels), tuple(space.strides),
                   tuple(space.dilations))

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.channels)

    @property
    def size(self) -> int:
        """Number of genotypes: operations to the power of all slots."""
        return len(self.operations) ** (self.cells * self.slots)

    @property
    def reduction(self) -> int:
        """Factor by which the cells together shrink each side of their input."""
        return int(np.prod(self.strides))

    def labels(self) -> list[str]:
        """One label a slot, `cell1_slot1` first."""
        return [f"cell{cell}_slot{slot}" for cell in range(1, self.cells + 1) for slot in range(1, self.slots + 1)]


PAPER_SPACE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 3, (128,) + (256,) * 9,
                         (2, 2) + (1,) * 8, (1,) * 3 + (2,) * 7)


@dataclass(frozen=True)
class Genotype:
    """Operation names by cell and slot, a point of `space`.

    Raises:
        UserError: the cells do not fit the space.
    """

    cells: tuple[tuple[str, ...], ...]
    space: SpaceShape
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Strategy, seed, score and cost of the search that found it."""

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

    def __str__(self) -> str:
        return "|".join("-".join(cell) for cell in self.cells)

    def sample(self) -> dict[str, str]:
        """Operation by slot label, as NNI addresses choices."""
        return dict(zip(self.space.labels(), (name for cell in self.cells for name in cell), strict=True))

    @classmethod
    def from_sample(cls, sample: Mapping[str, str], space: SpaceShape, **provenance: Any) -> "Genotype":
        """Inverse of `sample`."""
        names = [sample[label] for label in space.labels()]
        rows = tuple(tuple(names[start:start + space.slots]) for start in range(0, len(names), space.slots))
        return cls(rows, space, provenance)

    @classmethod
    def parse(cls, text: str, space: SpaceShape) -> "Genotype":
        """Inverse of `str`."""
        return cls(tuple(tuple(cell.split("-")) for cell in text.split("|")), space)


def random_genotype(space: SpaceShape, generator: np.random.Generator) -> Genotype:
    """A genotype drawn uniformly."""
    return Genotype(tuple(tuple(str(name) for name in generator.choice(space.operations, space.slots))
                          for _ in range(space.cells)), space)


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
                           tuple(map(int, space["strides"])), tuple(map(int, space["dilations"])))
        cells = tuple(tuple(map(str, cell)) for cell in value["cells"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{origin}: incomplete ({error!r})") from None
    unknown = [name for name in shape.operations if name not in OPERATIONS]
    if unknown:
        raise UserError(f"{origin}: unknown operation '{unknown[0]}'; known are {', '.join(OPERATIONS)}")
    if not len(shape.channels) == len(shape.strides) == len(shape.dilations):
        raise UserError(f"{origin}: channels, strides and dilations need one entry per cell")
    try:
        return Genotype(cells, shape, dict(value.get("search") or {}))
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
            f"{'/'.join(map(str, space.dilations))}")
