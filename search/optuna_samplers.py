"""Optuna's samplers on the supernet's inherited scores.

Each batch has a study of its own, made anew from the scores so far, and a sampler seeded by their number: a resumed
search proposes what an uninterrupted one would have proposed.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from configs.schema import Racing
from search.one_shot import OneShot
from search.samplers import pareto_front, price
from search.strategy import Scored
from search_space.genotype import Genotype, SpaceShape

# A line for each of many short studies would drown the progress.
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Tpe(OneShot):
    """Tree-structured Parzen estimators (Bergstra et al. 2011) over the choices, after the training of `one-shot`.

    Starts from `evolution.population` random genotypes; then a fifth as many, at least one, are asked for at a time,
    each taking those before it in the batch for bad ones (constant liar). What a race dropped counts as pruned, which
    ranks below all exact scores.
    """

    draws = 50

    def batches(self) -> tuple[int, int]:
        start = self.context.settings.evolution.population
        return start, max(1, start // 5)

    def sources(self, history: Sequence[Scored], generator: np.random.Generator) -> list[Iterator[Genotype]]:
        space = self.context.space
        sampler = TPESampler(n_startup_trials=0, constant_liar=True, seed=_seed(generator))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        distributions = _distributions(space)
        study.add_trials([_tpe_trial(scored, distributions) for scored in history])
        return [_asked(study, space)]


class Nsga2(OneShot):
    """NSGA-II (Deb et al. 2002) after the training of `one-shot`: `search.objective.metric` against
    `search.objective.cost`, in generations of `evolution.population`.

    All scores are exact, because a front cannot be drawn from others. The result is the best score of the front:
    `search.objective.cost_weight` says how much of the metric a cheaper one may lose, with 0 it is the front's end.
    """

    draws = 200

    def batches(self) -> tuple[int, int]:
        return (self.context.settings.evolution.population,) * 2

    def racing(self, racing: Racing) -> Racing:
        return racing.model_copy(update={"keep": 0})

    def sources(self, history: Sequence[Scored], generator: np.random.Generator) -> list[Iterator[Genotype]]:
        settings, space = self.context.settings, self.context.space
        sampler = _Generations(population_size=settings.evolution.population, seed=_seed(generator))
        study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        distributions = _distributions(space)
        study.add_trials([create_trial(
            params=scored.genotype.sample(), distributions=distributions,
            values=[getattr(scored, settings.objective.metric), price(scored.cost, settings.objective.cost)])
            for scored in history])
        # One after the other, as a study that lives on would have selected them: its notes of parents are in the order
        # of trials, which decides between equals.
        for generation in range(len(history) // settings.evolution.population):
            sampler.get_parent_population(study, generation)
        return [_asked(study, space)]

    def choose(self, history: Sequence[Scored]) -> Scored:
        objective = self.context.settings.objective
        return super().choose(pareto_front(history, objective.metric, objective.cost))


class _Generations(NSGAIISampler):
    """NSGA-II that counts generations by the order of finished trials.

    Optuna's notes them in trials as it asks for them; those of a study made anew were not asked for by it.
    """

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        return len(_finished(study)) // self._size

    def get_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return _finished(study)[generation * self._size:(generation + 1) * self._size]

    @property
    def _size(self) -> int:
        assert self.population_size is not None
        return self.population_size


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _tpe_trial(scored: Scored, distributions: dict[str, BaseDistribution]) -> FrozenTrial:
    return create_trial(state=TrialState.COMPLETE if scored.exact else TrialState.PRUNED,
                        value=scored.score if scored.exact else None,
                        intermediate_values={scored.pictures: scored.score},
                        params=scored.genotype.sample(), distributions=distributions)


def _distributions(space: SpaceShape) -> dict[str, BaseDistribution]:
    return {label: CategoricalDistribution(options) for label, options in space.options().items()}


def _asked(study: optuna.Study, space: SpaceShape) -> Iterator[Genotype]:
    distributions = _distributions(space)
    while True:
        yield Genotype.from_sample(study.ask(distributions).params, space)


def _seed(generator: np.random.Generator) -> int:
    return int(generator.integers(2**32))
