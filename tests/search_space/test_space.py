"""Operations, cells, genotypes and the supernet."""

from dataclasses import asdict, replace
from itertools import product

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from configs.errors import UserError
from detectors import create_detector
from detectors.blocks import Decision, Enhancement, build_stream
from search.network import SearchNetwork, alone_network, search_costs
from search_space import list_operations
from search_space.cells import build_extraction
from search_space.cost import Cost, count_cost, count_flops, count_parameters, extraction_costs, measure_latency
from search_space.genotype import (
    PAPER_SPACE,
    Genotype,
    SpaceShape,
    genotype_dict,
    genotype_from_dict,
    random_genotype,
    read_genotype,
    released_genotype,
    split_parts,
    write_genotype,
)
from search_space.operations import build_operation
from search_space.space import ExtractionSpace
from search_space.supernet import Supernet

SHAPE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 2, (16, 32), (2, 1), (1, 2))

RICH = SpaceShape(tuple(list_operations()), 2, (64, 128), (2, 2), (1, 2), ("plain", "bayar", "plain+bayar+prefilter"),
                  ("none", "local", "global+local"), 2)
"""Everything that there is to choose."""


def draw(seed, shape=SHAPE):
    return random_genotype(shape, np.random.default_rng(seed))


@pytest.mark.parametrize("name", list_operations())
@pytest.mark.parametrize("stride, height, width", [(1, 8, 9), (2, 8, 9), (2, 7, 5)])
def test_operations_keep_channels_and_divide_the_size(name, stride, height, width):
    x = torch.randn(2, 6, height, width)
    assert build_operation(name, 6, stride, 2)(x).shape == (2, 6, -(-height // stride), -(-width // stride))


def test_strided_identity_is_the_convolution_with_a_centred_one():
    x = torch.randn(1, 4, 9, 10)
    delta = nn.Conv2d(4, 4, 3, 2, 1, groups=4, bias=False)
    nn.init.zeros_(delta.weight)
    with torch.no_grad():
        delta.weight[:, 0, 1, 1] = 1
        assert torch.equal(build_operation("identity", 4, 2)(x), delta(x))


def test_high_pass_residuals_do_not_see_what_is_flat():
    torch.manual_seed(0)
    operation = build_operation("highpass5", 8, 2)
    seen = []
    operation.pointwise.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(2, 8, 9, 10)
    for shifted in (x, x + torch.randn(2, 8, 1, 1), torch.full_like(x, 3.0)):
        operation(shifted)
    torch.testing.assert_close(seen[1], seen[0], rtol=0, atol=1e-5)
    assert seen[2].abs().max() < 1e-5 < 1e-2 < seen[0].abs().mean()


def test_squeeze_and_excitation_weighs_whole_channels():
    torch.manual_seed(0)
    operation = build_operation("se_sep3", 8).eval()
    x = torch.randn(2, 8, 6, 7)
    with torch.no_grad():
        features = operation.separable(x)
        hidden = features.mean((2, 3)) @ operation.squeeze.weight[..., 0, 0].T + operation.squeeze.bias
        gate = hidden.clamp(min=0) @ operation.excite.weight[..., 0, 0].T + operation.excite.bias
        expected = features / (1 + torch.exp(-gate))[..., None, None]
        torch.testing.assert_close(operation(x), expected)
    assert hidden.shape == (2, 2)


def reach(name, channels, dilation):
    """Channels, and rows around the middle, that the middle of the first output channel depends on."""
    torch.manual_seed(0)
    x = torch.rand(1, channels, 25, 25).add_(0.1).requires_grad_()
    build_operation(name, channels, 1, dilation).eval()(x)[0, 0, 12, 12].backward()
    found = x.grad[0].nonzero()
    return set(found[:, 0].tolist()), set((found[:, 1] - 12).tolist())


@pytest.mark.parametrize("name, dilation, rows", [
    ("sep3", 2, {-2, 0, 2}), ("relu_sep3", 2, {-1, 0, 1}), ("relu_sep5", 2, set(range(-2, 3))),
    ("relu_sep7", 2, set(range(-3, 4))), ("dil_sep3", 1, {-2, 0, 2}), ("dil_sep3", 2, {-4, 0, 4}),
    ("group3", 2, {-1, 0, 1}), ("highpass5", 2, set(range(-2, 3))), ("identity", 2, {0})])
def test_operations_reach_as_far_as_they_say(name, dilation, rows):
    assert reach(name, 16, dilation)[1] == rows


@pytest.mark.parametrize("channels, group", [(16, 8), (8, 8), (12, 12)])
def test_groups_are_of_eight_channels_where_these_divide(channels, group):
    assert reach("group3", channels, 1)[0] == set(range(group))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([SHAPE, RICH, replace(RICH, streams=()),
                                                   replace(RICH, attention=())]))
def test_text_sample_and_dictionary_forms_read_back(seed, shape):
    genotype = draw(seed, shape)
    assert Genotype.parse(str(genotype), shape) == genotype
    assert Genotype.from_sample(genotype.sample(), shape) == genotype
    assert genotype_from_dict(yaml.safe_load(yaml.safe_dump(genotype_dict(genotype)))) == genotype
    assert list(genotype.sample()) == list(shape.options())


@pytest.mark.parametrize("text, expected", [
    ("sep3-sep3|sep3-sep3;attention=none", "streams '' cannot be chosen"),
    ("sep3-sep3|sep3-sep3;streams=plain+bayar;attention=none", r"streams 'plain\+bayar' .* it has plain, bayar"),
    ("sep3-sep3|sep3-sep3;streams=plain;attention=global", "attention 'global' cannot be chosen")])
def test_options_that_a_space_has_not_are_refused(text, expected):
    with pytest.raises(UserError, match=expected):
        Genotype.parse(text, RICH)


def test_genotype_file_reads_back_to_the_same_network(tmp_path):
    path = tmp_path / "genotype.yaml"
    genotype = Genotype(draw(3).cells, SHAPE, {"strategy": "one-shot", "seed": 3, "score": 0.875})
    write_genotype(path, genotype)
    again = read_genotype(path, SHAPE)
    assert again == genotype and again.provenance == genotype.provenance
    first, second = build_extraction(genotype, 0.5), build_extraction(again, 0.5)
    second.load_state_dict(first.state_dict())
    x = torch.randn(1, 32, 12, 12)
    assert torch.equal(first.eval()(x), second.eval()(x))


@pytest.mark.parametrize("change, expected", [
    ({"format": "other/1"}, "not a genotype"),
    ({"cells": [["sep3", "sep3"]]}, "has 1 cells, the space has 2"),
    ({"cells": [["sep3"], ["sep3"]]}, "cell 1 has 1 slots"),
    ({"cells": [["sep3", "sep9"], ["sep3", "sep3"]]}, "'sep9' in cell 1"),
    ({"space": {}}, "incomplete"),
])
def test_genotypes_that_do_not_fit_are_refused(tmp_path, change, expected):
    path = tmp_path / "genotype.yaml"
    write_genotype(path, draw(0))
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | change))
    with pytest.raises(UserError, match=expected):
        read_genotype(path)


