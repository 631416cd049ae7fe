"""Looks into the pictures of datasets, for what a benchmark would otherwise find out late or never."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from configs.errors import UserError
from configs.pictures import decode_photo
from configs.progress import Progress
from forgeries.duplicates import FLAT, near_duplicates, perceptual_hash
from forgeries.readers import Case, Dataset, Problem
from forgeries.readers.cases import different_sizes, read_bytes, to_mask

AT_ONCE = 256
"""Pictures that wait for a thread at a time."""

SEVERAL = 3
"""Masks of a method that must look inverted before all of them are called so."""


@dataclass(frozen=True)
class Look:
    """What a case shows: width and height, None where the picture is unreadable; the share of its pixels that are
    marked, None without a usable mask; whether the mask looks inverted; a digest and a perceptual hash of its pixels;
    and what is wrong with it."""

    case: Case
    size: tuple[int, int] | None = None
    fraction: float | None = None
    inverted: bool = False
    digest: bytes = b""
    hash: np.uint64 = FLAT
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class MethodSummary:
    """Pictures of one method: how many there are and were looked at, the smallest and largest size (width, height) by
    area, and fractions of their masks, sorted."""

    method: str
    pictures: int
    looked: int
    sizes: tuple[tuple[int, int], ...]
    fractions: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """What was found in a dataset; `looks` are those of the sample."""

    dataset: Dataset
    methods: tuple[MethodSummary, ...]
    problems: tuple[Problem, ...]
    looks: tuple[Look, ...]


def check_dataset(dataset: Dataset, sample: int | None = None) -> Report:
    """Decodes the pictures and masks of `dataset`, or `sample` of them, spread evenly over its cases."""
    count = len(dataset.cases)
    cases = dataset.cases
    if sample is not None and sample < count:
        cases = cases.select(np.linspace(0, count - 1, sample).round().astype(np.int64))
    looks = tuple(_looks(cases))
    found = [problem for look in looks for problem in look.problems]
    problems = (*dataset.problems, *found, *_inverted(looks), *_same(looks))
    return Report(dataset, tuple(_summaries(dataset, looks)), problems, looks)


def compare_datasets(reports: Sequence[Report]) -> list[Problem]:
    """Pictures that are, or nearly are, in several of the datasets."""
    looks = {str(report.dataset.place): [look for look in report.looks if look.size] for report in reports}
    problems = []
    for own, others in combinations(looks.values(), 2):
        first = {look.digest: look for look in reversed(own)}
        problems += [Problem(str(look.case.image), "same picture in two sets",
                             f"the same pixels as {first[look.digest].case.image}")
                     for look in others if look.digest in first]
    hashes = {name: np.array([look.hash for look in found], np.uint64) for name, found in looks.items()}
    for pair in near_duplicates(hashes):
        look, other = looks[pair.split][pair.index], looks[pair.other_split][pair.other_index]
        if look.digest != other.digest:
            problems.append(Problem(str(other.case.image), "nearly the same picture in two sets",
                                    f"{pair.distance} of 64 bits from {look.case.image}"))
    return problems


def look_at(case: Case) -> Look:
    """Decodes one case."""
    try:
        image = decode_photo(read_bytes(case.image), str(case.image))
    except UserError as error:
        return Look(case, problems=(_unreadable(str(case.image), error),))
    height, width = image.shape[:2]
    digest = hashlib.blake2b(image.data, digest_size=16)
    # Pictures of one colour may differ in nothing else.
    digest.update(str(image.shape).encode())
    seen = Look(case, (width, height), digest=digest.digest(), hash=perceptual_hash(image))
    if case.mask is None:
        return seen
    file = str(case.mask)
    try:
        data = read_bytes(case.mask)
        pixels = decode_photo(data, file)
    except UserError as error:
        return replace(seen, problems=(_unreadable(file, error),))
    problems = list(_mask_problems(file, pixels, jpeg=data.startswith(b"\xff\xd8")))
    mask = to_mask(pixels)
    if mask.shape != image.shape[:2]:
        problems.append(Problem(file, "different sizes", different_sizes(image, mask)))
    return replace(seen, fraction=float(mask.mean()), inverted=looks_inverted(mask), problems=tuple(problems))


def looks_inverted(mask: np.ndarray) -> bool:
    """Whether more than half of a mask (bool H×W) is marked, and more than half of its outermost pixels.

    A large region that was inpainted lies inside of the picture, as a rule; what remains around it reaches the border.
    """
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return bool(mask.mean() > 0.5 and border.mean() > 0.5 and not mask.all())


def _unreadable(file: str, error: UserError) -> Problem:
    return Problem(file, "unreadable", str(error).removeprefix(f"{file}: "))


def _mask_problems(file: str, pixels: np.ndarray, jpeg: bool) -> Iterator[Problem]:
    if (np.ptp(pixels, axis=2) > 0).any():
        yield Problem(file, "mask has colours", "red, green and blue differ")
    brightest = pixels.max(2)
    between = brightest[(brightest > 0) & (brightest < 255)]
    if brightest.max() > 1 and between.size:
        share = between.size / brightest.size
        yield Problem(file, "mask is JPEG" if jpeg else "mask not binary",
                      f"{100 * share:.2g} % of its pixels are between 0 and 255 ({between.min()} to {between.max()})")
    mask = to_mask(pixels)
    if not mask.any():
        yield Problem(file, "empty mask", "marks nothing")
    elif mask.all():
        yield Problem(file, "full mask", "marks everything")


def _inverted(looks: Sequence[Look]) -> Iterator[Problem]:
    """One problem for a method most of whose masks look inverted, else one for each such mask."""
    by_method: defaultdict[str, list[Look]] = defaultdict(list)
    for look in looks:
        if look.fraction is not None and 0 < look.fraction < 1:
            by_method[look.case.method].append(look)
    for method, found in by_method.items():
        suspects = [look for look in found if look.inverted]
        if len(suspects) >= SEVERAL and 2 * len(suspects) > len(found):
            yield Problem(str(suspects[0].case.mask), "masks look inverted",
                          f"as {len(suspects)} of {len(found)} masks{f' of {method}' if method else ''}: most of the "
                          "picture and of its border is marked")
            continue
        for look in suspects:
            yield Problem(str(look.case.mask), "mask looks inverted", f"marks {100 * (look.fraction or 0):.0f} % of "
                                                                      "the picture and most of its border")


def _same(looks: Sequence[Look]) -> Iterator[Problem]:
    first: dict[bytes, Look] = {}
    for look in looks:
        if look.size and first.setdefault(look.digest, look) is not look:
            yield Problem(str(look.case.image), "same picture twice",
                          f"the same pixels as {first[look.digest].case.image}")


def _summaries(dataset: Dataset, looks: Sequence[Look]) -> Iterator[MethodSummary]:
    for method, cases in dataset.cases.by_method().items():
        found = [look for look in looks if look.case.method == method]
        sizes = sorted({look.size for look in found if look.size}, key=lambda size: size[0] * size[1])
        fractions = sorted(look.fraction for look in found if look.fraction is not None)
        yield MethodSummary(method, len(cases), len(found), tuple(sizes), tuple(fractions))


def _looks(cases: Sequence[Case]) -> Iterator[Look]:
    """In order, made by threads: decoding does not hold the interpreter's lock."""
    with ThreadPoolExecutor() as pool, Progress("check", len(cases), unit="picture") as progress:
        for start in range(0, len(cases), AT_ONCE):
            for look in pool.map(look_at, cases[start:start + AT_ONCE]):
                progress.update()
                yield look
