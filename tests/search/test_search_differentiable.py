"""Differentiable strategies: gradients against autograd and NNI, the effect of each remedy, results within limits."""

import math
from collections import Counter
from copy import deepcopy
from itertools import count, product

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from nni.mutable.frozen import frozen_context
from nni.nas.oneshot.pytorch.supermodule.differentiable import DifferentiableMixedLayer
from pydantic import ValidationError
from scipy.stats import chisquare, entropy
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from configs.engine import make_fabric
from configs.errors import UserError
from configs.schema import RunConfig, Search
from search.darts import unrolled_gradient
from search.differentiable import identity_share, strongest
from search.gumbel import straight_through
from search.network import SearchNetwork, search_costs
from search.stage import make_strategy
from search.strategy import SearchContext
from search_space.cost import Cost, CostTable
from search_space.genotype import Genotype, SpaceShape
from search_space.supernet import label_to_path

SHAPE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 2, (64, 128), (2, 1), (1, 2))
CHOICES = SpaceShape(("sep3", "identity"), 1, (64, 64), (2, 1), (1, 1), ("plain", "bayar", "plain+bayar"),
                     ("none", "global", "global+local"))
WIDTH = 0.0625
FABRIC = make_fabric(RunConfig(device="cpu"))
HALF = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu")])
STILL = 1e-30
"""A learning rate too small to change a float32 weight."""

BOTH = pytest.mark.parametrize("name", ["darts", "gumbel"])
EACH = pytest.mark.parametrize("name, order", [("darts", 1), ("darts", 2), ("gumbel", 1)])


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 16, 16, generator=generator), (torch.rand(2, 1, 16, 16, generator=generator) < 0.3).float()


def make(name, seed=0, space=SHAPE, fabric=FABRIC, differentiable=None, **settings):
    torch.manual_seed(seed)
    network = SearchNetwork(space, WIDTH, ["plain"])
    strategy = make_strategy(name)
    strategy.set_up(SearchContext(fabric, network, space, Search.model_validate(
        {"strategy": name, "differentiable": differentiable or {}} | settings), 7,
        search_costs(space, WIDTH, ["plain"], 16), None))
    return strategy, network


def step(strategy, number, train=0, validation=1):
    return strategy.step(number, batch(train), batch(validation))


def snapshot(tensors):
    return {name: tensor.detach().clone() for name, tensor in tensors}


def moved(before, after):
    return {name for name, tensor in after if not torch.equal(tensor, before[name])}


def set_alphas(strategy, values):
    with torch.no_grad():
        for label, alpha in strategy.alphas.items():
            alpha.copy_(torch.as_tensor(values[label]))


