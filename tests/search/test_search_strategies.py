"""Strategies: what each step moves, what they propose, and that a saved one goes on as if nothing had happened."""

from collections import Counter
from copy import deepcopy
from itertools import count
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from nni.mutable.frozen import frozen_context
from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedLayer
from scipy.stats import chisquare
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils._pytree import tree_leaves

from configs.engine import Checkpointer, make_fabric
from configs.schema import RunConfig, Search
from search import list_strategies
from search.network import SearchNetwork
from search.stage import make_strategy
from search.strategy import SearchContext
from search_space.genotype import Genotype, SpaceShape
from search_space.supernet import label_to_path

SHAPE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 2, (64, 128), (2, 1), (1, 2))
FABRIC = make_fabric(RunConfig(device="cpu"))
STILL = 1e-30
"""A learning rate too small to change a float32 weight."""


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    images, masks = torch.rand(2, 3, 32, 32, generator=generator), torch.zeros(2, 1, 32, 32)
    masks[:, :, 8:24, 4 + seed:16 + seed] = 1
    # A trace that can be learnt: what is inpainted is smooth.
    return images * (1 - masks) + 0.5 * masks, masks


def make(name, seed=0, space=SHAPE, fabric=FABRIC, **settings):
    torch.manual_seed(seed)
    network = SearchNetwork(space, 0.0625, ["plain"])
    strategy = make_strategy(name)
    strategy.set_up(SearchContext(fabric, network, space, Search(strategy=name, **settings), 7))
    return strategy, network


def step(strategy, number, train=0, validation=1):
    return strategy.step(number, batch(train), batch(validation) if strategy.uses_validation else None)


def snapshot(tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors}


def moved(before, after):
    return {name for name, tensor in after if not torch.equal(tensor, before[name])}


def set_alphas(strategy, values):
    with torch.no_grad():
        for label, alpha in strategy.alphas.items():
            alpha.copy_(values[label])


def prefer(strategy, text):
    sample = Genotype.parse(text, SHAPE).sample()
    set_alphas(strategy, {label: torch.tensor([float(name == chosen) for name in SHAPE.operations])
                          for label, chosen in sample.items()})


@pytest.mark.parametrize("name", list_strategies())
def test_the_loss_on_one_batch_falls(name):
    strategy, _ = make(name, learning_rate=1e-2)
    losses = [step(strategy, number) for number in range(30)]
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


@pytest.mark.parametrize("name", list_strategies())
def test_half_precision_steps_by_gradients_without_the_scale_of_the_loss(name):
    def length(fabric):
        strategy, network = make(name, fabric=fabric)
        step(strategy, 0)
        return sum(parameter.grad.norm().item() for parameter in network.parameters() if parameter.grad is not None)

    half = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu")])
    assert length(half) == pytest.approx(length(FABRIC), rel=0.1)


@pytest.mark.parametrize("name", list_strategies())
def test_a_saved_strategy_goes_on_bit_for_bit(name, tmp_path):
    strategy, network = make(name, architecture_learning_rate=1.0)
    for number in range(3):
        step(strategy, number, train=number)
    if name == "darts":
        # So that the first epoch's genotype is known from the saved state alone.
        prefer(strategy, "identity-identity|identity-identity")
    strategy.epoch_end(0)
    saved = Checkpointer(tmp_path / "checkpoint.pt", 0)
    saved.save({"network": network.state_dict(), "strategy": strategy.state_dict()})

    def goes_on(strategy, network):
        losses = [step(strategy, number, train=number) for number in range(3, 6)]
        strategy.epoch_end(1)
        return losses, snapshot(network.state_dict().items()), strategy

    losses, weights, whole = goes_on(strategy, network)
    strategy, network = make(name, seed=1, architecture_learning_rate=1.0)
    state = saved.load()
    network.load_state_dict(state["network"])
    strategy.load_state_dict(state["strategy"])
    again, same, resumed = goes_on(strategy, network)
    assert again == losses and not moved(weights, same.items())
    assert list(map(str, resumed.propose(9))) == list(map(str, whole.propose(9)))
    for ours, theirs in zip(tree_leaves(resumed.state_dict()), tree_leaves(whole.state_dict()), strict=True):
        assert torch.equal(ours, theirs) if isinstance(ours, torch.Tensor) else ours == theirs


def test_one_shot_moves_nothing_off_the_path():
    strategy, network = make("one-shot", learning_rate=1e-2)

    def candidates(names):
        return {tuple(name.split(".candidates.")) for name in names if ".candidates." in name}

    # Several steps: Adam's momentum must not move what an earlier step trained.
    for number in range(6):
        parameters, buffers = snapshot(network.named_parameters()), snapshot(network.named_buffers())
        step(strategy, number)
        path = {(f"supernet.cells.{label_to_path(label)}", slot.choice)
                for label, slot in network.supernet._slots.items() if slot.choice != "identity"}
        with_gradient = [name for name, parameter in network.named_parameters() if parameter.grad is not None]
        for names in (with_gradient, moved(parameters, network.named_parameters()),
                      moved(buffers, network.named_buffers())):
            assert {(slot, rest.split(".")[0]) for slot, rest in candidates(names)} == path
        shared = {name for name in parameters if ".candidates." not in name}
        assert shared <= moved(parameters, network.named_parameters())


