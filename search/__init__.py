"""Search: strategies that find a genotype on one supernet."""

STRATEGIES = {
    "one-shot": ("search.one_shot:OneShot", "uniform single path, then the best of N candidates, random or evolved"),
    "evolution": ("search.evolution:RegularisedEvolution", "one-shot training, then regularised evolution"),
    "tpe": ("search.optuna_samplers:Tpe", "one-shot training, then Optuna's tree-structured Parzen estimators"),
    "nsga2": ("search.optuna_samplers:Nsga2", "one-shot training, then Optuna's NSGA-II: score against cost, a front"),
    "darts": ("search.darts:Darts", "first-order differentiable search, strongest operation of each slot"),
    "random": ("search.random_search:RandomSearch", "random genotypes, each trained alone, at the cost of a supernet"),
}
"""Where each strategy's class is, and what it does. Named as text: a list of names must not import torch."""


def list_strategies() -> list[str]:
    """Names that `search.strategy` may hold."""
    return list(STRATEGIES)