def test_genotype_of_another_space_is_refused(tmp_path):
    path = tmp_path / "genotype.yaml"
    write_genotype(path, released_genotype())
    with pytest.raises(UserError, match="of another space"):
        read_genotype(path, SHAPE)


def test_space_declared_with_nni_has_one_labelled_choice_a_slot():
    space = ExtractionSpace(SHAPE, 0.5)
    choices = space.simplify()
    assert list(choices) == SHAPE.labels()
    assert all(choice.values == list(SHAPE.operations) for choice in choices.values())
    assert SHAPE.size == 4**4 and PAPER_SPACE.size == 4**30


def test_space_declared_with_nni_has_the_choices_beside_the_slots():
    choices = {label: tuple(choice.values) for label, choice in ExtractionSpace(RICH, 0.0625).simplify().items()}
    assert choices == RICH.options() and RICH.size == 9**4 * 3 * 3
    genotype, x = draw(4, RICH), torch.randn(1, 4, 12, 12)
    frozen = ExtractionSpace(RICH, 0.0625).freeze(genotype.sample()).eval()
    ours = build_extraction(genotype, 0.0625).eval()
    # The choices around the cells change nothing within them.
    ours.load_state_dict(dict(zip(ours.state_dict(), frozen.state_dict().values(), strict=True)))
    assert torch.equal(frozen(x), ours(x))


