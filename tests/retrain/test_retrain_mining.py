"""Hard-example sampling: what an epoch repeats, against losses that are computed apart, and a resumed training."""

from itertools import count, pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric import Fabric
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from configs.schema import Photos, RunConfig
from forgeries import dataset
from forgeries.dataset import ForgeryDataset, Recipe
from forgeries.photos import find_photos
from retrain import trainer
from retrain.losses import training_loss
from retrain.mining import HardExamples

PHOTOS = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)
LENGTH = 8


class Network(nn.Module):
    """With running statistics that do not enter its logits: a picture's loss is its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 1, 3, padding=1), nn.BatchNorm2d(3)

    def logits(self, images):
        self.norm(images)
        return self.conv(images)


def configure(share, workers=0, **retrain):
    return RunConfig.model_validate({
        "device": "cpu", "checkpoint_seconds": 0.0,
        "forgeries": {"methods": ["TE"], "image_size": 32, "workers": workers},
        "retrain": {"epochs": 3, "steps": 2, "batch_size": 2, "accumulate": 2, "validation_images": 2,
                    "learning_rate": 1e-2, "hard_examples": share} | retrain})


def train(folder, config):
    with SummaryWriter(str(folder / "board")) as board:
        return trainer.train("net", Network(), config, PHOTOS, folder, board)


def painted(monkeypatch):
    """(epoch, index) of training forgeries, in the order in which they are made."""
    made, forge = [], dataset.make_forgery

    def spy(photos, recipe, seed, stream_name, epoch, index, **named):
        if stream_name == "train":
            made.append((epoch, index))
        return forge(photos, recipe, seed, stream_name, epoch, index, **named)

    monkeypatch.setattr(dataset, "make_forgery", spy)
    return made


def test_an_epoch_repeats_the_hardest_of_the_one_before(tmp_path, monkeypatch):
    made = painted(monkeypatch)
    # At no rate to speak of, the losses of training are those of the first weights.
    config = configure(0.4, learning_rate=1e-30)
    train(tmp_path, config)
    epochs = [made[start:start + LENGTH] for start in range(0, 3 * LENGTH, LENGTH)]
    assert epochs[0] == [(0, index) for index in range(LENGTH)]
    items = ForgeryDataset(PHOTOS.train, Recipe.of(config), config.seed, "train", LENGTH, 3)
    for before, number in zip(epochs, (1, 2), strict=False):
        batches = [items[epoch * LENGTH + index] for epoch, index in before]
        losses = [training_loss(Network().logits(image[None]), mask[None]).item() for image, mask in batches]
        hardest = sorted(before, key=lambda case, losses=losses, before=before: -losses[before.index(case)])[:3]
        found = [case for case in epochs[number] if case[0] < number]
        assert sorted(found) == sorted(hardest) and found == sorted(found)
        # The others are new ones, those of their places.
        assert all(case in found or case == (number, place) for place, case in enumerate(epochs[number]))
    assert any(epoch == 0 for epoch, _ in epochs[2])


def test_no_share_is_the_training_without(tmp_path, monkeypatch):
    made = painted(monkeypatch)
    plain = train(tmp_path / "plain", configure(0.0))
    # A share that is less than a picture repeats none, and noting losses changes nothing.
    noted = train(tmp_path / "noted", configure(0.1))
    assert made[:24] == made[24:] == [(epoch, index) for epoch in range(3) for index in range(LENGTH)]
    assert all(torch.equal(plain.state[key], noted.state[key]) for key in plain.state)


@pytest.mark.parametrize("name, call", [("training_loss", 30),
                                        ("check_finite", 4), ("validate", 2), ("check_finite", 6)])
def test_an_interrupted_training_repeats_the_same(name, call, tmp_path, monkeypatch):
    expected = train(tmp_path / "whole", configure(0.5))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        whole, calls = getattr(trainer, name), count(1)

        def broken(*arguments):
            if next(calls) == call:
                raise KeyboardInterrupt
            return whole(*arguments)

        patch.setattr(trainer, name, broken)
        train(tmp_path / "broken", configure(0.5))
    # With loader processes as without.
    found = train(tmp_path / "broken", configure(0.5, workers=1))
    assert all(torch.equal(expected.state[key], found.state[key]) for key in expected.state)
    assert (tmp_path / "whole" / "history.csv").read_bytes() == (tmp_path / "broken" / "history.csv").read_bytes()
    plain = train(tmp_path / "plain", configure(0.0))
    assert not all(torch.equal(plain.state[key], found.state[key]) for key in plain.state)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.floats(0, 0.99), st.integers(0, 2**32 - 1))
def test_repetitions_are_the_share_spread_evenly(length, share, seed):
    items = ForgeryDataset([], Recipe.of(configure(0.0)), 0, "train", length, 5)
    hard = HardExamples(items, lambda logits, _: logits.mean(), share)
    losses = torch.rand(length, generator=torch.Generator().manual_seed(seed))
    # Of the first half an attempt fails after one picture.
    hard.loss(torch.full((1, 1, 1, 1), 9.0), torch.zeros(1, 1, 1, 1))
    for start in range(length):
        hard.loss(losses[start].view(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
        hard.end_step(Fabric(accelerator="cpu", devices=1), 1)
    replaced = hard.items().replaced
    assert list(replaced.values()) == sorted(losses.argsort(descending=True)[:int(share * length)].tolist())
    places = list(replaced)
    assert all(length <= place < 2 * length for place in places) and len(hard.items()) == 2 * length
    if len(places) > 1:
        gaps = [second - first for first, second in pairwise(places)]
        assert max(gaps) - min(gaps) <= 1 and places == sorted(places)
