"""ManTraNet against golden vectors of the published network, and plain formulations of its parts."""

import numpy as np
import pytest
import torch
from golden import published_network
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from detectors import create_detector
from detectors.mantranet import (
    LEAST_ROWS,
    STRIP_PIXELS,
    AnomalyDetector,
    ConvGRU,
    ConvLSTM,
    ManTraNet,
    TraceExtractor,
    pad_symmetric,
    window_mean,
)
from retrain.losses import training_loss


# Maps of the second move by 1.5e-5 where one rounding of the picture does: CPUs sum in different orders.
@pytest.fixture(scope="module", params=[("mantranet", 1e-5), ("mantranet-gru", 4e-5)], ids=lambda param: param[0])
def published(request):
    """Network with the reference weights, the golden vectors, and how far maps may be from those."""
    name, tolerance = request.param
    return *published_network(name), tolerance


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("size", ["1x3x64x64", "2x3x64x64", "1x3x70x90"])
def test_published_numbers(published, size, gradient):
    network, vectors, tolerance = published
    images = torch.from_numpy(vectors[f"input_{size}"])
    with torch.set_grad_enabled(gradient):
        features, maps = network.traces(images * 2 - 1).detach(), network(images).detach()
    assert np.abs(features[:, ::16, ::4, ::4].numpy() - vectors[f"features_{size}"]).max() <= 1e-5
    assert np.abs(maps.numpy() - vectors[f"output_{size}"]).max() <= tolerance


@given(st.integers(16, 150), st.integers(16, 40))
@settings(max_examples=20, deadline=None)
def test_strips_give_the_whole(height, width):
    torch.manual_seed(height)
    traces = TraceExtractor(0.03125).eval()
    x = torch.rand(2, 3, height, width) * 2 - 1
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(STRIP_PIXELS, "cpu", 1)
        strips = list(traces.strips(x))
    assert len(strips) == max(1, (height + 4) // LEAST_ROWS)
    assert torch.allclose(torch.cat(strips, 2), traces(x), atol=1e-6)


def test_parameter_count_is_the_published_one():
    """The published count includes the 675 fixed SRM weights, here a buffer."""
    network = ManTraNet()
    assert sum(p.numel() for p in network.parameters()) + network.traces.srm.numel() == 3_805_625


def test_window_mean_counts_only_what_is_inside():
    x = torch.randn(1, 2, 9, 12)
    for i, j in ((0, 0), (4, 6), (8, 11)):
        inside = x[..., max(0, i - 3):i + 4, max(0, j - 3):j + 4].mean((2, 3))
        assert torch.allclose(window_mean(x, 7)[..., i, j], inside, atol=1e-6)


def slow_deviations(x, floor):
    """z-scores of one channel H×W, position by position, in double."""
    height, width = x.shape
    scores = np.empty((4, height, width))
    for i in range(height):
        for j in range(width):
            around = [x[max(0, i - h):i + h + 1, max(0, j - h):j + h + 1].mean() for h in (3, 7, 15)]
            scores[:, i, j] = np.abs([*around, x.mean()] - x[i, j])
    return scores / max(x.std(), floor + 1e-6)


@pytest.mark.parametrize("gradient", [False, True])
def test_deviations_are_those_of_the_plain_formulation(gradient):
    """On channels above and below the least deviation, and off centre."""
    torch.manual_seed(0)
    detector = AnomalyDetector(8, width=0.0625)
    x = torch.randn(2, 4, 70, 37) * torch.tensor([1, 0.05, 3, 1]).view(-1, 1, 1) + 2
    floors = torch.tensor([0, 0.4, -0.3, 1.5]).view(1, 4, 1, 1)
    detector.least_deviation.data = floors
    normalised = F.batch_norm(x.double(), None, None, training=True, eps=1e-3).numpy()
    expected = [[slow_deviations(normalised[n, c], floors[0, c].item()) for c in range(4)] for n in range(2)]
    with torch.set_grad_enabled(gradient):
        found = torch.stack([step.detach().clone() for step in detector.deviations(x)], 2).numpy()
    assert np.abs(found - np.array(expected)).max() <= 1e-5


def plain_lstm(cell, steps):
    """Convolves the concatenation of input and hidden state at every step."""
    hidden = memory = torch.zeros(1, 3, *steps[0].shape[2:])
    for x in steps:
        i, f, c, o = cell.gates(torch.cat([x, hidden], 1)).chunk(4, 1)
        memory = F.hardsigmoid(f * 1.2) * memory + F.hardsigmoid(i * 1.2) * c.tanh()
        hidden = F.hardsigmoid(o * 1.2) * memory.tanh()
    return hidden


def plain_gru(cell, steps):
    """Likewise."""
    hidden = torch.zeros(1, 3, *steps[0].shape[2:])
    for x in steps:
        r, u = F.hardsigmoid(1.2 * cell.conv1(torch.cat([hidden, x], 1))).chunk(2, 1)
        hidden = (1 - u) * hidden + u * cell.conv2(torch.cat([x, r * hidden], 1)).tanh()
    return hidden


@pytest.mark.parametrize("cell, plain", [(ConvLSTM, plain_lstm), (ConvGRU, plain_gru)])
def test_recurrent_cells_are_those_of_the_concatenation(cell, plain):
    torch.manual_seed(0)
    network, steps = cell(5, 3), torch.randn(4, 1, 5, 9, 12)
    assert torch.allclose(network(steps), plain(network, steps), atol=1e-6)


def test_symmetric_padding_is_numpys():
    x = torch.randn(1, 2, 5, 6)
    expected = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)), "symmetric")
    assert np.array_equal(pad_symmetric(x, 2).numpy(), expected)


@pytest.mark.parametrize("height, width", [(16, 16), (17, 33)])
def test_map_has_the_size_of_the_picture(height, width):
    maps = create_detector("mantranet", width=0.125).eval()(torch.rand(2, 3, height, width))
    assert maps.shape == (2, 1, height, width) and maps.min() >= 0 and maps.max() <= 1


def test_forward_changes_no_parameter():
    network = ManTraNet(0.125).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network(torch.rand(2, 3, 24, 24)).mean().backward()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_gradients_are_finite_for_a_constant_picture(value):
    network = ManTraNet(0.125)
    network.logits(torch.full((2, 3, 24, 24), float(value))).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_it_learns():
    torch.manual_seed(0)
    network = ManTraNet(0.125)
    masks = torch.zeros(4, 1, 32, 32)
    masks[..., 8:20, 10:24] = 1
    noise = torch.rand(4, 3, 32, 32)
    images = torch.where(masks.bool(), F.avg_pool2d(noise, 3, 1, 1), noise)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        loss = training_loss(network.logits(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
