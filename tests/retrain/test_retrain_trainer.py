"""One training run: the learning rate, an interruption, and whose weights are returned."""

from copy import deepcopy
from itertools import count, pairwise
from pathlib import Path

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from configs.errors import UserError
from configs.files import read_rows
from configs.schema import Loss, Photos, RunConfig
from forgeries.photos import find_photos
from retrain import trainer
from retrain.losses import training_loss
from retrain.optimisation import learning_rate

PHOTOS = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)


class Tiny(nn.Module):
    """Has what makes resuming hard: running statistics, and weights that matter to the next step."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1))

    def logits(self, images):
        return self.layers(images)


def configure(**retrain):
    return RunConfig.model_validate({
        "device": "cpu", "checkpoint_seconds": 0.0,
        "forgeries": {"methods": ["TE"], "image_size": 32, "workers": 0},
        "retrain": {"epochs": 3, "steps": 2, "batch_size": 2, "validation_images": 3, "learning_rate": 1e-2} | retrain})


def train(folder, config=None, module=None):
    with SummaryWriter(str(folder / "board")) as board:
        return trainer.train("tiny", module or Tiny(), config or configure(), PHOTOS, folder, board)


def interrupt(monkeypatch, name, call):
    whole, calls = getattr(trainer, name), count(1)

    def broken(*arguments):
        if next(calls) == call:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(trainer, name, broken)


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("total", [1, 7, 40, 1000])
def test_learning_rate_rises_to_its_peak_and_falls_to_a_hundredth(total):
    rates = [learning_rate(step, total, 0.5) for step in range(total)]
    warm = max(1, round(total / 20))
    assert rates[0] == pytest.approx(0.5 / warm) and rates[warm - 1] == max(rates) == 0.5
    assert all(a < b for a, b in pairwise(rates[:warm])) and all(a > b for a, b in pairwise(rates[warm:]))
    if total > 1:
        assert learning_rate(total, total, 0.5) == pytest.approx(0.5 / 100)
        assert learning_rate((total + warm) / 2, total, 0.5) == pytest.approx(0.5 * (1 + 0.01) / 2)


def test_a_step_is_taken_at_the_warm_up_rate_with_a_gradient_of_length_one(tmp_path, monkeypatch):
    module = Tiny()
    before = [parameter.detach().clone() for parameter in module.parameters()]
    monkeypatch.setattr(trainer, "training_loss", lambda *arguments: 1e3 * training_loss(*arguments))
    interrupt(monkeypatch, "training_loss", 2)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, configure(epochs=1, steps=80), module)
    step = max((new - old).abs().max().item() for new, old in zip(module.parameters(), before, strict=True))
    # Adam's first step is its rate, here a quarter of the peak, wherever the gradient is not tiny.
    assert step == pytest.approx(1e-2 / 4, rel=1e-2)
    gradient = torch.cat([parameter.grad.flatten() for parameter in module.parameters()])
    assert gradient.norm().item() == pytest.approx(1, rel=1e-4)


# Before anything is saved, within an epoch, between epochs, in validation, and when all is trained.
@pytest.mark.parametrize("name, call", [("learning_rate", 1), ("learning_rate", 4), ("learning_rate", 5),
                                        ("validate", 2), ("write_rows", 1)])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(name, call, tmp_path, monkeypatch):
    config = configure()
    expected, final = train(tmp_path / "whole", config), tmp_path / "whole" / "checkpoint.pt"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, name, call)
        train(tmp_path / "broken", config)
    found = train(tmp_path / "broken", config)
    assert (found.epoch, found.figures) == (expected.epoch, expected.figures) and equal(found.state, expected.state)
    assert (tmp_path / "broken" / "history.csv").read_bytes() == (tmp_path / "whole" / "history.csv").read_bytes()
    last, resumed = (torch.load(path)["module"] for path in (final, tmp_path / "broken" / "checkpoint.pt"))
    assert equal(last, resumed) and not equal(last, Tiny().state_dict())


def test_the_best_epochs_weights_are_returned_the_first_of_equals(tmp_path, monkeypatch):
    module, scores, states = Tiny(), iter([0.6, 0.9, 0.7, 0.9]), []

    def validate(*_):
        states.append({key: value.clone() for key, value in module.state_dict().items()})
        return {"val_loss": 1.0, "val_auc": next(scores)}

    monkeypatch.setattr(trainer, "validate", validate)
    trained = train(tmp_path, configure(epochs=4), module)
    assert (trained.epoch, trained.figures["val_auc"]) == (2, 0.9)
    assert equal(trained.state, states[1]) and not equal(states[1], states[3])
    rows = read_rows(tmp_path / "history.csv")
    assert [(row["epoch"], float(row["val_auc"])) for row in rows] == [("1", 0.6), ("2", 0.9), ("3", 0.7), ("4", 0.9)]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(
        [learning_rate(step, 8, 1e-2) for step in (1, 3, 5, 7)])


def test_training_lowers_the_loss(tmp_path):
    train(tmp_path, configure(epochs=2, steps=30))
    first, second = read_rows(tmp_path / "history.csv")
    assert float(second["train_loss"]) < 0.95 * float(first["train_loss"])


def test_validation_is_that_of_scikit_learn_in_eval_mode_and_moves_nothing():
    module = Tiny()
    before, terms = deepcopy(module).eval(), Loss(focal_weight=2.0)
    batches = [(torch.rand(size, 3, 32, 32), torch.eye(32).expand(size, 1, 32, 32)) for size in (2, 1)]
    figures = trainer.validate(module, batches, torch.device("cpu"), terms)
    with torch.no_grad():
        logits = [(before.logits(images), masks) for images, masks in batches]
    scores = [roc_auc_score(mask.ravel(), one.ravel()) for maps, masks in logits
              for one, mask in zip(maps, masks, strict=True)]
    assert figures["val_auc"] == pytest.approx(sum(scores) / 3)
    assert figures["val_loss"] == pytest.approx(sum(training_loss(*case, terms).item() for case in logits) / 2)
    assert equal(module.state_dict(), before.state_dict()) and module.training


@pytest.mark.parametrize("steps, expected", [(3, r"became (nan|inf) at step \d; "), (1, r"not finite; ")])
def test_divergence_in_an_epoch_and_in_its_last_step_is_told_in_one_line(steps, expected, tmp_path):
    with pytest.raises(UserError, match=expected + r"lower retrain\.learning_rate") as error:
        train(tmp_path, configure(steps=steps, learning_rate=1e30))
    assert "\n" not in str(error.value) and not (tmp_path / "history.csv").exists()
