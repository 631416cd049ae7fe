"""Fixed pictures in TensorBoard: which forgeries, and that picture, mask and map stand side by side."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from configs.schema import Photos, RunConfig
from forgeries.dataset import ForgeryDataset, Recipe
from forgeries.photos import find_photos
from retrain import trainer
from retrain.shown import draw_maps, fixed_forgeries

PHOTOS = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)


class Red(nn.Module):
    """Maps that are known: the red channel, in eval mode alone."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def logits(self, images):
        return torch.logit(images[:, :1].clamp(1e-4, 1 - 1e-4)) * self.scale * (1 if not self.training else 0)


def configure(size=32, **retrain):
    return RunConfig.model_validate({
        "device": "cpu", "forgeries": {"methods": ["TE", "NS"], "image_size": size, "workers": 0},
        "retrain": {"epochs": 2, "steps": 1, "batch_size": 2, "validation_images": 2,
                    "learning_rate": 1e-12} | retrain})


def board_of(folder, config):
    with SummaryWriter(str(folder)) as board:
        trainer.train("net", Red(), config, PHOTOS, folder, board)
    return EventAccumulator(str(folder), size_guidance={"images": 0}).Reload()


def test_each_epoch_shows_the_same_pictures_with_masks_and_maps(tmp_path):
    config = configure(pictures=3, validation_methods=["HD", "PM"])
    shown = board_of(tmp_path, config).Images("retrain/net/pictures")
    assert [event.step for event in shown] == [1, 2]
    expected = ForgeryDataset(PHOTOS.val, Recipe.of(config), config.seed, "validate", 3, balanced=True, flip=False,
                              turns=["HD", "PM"])
    for event in shown:
        found = cv2.imdecode(np.frombuffer(event.encoded_image_string, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert found.shape == (3 * 32, 3 * 32, 3)
        for number in range(3):
            forgery, row = expected.forgery(number), found[32 * number:][:32]
            assert (row[:, :32] == forgery.image).all()
            assert (row[:, 32:64] == 255 * forgery.mask[..., None]).all()
            assert np.abs(row[:, 64:].astype(int) - forgery.image[..., :1]).max() <= 1


def test_none_are_shown_where_none_are_wanted_and_training_is_the_same(tmp_path):
    board = board_of(tmp_path / "none", configure(pictures=0))
    assert not board.Tags()["images"]
    assert board_of(tmp_path / "some", configure()).Tags()["images"] == ["retrain/net/pictures"]
    assert (tmp_path / "none" / "history.csv").read_bytes() == (tmp_path / "some" / "history.csv").read_bytes()


@pytest.mark.parametrize("count, expected", [(1, "A"), (2, "AC"), (3, "ABD"), (5, "ABCDE"), (7, "ABCDEAB")])
def test_methods_take_turns_evenly(count, expected, monkeypatch):
    monkeypatch.setattr(ForgeryDataset, "__getitem__", lambda self, i: self.turns[i % len(self.turns)])
    assert "".join(fixed_forgeries([], Recipe.of(configure()), 0, list("ABCDE"), count)) == expected


def test_large_pictures_are_shown_small_and_the_mode_stays():
    forgeries = fixed_forgeries(PHOTOS.val, Recipe.of(configure(size=192)), 0, ["TE"], 2)
    for network in (Red().train(), Red().eval()):
        training = network.training
        found = draw_maps(network, forgeries, torch.device("cpu"))
        assert found.shape == (2 * 128, 3 * 128, 3) and found.dtype == np.uint8 and network.training is training
    image = (forgeries[0][0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    assert (found[:128, :128] == cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA)).all()