def test_nni_freezes_the_network_that_the_genotype_builds():
    torch.manual_seed(0)
    space, genotype = ExtractionSpace(SHAPE, 0.5), draw(5)
    frozen, ours = space.freeze(genotype.sample()).eval(), build_extraction(genotype, 0.5).eval()
    values = list(frozen.state_dict().values())
    ours.load_state_dict(dict(zip(ours.state_dict(), values, strict=True)))
    x = torch.randn(2, 32, 12, 12)
    assert torch.equal(frozen(x), ours(x))


@pytest.mark.parametrize("seed", range(4))
def test_supernet_path_is_the_stand_alone_network(seed):
    torch.manual_seed(seed)
    supernet, genotype = Supernet(SHAPE, 0.5).eval(), draw(seed)
    supernet.set_path(genotype)
    alone = build_extraction(genotype, 0.5).eval()
    alone.load_state_dict(supernet.inherited_state(genotype))
    x = torch.randn(2, 32, 12, 12)
    assert torch.equal(supernet(x), alone(x))


def test_supernet_evaluates_only_the_chosen_operations():
    supernet, genotype = Supernet(SHAPE, 0.5), draw(1)
    ran = []
    for label, slot in supernet._slots.items():
        for name, candidate in slot.candidates.items():
            candidate.register_forward_hook(lambda *_, at=(label, name): ran.append(at))
    supernet.set_path(genotype)
    supernet(torch.randn(2, 32, 12, 12))
    assert dict(ran) == genotype.sample() and len(ran) == len(genotype.sample())


def test_mixture_of_one_is_that_path_and_gives_gradients():
    supernet, genotype = Supernet(SHAPE, 0.5).eval(), draw(2)
    x = torch.randn(2, 32, 12, 12)
    supernet.set_path(genotype)
    expected = supernet(x)
    weights = {label: torch.tensor([float(name == chosen) for name in SHAPE.operations], requires_grad=True)
               for label, chosen in genotype.sample().items()}
    supernet.set_mixture(weights)
    mixed = supernet(x)
    assert torch.allclose(mixed, expected, atol=1e-6)
    mixed.square().mean().backward()
    assert all(weight.grad is not None for weight in weights.values())


def test_cost_of_a_known_block():
    block = nn.Conv2d(3, 5, 3, padding=1, bias=False)
    assert count_parameters(block) == 3 * 5 * 9
    assert count_flops(block, (1, 3, 8, 8)) == 2 * 3 * 5 * 9 * 64
    assert measure_latency(nn.Conv2d(3, 5, 3), (1, 3, 8, 8), 1) > 0


def inherit(alone, network, genotype):
    """Copies the search network's weights to the genotype's own, by names and by channels of what is chosen."""
    source = network.state_dict()
    state = {}
    for key in alone.state_dict():
        if not key.startswith("extraction."):
            state[key] = source[key] if "attention" not in key else alone.state_dict()[key]
    sizes = {name: build_stream(name).out_channels for name in network.streams}
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    chosen = [starts[name] + index for name in split_parts(genotype.streams) for index in range(sizes[name])]
    state["enhancement.convs.0.weight"] = source["enhancement.convs.0.weight"][:, chosen]
    channels = network.supernet.cells[-1].conv.pointwise.out_channels
    blocks = [0, *(1 + network.attention.index(name) for name in split_parts(genotype.attention))]
    first = next(key for key in state if key.startswith("decision.decoder") and key.endswith("weight"))
    state[first] = source[first][:, [block * channels + index for block in blocks for index in range(channels)]]
    alone.load_state_dict(state | network.supernet.inherited_state(genotype, "extraction."))