def random_alphas(space, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {label: torch.randn(len(options), generator=generator) for label, options in space.options().items()}


def prefer(strategy, text):
    sample, options = Genotype.parse(text, SHAPE).sample(), SHAPE.options()
    set_alphas(strategy, {label: [float(name == chosen) for name in options[label]]
                          for label, chosen in sample.items()})


def every_genotype(space):
    options = space.options()
    return [Genotype.from_sample(dict(zip(options, names, strict=True)), space)
            for names in product(*options.values())]


def proposals(strategy):
    """All that a strategy proposes, whatever the scores."""
    found = []
    while batch := strategy.propose(found):
        found += batch
    return [str(genotype) for genotype in found]


# What is trained by what


@EACH
def test_the_validation_batch_alone_moves_the_architecture_of_first_order(name, order):
    def alphas(train, validation):
        strategy, _ = make(name, differentiable={"order": order})
        step(strategy, 0, train, validation)
        return torch.stack(list(strategy.alphas.values()))

    assert not torch.equal(alphas(0, 1), alphas(0, 2))
    # The second order looks a step of the weights ahead, which is one on the training batch.
    assert torch.equal(alphas(0, 1), alphas(2, 1)) == (order == 1)


@EACH
def test_the_training_batch_alone_moves_the_weights(name, order):
    def weights(train, validation):
        strategy, network = make(name, differentiable={"order": order}, architecture_learning_rate=STILL)
        step(strategy, 0, train, validation)
        return snapshot(network.named_parameters())

    expected = weights(0, 1)
    assert not moved(expected, weights(0, 2).items())
    assert len(moved(expected, weights(2, 1).items())) > len(expected) / 3


@EACH
@pytest.mark.parametrize("fabric", [FABRIC, HALF], ids=["whole", "half"])
def test_streams_and_attention_get_gradients_and_end_in_the_result(name, order, fabric):
    strategy, _ = make(name, space=CHOICES, differentiable={"order": order}, fabric=fabric)
    step(strategy, 0)
    for label, options in CHOICES.options().items():
        gradient = strategy.alphas[label].grad
        # A softmax does not change when all its inputs grow alike: the gradient's entries sum to 0.
        assert gradient.abs().min() > 0 and abs(gradient.sum()) < 1e-3 * gradient.abs().max() + 1e-7
        with torch.no_grad():
            strategy.alphas[label][len(options) - 1] += 9
    strategy.epoch_end(0)
    assert proposals(strategy) == ["identity|identity;streams=plain+bayar;attention=global+local"]


def test_a_mixture_weighs_streams_and_attention_as_it_weighs_operations():
    # By corners: a mixture that is all of one option is the path of that option.
    network = make("darts", space=CHOICES)[1].eval()
    for genotype in every_genotype(CHOICES)[::5]:
        with torch.no_grad():
            network.set_path(genotype)
            expected = network(batch(0)[0])
            network.set_mixture({label: torch.tensor([float(option == genotype.sample()[label])
                                                      for option in options])
                                 for label, options in CHOICES.options().items()})
            torch.testing.assert_close(network(batch(0)[0]), expected, rtol=1e-4, atol=1e-5)


# First order


def test_steps_of_darts_are_those_of_nnis_mixture_bit_for_bit():
    space = SpaceShape(("sep3", "identity", "relu_sep5", "relu_sep3"), 2, (64, 128), (2, 1), (1, 2))
    strategy, network = make("darts", space=space, learning_rate=0.01, architecture_learning_rate=0.01)
    start = random_alphas(space)
    set_alphas(strategy, start)
    oracle, alphas = deepcopy(network), {label: nn.Parameter(alpha.clone()) for label, alpha in start.items()}
    weights = list(oracle.parameters())
    for cell, number in zip(oracle.supernet.cells, count(1)):
        for index, slot in enumerate(cell.slots):
            label = f"cell{number}_slot{index + 1}"
            # Outside a ModelSpace NNI wants to know a choice for its dry run, which nothing here makes.
            with frozen_context({label: "identity"}):
                cell.slots[index] = DifferentiableMixedLayer(
                    dict(slot.candidates), alphas[label], nn.Softmax(-1), label)
    # As in nni.nas.oneshot.pytorch.differentiable, whose module needs a trainer.
    architecture = torch.optim.Adam(alphas.values(), 0.01, betas=(0.5, 0.999), weight_decay=1e-3)
    optimizer = torch.optim.Adam(weights, 0.01)

    def oracle_step(adam, seed):
        adam.zero_grad()
        images, masks = batch(seed)
        loss = F.binary_cross_entropy_with_logits(oracle(images), masks)
        loss.backward()
        adam.step()
        return loss.item()

    for number in range(3):
        oracle_step(architecture, number + 5)
        expected = oracle_step(optimizer, number)
        assert step(strategy, number, number, number + 5) == expected
        assert not moved(alphas, strategy.alphas.items()) and moved(start, strategy.alphas.items()) == alphas.keys()
        for ours, theirs in zip(network.parameters(), weights, strict=True):
            assert torch.equal(ours, theirs)


# Second order


def exact_gradient(train, validation, weights, alphas, rate):
    """By differentiating through the step."""
    slopes = torch.autograd.grad(train(weights), weights, create_graph=True)
    return torch.autograd.grad(validation([w - rate * s for w, s in zip(weights, slopes, strict=True)]), alphas)


def test_the_unrolled_gradient_is_exact_where_the_loss_is_quadratic_in_the_weights():
    generator = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(size, generator=generator, dtype=torch.float64) for size in ((3, 3), (3, 2), (3,)))
    weights = [torch.randn(3, generator=generator, dtype=torch.float64, requires_grad=True)]
    alphas = [torch.randn(2, generator=generator, dtype=torch.float64, requires_grad=True)]

    def train(weights):
        return ((a @ weights[0] - b @ alphas[0].softmax(0)) ** 2).sum()

    def validation(weights):
        return ((weights[0] - c) ** 2).sum() * (1 + alphas[0][0] ** 2)

    found = unrolled_gradient(train, validation, weights, alphas, 0.1)
    expected = exact_gradient(train, validation, weights, alphas, 0.1)
    torch.testing.assert_close(found, list(expected), rtol=1e-9, atol=1e-12)
    first = torch.autograd.grad(validation(weights), alphas)
    assert (expected[0] - first[0]).abs().min() > 0.1


