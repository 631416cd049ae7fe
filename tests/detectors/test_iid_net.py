"""The published IID-Net against its golden vectors."""

import pytest
import torch
from golden import published_network

from detectors import create_detector


@pytest.fixture(scope="module")
def published():
    """Network with the reference weights, and the golden vectors."""
    return published_network("iid-net")


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("size", ["1x3x64x64", "2x3x64x64", "1x3x70x90"])
def test_published_numbers(published, size, gradient):
    network, vectors = published
    x = torch.from_numpy(vectors[f"input_{size}"])
    with torch.set_grad_enabled(gradient):
        enhanced = network.enhancement.enhanced(2 * x - 1)
        features = network.extraction(network.enhancement(2 * x - 1))
        logits = network.decision(features)
        maps = network(x.flip(1))
    for name, value in (("enhancement", enhanced[..., ::4, ::4]), ("extraction", features[:, ::16]),
                        ("decision", logits), ("output", maps)):
        expected = torch.from_numpy(vectors[f"{name}_{size}"])
        assert (value - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1), name
    assert (maps - torch.from_numpy(vectors[f"output_{size}"])).abs().max() <= 1e-5


def test_parameter_count_is_the_published_one():
    network = create_detector("iid-net")
    fixed = network.decision.attention[1].kernel.numel() + 25
    assert sum(p.numel() for p in network.parameters()) == 5_781_142
    assert 5_781_142 + fixed == 5_787_567


@pytest.mark.parametrize("height, width", [(16, 16), (17, 33), (50, 16)])
def test_map_has_the_size_of_the_picture(published, height, width):
    with torch.no_grad():
        maps = published[0](torch.rand(1, 3, height, width))
    assert maps.shape == (1, 1, height, width) and maps.min() >= 0 and maps.max() <= 1