def test_one_shot_draws_paths_uniformly():
    class Recorder(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.drawn = nn.Conv2d(3, 1, 1), Counter()
            self.supernet = SimpleNamespace(set_path=lambda genotype: self.drawn.update([str(genotype)]))

        def forward(self, x):
            return self.conv(x)

    space, network = SpaceShape(SHAPE.operations, 1, (64, 64), (1, 1), (1, 1)), Recorder()
    strategy = make_strategy("one-shot")
    strategy.set_up(SearchContext(FABRIC, network, space, Search(), 0))
    images, masks = torch.rand(1, 3, 1, 1), torch.ones(1, 1, 1, 1)
    for number in range(1600):
        strategy.step(number, (images, masks), None)
    # Over whole genotypes, so that slots that depend on each other fail too.
    assert len(network.drawn) == space.size and chisquare(list(network.drawn.values())).pvalue > 1e-3


def test_one_shot_proposals_are_distinct_prefix_stable_and_end_with_the_space():
    strategy, _ = make("one-shot")
    proposals = strategy.propose(40)
    assert len({str(genotype) for genotype in proposals}) == 40
    assert strategy.propose(15) == proposals[:15]
    small = SpaceShape(("sep3", "identity"), 1, (64, 64), (1, 1), (1, 1))
    everything = make("one-shot", space=small)[0].propose(1000)
    assert {str(genotype) for genotype in everything} == {"sep3|sep3", "sep3|identity", "identity|sep3",
                                                          "identity|identity"}


def test_darts_proposes_the_strongest_now_and_those_of_earlier_epochs_newest_first():
    strategy, _ = make("darts")
    first, second, third = "sep3-sep3|sep3-identity", "relu_sep5-sep3|identity-relu_sep3", "identity-sep3|sep3-sep3"
    for epoch, text in enumerate((first, second, first)):
        prefer(strategy, text)
        strategy.epoch_end(epoch)
    assert list(map(str, strategy.propose(9))) == [first, second]
    prefer(strategy, third)
    assert list(map(str, strategy.propose(9))) == [third, first, second]
    assert list(map(str, strategy.propose(2))) == [third, first]


def test_darts_moves_architecture_weights_by_the_validation_batch_alone():
    def alphas(train, validation):
        strategy, _ = make("darts")
        step(strategy, 0, train, validation)
        return torch.stack(list(strategy.alphas.values()))

    assert torch.equal(alphas(0, 1), alphas(2, 1))
    assert not torch.equal(alphas(0, 1), alphas(0, 2))


def test_darts_moves_weights_by_the_training_batch_alone():
    def weights(train, validation):
        strategy, network = make("darts", architecture_learning_rate=STILL)
        step(strategy, 0, train, validation)
        return snapshot(network.named_parameters())

    expected = weights(0, 1)
    assert not moved(expected, weights(0, 2).items())
    assert len(moved(expected, weights(2, 1).items())) > len(expected) / 2


def test_a_step_of_darts_is_that_of_nnis_mixture():
    rate = 0.01
    strategy, network = make("darts", learning_rate=STILL, architecture_learning_rate=rate)
    generator = torch.Generator().manual_seed(0)
    start = {label: torch.randn(len(SHAPE.operations), generator=generator) for label in SHAPE.labels()}
    set_alphas(strategy, start)

    oracle, alphas = deepcopy(network), {label: nn.Parameter(alpha.clone()) for label, alpha in start.items()}
    for cell, number in zip(oracle.supernet.cells, count(1)):
        for index, slot in enumerate(cell.slots):
            label = f"cell{number}_slot{index + 1}"
            # Outside a ModelSpace NNI wants to know a choice for its dry run, which nothing here makes.
            with frozen_context({label: "identity"}):
                cell.slots[index] = DifferentiableMixedLayer(
                    dict(slot.candidates), alphas[label], nn.Softmax(-1), label)

    def oracle_step(seed):
        images, masks = batch(seed)
        loss = binary_cross_entropy_with_logits(oracle(images), masks)
        return loss.item(), dict(zip(alphas, torch.autograd.grad(loss, list(alphas.values())), strict=True))

    _, gradients = oracle_step(1)
    loss = step(strategy, 0, train=0, validation=1)
    for label, alpha in strategy.alphas.items():
        # Adam's first step is its rate against the sign of the gradient, here with the decay 1e-3 of the paper.
        direction = (gradients[label] + 1e-3 * start[label]).sign()
        torch.testing.assert_close(alpha.detach(), start[label] - rate * direction, rtol=0, atol=1e-4)
    with torch.no_grad():
        for label, alpha in alphas.items():
            alpha.copy_(strategy.alphas[label])
    expected, gradients = oracle_step(0)
    assert loss == pytest.approx(expected, rel=1e-6)
    for label, alpha in strategy.alphas.items():
        torch.testing.assert_close(alpha.grad, gradients[label], rtol=1e-4, atol=1e-7)
