"""What an inpainting method is, whoever implements it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Fill = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""(RGB uint8 H×W×3, mask bool H×W, generator) to RGB uint8 H×W×3."""

NAME = r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,39}"
"""What names of methods look like that files give: they become names of folders."""

Speed = Literal["fast", "medium", "slow"]
"""Pictures of 128² per second on one core: fast from 100 on, medium from 10 on."""


@dataclass(frozen=True)
class Method:
    """An inpainting method.

    `kind` groups methods that work alike, in families by `families.KINDS`; `source` is the paper. A `deterministic`
    method draws nothing from the generator. With `composite`, pixels outside of the mask stay as they were, bit for
    bit; without it the whole picture is made anew and its mask says where content was invented. A `blind` method does
    not look at what the mask hides. `version` tells apart results of different code or weights under one name.
    """

    name: str
    kind: str
    title: str
    source: str
    fill: Fill
    speed: Speed
    deterministic: bool = True
    composite: bool = True
    blind: bool = True
    parameters: Mapping[str, str | int | float] = field(default_factory=dict)
    version: str = "1"

    def paint(self, image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """`image` (RGB uint8 H×W×3, sides of at least 16) with the pixels of `mask` (bool H×W, neither empty nor full)
        painted.

        Raises:
            UserError: the method cannot paint this mask.
        """
        import cv2
        painted = self.fill(image, mask, generator)
        if not self.composite:
            return painted
        # np.where would take 6 % of the time of the fastest methods.
        return cv2.copyTo(np.ascontiguousarray(painted), mask.astype(np.uint8), image.copy())
