"""Strategies: what each step moves, what they propose, and that a saved one goes on as if nothing had happened."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from scipy.stats import chisquare
from torch import nn
from torch.utils._pytree import tree_leaves

from configs.engine import Checkpointer, make_fabric
from configs.errors import UserError
from configs.schema import RunConfig, Search
from configs.streams import stream
from search import list_strategies
from search.network import SearchNetwork, search_costs
from search.one_shot import fair_paths
from search.stage import make_strategy
from search.strategy import SearchContext
from search_space.genotype import Genotype, SpaceShape
from search_space.supernet import label_to_path

SHAPE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 2, (64, 128), (2, 1), (1, 2))
WIDTH = 0.0625
OWN = [name for name in list_strategies() if not name.startswith("nni:")]
"""NNI's have tests of their own."""
FABRIC = make_fabric(RunConfig(device="cpu"))


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    images, masks = torch.rand(2, 3, 32, 32, generator=generator), torch.zeros(2, 1, 32, 32)
    masks[:, :, 8:24, 4 + seed:16 + seed] = 1
    # A trace that can be learnt: what is inpainted is smooth.
    return images * (1 - masks) + 0.5 * masks, masks


def half_fabric():
    return Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu")])


def make(name, seed=0, space=SHAPE, fabric=FABRIC, **settings):
    torch.manual_seed(seed)
    network = SearchNetwork(space, WIDTH, ["plain"])

    def evaluate(genotype):
        # Any numbers that the present weights alone decide.
        network.set_path(genotype)
        network.eval()
        with torch.no_grad():
            values = network(batch(5)[0]).double().mean((1, 2, 3)).repeat(2, 1).T.numpy()
        network.train()
        return values

    strategy = make_strategy(name)
    strategy.set_up(SearchContext(fabric, network, space, Search(strategy=name, **settings), 7,
                                  search_costs(space, WIDTH, ["plain"], 32), evaluate))
    return strategy, network


def step(strategy, number, train=0, validation=1):
    return strategy.step(number, batch(train), batch(validation) if strategy.uses_validation else None)


def snapshot(tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors}


def moved(before, after):
    return {name for name, tensor in after if not torch.equal(tensor, before[name])}


def candidates(names):
    """Slot and candidate of each name of a candidate's tensor."""
    return {(slot, rest.split(".")[0]) for slot, rest in
            (name.split(".candidates.") for name in names if ".candidates." in name)}


def texts(genotypes):
    return [str(genotype) for genotype in genotypes]


@pytest.mark.parametrize("name", OWN)
def test_the_loss_on_one_batch_falls(name):
    strategy, _ = make(name, learning_rate=1e-2, architectures=2, epochs=4, steps=15)
    losses = [step(strategy, number) for number in range(30)]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_half_precision_steps_by_gradients_without_the_scale_of_the_loss(name, clip_norm):
    def length(fabric):
        strategy, network = make(name, fabric=fabric, clip_norm=clip_norm)
        step(strategy, 0)
        return torch.stack([parameter.grad.norm() for parameter in network.parameters()
                            if parameter.grad is not None]).norm().item()

    half, whole = length(half_fabric()), length(FABRIC)
    assert half == pytest.approx(whole, rel=0.1)
    if clip_norm:
        assert half == pytest.approx(clip_norm, rel=1e-3) and whole == pytest.approx(clip_norm, rel=1e-3)
    else:
        assert whole > 0.02


