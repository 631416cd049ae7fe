"""Pre-training of ManTraNet's trace extractor: that it learns, survives an interruption, and reaches ManTraNet."""

import json
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from configs.errors import UserError
from configs.files import read_rows
from configs.schema import Photos, RunConfig
from detectors.mantranet import ManTraNet
from forgeries.manipulations import FAMILIES, manipulation_classes
from forgeries.patches import PatchDataset
from forgeries.photos import find_photos
from retrain import pretrain, stage, trainer
from retrain.stage import run_retrain

PHOTOS = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)
TINY = {"epochs": 2, "steps": 2, "batch_size": 2, "classes": 8, "patch": 32, "validation_patches": 8}


@pytest.fixture(autouse=True)
def one_thread():
    """Several are slower on pictures this small, the more so beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def configure(detectors=("mantranet",), **settings):
    return RunConfig.model_validate({
        "device": "cpu", "seed": 3, "checkpoint_seconds": 0.0, "photos": {"shrink": [0.25, 0.5]},
        "forgeries": {"methods": ["TE"], "image_size": 32, "workers": 0},
        "space": {"cells": 1, "slots": 1, "channels": [64], "strides": [2], "dilations": [1]},
        "retrain": {"detectors": list(detectors), "epochs": 1, "steps": 2, "batch_size": 2, "validation_images": 2,
                    "width": 0.0625, "pretrain": TINY | settings}})


def train(folder, config=None, photos=PHOTOS):
    torch.manual_seed(0)
    traces = ManTraNet(0.0625).traces
    with SummaryWriter(str(folder / "board")) as board:
        return traces, pretrain.pretrain("mantranet", traces, config or configure(), photos, folder, board)


def interrupt(monkeypatch, module, name, call):
    whole, calls = getattr(module, name), count(1)

    def broken(*arguments):
        if next(calls) == call:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(module, name, broken)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_it_learns_to_tell_manipulations_of_other_photographs(tmp_path):
    config = configure(epochs=3, steps=50, batch_size=16, validation_patches=200, learning_rate=2e-3)
    _, trained = train(tmp_path, config, find_photos(Photos(), 32))
    # Chance is 1/8 with a standard deviation of 0.023.
    assert trained.figures["val_accuracy"] > 0.25
    rows = read_rows(tmp_path / "history.csv")
    assert float(rows[-1]["train_loss"]) < 0.9 * float(rows[0]["train_loss"])
    assert list(rows[0]) == ["epoch", "train_loss", "val_loss", "val_accuracy", "val_family_accuracy", "val_pristine",
                             *(f"val_{family}" for family in FAMILIES), "learning_rate",
                             "gradient_norm"]


# Before anything is saved, within an epoch, between epochs, in validation, and when all is trained.
@pytest.mark.parametrize("module, name, call", [
    (trainer, "learning_rate", 1), (trainer, "learning_rate", 2), (trainer, "learning_rate", 3),
    (pretrain, "validate", 2), (trainer, "write_rows", 1)])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(module, name, call, tmp_path, monkeypatch):
    traces, expected = train(tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, module, name, call)
        train(tmp_path / "broken")
    resumed, found = train(tmp_path / "broken")
    assert (found.epoch, found.figures) == (expected.epoch, expected.figures) and equal(found.state, expected.state)
    assert equal(resumed.state_dict(), traces.state_dict())
    assert (tmp_path / "broken" / "history.csv").read_bytes() == (tmp_path / "whole" / "history.csv").read_bytes()


def test_the_best_epochs_weights_are_left_in_the_extractor(tmp_path, monkeypatch):
    states, scores = [], iter([0.3, 0.6, 0.6])

    def validate(classes, network, *_):
        states.append({key: value.clone() for key, value in network.traces.state_dict().items()})
        return {"val_accuracy": next(scores)}

    monkeypatch.setattr(pretrain, "validate", validate)
    traces, trained = train(tmp_path, configure(epochs=3))
    assert trained.epoch == 2 and equal(traces.state_dict(), states[1]) and not equal(states[1], states[2])


def test_mantranet_alone_is_pretrained_and_says_so(tmp_path, monkeypatch):
    results, whole = [], pretrain.pretrain
    monkeypatch.setattr(stage, "pretrain", lambda *arguments: results.append(whole(*arguments)) or results[-1])
    run_retrain(configure(["giidnet-random", "mantranet"]), tmp_path, PHOTOS)
    run_retrain(configure(["giidnet-random", "mantranet"], epochs=0), tmp_path / "scratch", PHOTOS)
    assert len(results) == 1
    described = {place: {name: json.loads((place / "retrain" / name / "model.json").read_text())["provenance"]
                         for name in ("giidnet-random", "mantranet")} for place in (tmp_path, tmp_path / "scratch")}
    found = described[tmp_path]["mantranet"]["pretrain"]
    assert {key: found[key] for key in TINY} == TINY and found["best_epoch"] == results[0].epoch
    rows = read_rows(tmp_path / "retrain" / "mantranet" / "pretrain" / "history.csv")
    assert found["val_accuracy"] == pytest.approx(max(float(row["val_accuracy"]) for row in rows))
    assert described[tmp_path]["giidnet-random"]["pretrain"] is None
    assert described[tmp_path / "scratch"]["mantranet"]["pretrain"] is None
    assert [path.name for path in (tmp_path / "retrain").rglob("pretrain")] == ["pretrain"]
    assert not list(tmp_path.rglob("checkpoint.pt")) and not list((tmp_path / "scratch").rglob("pretrain"))


def test_training_starts_from_the_pretrained_weights(tmp_path, monkeypatch):
    starts = []
    monkeypatch.setattr(stage, "train", lambda name, module, *_: starts.append(
        {key: value.clone() for key, value in module.state_dict().items()}) or 1 / 0)
    for folder, epochs in (("pretrained", 2), ("scratch", 0)):
        with pytest.raises(ZeroDivisionError):
            run_retrain(configure(epochs=epochs), tmp_path / folder, PHOTOS)
    kept = torch.load(tmp_path / "pretrained" / "retrain" / "mantranet" / "pretrain" / "checkpoint.pt")["best"]["state"]
    ours, scratch = starts
    traces = {key: value for key, value in ours.items() if key.startswith("traces.")}
    assert equal(traces, {key: value for key, value in kept.items() if key.startswith("traces.")})
    changed = {key for key in ours if not torch.equal(ours[key], scratch[key])}
    assert changed == set(traces) - {"traces.srm"}


def test_a_finished_pretraining_is_not_done_again(tmp_path, monkeypatch):
    run_retrain(configure(), tmp_path / "whole", PHOTOS)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, trainer, "training_loss", 2)
        run_retrain(configure(), tmp_path / "broken", PHOTOS)
    monkeypatch.setattr(PatchDataset, "__getitem__", lambda *_: 1 / 0)
    run_retrain(configure(), tmp_path / "broken", PHOTOS)
    for file in ("model.json", "model.safetensors", "history.csv", "pretrain/history.csv"):
        ours, theirs = ((tmp_path / name / "retrain" / "mantranet" / file).read_bytes() for name in ("broken", "whole"))
        assert ours == theirs, file


def test_figures_are_those_of_their_definition():
    class Answers(nn.Module):
        def logits(self, patches):
            return patches

    classes = manipulation_classes(9)
    families = [entry.family for entry in classes]
    assert families[:3] == ["pristine", "blurring", "blurring"]
    # Right, the other blurring, noise for pristine.
    answers, targets = torch.tensor([1, 2, families.index("noise")]), torch.tensor([1, 1, 0])
    logits = 3 * F.one_hot(answers, 9).float()
    batches = [(logits[:2], targets[:2]), (logits[2:], targets[2:])]
    figures = pretrain.validate(classes, Answers(), batches, torch.device("cpu"))
    assert figures == pytest.approx({
        "val_loss": F.cross_entropy(logits, targets).item(), "val_accuracy": 1 / 3, "val_family_accuracy": 2 / 3,
        "val_blurring": 1 / 2, "val_pristine": 0})


@pytest.mark.parametrize("steps, expected", [(3, r"became (nan|inf) at step \d; "), (1, r"not finite; ")])
def test_divergence_is_told_in_one_line(steps, expected, tmp_path):
    with pytest.raises(UserError, match=expected + r"lower retrain\.pretrain\.learning_rate"):
        train(tmp_path, configure(steps=steps, learning_rate=1e30))
