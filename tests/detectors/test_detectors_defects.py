"""Defects of the published network that giidnet can be given: together they are that network."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectors_small import small_options
from golden import published_network

from configs.errors import UserError
from configs.schema import Photos, RunConfig
from detectors import DEFECTS, create_detector
from detectors.checkpoints import load_detector
from forgeries.photos import find_photos
from retrain.stage import run_retrain

SHOWN = ["bayar-first-channel", "align-corners", "stretched-map"]
PUBLISHED = [*SHOWN, "batch-attention"]


def network(*defects):
    """In eval mode, with the same weights and batch statistics for any defects, and with images to look at."""
    torch.manual_seed(0)
    module = create_detector("giidnet", **small_options("giidnet"), defects=defects).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if key.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return module, torch.rand(3, 3, 40, 56, generator=generator)


@pytest.mark.parametrize("height, width", [(64, 64), (70, 90)])
def test_all_together_are_the_published_network(height, width):
    """Which has channels in the opposite order, and a kernel for each channel where ours has one for all."""
    published, _ = published_network("iid-net")
    kernels = published.decision.attention[1].kernel
    kernels.copy_(kernels[:1].clone().expand_as(kernels))
    state = published.state_dict() | {"decision.attention.1.kernel": kernels[:1]}
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for defects, equal in ((PUBLISHED, True), *((set(PUBLISHED) - {name}, False) for name in SHOWN)):
            ours = create_detector("giidnet", defects=defects).eval()
            ours.load_state_dict(state)
            assert torch.allclose(ours(images), published(images.flip(1)), atol=1e-5) is equal, defects


@pytest.mark.parametrize("defect", DEFECTS)
def test_initial_weights_are_those_without(defect):
    (plain, _), (defective, _) = network(), network(defect)
    assert all(torch.equal(value, defective.state_dict()[key]) for key, value in plain.state_dict().items())


def test_neighbours_in_the_batch_matter_with_batch_attention_alone():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 32, 6, 6, generator=generator)
    # All positions of the first picture are alike, those of the second differ.
    features[0] = features[0, :, :1, :1]
    for defects, alone in (((), True), (("batch-attention",), False)):
        attention = network(*defects)[0].decision.attention[0]
        assert torch.allclose(attention(features)[1:], attention(features[1:]), atol=1e-5) is alone


def test_weights_that_are_written_back_grow_in_training_alone():
    module, images = network("bayar-write-back")
    bayar = module.enhancement.streams["bayar"]
    start = bayar.weight.detach().clone()
    with torch.no_grad():
        module(images)
    assert torch.equal(bayar.weight, start)
    module.train()
    for _ in range(2):
        module.enhancement(images)
    # All but the centres of the second and third kernels; the first is divided by its sum each time.
    away = torch.ones(5, 5)
    away[2, 2] = 0
    torch.testing.assert_close(bayar.weight[1:], start[1:] * 1e8 * away)
    torch.testing.assert_close(bayar.weight[0, :, 2, 2], -torch.ones(3))
    torch.testing.assert_close((bayar.weight[0] * away).sum((1, 2)), torch.ones(3))
    assert bayar(images).requires_grad


def test_an_unknown_defect_is_told():
    with pytest.raises(UserError, match="defect 'bayar': unknown; known are bayar-first-channel"):
        create_detector("giidnet", defects=["bayar"])


@pytest.mark.parametrize("defects", [[], ["double-sigmoid", "align-corners"]])
def test_a_checkpoint_keeps_the_defects_of_its_network(defects, tmp_path):
    photos = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)
    config = RunConfig.model_validate({
        "device": "cpu", "forgeries": {"methods": ["TE"], "image_size": 32, "workers": 0},
        "space": {"cells": 1, "slots": 1, "channels": [64], "strides": [1], "dilations": [1]},
        "retrain": {"epochs": 1, "steps": 1, "batch_size": 2, "validation_images": 2, "width": 0.0625, "pictures": 0,
                    "detectors": ["giidnet-random"], "defects": defects}})
    run_retrain(config, tmp_path, photos)
    found = load_detector(tmp_path / "retrain" / "giidnet-random")
    assert list(found.options.get("defects", [])) == [name for name in defects if name in DEFECTS]
    assert found.module.decision.align_corners is bool(defects)
    assert found.provenance["config"]["retrain"]["defects"] == defects
    assert ("defects" in found.options) is bool(defects) and np.isfinite(found.provenance["val_auc"])
