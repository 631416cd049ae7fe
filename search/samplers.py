"""What to score next, given all scores so far: pure functions of the space, the scores and a seed."""

from collections.abc import Callable, Collection, Iterator

import numpy as np

from configs.errors import UserError
from configs.streams import stream
from search_space.genotype import Genotype, SpaceShape, random_genotype

DRAWS = 1000
"""Draws in a row without a new allowed genotype after which there is taken to be none."""

Allowed = Callable[[Genotype], bool]


def random_samples(space: SpaceShape, seed: int, count: int, allowed: Allowed) -> list[Genotype]:
    """At most `count` distinct allowed genotypes, drawn uniformly; a smaller count gives the first of a larger one's.

    Raises:
        UserError: none is found.
    """
    found = new_ones((random_genotype(space, generator) for generator in _repeat(stream(seed, "candidates"))),
                     min(count, space.size), allowed)
    if not found:
        raise UserError("search.limits: no genotype drawn from the space keeps them; see giidnet list space")
    return found


def new_ones(drawn: Iterator[Genotype], count: int, allowed: Allowed, known: Collection[str] = ()) -> list[Genotype]:
    """The first `count` distinct allowed genotypes of `drawn` that are not `known` (by their texts); fewer when they
    do not come any more."""
    found: dict[str, Genotype] = {}
    misses = 0
    while len(found) < count and misses < DRAWS:
        genotype = next(drawn)
        text = str(genotype)
        if text in known or text in found or not allowed(genotype):
            misses += 1
            continue
        misses = 0
        found[text] = genotype
    return list(found.values())


def _repeat(generator: np.random.Generator) -> Iterator[np.random.Generator]:
    while True:
        yield generator