def test_the_second_order_of_the_network_agrees_with_double_backward(monkeypatch):
    # At the kinks of a ReLU the second derivative is infinite: double backward leaves it out, differences do not.
    for name in ("relu", "relu_"):
        monkeypatch.setattr(torch.Tensor, name, lambda x: F.softplus(x, 2))
    rate = 0.1
    strategy, network = make("darts", differentiable={"order": 2}, learning_rate=rate)
    network.double()
    values = {label: alpha.double().requires_grad_() for label, alpha in random_alphas(SHAPE).items()}
    strategy.alphas = values
    named = dict(network.named_parameters())

    def loss(weights, seed):
        images, masks = batch(seed)
        network.set_mixture({label: alpha.softmax(0) for label, alpha in values.items()})
        return F.binary_cross_entropy_with_logits(
            functional_call(network, dict(zip(named, weights, strict=True)), (images.double(),)), masks.double())

    expected = exact_gradient(lambda weights: loss(weights, 0), lambda weights: loss(weights, 1),
                              list(named.values()), list(values.values()), rate)
    first = torch.autograd.grad(loss([weight - rate * slope for weight, slope in zip(
        named.values(), torch.autograd.grad(loss(list(named.values()), 0), list(named.values())), strict=True)], 1),
        list(values.values()))
    before = snapshot(network.state_dict().items())
    wide = [tuple(tensor.double() for tensor in batch(seed)) for seed in (0, 1)]
    strategy.architecture_loss(0, *wide).backward()
    second, oracle = (torch.cat([a - b for a, b in zip(gradient, first, strict=True)]) for gradient in
                      ([alpha.grad for alpha in values.values()], expected))
    # The second-order part alone, against which the whole would hide an error.
    assert (second - oracle).norm() < 5e-3 * oracle.norm() and oracle.norm() > 0.01 * torch.cat(first).norm()
    assert not moved(before, network.state_dict().items())


def test_second_order_leaves_weights_and_statistics_to_the_step_on_the_training_batch():
    strategy, network = make("darts", differentiable={"order": 2}, architecture_learning_rate=STILL)
    _, oracle = make("darts")
    images, masks = batch(0)
    oracle.set_mixture({label: torch.full((4,), 0.25) for label in SHAPE.labels()})
    adam = torch.optim.Adam(oracle.parameters(), Search().learning_rate)
    F.binary_cross_entropy_with_logits(oracle(images), masks).backward()
    adam.step()
    step(strategy, 0)
    assert not moved(snapshot(oracle.state_dict().items()), network.state_dict().items())


# Gumbel


@pytest.mark.parametrize("temperature", [0.3, 4.0])
def test_straight_through_is_torchs_hard_gumbel_softmax(temperature):
    logits, probe = torch.tensor([0.3, -1.0, 0.9, 0.0], requires_grad=True), torch.tensor([1.0, -2.0, 0.5, 3.0])
    for seed in range(20):
        torch.manual_seed(seed)
        hard = F.gumbel_softmax(logits, temperature, hard=True)
        expected = torch.autograd.grad(hard @ probe, logits)
        torch.manual_seed(seed)
        noise = -torch.empty_like(logits).exponential_().log()
        ours = straight_through(logits + noise, temperature)
        torch.testing.assert_close(ours, hard, rtol=0, atol=1e-6)
        assert sorted(ours.tolist()) == [0, 0, 0, 1]
        torch.testing.assert_close(torch.autograd.grad(ours @ probe, logits), expected)


