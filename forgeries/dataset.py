"""Forgeries made on the fly: each a pure function of (seed, stream, epoch, index)."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
import torch
from cachetools import LRUCache, cached
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from configs.pictures import read_photo
from configs.schema import Forgeries, RunConfig
from configs.streams import stream
from forgeries.cache import PaintCache, paint_cache
from forgeries.index import Photo, PhotoList
from forgeries.masks import check_masks, draw_mask
from forgeries.methods import Method, family, find_method
from forgeries.perturbations import Perturbed, expand, parse, perturb, resized
from forgeries.readers.cases import AUTHENTIC

DECODED_BYTES = 256 * 2 ** 20
"""Decoded photographs that each process keeps, in bytes."""


@dataclass(frozen=True)
class Recipe:
    """What forgeries are made of; where several are named, one is drawn for each picture, uniformly, or by weights of
    any sum: `method_weights`, `mask_weights`, `before_weights`, `perturbation_weights`.

    `before` are perturbations of the photograph that is forged, `perturbations` those of the forgery; a share
    `authentic` of the pictures is not forged. Of those by a composite method that is not blind, a share `inverted` is
    pristine in the hole, which is the mask all the same, and processed around it. `cache` keeps what was painted; it
    changes no picture.

    Raises:
        UserError: a mask or a perturbation that there is not.
    """

    methods: tuple[str, ...]
    masks: tuple[str, ...]
    mask_fraction: tuple[float, float]
    image_size: int
    perturbations: tuple[str, ...] = ("none",)
    shrink: tuple[float, float] | None = None
    mask_weights: tuple[float, ...] | None = None
    method_weights: tuple[float, ...] | None = None
    before: tuple[str, ...] = ("none",)
    before_weights: tuple[float, ...] | None = None
    perturbation_weights: tuple[float, ...] | None = None
    authentic: float = 0.0
    inverted: float = 0.0
    cache: PaintCache | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        # Here, so that a mistake is told before worker processes run into it.
        for kind in self.masks:
            check_masks(kind)
        for name in (*self.before, *self.perturbations):
            parse(name)

    @classmethod
    def of(cls, config: RunConfig) -> "Recipe":
        """From the `forgeries` section and `photos.shrink`."""
        section, shrink = config.forgeries, config.photos.shrink
        before, after = (chain_weights(chains) for chains in (section.before, section.perturbations))
        return cls(tuple(section.methods), tuple(section.masks), (section.mask_fraction[0], section.mask_fraction[1]),
                   section.image_size, tuple(after), (shrink[0], shrink[1]) if shrink else None,
                   tuple(section.masks.values()) if isinstance(section.masks, dict) else None,
                   method_weights(section), tuple(before), _unless_alike(before.values()),
                   _unless_alike(after.values()), cache=paint_cache(section.cache_gigabytes))


def method_weights(section: Forgeries) -> tuple[float, ...] | None:
    """How often each of the configured methods is drawn, relative to the others; None: all alike.

    With `sampling: families` the weights of each family sum to 1.

    Raises:
        UserError: a file that declares a method is wrong.
    """
    weights = section.methods if isinstance(section.methods, dict) else dict.fromkeys(section.methods, 1.0)
    if section.sampling == "families":
        sums: dict[str, float] = defaultdict(float)
        for spec, weight in weights.items():
            sums[family(spec)] += weight
        weights = {spec: weight / sums[family(spec)] for spec, weight in weights.items()}
    return _unless_alike(weights.values())


def chain_weights(perturbations: Sequence[str] | Mapping[str, float]) -> dict[str, float]:
    """How often each chain of the configured perturbations is drawn, relative to the others; those of a grid share
    its weight.

    Raises:
        UserError: no such perturbation or grid.
    """
    weighed = perturbations if isinstance(perturbations, Mapping) else None
    weights: dict[str, float] = defaultdict(float)
    for name in perturbations:
        chains = expand([name])
        for chain in chains:
            weights[chain] = weights[chain] + weighed[name] / len(chains) if weighed else 1.0
    return dict(weights)


def _unless_alike(weights: Collection[float]) -> tuple[float, ...] | None:
    return tuple(weights) if len(set(weights)) > 1 else None


def draw_name(names: Sequence[str], weights: Sequence[float] | None, generator: np.random.Generator) -> str:
    """One of `names`, by `weights` of any sum or uniformly."""
    return str(generator.choice(names, p=None if weights is None else np.divide(weights, sum(weights))))


@dataclass(frozen=True)
class Forgery:
    """A forged picture: `image` RGB uint8 H×W×3 with `mask` bool H×W, the `original` RGB uint8 before forging, and
    where it came from.

    `perturbation` is the name in the recipe, `applied` what was done: the same chain with the values that were drawn.
    Some perturbations change the size of `image` and `mask`; `original` keeps its own.
    """

    image: np.ndarray
    mask: np.ndarray
    original: np.ndarray
    method: str
    mask_kind: str
    perturbation: str
    applied: str
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
    original = draw_history(photo, recipe, generator, flip)
    mask_kind = draw_name(recipe.masks, recipe.mask_weights, generator)
    mask = draw_mask(mask_kind, original, recipe.mask_fraction, generator)
    drawn = draw_name(recipe.methods, recipe.method_weights, generator), draw_name(
        recipe.perturbations, recipe.perturbation_weights, generator)
    painter, perturbation = find_method(method or drawn[0]), perturbation or drawn[1]

    def happens(what: str, share: float) -> bool:
        return share > 0 and stream(seed, stream_name, epoch, index, what).random() < share

    unforged = happens("authentic", recipe.authentic)
    # A stream takes as long to make as a small hole to paint: none for what draws nothing. It is that of the name: the
    # file that declares a method may lie anywhere.
    chance = generator if painter.deterministic else stream(seed, stream_name, epoch, index, painter.name)
    if unforged:
        painted, mask = original, np.zeros_like(mask)
    else:
        paint = recipe.cache.paint if recipe.cache else Method.paint
        inverted = painter.composite and not painter.blind and happens("inverted", recipe.inverted)
        painted = paint(painter, original, ~mask if inverted else mask, chance)
    after = Perturbed(painted, mask, "none") if perturbation == "none" else perturb(
        painted, mask, perturbation, stream(seed, stream_name, epoch, index, "perturb", perturbation))
    return Forgery(after.image, after.mask, original, AUTHENTIC if unforged else painter.name, mask_kind, perturbation,
                   after.applied, photo.name, photo.source, photo.digest)


@cached(LRUCache(DECODED_BYTES, lambda pixels: pixels.nbytes))
def _decoded(path: Path) -> np.ndarray:
    return read_photo(path)


def draw_square(photo: Photo, size: int, shrink: tuple[float, float] | None, generator: np.random.Generator,
                flip: bool = True) -> np.ndarray:
    """A random square of the photograph, shrunk by area interpolation to `size`; with `flip`, mirrored by chance.

    Returns RGB uint8 size×size×3. `shrink` is the range of the factor; None keeps the photograph's own scale.
    """
    pixels = _decoded(photo.path)
    factor = generator.uniform(*shrink) if shrink else 1.0
    side = min(round(size / factor), *pixels.shape[:2])
    top, left = (int(generator.integers(length - side + 1)) for length in pixels.shape[:2])
    square = np.ascontiguousarray(pixels[top:top + side, left:left + side])
    if square.shape[:2] != (size, size):
        square = cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)
    for axis in (0, 1) if flip else ():
        square = cv2.flip(square, axis) if generator.random() < 0.5 else square
    return square


GRID = 16
"""Pixels, on two sides, from which the place of a square within a perturbed photograph is drawn: blocks of JPEG and
WebP begin anywhere."""


def draw_history(photo: Photo, recipe: Recipe, generator: np.random.Generator, flip: bool = True) -> np.ndarray:
    """A square of the photograph as `draw_square` gives it, after one of `recipe.before`.

    A part of what is drawn is left out at the sides, so that grids of compression begin at any pixel.
    """
    if recipe.before == ("none",):
        return draw_square(photo, recipe.image_size, recipe.shrink, generator, flip)
    size = recipe.image_size
    larger = draw_square(photo, size + GRID, recipe.shrink, generator, flip)
    history = draw_name(recipe.before, recipe.before_weights, generator)
    made = perturb(larger, np.zeros(larger.shape[:2], bool), history, generator).image
    if min(made.shape[:2]) < size:
        made = cv2.resize(made, (size, size), interpolation=cv2.INTER_LINEAR)
    top, left = (int(generator.integers(length - size + 1)) for length in made.shape[:2])
    return np.ascontiguousarray(made[top:top + size, left:left + size])


class PictureDataset(Dataset[tuple[Tensor, Tensor]]):
    """`epochs` × `length` items from `photos`; item i is (epoch, index) = divmod(i, length) of the stream."""

    def __init__(self, photos: Sequence[Photo], seed: int, stream_name: str, length: int, epochs: int) -> None:
        self.photos, self.seed, self.stream_name = PhotoList(photos), seed, stream_name
        self.length, self.epochs = length, epochs

    def __len__(self) -> int:
        return self.length * self.epochs


class ForgeryDataset(PictureDataset):
    """Items are (image float32 3×H×W in [0, 1], mask float32 1×H×W of 0 and 1).

    `turns` are methods that paint into each case in turn: photograph, crop and mask change after each round of them.
    """

    replaced: Mapping[int, int] = MappingProxyType({})

    def __init__(self, photos: Sequence[Photo], recipe: Recipe, seed: int, stream_name: str, length: int,
                 epochs: int = 1, method: str | None = None, perturbation: str | None = None,
                 balanced: bool = False, flip: bool = True, turns: Sequence[str] = ()) -> None:
        super().__init__(photos, seed, stream_name, length, epochs)
        self.recipe, self.method, self.perturbation = recipe, method, perturbation
        self.balanced, self.flip, self.turns = balanced, flip, tuple(turns)

    def forgery(self, i: int) -> Forgery:
        """Item `i` with all that is known of it."""
        epoch, index = divmod(self.replaced.get(i, i), self.length)
        method = self.method
        if self.turns:
            index, turn = divmod(index, len(self.turns))
            method = self.turns[turn]
        return make_forgery(self.photos, self.recipe, self.seed, self.stream_name, epoch, index, method=method,
                            perturbation=self.perturbation, balanced=self.balanced, flip=self.flip)

    def repeating(self, replaced: Mapping[int, int], epochs: int) -> "ForgeryDataset":
        """`epochs` epochs of this dataset, in which the items that are keys of `replaced` are those that it names."""
        other = copy(self)
        other.replaced, other.epochs = dict(replaced), epochs
        return other

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        forgery, side = self.forgery(i), self.recipe.image_size
        image, mask = forgery.image, forgery.mask
        if mask.shape != (side, side):
            # A batch is of one size.
            image, mask = resized(image, mask, side, side)
        return to_tensor(image), torch.from_numpy(mask)[None].float()


def to_tensor(image: np.ndarray) -> Tensor:
    """RGB uint8 H×W×3 to float32 3×H×W in [0, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1).contiguous().float().div_(255)


def make_loader(dataset: PictureDataset, batch_size: int, workers: int, start: int = 0, rank: int = 0,
                world: int = 1) -> DataLoader:
    """Batches of the dataset in order, from item `start`; the same for any number of workers.

    Process `rank` of `world` gets its share of each batch, every world-th item; `world` divides `batch_size`.
    """
    return DataLoader(dataset, batch_size // world, sampler=range(start + rank, len(dataset), world),
                      num_workers=workers, worker_init_fn=one_thread, generator=torch.Generator())


def one_thread(worker: int) -> None:
    """Workers share the cores with the training process."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
