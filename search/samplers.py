"""What to score next, given all scores so far: functions of the space, the limits, the scores and a generator."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from configs.errors import UserError
from configs.schema import Evolution, Limits, Racing
from search.strategy import Scored, SearchContext
from search_space.cost import COSTS, Cost, pareto
from search_space.genotype import Genotype, random_genotype

DRAWS = 1000
"""Draws in a row without a new allowed genotype after which there is taken to be none."""


def random_samples(context: SearchContext, generator: np.random.Generator, count: int,
                   known: Collection[str] = ()) -> list[Genotype]:
    """At most `count` distinct allowed genotypes, none of them `known` (by their texts); fewer only where no more are
    found. A smaller count gives the first of a larger one's.

    They are drawn uniformly. Where limits leave so little of the space that this finds nothing, what is drawn is made
    cheaper first, by `within_limits`.

    Raises:
        UserError: no genotype keeps `search.limits`.
    """
    _check_limits(context)

    def drawn() -> Genotype:
        return random_genotype(context.space, generator)

    count = min(count, context.space.size - len(known))
    found = new_ones(iter(drawn, None), count, context, known)
    if len(found) < count:
        mended = iter(lambda: within_limits(context, drawn(), generator), None)
        found += new_ones(mended, count - len(found), context, {*known, *map(str, found)})
    if count and not found and not known:
        raise UserError("search.limits: no genotype was found that keeps all of them; raise one, see giidnet list "
                        "space")
    return found


def new_ones(drawn: Iterator[Genotype], count: int, context: SearchContext, known: Collection[str] = (),
             draws: int = DRAWS) -> list[Genotype]:
    """The first `count` distinct allowed genotypes of the endless `drawn` that are not `known` (by their texts); fewer
    after `draws` in a row that are none of these."""
    found: dict[str, Genotype] = {}
    misses = 0
    while len(found) < count and misses < draws:
        genotype = next(drawn)
        text = str(genotype)
        if text in known or text in found or not context.allowed(genotype):
            misses += 1
            continue
        misses = 0
        found[text] = genotype
    return list(found.values())


def next_batch(context: SearchContext, history: Sequence[Scored], count: int, sources: Sequence[Iterator[Genotype]],
               generator: np.random.Generator, draws: int = DRAWS) -> list[Genotype]:
    """`count` new allowed genotypes: an equal share of each of the endless `sources`, and random ones for what they do
    not give within `draws`; fewer only where the space has no more."""
    known = {str(scored.genotype) for scored in history}
    count = min(count, context.space.size - len(known))
    found: list[Genotype] = []
    for index, source in enumerate(sources):
        share = count * (index + 1) // len(sources) - count * index // len(sources)
        found += new_ones(source, share, context, {*known, *map(str, found)}, draws)
    return found + random_samples(context, generator, count - len(found), {*known, *map(str, found)})


def best_first(history: Sequence[Scored]) -> list[Scored]:
    """By score; those whose scores are over fewer pictures, because a race dropped them, after all others."""
    return sorted(history, key=_rank, reverse=True)


def aged_children(history: Sequence[Scored], settings: Evolution,
                  generator: np.random.Generator) -> Iterator[Genotype]:
    """Endless children of the last `settings.population` of `history`: each is the best of `settings.sample` drawn with
    replacement, with one choice changed (Real et al. 2019, algorithm 1)."""
    population = history[-settings.population:]
    while True:
        drawn = generator.integers(len(population), size=settings.sample)
        yield with_one_changed(max((population[index] for index in drawn), key=_rank).genotype, generator)


def with_one_changed(genotype: Genotype, generator: np.random.Generator) -> Genotype:
    """`genotype` with another option of one of its choices, both drawn uniformly."""
    options, sample = genotype.space.options(), genotype.sample()
    label = str(generator.choice([label for label, names in options.items() if len(names) > 1]))
    sample[label] = str(generator.choice([name for name in options[label] if name != sample[label]]))
    return Genotype.from_sample(sample, genotype.space)


def crossed(parents: Sequence[Genotype], generator: np.random.Generator) -> Iterator[Genotype]:
    """Endless children that have each choice from one of two parents (Guo et al. 2020, section 3.4)."""
    while True:
        pair = [parents[index].sample() for index in generator.integers(len(parents), size=2)]
        yield Genotype.from_sample({label: pair[generator.integers(2)][label] for label in pair[0]}, parents[0].space)


def mutated(parents: Sequence[Genotype], chance: float, generator: np.random.Generator) -> Iterator[Genotype]:
    """Endless copies of parents, of whose choices each is drawn anew by `chance` (Guo et al. 2020, section 3.4)."""
    while True:
        parent = parents[int(generator.integers(len(parents)))]
        other = random_genotype(parent.space, generator).sample()
        yield Genotype.from_sample({label: other[label] if generator.random() < chance else name
                                    for label, name in parent.sample().items()}, parent.space)


def with_exact(racing: Racing, count: int) -> Racing:
    """`racing`, with at least `count` of a batch kept to the end."""
    return racing.model_copy(update={"keep": max(racing.keep, count)}) if racing.keep else racing


def within_limits(context: SearchContext, genotype: Genotype, generator: np.random.Generator) -> Genotype:
    """`genotype`, with as many options, in random order, swapped for random cheaper ones as it takes to keep the
    limits; or as near to them as that comes."""
    costs, limits = context.costs, context.settings.limits
    sample, total = genotype.sample(), costs.of(genotype)
    # After so many rounds every choice has its cheapest option, if that many are needed.
    for _ in range(max(map(len, costs.options.values()))):
        for label in map(str, generator.permutation(list(sample))):
            over = excess(total, limits)
            if not over:
                return Genotype.from_sample(sample, context.space)
            others = {name: total - costs.options[label][sample[label]] + cost
                      for name, cost in costs.options[label].items()}
            if cheaper := [name for name, cost in others.items() if excess(cost, limits) < over]:
                sample[label] = str(generator.choice(cheaper))
                total = others[sample[label]]
    return Genotype.from_sample(sample, context.space)


def excess(cost: Cost, limits: Limits) -> float:
    """By which shares of the limits a cost exceeds them, summed; 0 if it keeps all."""
    return sum(max(0.0, getattr(cost, key) / limit - 1) for key in COSTS
               if (limit := getattr(limits, key)) is not None)


def pareto_front(history: Sequence[Scored], metric: str, cost: str) -> list[Scored]:
    """Those of the exactly scored whose `metric` ("auc" or "f1") none reaches at a lower `cost` ("params", "flops" or
    "latency"), nor exceeds at the same; cheapest first, of equals the first that was scored."""
    exact = [scored for scored in history if scored.exact]
    return [exact[index] for index in pareto([(price(scored.cost, cost), getattr(scored, metric))
                                              for scored in exact])]


def price(cost: Cost, name: str) -> float:
    """A cost by its name in `search.objective.cost`."""
    return getattr(cost, "latency_ms" if name == "latency" else name)


def _rank(scored: Scored) -> tuple[int, float]:
    return scored.pictures, scored.score


def _check_limits(context: SearchContext) -> None:
    least, _ = context.costs.range()
    for key in COSTS:
        limit = getattr(context.settings.limits, key)
        if limit is not None and limit < getattr(least, key):
            raise UserError(f"search.limits.{key}: {limit:,} is less than any genotype of the space has, which is "
                            f"{getattr(least, key):,} at least; raise it, see giidnet list space")