def test_gumbel_draws_paths_by_the_softmax_of_the_alphas():
    space = SpaceShape(SHAPE.operations, 1, (64, 64), (1, 1), (1, 1))
    strategy, network = make("gumbel", space=space)
    set_alphas(strategy, {"cell1_slot1": [0.0, 1.0, -1.0, 0.5], "cell2_slot1": [1.0, 0.0, 0.0, 0.0]})
    drawn = []
    network.choose_all = lambda sample: drawn.append(tuple(sample.values()))
    network.forward = lambda images: torch.zeros(2, 1, 16, 16)
    for number in range(2000):
        strategy.weights_loss(number, batch(0))
    chances = [alpha.detach().double().softmax(0).tolist() for alpha in strategy.alphas.values()]
    counts = Counter(drawn)
    expected = {(one, other): 2000 * first * second for one, first in zip(space.operations, chances[0], strict=True)
                for other, second in zip(space.operations, chances[1], strict=True)}
    assert chisquare([counts[pair] for pair in expected], list(expected.values())).pvalue > 1e-3
    # The same once more, whatever was drawn before; the mixtures that move the alphas are draws of their own.
    strategy.weights_loss(5, batch(0))
    assert drawn[-1] == drawn[5]
    mixtures = []
    network.set_mixture = lambda weights: mixtures.append(tuple(
        space.operations[int(weight.argmax())] for weight in weights.values()))
    for number in range(50):
        strategy.architecture_loss(number, batch(0), batch(1))
    assert 0 < sum(ours == path for ours, path in zip(mixtures, drawn, strict=False)) < 40


def test_gumbel_trains_the_weights_of_its_path_alone():
    strategy, network = make("gumbel", learning_rate=1e-2)
    for number in range(6):
        parameters = snapshot(network.named_parameters())
        step(strategy, number)
        path = {(f"supernet.cells.{label_to_path(label)}", slot.choice)
                for label, slot in network.supernet._slots.items() if slot.choice != "identity"}
        changed = moved(parameters, network.named_parameters())
        assert {(name.split(".candidates.")[0], name.split(".candidates.")[1].split(".")[0])
                for name in changed if ".candidates." in name} == path
        assert {name for name in parameters if ".candidates." not in name} <= changed


