"""NNI's strategies: the same arithmetic as ours, the same files after a kill, and nothing left behind."""

import inspect
import logging
import os
import random
import subprocess
import sys
import threading
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from nni.nas import strategy as strategies
from torch.utils._pytree import tree_leaves

from configs.engine import Checkpointer, make_fabric
from configs.errors import UserError
from configs.schema import RunConfig, Search
from search import list_strategies
from search.network import SearchNetwork, search_costs
from search.stage import make_strategy
from search.strategy import Scored, SearchContext
from search_space.genotype import SpaceShape

SHAPE = SpaceShape(("identity", "sep3", "relu_sep3", "relu_sep5"), 2, (64, 128), (2, 1), (1, 2))
CHOOSING = SpaceShape(("sep3", "identity"), 1, (64, 64), (1, 1), (1, 1), ("plain", "plain+bayar"), ("none", "local"))
FABRIC = make_fabric(RunConfig(device="cpu"))
NAMES = [name.removeprefix("nni:") for name in list_strategies() if name.startswith("nni:")]
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
    strategy.set_up(SearchContext(fabric, network, space, settings, 7, costs_of(space),
                                  lambda genotype: np.array([[score(genotype)] * 2])))
    return strategy, network


@cache
def costs_of(space):
    return search_costs(space, 0.0625, ["plain"], 32)


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
    # It takes batches apart otherwise than the Lightning of today gives them.
    classes.remove("ENAS")
    assert set(NAMES) == classes


@pytest.mark.parametrize("clip_norm", [None, 0.05])
def test_our_darts_agrees_with_nnis_bit_for_bit(clip_norm):
    rates = {"learning_rate": 1e-2, "architecture_learning_rate": 3e-2, "clip_norm": clip_norm}
    still, _ = make("nni:DARTS", architecture_learning_rate=1e-30)
    step(still, 0)
    # NNI draws its architecture weights, so ours get what a step too small to change a float32 left of them.
    drawn = {label: alpha.detach().clone() for label, alpha in still.training.alphas.items()}
    theirs, _ = make("nni:DARTS", **rates)
    ours, network = make("darts", **rates)
    with torch.no_grad():
        for label, alpha in ours.alphas.items():
            alpha.copy_(drawn[label])
    initial = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    for number in range(3 * STEPS):
        assert step(ours, number) == step(theirs, number)
        twin = SearchNetwork(SHAPE, 0.0625, ["plain"])
        theirs.training.give_back(twin)
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, twin.state_dict()[name]), (number, name)
        for label, alpha in theirs.training.alphas.items():
            assert torch.equal(alpha, ours.alphas[label]), (number, label)
    assert sum(not torch.equal(tensor, initial[name]) for name, tensor in network.state_dict().items()) \
        > 0.9 * len(initial)
    assert all((alpha != drawn[label]).all() for label, alpha in ours.alphas.items())
    theirs.epoch_end(2)
    ours.epoch_end(2)
    assert texts(explore(theirs)) == texts(explore(ours))[:1]


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


@pytest.mark.parametrize("name", MULTI_TRIAL)
def test_candidates_follow_from_seed_and_scores_alone(name):
    history = explore(make(f"nni:{name}")[0])
    assert len(history) == len(set(texts(history))) == 12
    # Killed after five, and one strategy that is asked for the same again, and for another search in between.
    assert texts(explore(make(f"nni:{name}")[0], history[:5])) == texts(history)
    strategy, _ = make(f"nni:{name}")
    assert texts(explore(strategy)) == texts(explore(strategy)) == texts(history)
    if name not in ("Random", "GridSearch"):
        assert len(strategy.propose([])) == 1
        other = [Scored(one.genotype, -one.score, 0, 0, 1, True, one.cost) for one in history[:-1]]
        assert strategy.propose(other) == make(f"nni:{name}")[0].propose(other)


@pytest.mark.parametrize("name", ["RegularizedEvolution", "TPE"])
def test_what_looks_at_scores_finds_better_than_random(name):
    # Large enough that what is good is not used up.
    space = SpaceShape(SHAPE.operations, 4, (64, 128), (2, 1), (1, 2))
    settings = {"candidates": 90, "evolution": {"population": 10, "sample": 5, "mutation": 0.1}}
    found, rivals = (np.array([one.score for one in explore(make(f"nni:{kind}", space=space, **settings)[0])][50:])
                     for kind in (name, "Random"))
    assert found.mean() > rivals.mean() + 3 * rivals.std() / 40**0.5


