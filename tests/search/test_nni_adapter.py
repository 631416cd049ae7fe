"""NNI's strategies: the same arithmetic as ours, the same files after a kill, and nothing left behind."""

import inspect
import logging
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from nni.nas import strategy as strategies
from torch.utils._pytree import tree_leaves

from configs.engine import Checkpointer, make_fabric
from configs.errors import UserError
from configs.schema import Limits, RunConfig, Search
from search import STRATEGIES, list_strategies
from search.network import SearchNetwork, search_costs
from search.stage import make_strategy
from search.strategy import Scored, SearchContext
from search_space.genotype import Genotype, SpaceShape

SHAPE = SpaceShape(("identity", "sep3", "relu_sep3", "relu_sep5"), 2, (64, 128), (2, 1), (1, 2))
CHOOSING = SpaceShape(("sep3", "identity"), 1, (64, 64), (1, 1), (1, 1), ("plain", "plain+bayar"), ("none", "local"))
FABRIC = make_fabric(RunConfig(device="cpu"))
NAMES = [name.removeprefix("nni:") for name in list_strategies() if name.startswith("nni:")]
LEARNING = ("ENAS", "PolicyBasedRL")
ONE_SHOT = ["DARTS", "GumbelDARTS", "Proxyless", "RandomOneShot"]
MULTI_TRIAL = ["Random", "GridSearch", "RegularizedEvolution", "TPE"]
STEPS = 3
"""Of an epoch."""


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    images, masks = torch.rand(2, 3, 32, 32, generator=generator), torch.zeros(2, 1, 32, 32)
    masks[:, :, 8:24, 4:16 + seed] = 1
    # A trace that can be learnt: what is inpainted is smooth.
    return images * (1 - masks) + 0.5 * masks, masks


def make(name, seed=0, space=SHAPE, fabric=FABRIC, **settings):
    torch.manual_seed(seed)
    network = SearchNetwork(space, 0.0625, ["plain"])
    strategy = make_strategy(name)
    settings = Search.model_validate({"strategy": name, "epochs": 3, "steps": STEPS, "candidates": 12} | settings)
    strategy.set_up(SearchContext(fabric, network, space, settings, 7, search_costs(space, 0.0625, ["plain"], 32),
                                  lambda genotype: np.array([[score(genotype)] * 2])))
    return strategy, network


def step(strategy, number):
    return strategy.step(number, batch(2 * number), batch(2 * number + 1) if strategy.uses_validation else None)


def train(strategy, start, stop):
    losses = []
    for number in range(start, stop):
        losses.append(step(strategy, number))
        if (number + 1) % STEPS == 0:
            strategy.epoch_end(number // STEPS)
    return losses


def score(genotype):
    """Made up: identities are good, and no two genotypes of a slot alike."""
    names = [name for cell in genotype.cells for name in cell]
    return sum((name == "identity") + 0.01 * index * (name == "sep3") for index, name in enumerate(names)) / len(names)


def explore(strategy, history=()):
    history = list(history)
    while proposals := strategy.propose(history):
        history += [scored(strategy, genotype) for genotype in proposals]
    return history


def scored(strategy, genotype):
    value = score(genotype)
    return Scored(genotype, value, value, value, 1, True, strategy.context.costs.of(genotype))


def texts(history):
    return [str(one.genotype) for one in history]


def test_names_are_those_of_nni():
    classes = {name for name, value in vars(strategies).items() if inspect.isclass(value)
               and issubclass(value, strategies.Strategy) and value.__name__ == name} - {"Strategy"}
    assert set(NAMES) == classes


def test_our_darts_agrees_with_nnis_bit_for_bit():
    rates = {"learning_rate": 1e-2, "architecture_learning_rate": 3e-2}
    theirs, _ = make("nni:DARTS", **rates)
    ours, network = make("darts", **rates)
    step(theirs, 0)
    # The same start: NNI draws its architecture weights, so ours are set to what they were before a first step.
    start, _ = make("nni:DARTS", **rates)
    drawn = first_alphas(start)
    assert not any(torch.equal(drawn[label], alpha) for label, alpha in theirs.training.alphas.items())
    with torch.no_grad():
        for label, alpha in ours.alphas.items():
            alpha.copy_(drawn[label])
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    losses = [theirs.training.task.loss.item()]
    assert step(ours, 0) == losses[0]
    for number in range(1, 3 * STEPS):
        assert step(ours, number) == step(theirs, number)
        twin = SearchNetwork(SHAPE, 0.0625, ["plain"])
        theirs.training.give_back(twin)
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, twin.state_dict()[name]), (number, name)
        for label, alpha in theirs.training.alphas.items():
            assert torch.equal(alpha, ours.alphas[label]), (number, label)
    assert sum(not torch.equal(tensor, initial[name]) for name, tensor in network.state_dict().items()) \
        > 0.9 * len(initial)
    assert all((alpha - drawn[label]).abs().min() > 1e-2 for label, alpha in ours.alphas.items())
    theirs.epoch_end(2)
    ours.epoch_end(2)
    assert texts(explore(theirs)) == texts(explore(ours))[:1]


def first_alphas(strategy):
    """NNI's architecture weights before its first step: what a step at rate 0 leaves."""
    frozen, _ = make("nni:DARTS", architecture_learning_rate=1e-30)
    step(frozen, 0)
    return {label: alpha.detach().clone() for label, alpha in frozen.training.alphas.items()}


@pytest.mark.parametrize("name", ONE_SHOT)
def test_an_interrupted_training_goes_on_bit_for_bit(name, tmp_path):
    whole, network = make(f"nni:{name}", learning_rate=1e-2, architecture_learning_rate=0.1)
    losses = train(whole, 0, 3 * STEPS)
    # In the middle of an epoch.
    broken, other = make(f"nni:{name}", learning_rate=1e-2, architecture_learning_rate=0.1)
    again = train(broken, 0, STEPS + 1)
    saved = Checkpointer(tmp_path / "checkpoint.pt", 0)
    saved.save({"network": other.state_dict(), "strategy": broken.state_dict()})
    resumed, last = make(f"nni:{name}", seed=1, learning_rate=1e-2, architecture_learning_rate=0.1)
    state = saved.load()
    last.load_state_dict(state["network"])
    resumed.load_state_dict(state["strategy"])
    again += train(resumed, STEPS + 1, 3 * STEPS)
    assert again == losses and losses[-1] < losses[0]
    assert all(torch.equal(tensor, last.state_dict()[key]) for key, tensor in network.state_dict().items())
    assert resumed.architecture() == whole.architecture()
    assert texts(explore(resumed)) == texts(explore(whole))
    for one, two in zip(tree_leaves(resumed.state_dict()), tree_leaves(whole.state_dict()), strict=True):
        assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
