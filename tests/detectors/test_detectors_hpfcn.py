"""The high-pass fully convolutional network against a plain formulation of its parts."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from detectors import create_detector
from detectors.hpfcn import HPFCN, Quadruple, Unit


def test_residuals_are_first_differences_of_each_colour():
    image = torch.rand(1, 3, 20, 24)
    found = HPFCN(0.125).residuals(image)[0, :, :-1, :-1]
    a = image[0, :, :-1, :-1]
    expected = torch.stack([image[0, :, 1:, :-1] - a, image[0, :, :-1, 1:] - a, image[0, :, 1:, 1:] - a], 1)
    assert torch.allclose(found, expected.flatten(0, 1), atol=1e-6)
    assert HPFCN(0.125).residuals.weight.requires_grad


def test_channels_and_strides_are_the_published_ones():
    network, shapes = HPFCN().eval(), []
    for unit in network.units:
        unit.register_forward_hook(lambda module, _, output: shapes.append(tuple(output.shape[1:])))
    network.upsampling[0].register_forward_hook(lambda module, _, output: shapes.append(tuple(output.shape[1:])))
    with torch.no_grad():
        network(torch.rand(1, 3, 32, 48))
    assert shapes == [(128, 32, 48), (128, 16, 24), (256, 16, 24), (256, 8, 12), (512, 8, 12), (512, 4, 6),
                      (1024, 4, 6), (1024, 2, 3), (64, 8, 12)]


@pytest.mark.parametrize("inputs, stride", [(9, 1), (16, 2)])
def test_a_unit_is_the_plain_formula(inputs, stride):
    torch.manual_seed(0)
    unit = Unit(inputs, 4, stride).eval()
    x = torch.randn(2, inputs, 8, 10)
    bn = dict(unit.named_buffers())
    for name in bn:
        if name.endswith("running_var"):
            bn[name].uniform_(0.5, 2)
    norm1, norm2, norm3 = unit.activated[0], unit.residual[1], unit.residual[4]
    first = norm1(x).clamp(min=0)
    y = norm2(F.conv2d(first, unit.residual[0].weight)).clamp(min=0)
    y = norm3(F.conv2d(F.pad(y, (1, 1, 1, 1)), unit.residual[3].weight, stride=stride)).clamp(min=0)
    y = F.conv2d(y, unit.residual[6].weight, unit.residual[6].bias)
    skip = x[:, :, ::stride, ::stride] if inputs == 16 else F.conv2d(first, unit.skip.weight, unit.skip.bias)
    assert torch.allclose(unit(x), y + skip, atol=1e-5)


def test_up_sampling_is_at_first_bilinear_interpolation_of_mixed_channels():
    torch.manual_seed(0)
    layer, x = Quadruple(6, 3), torch.randn(1, 6, 7, 9)
    mixture = layer.weight[:, :, 3:5, 3:5].mean((2, 3)) / (3.5 / 4) ** 2
    expected = F.interpolate(torch.einsum("nihw,io->nohw", x, mixture), scale_factor=4, mode="bilinear")
    assert torch.allclose(layer(x)[..., 4:-4, 4:-4], expected[..., 4:-4, 4:-4], atol=1e-5)
    outputs = layer(x)[0].flatten(1).detach().numpy()
    assert np.abs(np.corrcoef(outputs)[np.triu_indices(3, 1)]).max() < 0.999


def test_training_steps_lower_the_loss_and_move_every_weight():
    torch.manual_seed(0)
    network = create_detector("hpfcn", width=0.125).train()
    images, masks = torch.rand(4, 3, 32, 32), torch.zeros(4, 1, 32, 32)
    images[:, :, 8:24, 8:24], masks[:, :, 8:24, 8:24] = 0.5, 1
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    optimizer, losses = torch.optim.Adam(network.parameters(), 3e-3), []
    for _ in range(20):
        loss = F.binary_cross_entropy_with_logits(network.logits(images), masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert not [name for name, weight in network.named_parameters() if torch.equal(weight, before[name])]