@pytest.mark.parametrize("name", MULTI_TRIAL)
def test_limits_are_kept_and_cost_no_candidate(name):
    low, high = costs_of(SHAPE).range()
    limits = {"params": (low.params + high.params) // 2}
    strategy, _ = make(f"nni:{name}", limits=limits)
    history = explore(strategy)
    assert len(history) == 12 and all(one.cost.params <= limits["params"] for one in history)
    assert any(one.cost.params > limits["params"] for one in explore(make(f"nni:{name}")[0]))
    with pytest.raises(UserError, match=r"search\.limits: no genotype that nni:\w+ proposed keeps them"):
        make(f"nni:{name}", limits={"params": 1})[0].propose([])


@pytest.mark.parametrize("name", MULTI_TRIAL)
def test_a_small_space_ends_and_choices_beside_the_slots_are_made(name):
    history = explore(make(f"nni:{name}", space=CHOOSING, candidates=1000)[0])
    assert len(set(texts(history))) == len(history) == CHOOSING.size


@pytest.mark.parametrize("name", ONE_SHOT)
def test_one_shot_refuses_what_it_cannot_reach(name):
    with pytest.raises(UserError, match=r"reaches the slots alone; leave out space\.streams"):
        make(f"nni:{name}", space=CHOOSING)
    if name == "RandomOneShot":
        strategy, _ = make(f"nni:{name}", limits={"params": 2000})
        assert all(one.cost.params <= 2000 for one in explore(strategy))
    else:
        with pytest.raises(UserError, match=r"search\.limits: nni:\w+ cannot keep them"):
            make(f"nni:{name}", limits={"params": 2000})


def test_errors_of_nni_come_through_and_end_its_training():
    strategy, _ = make("nni:DARTS")
    step(strategy, 0)
    with pytest.raises(RuntimeError, match="channels"):
        strategy.step(1, (torch.zeros(2, 4, 32, 32), torch.zeros(2, 1, 32, 32)), batch(1))
    with pytest.raises(RuntimeError, match="nobody"):
        step(strategy, 2)


@pytest.mark.parametrize("name", ["nni:DARTS", "nni:TPE", "nni:RandomOneShot"])
def test_nothing_global_is_left_changed(name, capfd):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    loggers = [logging.getLogger(name) for name in ("", "nni", "pytorch_lightning")]
    before = random.getstate(), np.random.get_state()[1].tolist(), [logger.level for logger in loggers]
    threads = threading.active_count()
    strategy, _ = make(name)
    state = torch.random.get_rng_state()
    train(strategy, 0, STEPS)
    explore(strategy)
    assert (random.getstate(), np.random.get_state()[1].tolist(), [logger.level for logger in loggers]) == before
    assert torch.equal(torch.random.get_rng_state(), state)
    del strategy
    assert threading.active_count() == threads
    assert capfd.readouterr() == ("", "")


def test_a_process_writes_nothing_and_ends_although_nni_still_waits(tmp_path):
    code = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
# As every command does first: silent.
import search_space.space
from test_nni_adapter import make, step
kept = [make(name)[0] for name in ("nni:DARTS", "nni:TPE")]
step(kept[0], 0)
kept[1].propose([])
"""
    here = Path(__file__)
    home = tmp_path / "home"
    home.mkdir()
    # Matplotlib, which metrics of Lightning import, keeps a list of fonts.
    environment = os.environ | {"HOME": str(home), "MPLCONFIGDIR": str(tmp_path / "fonts")}
    done = subprocess.run([sys.executable, "-c", code, str(here.parent), str(here.parents[2])], cwd=home, timeout=120,
                          capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(home.rglob("*"))


@pytest.mark.skipif(find_spec("tianshou") is not None, reason="tianshou is there")
def test_the_policy_says_what_it_needs():
    with pytest.raises(UserError, match=r"needs tianshou and gym; pip install"):
        make("nni:PolicyBasedRL")


@pytest.mark.skipif(find_spec("tianshou") is None, reason="needs tianshou")
def test_the_policy_goes_on_as_before():
    history = explore(make("nni:PolicyBasedRL", candidates=45)[0])
    assert len(history) == 45
    assert texts(explore(make("nni:PolicyBasedRL", candidates=45)[0], history[:30])) == texts(history)
