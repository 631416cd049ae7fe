"""Manipulated patches made on the fly: each a pure function of (seed, stream, epoch, index)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from configs.streams import stream
from forgeries.dataset import PictureDataset, draw_square, to_tensor
from forgeries.manipulations import Manipulation
from forgeries.photos import Photo


class PatchDataset(PictureDataset):
    """Items are (patch float32 3×size×size in [0, 1], int64 number of its manipulation in `classes`).

    The class is drawn uniformly; `balanced` takes all of them equally often, in their order.
    """

    def __init__(self, photos: Sequence[Photo], classes: Sequence[Manipulation], size: int,
                 shrink: tuple[float, float] | None, seed: int, stream_name: str, length: int, epochs: int = 1,
                 balanced: bool = False) -> None:
        super().__init__(photos, seed, stream_name, length, epochs)
        self.classes, self.size, self.shrink, self.balanced = tuple(classes), size, shrink, balanced

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        epoch, index = divmod(i, self.length)
        generator = stream(self.seed, self.stream_name, epoch, index)
        drawn, count = int(generator.integers(len(self.classes))), len(self.classes)
        number = index * count // self.length if self.balanced else drawn
        photo = self.photos[int(generator.integers(len(self.photos)))]
        square = draw_square(photo, self.size, self.shrink, generator)
        return to_tensor(self.classes[number].apply(square, generator)), torch.tensor(number)
