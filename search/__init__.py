"""Search: strategies that find a genotype on one supernet."""

import shutil
from pathlib import Path

SCORES = "scores"
"""Folder of finished units in `search/`, until the search is finished."""

TOKEN = "token"
"""File in `search/`, until then: the search's name on a storage that others use too."""

STRATEGIES = {
    "one-shot": ("search.one_shot:OneShot", "uniform single path, then the best of N candidates, random or evolved"),
    "evolution": ("search.evolution:RegularisedEvolution", "one-shot training, then regularised evolution"),
    "tpe": ("search.optuna_samplers:Tpe", "one-shot training, then Optuna's tree-structured Parzen estimators"),
    "nsga2": ("search.optuna_samplers:Nsga2", "one-shot training, then Optuna's NSGA-II: score against cost, a front"),
    "darts": ("search.darts:Darts", "softmax mixture of first or second order, strongest operation of each slot"),
    "gumbel": ("search.gumbel:Gumbel", "straight-through Gumbel-softmax, annealed; strongest operation of each slot"),
    "random": ("search.random_search:RandomSearch", "random genotypes, each trained alone, at the cost of a supernet"),
    "nni:DARTS": ("search.nni_adapter:NniOneShot:DARTS", "NNI's first-order DARTS on NNI's supernet"),
    "nni:GumbelDARTS": ("search.nni_adapter:NniOneShot:GumbelDARTS", "NNI's Gumbel-softmax, its temperature falling"),
    "nni:Proxyless": ("search.nni_adapter:NniOneShot:Proxyless", "NNI's ProxylessNAS: one sampled path a step"),
    "nni:RandomOneShot": ("search.nni_adapter:NniOneShot:RandomOneShot",
                          "NNI's uniform single path, then NNI's random search on it"),
    "nni:Random": ("search.nni_adapter:NniMultiTrial:Random", "one-shot training, then NNI's random search"),
    "nni:GridSearch": ("search.nni_adapter:NniMultiTrial:GridSearch", "one-shot training, then NNI's grid"),
    "nni:RegularizedEvolution": ("search.nni_adapter:NniMultiTrial:RegularizedEvolution",
                                 "one-shot training, then NNI's regularised evolution"),
    "nni:TPE": ("search.nni_adapter:NniMultiTrial:TPE", "one-shot training, then NNI's TPE"),
    "nni:PolicyBasedRL": ("search.nni_adapter:NniMultiTrial:PolicyBasedRL",
                          "one-shot training, then NNI's policy; needs tianshou"),
}
"""Where each strategy's class is, with what it is made, and what it does. Named as text: a list of names must not
import torch."""


def list_strategies() -> list[str]:
    """Names that `search.strategy` may hold."""
    return list(STRATEGIES)


def remove_leftovers(folder: Path) -> None:
    """Deletes what the finished search of the run folder `folder` kept to be resumed."""
    (folder / "search" / "checkpoint.pt").unlink(missing_ok=True)
    shutil.rmtree(folder / "search" / SCORES, ignore_errors=True)
    # After the scores: a worker that finds no name must find none of them either.
    (folder / "search" / TOKEN).unlink(missing_ok=True)
