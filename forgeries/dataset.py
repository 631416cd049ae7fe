"""Forgeries made on the fly: each a pure function of (seed, stream, epoch, index)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from configs.schema import RunConfig
from configs.streams import stream
from forgeries.masks import draw_mask
from forgeries.methods import inpaint
from forgeries.perturbations import perturb
from forgeries.photos import Photo, read_photo

DECODED_PHOTOS = 128
"""Decoded photographs that each process keeps."""


@dataclass(frozen=True)
class Recipe:
    """What forgeries are made of; where several are named, one is drawn uniformly for each picture."""

    methods: tuple[str, ...]
    masks: tuple[str, ...]
    mask_fraction: tuple[float, float]
    image_size: int
    perturbations: tuple[str, ...] = ("none",)
    shrink: tuple[float, float] | None = None

    @classmethod
    def of(cls, config: RunConfig) -> "Recipe":
        """From the `forgeries` section and `photos.shrink`."""
        section, shrink = config.forgeries, config.photos.shrink
        return cls(tuple(section.methods), tuple(section.masks), (section.mask_fraction[0], section.mask_fraction[1]),
                   section.image_size, tuple(section.perturbations), (shrink[0], shrink[1]) if shrink else None)


@dataclass(frozen=True)
class Forgery:
    """A forged picture: `image` and `original` RGB uint8 H×W×3, `mask` bool H×W, and where it came from."""

    image: np.ndarray
    mask: np.ndarray
    original: np.ndarray
    method: str
    mask_kind: str
    perturbation: str
    photo: str
    source: str
    digest: str


def make_forgery(photos: Sequence[Photo], recipe: Recipe, seed: int, stream_name: str, epoch: int, index: int, *,
                 method: str | None = None, perturbation: str | None = None, balanced: bool = False,
                 flip: bool = True) -> Forgery:
    """The forgery of (seed, stream, epoch, index), the same in every process.

    Photograph, crop and mask do not depend on `method` and `perturbation`, which replace the recipe's draw: methods
    are compared on the same cases. `balanced` takes the photographs in turn, by `index`.
    """
    generator = stream(seed, stream_name, epoch, index)
    photo = photos[index % len(photos) if balanced else int(generator.integers(len(photos)))]
    original = _crop(_decoded(photo.path), recipe, generator)
    if flip:
        for axis in (0, 1):
            original = np.flip(original, axis) if generator.random() < 0.5 else original
    original = np.ascontiguousarray(original)
    mask_kind = str(generator.choice(recipe.masks))
    mask = draw_mask(mask_kind, recipe.image_size, recipe.image_size, recipe.mask_fraction, generator)
    drawn = str(generator.choice(recipe.methods)), str(generator.choice(recipe.perturbations))
    method, perturbation = method or drawn[0], perturbation or drawn[1]
    image = inpaint(original, mask, method, stream(seed, stream_name, epoch, index, method))
    return Forgery(perturb(image, perturbation), mask, original, method, mask_kind, perturbation, photo.name,
                   photo.source, photo.digest)


@lru_cache(maxsize=DECODED_PHOTOS)
def _decoded(path: Path) -> np.ndarray:
    return read_photo(path)


def _crop(photo: np.ndarray, recipe: Recipe, generator: np.random.Generator) -> np.ndarray:
    """A random square of the photograph, shrunk by area interpolation to the recipe's size."""
    factor = generator.uniform(*recipe.shrink) if recipe.shrink else 1.0
    side = min(round(recipe.image_size / factor), *photo.shape[:2])
    top, left = (int(generator.integers(length - side + 1)) for length in photo.shape[:2])
    window = photo[top:top + side, left:left + side]
    return cv2.resize(window, (recipe.image_size,) * 2, interpolation=cv2.INTER_AREA)


class ForgeryDataset(Dataset[tuple[Tensor, Tensor]]):
    """`epochs` × `length` forgeries; item i is (epoch, index) = divmod(i, length) of the stream.

    Items are (image float32 3×H×W in [0, 1], mask float32 1×H×W of 0 and 1).
    """

    def __init__(self, photos: Sequence[Photo], recipe: Recipe, seed: int, stream_name: str, length: int,
                 epochs: int = 1, method: str | None = None, perturbation: str | None = None,
                 balanced: bool = False, flip: bool = True) -> None:
        self.photos, self.recipe, self.seed, self.stream_name = tuple(photos), recipe, seed, stream_name
        self.length, self.epochs = length, epochs
        self.method, self.perturbation, self.balanced, self.flip = method, perturbation, balanced, flip

    def __len__(self) -> int:
        return self.length * self.epochs

    def forgery(self, i: int) -> Forgery:
        """Item `i` with all that is known of it."""
        epoch, index = divmod(i, self.length)
        return make_forgery(self.photos, self.recipe, self.seed, self.stream_name, epoch, index, method=self.method,
                            perturbation=self.perturbation, balanced=self.balanced, flip=self.flip)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        forgery = self.forgery(i)
        image = torch.from_numpy(forgery.image).permute(2, 0, 1).float() / 255
        return image, torch.from_numpy(forgery.mask)[None].float()


class _InOrder(Sampler[int]):
    """From `start` to the end."""

    def __init__(self, start: int, stop: int) -> None:
        self.items = range(start, stop)

    def __iter__(self) -> Iterator[int]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def make_loader(dataset: ForgeryDataset, batch_size: int, workers: int, start: int = 0) -> DataLoader:
    """Batches of the dataset in order, from item `start`; the same for any number of workers."""
    return DataLoader(dataset, batch_size, sampler=_InOrder(start, len(dataset)), num_workers=workers,
                      worker_init_fn=_one_thread, generator=torch.Generator())


def _one_thread(worker: int) -> None:
    """Workers share the cores with the training process."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
