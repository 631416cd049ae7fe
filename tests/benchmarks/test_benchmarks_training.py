"""The benchmark of training: the plain loop trains the same network on the same pictures, and both are measured."""

import argparse
from pathlib import Path

import pytest
import torch

from benchmarks import training
from detectors.giidnet import GIIDNet
from forgeries.dataset import ForgeryDataset
from forgeries.photos import find_photos

PHOTOS = str(Path(__file__).parent.parent / "data" / "photos")
GIVEN = argparse.Namespace(photos=[PHOTOS], methods=["TE"], side=32, workers=0, steps=2, batch=2)


def test_the_plain_network_is_the_same():
    torch.manual_seed(0)
    network, images = GIIDNet(width=0.0625).double(), torch.rand(2, 3, 40, 52, dtype=torch.float64)
    gradients = []
    for logits in (network.logits, lambda images: training.contiguous_logits(network, images)):
        loss = logits(images).square().mean()
        gradients.append((loss, torch.autograd.grad(loss, list(network.parameters()))))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("measure", [training.plain, training.ours])
def test_each_form_trains_on_the_same_pictures_and_tells_its_rate(measure, monkeypatch):
    asked, whole = [], ForgeryDataset.__getitem__
    monkeypatch.setattr(ForgeryDataset, "__getitem__", lambda self, i: asked.append((self.stream_name, i))
                        or whole(self, i))
    config = training.configure(GIVEN, 0.0625)
    found = measure(config, find_photos(config.photos, 32))
    assert [i for name, i in asked if name == "train"] == list(range(8))
    assert found["pictures_per_second"] > 0 and 0 < found["waiting"] < 1


def test_the_cache_is_filled_with_what_is_trained_on(tmp_path, monkeypatch):
    monkeypatch.setenv("GIIDNET_CACHE", str(tmp_path))
    config = training.configure(GIVEN, 0.0625)
    photos = find_photos(config.photos, 32)
    training.fill_cache(config, photos)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    training.ours(config, photos)
    new = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert len(before) >= 8 and len(new) <= 1  # a validation picture
