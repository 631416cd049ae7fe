"""Operations, cells, genotypes and the supernet."""

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from configs.errors import UserError
from search_space import list_operations
from search_space.cells import build_extraction
from search_space.cost import count_flops, count_parameters, measure_latency
from search_space.genotype import (
    PAPER_SPACE,
    Genotype,
    SpaceShape,
    random_genotype,
    read_genotype,
    released_genotype,
    write_genotype,
)
from search_space.operations import build_operation
from search_space.space import ExtractionSpace
from search_space.supernet import Supernet

SHAPE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 2, (16, 32), (2, 1), (1, 2))


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


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_text_sample_and_file_forms_read_back(seed):
    genotype = draw(seed)
    assert Genotype.parse(str(genotype), SHAPE) == genotype
    assert Genotype.from_sample(genotype.sample(), SHAPE) == genotype


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
