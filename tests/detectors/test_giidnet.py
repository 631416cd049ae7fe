"""GIID-Net's blocks against the published network's golden vectors, and the corrections on their own terms."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from golden import golden_state
from torch.nn import functional as F

from configs.errors import UserError
from detectors import create_detector, list_detectors
from detectors.blocks import BayarConv, GlobalAttention, LocalAttention, median3
from detectors.giidnet import GIIDNet
from search_space.genotype import SpaceShape, genotype_dict, random_genotype

DATA = Path(__file__).parent.parent / "data"
SHAPE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 2, (128, 256, 256), (2, 1, 1), (1, 1, 2))


def small(**options):
    torch.manual_seed(0)
    genotype = random_genotype(SHAPE, np.random.default_rng(0))
    return create_detector("giidnet", genotype=genotype, width=0.125, **options).eval()


def published_names(network: GIIDNet) -> dict[str, str]:
    """Published key of each of our parameters and buffers, from the layout described in the published tables."""
    names = {"enhancement.streams.plain.weight": "normal_conv.weight",
             "enhancement.streams.bayar.weight": "bayar_conv.weight",
             "enhancement.streams.prefilter.weight": "pf_conv.weight",
             "decision.attention.1.kernel": "att.local_att.weight"}
    modules = {"enhancement.convs.0": "conv1", "enhancement.convs.1": "bn1", "enhancement.convs.3": "conv2",
               "enhancement.convs.4": "bn2"}
    for index, cell in enumerate(network.extraction):
        ours, theirs = f"extraction.{index}", f"cell{index + 1}"
        modules |= {f"{ours}.skip.0": f"{theirs}.skip", f"{ours}.skip.1": f"{theirs}.skipbn"}
        at = 0 if cell.first else 1
        modules |= {f"{ours}.conv.{a}": f"{theirs}.rep.{at}.{b}"
                    for a, b in (("depthwise", "conv1"), ("norm", "bn"), ("pointwise", "pointwise"))}
        modules[f"{ours}.norm"] = f"{theirs}.rep.{at + 1}"
        for slot in range(3):
            place = at + 3 + 3 * slot
            if type(cell.slots[slot]).__name__ == "Separable":
                inner = (("depthwise", "conv1"), ("norm", "bn"), ("pointwise", "pointwise"))
            else:
                inner = (("depthwise", "op.1"), ("pointwise", "op.2"), ("norm", "op.3"))
            modules |= {f"{ours}.slots.{slot}.{a}": f"{theirs}.rep.{place}.{b}" for a, b in inner}
            modules[f"{ours}.norms.{slot}"] = f"{theirs}.rep.{place + 1}"
    modules |= {f"decision.decoder.{i}": f"decision.{i}" for i in (1, 2, 4, 5, 8, 9, 11, 12, 15)}
    for key in network.state_dict():
        module, _, leaf = key.rpartition(".")
        if key not in names:
            names[key] = f"{modules[module]}.{leaf}"
    return names


@pytest.fixture(scope="module")
def published():
    """Our network with the reference weights, and the published Bayar constraint in the place of ours."""
    table = json.loads((DATA / "iid_net_state_dict.json").read_text())
    state = golden_state(table)
    network = GIIDNet().eval()
    names = published_names(network)
    assert set(names.values()) == set(table) - {"median.weight"}
    own = network.state_dict()
    local = state["att.local_att.weight"]
    network.load_state_dict({key: state[name] if state[name].shape == own[key].shape else local[:1]
                             for key, name in names.items()})
    # Published: one stored kernel a channel; ours, one for all. Under the golden weights they differ.
    network.decision.attention[1].forward = lambda x: F.conv2d(x, local, padding=2, groups=x.shape[1])
    stored = network.enhancement.streams["bayar"].weight.detach().clone()
    kernel = stored.clone()
    kernel[:, :, 2, 2] = 0
    kernel[1:] *= 1e4
    kernel[0] *= 1e4 / (kernel[0] * 1e4).sum((1, 2), keepdim=True)
    kernel[0, :, 2, 2] = -1
    network.enhancement.streams["bayar"].constrained = lambda: kernel
    return network


@pytest.mark.parametrize("size", ["1x3x64x64", "2x3x64x64", "1x3x70x90"])
def test_blocks_give_the_published_numbers(published, size):
    vectors = np.load(DATA / "iid_net.npz")
    x = 2 * torch.from_numpy(vectors[f"input_{size}"]) - 1
    with torch.no_grad():
        enhanced = published.enhancement.enhanced(x)
        features = published.extraction(published.enhancement(x))
        logits = published.decision(features)
    for name, value in (("enhancement", enhanced[..., ::4, ::4]), ("extraction", features[:, ::16]),
                        ("decision", logits)):
        expected = torch.from_numpy(vectors[f"{name}_{size}"])
        assert (value - expected).abs().max() <= 2e-5 * expected.abs().max().clamp(min=1), name


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
    y = GlobalAttention()(x) + LocalAttention()(x)
    y.sum().backward()
    assert torch.isfinite(y).all() and torch.isfinite(x.grad).all()


def test_median_is_that_of_the_window():
    x = torch.randn(2, 1, 6, 7)
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    expected = np.median(np.lib.stride_tricks.sliding_window_view(padded.numpy(), (3, 3), (2, 3)), (-2, -1))
    assert np.array_equal(median3(x).numpy(), expected)


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