@pytest.mark.parametrize("seed", range(6))
def test_path_and_mixture_of_one_are_the_stand_alone_network(seed):
    torch.manual_seed(seed)
    genotype, x = draw(seed, RICH), torch.rand(2, 3, 30, 35)
    # In training, where norms keep signals from fading through layers without a history.
    network = SearchNetwork(RICH, 0.0625, ["prefilter"])
    alone = alone_network(genotype, 0.0625, ["prefilter"])
    inherit(alone, network, genotype)
    with torch.no_grad():
        expected = alone.logits(x)
        network.set_path(genotype)
        torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-4)
        network.set_mixture({label: torch.tensor([float(name == genotype.sample()[label]) for name in names])
                             for label, names in RICH.options().items()})
        torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-4)
        network.set_path(draw(seed + 100, RICH))
        assert (network(x) - expected).abs().max() > 0.05


@pytest.mark.parametrize("decoder", [1, 2, 4])
def test_maps_have_the_pictures_size_whatever_they_are_decoded_at(decoder):
    space = replace(RICH, decoder=decoder)
    detector = create_detector("giidnet", genotype=draw(1, space), width=0.0625).eval()
    with torch.no_grad():
        maps = detector(torch.rand(2, 3, 37, 52))
    assert maps.shape == (2, 1, 37, 52) and maps.min() >= 0 and maps.max() <= 1
    doubled = sum(isinstance(module, nn.Conv2d) for module in detector.decision.decoder)
    assert doubled == {1: 5, 2: 3, 4: 1}[decoder]


@pytest.mark.parametrize("shape", [SHAPE, RICH, replace(RICH, strides=(1, 2), decoder=1)])
def test_costs_of_parts_add_up_to_those_of_the_network(shape):
    side, width, streams = 32, 0.25, ["plain"]
    table, block = search_costs(shape, width, streams, side), extraction_costs(shape, width, side // 2)
    length, channels = side // (2 * shape.reduction), round(shape.channels[-1] * width)
    fixed = Cost()
    if not shape.streams:
        fixed += count_cost(Enhancement(streams, width), (1, 3, side, side), False)
    if not shape.attention:
        fixed += count_cost(Decision(channels, 2 * shape.reduction, width), (1, channels, length, length), False)
    for seed in range(8):
        genotype = draw(seed, shape)
        slots = [block.options[label][genotype.sample()[label]] for label in shape.labels()]
        whole = count_cost(alone_network(genotype, width, streams), (1, 3, side, side), False)
        assert sum(slots, block.base) == count_cost(build_extraction(genotype, width), (1, 16, 16, 16), False)
        assert table.of(genotype) + fixed == whole


def test_the_range_of_costs_is_that_of_all_genotypes():
    shape = SpaceShape(("sep3", "se_sep3", "identity"), 1, (64, 128), (2, 1), (1, 2), ("plain", "plain+bayar"),
                       ("none", "global"))
    table = search_costs(shape, 0.0625, [], 32)
    everything = [asdict(table.of(Genotype.from_sample(dict(zip(shape.options(), names, strict=True)), shape)))
                  for names in product(*shape.options().values())]
    assert len(everything) == shape.size == 36
    for cost, pick in zip(table.range(), (min, max), strict=True):
        assert asdict(cost) == {key: pick(one[key] for one in everything) for key in asdict(cost)}
    assert table.range()[0].params < table.range()[1].params
