"""Regularised evolution by the supernet's inherited scores (Real et al. 2019)."""

from collections.abc import Iterator, Sequence

import numpy as np

from configs.schema import Racing
from search.one_shot import OneShot
from search.samplers import aged_children, with_exact
from search.strategy import Scored
from search_space.genotype import Genotype


class RegularisedEvolution(OneShot):
    """Ageing evolution (Real et al. 2019, algorithm 1) after the training of `one-shot`.

    The population is the last `evolution.population` that were scored: whoever is added, the oldest dies. A child is
    the winner of a tournament with one choice changed.

    A fifth of the population, at least one, is proposed at a time, so that scores can share prefixes and workers have
    work: the tournaments of a batch are all among the population before it, and then as many die at once as were
    born. With a population below 10 a batch is one child, which is the published algorithm, save that a genotype which
    was scored already is drawn again.
    """

    def batches(self) -> tuple[int, int]:
        population = self.context.settings.evolution.population
        return population, max(1, population // 5)

    def racing(self, racing: Racing) -> Racing:
        return with_exact(racing, self.context.settings.evolution.sample)

    def sources(self, history: Sequence[Scored], generator: np.random.Generator) -> list[Iterator[Genotype]]:
        return [aged_children(history, self.context.settings.evolution, generator)]
