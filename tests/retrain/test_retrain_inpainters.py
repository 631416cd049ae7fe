"""Training of networks that paint: losses against plain ones, a critic that trains apart, resuming."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import retrain.trainer as trainer
from configs.errors import UserError
from configs.schema import Photos, RunConfig
from forgeries.methods.learned import Spec, describe, load_network
from forgeries.photos import find_photos
from retrain.inpainters import (
    DISTANCES,
    Budget,
    Painter,
    PaintingDataset,
    fourier_distance,
    laplacian_distance,
    painting_loss,
    train_inpainter,
    validate,
)

BUDGET = Budget(epochs=2, steps=3, batch_size=2, size=32, validation_images=2)
TINY = Spec(width=3, latent=4)


@pytest.fixture(scope="module")
def photos():
    return find_photos(Photos(), 32).test


def config(**values) -> RunConfig:
    return RunConfig.model_validate({"device": "cpu", "forgeries": {"workers": 0}, **values})


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_are_zero_for_the_same_and_grow(name):
    a, b = torch.rand(2, 3, 16, 24), torch.rand(2, 3, 16, 24)
    near, far = DISTANCES[name](a, a + 0.1 * (b - a)), DISTANCES[name](a, b)
    assert DISTANCES[name](a, a).item() == 0 and 0 < near < far


def test_the_laplacian_distance_is_that_of_numpy():
    a, b = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    x, total = (a - b)[0].double().numpy(), 0.0
    for level in range(3):
        coarse = x.reshape(3, x.shape[1] // 2, 2, x.shape[2] // 2, 2).mean((2, 4))
        total += 2 ** level * np.abs(x - coarse.repeat(2, 1).repeat(2, 2)).mean()
        x = coarse
    assert laplacian_distance(a, b).item() == pytest.approx((total + 8 * np.abs(x).mean()) / 4, rel=1e-5)


def test_the_fourier_distance_is_that_of_numpy():
    a, b = torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    x = (a - b)[0].double().numpy()
    spectrum = np.abs(np.fft.rfft2(x, norm="ortho")).mean()
    assert fourier_distance(a, b).item() == pytest.approx((np.abs(x).mean() + spectrum) / 2, rel=1e-5)


def test_a_painters_gradient_and_its_critics_are_apart():
    torch.manual_seed(0)
    spec = Spec("gated", width=3, adversarial=0.5)
    painter, items = Painter(spec), torch.rand(2, 4, 32, 32)
    items[:, 3:] = (items[:, 3:] > 0.7).float()
    painted, by_network, of_painting, of_photo = painter.logits(items)

    def gradients(loss) -> tuple[bool, bool]:
        painter.zero_grad()
        loss.backward(retain_graph=True)
        return tuple(any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
                     for module in (painter.network, painter.critic))

    assert gradients(by_network.mean()) == (True, False)
    assert gradients(of_painting.mean()) == (False, True)
    assert gradients(of_photo.mean()) == (False, True)
    assert gradients(painting_loss(spec, (painted, by_network, of_painting, of_photo), items)) == (True, True)
    # Spectral norms are refined at each call.
    assert torch.allclose(by_network, of_painting, atol=0.05)
    painter.eval()
    assert len(painter.logits(items)) == 1


def test_quality_is_measured_inside_of_the_hole_alone():
    class Fixed(torch.nn.Module):
        def logits(self, items):
            return (items[:, :3] + torch.where(items[:, 3:] > 0, 0.1, 0.5),)

    items = torch.full((2, 4, 8, 8), 0.2)
    items[:, 3] = torch.eye(8)
    assert validate(Fixed(), [(items, items)], torch.device("cpu"))["val_psnr"] == pytest.approx(20, abs=1e-3)


def test_items_are_a_picture_with_its_mask(photos):
    item, target = PaintingDataset(photos, 32, None, 0, "x", 4)[3]
    assert item.shape == (4, 32, 32) and torch.equal(item, target)
    assert item.min() >= 0 and item.max() <= 1 and set(item[3].unique().tolist()) == {0.0, 1.0}


def test_training_makes_the_loss_smaller(photos, tmp_path):
    path = tmp_path / "T.safetensors"
    long = Budget(epochs=3, steps=20, batch_size=4, size=32, validation_images=4, learning_rate=5e-3)
    quality = train_inpainter("T", TINY, long, config(), photos, photos, path)
    short = train_inpainter("T", TINY, BUDGET, config(), photos, photos, tmp_path / "S.safetensors")
    assert quality > short + 1
    assert describe(path)["trained"]["val_psnr"] == quality
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")] == []
    assert load_network(path)[0] == TINY
    written = path.stat().st_mtime_ns
    assert train_inpainter("T", TINY, long, config(), photos, photos, path) == quality
    for spec, budget, seed in ((TINY, BUDGET, 0), (replace(TINY, up="bilinear"), long, 0), (TINY, long, 1)):
        with pytest.raises(UserError, match="another shape or training"):
            train_inpainter("T", spec, budget, config(seed=seed), photos, photos, path)
    assert path.stat().st_mtime_ns == written


def test_an_interrupted_training_ends_in_the_same_weights(photos, tmp_path, monkeypatch):
    spec = Spec("gated", width=3, adversarial=0.1)
    straight = config(checkpoint_seconds=0.0)
    train_inpainter("T", spec, BUDGET, straight, photos, photos, tmp_path / "whole" / "T.safetensors")
    real, calls = trainer.check_finite, []

    def interrupt(loss, step, section):
        calls.append(step)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(loss, step, section)

    monkeypatch.setattr(trainer, "check_finite", interrupt)
    path = tmp_path / "cut" / "T.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train_inpainter("T", spec, BUDGET, straight, photos, photos, path)
    train_inpainter("T", spec, BUDGET, straight, photos, photos, path)
    assert calls == [0, 1, 2, 3, 4, 4, 5]
    assert path.read_bytes() == (tmp_path / "whole" / "T.safetensors").read_bytes()