def test_the_temperature_falls_geometrically_and_sharpens_the_gradient():
    strategy, network = make("gumbel", epochs=3, steps=2, differentiable={"temperature": [4.0, 1.0]})
    assert [strategy.temperature(epoch) for epoch in range(3)] == pytest.approx([4, 2, 1])
    assert make("gumbel", epochs=1)[0].temperature(0) == 5.0
    seen = []
    network.set_mixture = lambda weights: seen.append(weights) or SearchNetwork.set_mixture(network, weights)
    for number in range(6):
        strategy.architecture_loss(number, batch(0), batch(1))
    for number, weights in enumerate(seen):
        noisy = strategy._noisy(number, "gumbel-architecture")
        for label, weight in weights.items():
            (ours,) = torch.autograd.grad(weight[0], strategy.alphas[label], retain_graph=True)
            soft = (noisy[label].detach() / [4, 2, 1][number // 2]).softmax(0)
            expected = soft[0] * (torch.eye(4)[0] - soft) / [4, 2, 1][number // 2]
            torch.testing.assert_close(ours, expected)


# Results


def test_the_strongest_at_each_epochs_end_are_proposed_newest_first_and_the_newest_is_the_result():
    strategy, _ = make("darts")
    first, second, third = "sep3-sep3|sep3-identity", "relu_sep5-sep3|identity-relu_sep3", "identity-sep3|sep3-sep3"
    for epoch, text in enumerate((first, second, third, first)):
        prefer(strategy, text)
        assert strategy.epoch_end(epoch) is False
    # The newest alone first, so that its score is over all pictures.
    assert [str(genotype) for genotype in strategy.propose([])] == [first]
    assert proposals(strategy) == [first, third, second]
    assert strategy.choose(["newest", "better"]) == "newest"


@BOTH
def test_the_architecture_is_the_softmax_of_the_alphas(name):
    strategy, _ = make(name, space=CHOICES)
    alphas = random_alphas(CHOICES)
    set_alphas(strategy, alphas)
    assert list(strategy.architecture()) == list(CHOICES.options())
    for label, strengths in strategy.architecture().items():
        exponentials = [math.exp(alpha) for alpha in alphas[label].tolist()]
        assert strengths == pytest.approx([value / sum(exponentials) for value in exponentials], rel=1e-5)


@pytest.mark.parametrize("space", [SHAPE, CHOICES], ids=["slots", "choices"])
@pytest.mark.parametrize("seed", range(4))
def test_the_strongest_within_limits_is_that_of_brute_force(space, seed):
    everything = every_genotype(space)
    costs = search_costs(space, WIDTH, ["plain"], 16)
    generator, alphas = np.random.default_rng(seed), random_alphas(space, seed)
    logs = {label: alpha.double().log_softmax(0) for label, alpha in alphas.items()}

    def strength(genotype):
        return sum(float(logs[label][space.options()[label].index(name)])
                   for label, name in genotype.sample().items())

    ranked = sorted(everything, key=strength, reverse=True)
    found = set()
    for index in generator.integers(len(everything), size=12):
        # Limits that this genotype meets exactly.
        cost, share = costs.of(everything[index]), identity_share(everything[index])
        context = SearchContext(FABRIC, None, space, Search(limits={"flops": cost.flops, "params": cost.params}), 0,
                                costs, None)
        best = strongest(context, alphas, share)
        assert best == next(genotype for genotype in ranked if costs.of(genotype).flops <= cost.flops
                            and costs.of(genotype).params <= cost.params and identity_share(genotype) <= share)
        found.add(str(best))
    assert len(found) > 1
    context = SearchContext(FABRIC, None, space, Search(limits={"flops": 10}), 0, costs, None)
    with pytest.raises(UserError, match=r"search\.limits: no genotype of the space keeps them; see giidnet list space"):
        strongest(context, alphas)


def test_a_limit_that_is_missed_by_less_than_the_solvers_tolerance_is_kept():
    space = SpaceShape(("sep3", "relu_sep3", "identity"), 1, (64, 64), (1, 1), (1, 1))
    limit = 10**10
    costs = CostTable(Cost(), {label: {"sep3": Cost(flops=limit), "relu_sep3": Cost(flops=limit // 2 + 1),
                                       "identity": Cost(flops=limit // 2)} for label in space.labels()})
    settings = Search(limits={"flops": limit})
    context = SearchContext(FABRIC, None, space, settings, 0, costs, None)
    alphas = {label: torch.tensor([2.0, 1.0, 0.9]) for label in space.labels()}
    assert str(strongest(context, alphas)) == "identity|identity"


# Remedies


@BOTH
def test_warm_up_trains_weights_alone_by_equal_strengths(name):
    strategy, network = make(name, epochs=3, steps=2, differentiable={"warmup_epochs": 2})
    before = snapshot(network.named_parameters())
    for number in range(6):
        step(strategy, number)
        equal = all(len(set(strengths)) == 1 for strengths in strategy.architecture().values())
        assert equal == (number < 4)
        if number % 2:
            assert strategy.epoch_end(number // 2) is False
            # Equal strengths have no strongest.
            assert len(proposals(strategy)) == (number == 5)
        if number == 3:
            assert len(moved(before, network.named_parameters())) > len(before) / 2
    with pytest.raises(ValidationError, match=r"warmup_epochs must be less than epochs, 3, not 3"):
        make(name, epochs=3, differentiable={"warmup_epochs": 3})


@BOTH
def test_operation_dropout_leaves_identities_out_at_a_rate_that_falls_to_0(name):
    strategy, network = make(name, epochs=20, steps=50, differentiable={"operation_dropout": 0.8})
    set_alphas(strategy, random_alphas(SHAPE))
    left_out = []
    for number in range(1000):
        logits = strategy.logits(number)
        for label, values in logits.items():
            assert torch.equal(values[:3], strategy.alphas[label][:3])
            assert values[3] in (strategy.alphas[label][3], -torch.inf)
        left_out.append([bool(values[3] == -torch.inf) for values in logits.values()])
    rates = np.array(left_out).reshape(4, 1000).mean(1)
    # Means of 0.8 (1 − t) over each quarter, of 1,000 draws each: five standard deviations are 0.08.
    assert rates == pytest.approx([0.7, 0.5, 0.3, 0.1], abs=0.08)
    # In a step: what is left out takes no part and its alpha gets no gradient.
    number = next(number for number, out in enumerate(left_out) if out == [True, False, False, False])
    strategy.architecture_optimizer.zero_grad()
    strategy.architecture_loss(number, batch(0), batch(1)).backward()
    out, *others = strategy.alphas.values()
    assert out.grad[3] == 0 and out.grad[:3].abs().min() > 0 and all(alpha.grad[3] != 0 for alpha in others)
    mixed = network.supernet._slots["cell1_slot1"].weights
    assert mixed[3] == 0 and mixed.sum().item() == pytest.approx(1)


def test_operation_dropout_keeps_a_slot_that_has_identity_alone():
    space = SpaceShape(("identity",), 1, (64, 64), (1, 1), (1, 1))
    strategy, _ = make("darts", space=space, differentiable={"operation_dropout": 0.99})
    assert math.isfinite(step(strategy, 0))


@BOTH
def test_the_search_ends_when_identities_dominate_with_the_genotype_of_the_epoch_before(name):
    strategy, _ = make(name, differentiable={"identity_limit": 0.5})
    first, second = "sep3-sep3|sep3-sep3", "identity-sep3|identity-relu_sep3"
    for epoch, text in enumerate((first, second)):
        prefer(strategy, text)
        assert strategy.epoch_end(epoch) is False
    prefer(strategy, "identity-identity|identity-relu_sep3")
    assert strategy.epoch_end(2) is True
    assert proposals(strategy) == [second, first]
    resumed, _ = make(name, differentiable={"identity_limit": 0.5})
    resumed.load_state_dict(strategy.state_dict())
    assert proposals(resumed) == [second, first]
    # Without the remedy it goes on.
    strategy, _ = make(name)
    prefer(strategy, "identity-identity|identity-identity")
    assert strategy.epoch_end(0) is False and proposals(strategy) == ["identity-identity|identity-identity"]


def test_dominance_in_the_first_epoch_gives_the_strongest_that_is_not_dominated():
    strategy, _ = make("darts", differentiable={"identity_limit": 0.5})
    # By how little the identity leads, the last two slots are the ones to give it up.
    set_alphas(strategy, {label: [0.0, 5.0 - lead, 0.0, 5.0] for label, lead in zip(
        SHAPE.labels(), (2.0, 3.0, 0.5, 1.0), strict=True)})
    assert strategy.epoch_end(0) is True
    assert proposals(strategy) == ["identity-identity|relu_sep3-relu_sep3"]


@EACH
def test_entropy_regularisation_sharpens_the_architecture(name, order):
    def mean_entropy(strategy):
        return np.mean([entropy(strengths) for strengths in strategy.architecture().values()])

    found = []
    for weight in (0.0, 10.0):
        strategy, _ = make(name, architecture_learning_rate=0.1,
                           differentiable={"entropy_weight": weight, "order": order})
        set_alphas(strategy, random_alphas(SHAPE))
        if weight:
            assert strategy.penalty().item() == pytest.approx(weight * mean_entropy(strategy), rel=1e-5)
        for number in range(4):
            step(strategy, number)
        found.append(mean_entropy(strategy))
    assert found[1] < found[0] - 0.1


@EACH
def test_flops_regularisation_leads_to_the_cheapest(name, order):
    strategy, _ = make(name, space=CHOICES, architecture_learning_rate=0.3,
                       differentiable={"flops_weight": 100.0, "order": order})
    alphas = random_alphas(CHOICES)
    set_alphas(strategy, alphas)
    everything, costs = every_genotype(CHOICES), strategy.context.costs
    chances = {label: dict(zip(CHOICES.options()[label], alpha.softmax(0).tolist(), strict=True))
               for label, alpha in alphas.items()}
    expected = sum(math.prod(chances[label][name] for label, name in genotype.sample().items())
                   * costs.of(genotype).flops for genotype in everything)
    largest = max(costs.of(genotype).flops for genotype in everything)
    assert strategy.penalty().item() == pytest.approx(100 * expected / largest, rel=1e-5)
    for number in range(15):
        step(strategy, number)
    strategy.epoch_end(0)
    assert proposals(strategy)[0] == str(min(everything, key=lambda genotype: costs.of(genotype).flops))


@BOTH
def test_the_gradient_of_the_weights_is_clipped_and_that_of_the_architecture_is_not(name):
    def gradients(clip_norm):
        strategy, network = make(name, clip_norm=clip_norm, architecture_learning_rate=STILL)
        step(strategy, 0)
        return [torch.cat([tensor.grad.flatten() for tensor in tensors if tensor.grad is not None])
                for tensors in (network.parameters(), strategy.alphas.values())]

    (free, alphas), (clipped, same) = gradients(None), gradients(1e-6)
    assert clipped.norm().item() == pytest.approx(1e-6, rel=1e-3) and alphas.norm() > 1e-5
    torch.testing.assert_close(clipped, free * (1e-6 / free.norm()), rtol=1e-2, atol=1e-12)
    assert torch.equal(alphas, same)
