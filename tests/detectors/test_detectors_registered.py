"""What every registered detector keeps, whatever its network."""

import pytest
import torch
from detectors_small import small_detector

from detectors import WEIGHTLESS, list_detectors

DEPEND_ON_THE_BATCH = ("iid-net", "mantranet", "mantranet-gru")
"""As published; see docs/differences.md."""


@pytest.fixture(scope="module", params=list_detectors())
def named(request):
    return request.param, small_detector(request.param)


@pytest.mark.parametrize("height, width", [(16, 16), (17, 33), (50, 16)])
def test_the_map_has_the_size_of_the_picture_and_is_a_probability(named, height, width):
    with torch.no_grad():
        maps = named[1](torch.rand(2, 3, height, width))
    assert maps.shape == (2, 1, height, width) and maps.dtype == torch.float32
    assert maps.min() >= 0 and maps.max() <= 1


def test_the_map_is_the_sigmoid_of_the_logits_and_the_same_again(named):
    images = torch.rand(1, 3, 24, 40)
    with torch.no_grad():
        maps, logits = named[1](images), named[1].logits(images)
        assert torch.equal(named[1](images), maps)
    assert logits.isfinite().all()
    assert torch.allclose(logits.sigmoid(), maps, atol=2e-6)


def test_the_map_does_not_depend_on_batch_neighbours(named):
    name, module = named
    if name in DEPEND_ON_THE_BATCH:
        pytest.skip("as published")
    images = torch.rand(3, 3, 32, 48)
    with torch.no_grad():
        assert torch.allclose(module(images), torch.cat([module(image[None]) for image in images]), atol=1e-5)


def test_a_forward_changes_no_weight(named):
    name, module = named
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with torch.no_grad():
        module(torch.rand(1, 3, 32, 32))
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert bool(before) != (name in WEIGHTLESS)
