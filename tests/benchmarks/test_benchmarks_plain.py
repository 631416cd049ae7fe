"""What the benchmarks measure against is the same computation."""

import pytest
import torch

from benchmarks import plain
from benchmarks.networks import WORKS, attention
from detectors import create_detector
from detectors.blocks import GlobalAttention


def test_plain_iid_net_is_ours():
    torch.manual_seed(0)
    network, images = create_detector("iid-net"), torch.rand(1, 3, 70, 52)
    with torch.no_grad():
        network(torch.rand(2, 3, 64, 64))
        network.eval()
        assert (plain.iid_net(network, images) - network(images)).abs().max() < 1e-5


def test_plain_mantranet_is_ours():
    torch.manual_seed(0)
    network, images = create_detector("mantranet", width=0.25).eval(), torch.rand(1, 3, 70, 52)
    with torch.no_grad():
        assert (plain.mantranet(network, images) - network(images)).abs().max() < 1e-5


@pytest.mark.parametrize("spread", [0.3, 3])
def test_plain_attention_is_ours(spread):
    torch.manual_seed(0)
    x = torch.randn(1, 16, 1, 1) + spread * torch.randn(1, 16, 9, 8)
    with torch.no_grad():
        assert torch.allclose(plain.global_attention(x), GlobalAttention(batch_mean=True)(x), atol=1e-5)


def test_works_of_the_benchmark_run():
    work = attention(12, "cpu", "")
    with torch.inference_mode():
        assert torch.allclose(work.plain(), work.ours(), atol=1e-5)
    assert {"attention-1024", "iid-net-512", "mantranet-512"} <= set(WORKS)
