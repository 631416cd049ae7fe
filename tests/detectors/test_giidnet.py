"""GIID-Net and its blocks; test_iid_net.py has them against the published numbers."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F

from configs.errors import UserError
from detectors import create_detector, list_detectors
from detectors.blocks import (
    PERIODS,
    SIMILARITIES,
    Anomaly,
    BayarConv,
    GlobalAttention,
    LocalAttention,
    Periods,
    _median3,
    build_stream,
    cosine_kernels,
    median3,
    spectrum_kernels,
)
from detectors.giidnet import GIIDNet
from search_space.genotype import SpaceShape, genotype_dict, random_genotype

SHAPE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 2, (128, 256, 256), (2, 1, 1), (1, 1, 2))


def small(**options):
    torch.manual_seed(0)
    genotype = random_genotype(SHAPE, np.random.default_rng(0))
    return create_detector("giidnet", genotype=genotype, width=0.125, **options).eval()


def test_parameter_count_is_the_published_one():
    assert sum(p.numel() for p in GIIDNet().parameters()) == 5_781_142


@pytest.mark.parametrize("height, width", [(16, 16), (17, 33), (50, 16), (96, 64)])
def test_map_has_the_size_of_the_picture(height, width):
    maps = small()(torch.rand(2, 3, height, width))
    assert maps.shape == (2, 1, height, width)
    assert maps.min() >= 0 and maps.max() <= 1


def test_map_does_not_depend_on_batch_neighbours():
    network, images = small(), torch.rand(3, 3, 48, 48)
    together = network(images)
    alone = torch.cat([network(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_forward_changes_no_parameter():
    network = small().train()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    network.logits(torch.rand(2, 3, 32, 32)).mean().backward()
    assert all(torch.equal(before[name], p) for name, p in network.named_parameters())


def test_bayar_kernels_are_all_constrained():
    torch.manual_seed(1)
    kernels = BayarConv().constrained()
    assert torch.allclose(kernels[..., 2, 2], torch.full((3, 3), -1.0))
    assert torch.allclose(kernels.sum((-2, -1)), torch.zeros(3, 3), atol=1e-5)


@pytest.mark.parametrize("name, channels", [("spectrum", 17), ("periods", 3), ("bands", 63)])
def test_fixed_streams_compare_with_the_picture(name, channels):
    torch.manual_seed(0)
    stream, flat = build_stream(name), torch.rand(1, 3, 64, 80) * 0.04
    assert not stream.state_dict()
    noisy = flat.clone()
    noisy[..., :32] += 0.2 * torch.rand(1, 3, 64, 32)
    found = stream(noisy)
    assert found.shape == (1, channels, 64, 80)
    assert torch.allclose(found.mean((2, 3)), torch.zeros(channels), atol=1e-4)
    # Brighter by a constant is not another picture.
    assert torch.allclose(stream(noisy + 0.3), found, atol=1e-2)
    if name != "periods":
        assert (found[..., :24].mean((2, 3)) - found[..., 40:].mean((2, 3))).min() > 2


@pytest.mark.parametrize("kernels", [spectrum_kernels()[:15].sum(1), cosine_kernels(8)])
def test_kernels_are_those_of_the_cosine_transform(kernels):
    block = np.random.default_rng(0).uniform(0, 255, kernels.shape[1:]).astype(np.float32)
    assert np.allclose(kernels.flatten(1).numpy() @ block.ravel(), cv2.dct(block).ravel()[1:], atol=1e-3)


def test_kernels_of_the_spectrum_do_not_see_the_mean():
    assert torch.allclose(spectrum_kernels().sum((2, 3)), torch.zeros(17, 3), atol=1e-6)


@pytest.mark.parametrize("period", PERIODS)
def test_periods_are_found_where_they_are(period):
    torch.manual_seed(0)
    image = 0.02 * torch.randn(1, 3, 128, 128)
    # Pixels on a grid are as noisy as six others.
    image[:, :, 64:][:, :, ::period, ::period] += 0.1 * torch.randn(1, 3, 64 // period, 128 // period)
    found = Periods()(image)[0]
    apart = found[:, 84:108, 20:108].mean((1, 2)) - found[:, 20:44, 20:108].mean((1, 2))
    assert apart[list(PERIODS).index(period)] > 1


def test_white_noise_has_no_periods_up_to_the_border():
    torch.manual_seed(0)
    found = Periods()(0.1 * torch.randn(24, 3, 96, 96)).mean(0)
    assert found.mean(1).abs().max() < 0.3 and found.mean(2).abs().max() < 0.3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_fixed_streams_are_exact_under_mixed_precision(dtype):
    image = torch.rand(1, 3, 32, 32).round() * 2 - 1
    for name in ("spectrum", "periods", "bands"):
        with torch.autocast("cpu", dtype):
            found = build_stream(name)(image)
        assert torch.equal(found, build_stream(name)(image))


def test_anomaly_starts_as_nothing_and_sees_the_whole_picture():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 9, 7)
    module = Anomaly(4)
    assert torch.equal(module(x), x)
    scores = ((x - x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True, unbiased=False))
    with torch.no_grad():
        module.conv.weight.zero_()
        module.conv.weight[:, :4, 0, 0] = torch.eye(4)
        assert torch.allclose(module(x), x + scores, atol=1e-3)
        module.conv.weight.zero_()
        module.conv.weight[:, 4:, 0, 0] = torch.eye(4)
        assert torch.allclose(module(x), x + scores.abs(), atol=1e-3)
    # With the same initial weights of all else.
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(small(anomaly=True)(image), small()(image))
    shape = SpaceShape(("sep3",), 1, (32,) * 3, (2, 2, 2), (1, 1, 1))
    least = GIIDNet(random_genotype(shape, np.random.default_rng(0)), 0.25, anomaly=True)
    assert least.train().logits(torch.rand(2, 3, 16, 16)).shape == (2, 1, 16, 16)


def dense_global_attention(x):
    """Plain formulation for one image: one-hot products with the sorted similarity matrix."""
    channels, height, width = x.shape
    features = x.reshape(channels, -1).T.double()
    units = features / features.norm(dim=1, keepdim=True).clamp(min=1e-6)
    values, order = (units @ units.T).sort(1, descending=True)
    means = values.mean(0)[:15]
    count = max(2, max(t for t in range(len(means)) if means[t] >= 0.5))
    picked = features.clone()
    for k in range(1, count):
        picked += F.one_hot(order[:, k], len(features)).double() @ features
    return (picked / count).T.reshape(channels, height, width).float()


@pytest.mark.parametrize("spread", [0.05, 0.6, 5.0])
def test_global_attention_is_the_dense_one(spread):
    torch.manual_seed(2)
    x = torch.randn(1, 8, 1, 1) + spread * torch.randn(2, 8, 7, 6)
    expected = torch.stack([dense_global_attention(image) for image in x])
    assert torch.allclose(GlobalAttention()(x), expected, atol=1e-5)


def test_attention_is_safe_where_features_are_zero():
    x = torch.zeros(1, 4, 5, 5, requires_grad=True)
    y = GlobalAttention()(x) + LocalAttention(4)(x)
    y.sum().backward()
    assert torch.isfinite(y).all() and torch.isfinite(x.grad).all()


def test_global_attention_on_fewer_positions_than_neighbours():
    x = torch.randn(2, 4, 1, 2)
    assert torch.allclose(GlobalAttention()(x), x.mean(3, keepdim=True).expand_as(x), atol=1e-6)
    assert torch.allclose(GlobalAttention()(x[..., :1]), x[..., :1], atol=1e-6)


def test_global_attention_is_the_same_in_blocks_and_without_gradient(monkeypatch):
    torch.manual_seed(2)
    x = torch.randn(1, 8, 1, 1) + 0.3 * torch.randn(2, 8, 9, 11)
    whole = GlobalAttention()(x)
    monkeypatch.setitem(SIMILARITIES, "cpu", 1000)
    with torch.no_grad():
        assert torch.allclose(GlobalAttention()(x), whole, atol=1e-6)


@given(arrays(np.float32, st.tuples(st.just(1), st.just(1), st.integers(3, 9), st.integers(3, 9)),
              elements=st.floats(-4, 4, width=16)))
def test_median_is_that_of_the_window(values):
    expected = np.median(np.lib.stride_tricks.sliding_window_view(values, (3, 3), (2, 3)), (-2, -1))
    assert np.array_equal(median3(torch.from_numpy(values)).numpy(), expected)


@pytest.mark.parametrize("options", [{"global_attention": False}, {"local_attention": False}, {"median": False},
                                     {"streams": ["bayar"]}])
def test_ablation_switches(options):
    assert small(**options)(torch.rand(1, 3, 32, 32)).shape == (1, 1, 32, 32)


def test_genotype_can_be_given_as_a_dictionary():
    genotype = random_genotype(SHAPE, np.random.default_rng(0))
    network = create_detector("giidnet", genotype=genotype_dict(genotype), width=0.125).eval()
    network.load_state_dict(small().state_dict())
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(network(images), small()(images))


def test_unknown_names_are_told():
    with pytest.raises(UserError, match="mantranet"):
        create_detector("giidnett")
    with pytest.raises(UserError, match="colour"):
        create_detector("giidnet", colour=1)
    assert "giidnet" in list_detectors()


def test_the_medians_gradient_is_that_of_its_minima_and_maxima():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 7, 9, dtype=torch.float64, generator=generator, requires_grad=True)
    # As the network calls it: a border is equal to its copies.
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    weights = torch.randn(2, 1, 7, 9, dtype=torch.float64, generator=generator)
    expected, found = (torch.autograd.grad((median(padded) * weights).sum(), x, retain_graph=True)[0]
                       for median in (_median3, median3))
    torch.testing.assert_close(found, expected)
    assert torch.autograd.gradcheck(median3, x)
    flat = torch.zeros(1, 1, 3, 3, requires_grad=True)
    assert torch.autograd.grad(median3(flat).sum(), flat)[0].allclose(torch.tensor(1 / 9))
