"""Scores of candidates against scikit-learn on the stand-alone network, and that scoring leaves no trace."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from configs.errors import UserError
from search.network import SearchNetwork
from search.scoring import score
from search_space.cells import build_extraction
from search_space.genotype import Genotype, SpaceShape

SHAPE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 2, (64, 128), (2, 1), (1, 2))
GENOTYPE = Genotype.parse("relu_sep5-sep3|identity-relu_sep3", SHAPE)


def batches(seed, *sizes):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(size, 3, 32, 32, generator=generator) * torch.rand(size, 3, 1, 1, generator=generator),
             (torch.rand(size, 1, 32, 32, generator=generator) < 0.3).float()) for size in sizes]


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = SearchNetwork(SHAPE, 0.0625, ["plain", "bayar"])
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer)
        elif name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 2)
        elif name.endswith("num_batches_tracked"):
            buffer.fill_(5)
    return network


def stand_alone(network):
    extraction = build_extraction(GENOTYPE, 0.0625)
    extraction.load_state_dict(network.supernet.inherited_state(GENOTYPE))
    network = deepcopy(network)
    return nn.Sequential(network.enhancement, extraction, network.decision)


def with_statistics_of(network, data):
    """Sets running statistics to the mean over `data` of each layer's input statistics, gathered by hooks."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    found = {norm: [] for norm in norms}
    for norm in norms:
        norm.register_forward_pre_hook(
            lambda norm, inputs: found[norm].append((inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3)))))
    network.train()
    for images, _ in data:
        network(images * 2 - 1)
    for norm in norms:
        means, variances = zip(*found[norm], strict=True)
        norm.running_mean, norm.running_var = torch.stack(means).mean(0), torch.stack(variances).mean(0)
    return network


# Of unequal size: each batch weighs the same.
@pytest.mark.parametrize("recalibration", [[], batches(1, 2, 5)], ids=["own statistics", "recalibrated"])
def test_score_is_scikit_learns_auc_of_the_stand_alone_network(network, recalibration):
    validation = batches(2, 3, 2)
    with torch.no_grad():
        alone = stand_alone(network)
        if recalibration:
            alone = with_statistics_of(alone, recalibration)
        alone.eval()
        expected = [roc_auc_score(mask.ravel(), logits.ravel()) for images, masks in validation
                    for logits, mask in zip(alone(images * 2 - 1), masks, strict=True)]
    assert score(network, GENOTYPE, validation, recalibration) == pytest.approx(np.mean(expected), abs=1e-5)
    other = batches(3, 2) if recalibration else batches(1, 2, 5)
    assert score(network, GENOTYPE, validation, other) != pytest.approx(np.mean(expected), abs=1e-4)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_scoring_leaves_the_network_as_it_was(network, training, fails):
    network.train(training)
    for index, norm in enumerate(module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.momentum = 0.1 + index / 1000
    before = deepcopy(network)
    validation = batches(2, 2)
    if fails:
        validation[0][0].fill_(torch.nan)
        with pytest.raises(UserError, match="not finite"):
            score(network, GENOTYPE, validation, batches(1, 2))
    else:
        score(network, GENOTYPE, validation, batches(1, 2))
    torch.testing.assert_close(network.state_dict(), before.state_dict(), rtol=0, atol=0)
    for module, copy in zip(network.modules(), before.modules(), strict=True):
        assert module.training == copy.training
        assert getattr(module, "momentum", None) == getattr(copy, "momentum", None)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