@pytest.mark.parametrize("name", OWN)
def test_a_saved_strategy_goes_on_bit_for_bit(name, tmp_path):
    settings = {"architecture_learning_rate": 1.0, "epochs": 2, "steps": 3, "architectures": 4, "candidates": 9}
    strategy, network = make(name, **settings)
    for number in range(3):
        step(strategy, number, train=number)
    strategy.epoch_end(0)
    saved = Checkpointer(tmp_path / "checkpoint.pt", 0)
    saved.save({"network": network.state_dict(), "strategy": strategy.state_dict()})

    def goes_on(strategy, network):
        losses = [step(strategy, number, train=number) for number in range(3, 6)]
        strategy.epoch_end(1)
        return losses, snapshot(network.state_dict().items()), strategy

    losses, weights, whole = goes_on(strategy, network)
    strategy, network = make(name, seed=1, **settings)
    state = saved.load()
    network.load_state_dict(state["network"])
    strategy.load_state_dict(state["strategy"])
    again, same, resumed = goes_on(strategy, network)
    assert again == losses and not moved(weights, same.items())
    proposals = whole.propose([])
    assert texts(resumed.propose([])) == texts(proposals) and proposals
    for genotype in proposals:
        assert np.array_equal(resumed.own_scores(genotype), whole.own_scores(genotype))
    assert resumed.architecture() == whole.architecture()
    for ours, theirs in zip(tree_leaves(resumed.state_dict()), tree_leaves(whole.state_dict()), strict=True):
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs


def test_one_shot_moves_nothing_off_the_path():
    strategy, network = make("one-shot", learning_rate=1e-2)
    # Several steps: Adam's momentum must not move what an earlier step trained.
    for number in range(6):
        parameters, buffers = snapshot(network.named_parameters()), snapshot(network.named_buffers())
        step(strategy, number)
        path = {(f"supernet.cells.{label_to_path(label)}", slot.choice)
                for label, slot in network.supernet._slots.items() if slot.choice != "identity"}
        with_gradient = [name for name, parameter in network.named_parameters() if parameter.grad is not None]
        for names in (with_gradient, moved(parameters, network.named_parameters()),
                      moved(buffers, network.named_buffers())):
            assert candidates(names) == path
        shared = {name for name in parameters if ".candidates." not in name}
        assert shared <= moved(parameters, network.named_parameters())


class Recorder(nn.Module):
    """Stands for the network, and counts its paths."""

    def __init__(self):
        super().__init__()
        self.conv, self.drawn = nn.Conv2d(3, 1, 1), Counter()

    def set_path(self, genotype):
        self.drawn.update([str(genotype)])

    def forward(self, x):
        return self.conv(x)


def record(space, steps, **settings):
    strategy, network = make_strategy("one-shot"), Recorder()
    strategy.set_up(SearchContext(FABRIC, network, space, Search(**settings), 0, None, None))
    for number in range(steps):
        strategy.step(number, (torch.rand(1, 3, 1, 1), torch.ones(1, 1, 1, 1)), None)
    return network.drawn


@pytest.mark.parametrize("paths, steps", [("uniform", 1600), ("fair", 400)])
def test_one_shot_draws_paths_uniformly(paths, steps):
    space = SpaceShape(SHAPE.operations, 1, (64, 64), (1, 1), (1, 1))
    drawn = record(space, steps, paths=paths)
    # Over whole genotypes, so that slots that depend on each other fail too.
    assert len(drawn) == space.size and drawn.total() == 1600
    # Fair paths of one step exclude each other, which leaves the counts closer together than the test assumes.
    assert chisquare(list(drawn.values())).pvalue > 1e-3


