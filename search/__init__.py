"""Search: strategies that find a genotype on one supernet."""

STRATEGIES = {
    "one-shot": ("search.one_shot:OneShot", "uniform single path, then the best of N sampled candidates"),
    "darts": ("search.darts:Darts", "softmax mixture of first or second order, strongest operation of each slot"),
    "gumbel": ("search.gumbel:Gumbel", "straight-through Gumbel-softmax, annealed; strongest operation of each slot"),
    "random": ("search.random_search:RandomSearch", "random genotypes, each trained alone, at the cost of a supernet"),
}
"""Where each strategy's class is, and what it does. Named as text: a list of names must not import torch."""


def list_strategies() -> list[str]:
    """Names that `search.strategy` may hold."""
    return list(STRATEGIES)
