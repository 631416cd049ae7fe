"""Pictures to test on, with their masks: forged from photographs, unforged, or read from a dataset."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from configs.errors import UserError
from configs.schema import RunConfig
from configs.streams import stream
from forgeries.dataset import ForgeryDataset, Recipe, draw_square
from forgeries.methods import family, method_names
from forgeries.perturbations import expand, perturb
from forgeries.photos import Photo
from forgeries.readers import AUTHENTIC, Case, Cases
from results.tables import is_mean

SPLIT = "test"
"""Random stream of test pictures."""


@dataclass(frozen=True)
class TestCase:
    """A picture to score on: `image` RGB uint8 H×W×3, `mask` bool H×W, all False of an authentic one.

    `source` names the scene; pictures of one scene are dependent. `mask_kind` is "" where it is not known.
    """

    __test__ = False

    name: str
    source: str
    mask_kind: str
    image: np.ndarray
    mask: np.ndarray

    @cached_property
    def digest(self) -> str:
        """Of the pixels of both: 16 hexadecimal digits."""
        found = hashlib.blake2b(repr(self.image.shape).encode(), digest_size=8)
        found.update(np.ascontiguousarray(self.image).data)
        found.update(np.packbits(self.mask).data)
        return found.hexdigest()


@dataclass(frozen=True)
class Unreadable:
    """A case that cannot be had, and why."""

    name: str
    source: str
    what: str


@dataclass(frozen=True, eq=False)
class CaseSet:
    """The cases of one method after one perturbation. What painted them is not known where they are not `named`: then
    `method` is a title, such as the dataset's."""

    perturbation: str
    method: str
    kind: str
    cases: "Dataset[TestCase]"
    length: int
    named: bool = True


def test_recipe(config: RunConfig) -> Recipe:
    """What test pictures are made of: photographs as they are, for `forgeries.before` is of the training."""
    return replace(Recipe.of(config), before=("none",))


class ForgedCases(Dataset[TestCase]):
    """Cases forged from the photographs of `split`: the same photographs, crops and masks for all methods."""

    def __init__(self, config: RunConfig, photos: Sequence[Photo], split: str, method: str, perturbation: str,
                 length: int) -> None:
        self.dataset = ForgeryDataset(photos, test_recipe(config), config.seed, split, length, method=method,
                                      perturbation=perturbation, balanced=True, flip=False)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> TestCase:
        forgery = self.dataset.forgery(index)
        return TestCase(f"{forgery.photo}-{index:04d}", forgery.source, forgery.mask_kind, forgery.image,
                        forgery.mask)


class AuthenticCases(Dataset[TestCase]):
    """The crops of `ForgedCases` as they are, after the perturbation."""

    def __init__(self, config: RunConfig, photos: Sequence[Photo], split: str, perturbation: str, length: int) -> None:
        self.photos, self.split, self.perturbation, self.length = photos, split, perturbation, length
        self.seed, self.recipe = config.seed, test_recipe(config)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> TestCase:
        photo = self.photos[index % len(self.photos)]
        square = draw_square(photo, self.recipe.image_size, self.recipe.shrink,
                             stream(self.seed, self.split, 0, index), flip=False)
        generator = stream(self.seed, self.split, 0, index, "perturb", self.perturbation)
        after = perturb(square, np.zeros(square.shape[:2], bool), self.perturbation, generator)
        return TestCase(f"{photo.name}-{index:04d}", photo.source, "", after.image, after.mask)


class ReadCases(Dataset[TestCase]):
    """Cases of a dataset on disk."""

    def __init__(self, cases: Sequence[Case], perturbation: str, seed: int) -> None:
        self.cases, self.perturbation, self.seed = cases, perturbation, seed

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> TestCase:
        case = self.cases[index]
        generator = stream(self.seed, "perturb", case.method, case.name, self.perturbation)
        after = perturb(*case.load(), self.perturbation, generator)
        return TestCase(case.name, case.source, "", after.image, after.mask)


def case_sets(config: RunConfig, photos: Sequence[Photo], read: Mapping[str, Cases]) -> list[CaseSet]:
    """Test cases by perturbation and method, unforged ones last.

    Raises:
        UserError: a method's name cannot stand in the tables.
    """
    settings = config.benchmark
    specs = {} if read else dict(zip(method_names(settings.methods), settings.methods, strict=True))
    for name in read:
        if is_mean(name) or not name.isprintable():
            raise UserError(f"{settings.data}: a method called {name!r}: such a name is taken for a mean, or cannot be "
                            "printed; rename it")
    found = []
    for perturbation in expand(settings.perturbations):
        found += [CaseSet(perturbation, method, family(cases[0].method), ReadCases(cases, perturbation, config.seed),
                          len(cases), bool(cases[0].method)) for method, cases in read.items()]
        found += [CaseSet(perturbation, method, family(spec), ForgedCases(config, photos, SPLIT, spec, perturbation,
                                                                           settings.images), settings.images)
                  for method, spec in specs.items()]
        if settings.authentic and not read:
            cases = AuthenticCases(config, photos, SPLIT, perturbation, settings.authentic)
            found.append(CaseSet(perturbation, AUTHENTIC, AUTHENTIC, cases, settings.authentic))
    return found


def load_cases(cases: "Dataset[TestCase]", indices: Sequence[int], workers: int) -> Iterator[TestCase | Unreadable]:
    """The cases at `indices`, in their order, made by worker processes while detectors run."""
    return iter(DataLoader(_Tried(cases, indices), batch_size=None, num_workers=workers if len(indices) > 1 else 0,
                           worker_init_fn=_one_thread))


class _Tried(Dataset[TestCase | Unreadable]):
    def __init__(self, cases: "Dataset[TestCase]", indices: Sequence[int]) -> None:
        self.cases, self.indices = cases, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> TestCase | Unreadable:
        index = self.indices[place]
        try:
            return self.cases[index]
        except Exception as error:
            # One broken file is not the end of a day's work.
            case = self.cases.cases[index] if isinstance(self.cases, ReadCases) else None
            return Unreadable(case.name if case else f"{index:04d}", case.source if case else "", in_words(error))


def in_words(error: Exception) -> str:
    """One line; the kind of the error where the project did not word it."""
    text = " ".join(str(error).split())
    return text if isinstance(error, ValueError | UserError) else f"{type(error).__name__}: {text}"


def _one_thread(worker: int) -> None:
    """Workers share the cores with the detectors."""
    cv2.setNumThreads(0)