def test_a_fair_step_trains_every_operation_of_every_slot_once():
    space = SpaceShape(SHAPE.operations, 2, (64, 128), (2, 1), (1, 2), ("plain", "plain+bayar"))
    strategy, network = make("one-shot", space=space, paths="fair")
    calls = Counter()
    for label, slot in network.supernet._slots.items():
        for name, module in slot.candidates.items():
            module.register_forward_hook(lambda *_, key=(label, name): calls.update([key]))
    before = snapshot(network.named_parameters())
    step(strategy, 0)
    assert calls == {(label, name): 1 for label in space.labels() for name in space.operations}
    assert moved(before, network.named_parameters()) == before.keys()
    # Those of candidates have seen one path, those that all share all four, and each stream of the two options two.
    counts = {name: int(buffer) for name, buffer in network.named_buffers() if name.endswith("num_batches_tracked")}
    assert counts == {name: 1 if ".candidates." in name else 4 for name in counts}
    for number in range(20):
        paths = fair_paths(space, stream(number, "any"))
        for label, options in space.options().items():
            assert Counter(path.sample()[label] for path in paths) == dict.fromkeys(options, 4 // len(options))


def test_a_fair_step_goes_down_the_sum_of_the_gradients_of_its_paths():
    strategy, network = make("one-shot", paths="fair")
    _, oracle = make("one-shot")
    loss = step(strategy, 0)
    images, masks = batch(0)
    losses = []
    for path in fair_paths(SHAPE, stream(7, "path", 0)):
        oracle.set_path(path)
        losses.append(nn.functional.binary_cross_entropy_with_logits(oracle(images), masks))
    sum(losses).backward()
    assert loss == pytest.approx(sum(losses).item() / 4, rel=1e-6)
    for ours, theirs in zip(network.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_one_shot_proposals_are_distinct_prefix_stable_and_end_with_the_space():
    proposals = texts(make("one-shot", candidates=40)[0].propose([]))
    assert len(set(proposals)) == 40
    assert texts(make("one-shot", candidates=15)[0].propose([])) == proposals[:15]
    small = SpaceShape(("sep3", "identity"), 1, (64, 64), (1, 1), (1, 1))
    everything = make("one-shot", space=small)[0].propose([])
    assert set(texts(everything)) == {"sep3|sep3", "sep3|identity", "identity|sep3", "identity|identity"}
    assert len(everything) == 4


@pytest.mark.parametrize("name", OWN)
def test_no_proposal_exceeds_the_limits(name):
    space = SpaceShape(SHAPE.operations, 1, (64, 64), (1, 1), (1, 1))
    costs = search_costs(space, WIDTH, ["plain"], 32)
    every = [Genotype(((first,), (second,)), space) for first in space.operations for second in space.operations]
    flops = sorted(costs.of(genotype).flops for genotype in every)[5]
    settings = {"epochs": 2, "steps": 2, "architectures": 3, "candidates": 30}
    strategy, _ = make(name, space=space, limits={"flops": flops}, **settings)
    for number in range(4):
        step(strategy, number)
    strategy.epoch_end(1)
    proposals = strategy.propose([])
    assert proposals and all(costs.of(genotype).flops <= flops for genotype in proposals)
    with pytest.raises(UserError, match=r"search\.limits: no genotype .* giidnet list space"):
        strategy, _ = make(name, space=space, limits={"flops": 1}, **settings)
        strategy.epoch_end(0)
        strategy.propose([])


def test_random_search_trains_each_genotype_alone_for_its_share_from_the_same_weights():
    strategy, network = make("random", architectures=3, epochs=1, steps=8, learning_rate=1e-2)
    genotypes = strategy.propose([])
    initial = snapshot(network.state_dict().items())
    batches = [batch(seed % 3) for seed in range(8)]
    trained = []
    for number, train in enumerate(batches):
        strategy.step(number, train, None)
        trained.append(snapshot(network.state_dict().items()))
    shares = [(0, 3), (3, 6), (6, 8)]
    for genotype, (start, stop) in zip(genotypes, shares, strict=True):
        # Alone, without anything of this strategy.
        oracle = SearchNetwork(SHAPE, WIDTH, ["plain"])
        oracle.load_state_dict(initial)
        oracle.set_path(genotype)
        adam = torch.optim.Adam(oracle.parameters(), 1e-2)
        for images, masks in batches[start:stop]:
            adam.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(oracle(images), masks).backward()
            adam.step()
        assert not moved(trained[stop - 1], oracle.state_dict().items())
        oracle.eval()
        with torch.no_grad():
            expected = oracle(batch(5)[0]).double().mean((1, 2, 3))
        assert np.array_equal(strategy.own_scores(genotype)[:, 0], expected.numpy())
    assert strategy.propose([SimpleNamespace()]) == []
