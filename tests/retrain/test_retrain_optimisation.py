"""How weights follow from gradients: parts of a step, averages, schedules, the end of a training, and resuming it."""

from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Normed, Plain
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from configs.errors import UserError
from configs.files import read_rows
from configs.load import load_config
from configs.schema import Optimisation, Photos, RunConfig
from forgeries.dataset import ForgeryDataset
from forgeries.photos import find_photos
from results.guards import methods_known, seen_methods
from retrain import trainer
from retrain.losses import training_loss
from retrain.optimisation import make_optimizer, update_average
from retrain.stage import provenance
from retrain.trainer import Trained

PHOTOS = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)
EVERYTHING = {"optimizer": "adamw", "weight_decay": 0.05, "accumulate": 2, "clip_norm": 0.5, "ema": 0.9, "patience": 3,
              "schedule": "plateau", "plateau_patience": 0, "validation_methods": ["NS", "PM"]}


def configure(**retrain):
    return RunConfig.model_validate({
        "device": "cpu", "checkpoint_seconds": 0.0,
        "forgeries": {"methods": ["TE"], "image_size": 32, "workers": 0},
        "retrain": {"epochs": 3, "steps": 2, "batch_size": 2, "validation_images": 4, "learning_rate": 1e-2} | retrain})


def train(folder, module, **retrain):
    with SummaryWriter(str(folder / "board")) as board:
        return trainer.train("net", module, configure(**retrain), PHOTOS, folder, board)


def fake_scores(monkeypatch, scores):
    """Validation gives these, one after the other; returns what it was given."""
    given_scores, states = iter(scores), []

    def validate(network, *_):
        states.append({key: value.clone() for key, value in network.state_dict().items()})
        return {"val_loss": 1.0, "val_auc": next(given_scores)}

    monkeypatch.setattr(trainer, "validate", validate)
    return states


def column(folder, name):
    return [float(row[name]) for row in read_rows(folder / "history.csv")]


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_two_parts_of_four_are_a_batch_of_eight(tmp_path):
    whole = train(tmp_path / "whole", Plain(), batch_size=8)
    parts = train(tmp_path / "parts", Plain(), batch_size=4, accumulate=2)
    torch.testing.assert_close(parts.state, whole.state, rtol=1e-4, atol=1e-6)
    assert not equal(parts.state, train(tmp_path / "four", Plain(), batch_size=4).state)
    for name in ("train_loss", "gradient_norm", "val_auc"):
        assert column(tmp_path / "parts", name) == pytest.approx(column(tmp_path / "whole", name), rel=1e-4)


def test_the_average_is_its_plain_sum(tmp_path, monkeypatch):
    """Unrolled: the share of each step's weights in the average is a product of its and all later decays."""
    module, seen = Normed(), []
    start = {key: value.double().clone() for key, value in module.state_dict().items()}
    moved = trainer.update_average
    monkeypatch.setattr(trainer, "update_average", lambda average, current, decay, step: seen.append(
        {key: value.double().clone() for key, value in current.state_dict().items()})
        or moved(average, current, decay, step))
    validated = fake_scores(monkeypatch, [0.5, 0.6, 0.7])
    trained = train(tmp_path, module, ema=0.2)
    decays = np.minimum(0.2, [1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15])
    shares = [np.prod(decays), *((1 - decays[step]) * np.prod(decays[step + 1:]) for step in range(6))]
    assert sum(shares) == pytest.approx(1) and len(seen) == 6
    for key, value in trained.state.items():
        expected = seen[-1][key] if key.endswith("tracked") else \
            sum(share * state[key] for share, state in zip(shares, [start, *seen], strict=True))
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-7)
    # What was validated is what is kept, and the weights in training are others.
    assert trained.epoch == 3 and equal(validated[2], trained.state) and not equal(trained.state, module.state_dict())


def test_averaging_does_not_change_the_training(tmp_path):
    alone, averaged = Normed(), Normed()
    train(tmp_path / "alone", alone)
    train(tmp_path / "averaged", averaged, ema=0.99)
    assert equal(alone.state_dict(), averaged.state_dict())


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 0.999), st.integers(0, 10_000))
def test_an_average_of_equal_weights_stays(decay, step):
    average, module = Normed(), Normed()
    before = {key: value.clone() for key, value in average.state_dict().items()}
    update_average(average, module, decay, step)
    torch.testing.assert_close(average.state_dict(), before)


@pytest.mark.parametrize("patience, expected", [(0, [1, 1, .5, .5, .25, .125]), (1, [1, 1, 1, 1, 1, .5])])
def test_the_plateau_schedule_halves_the_rate_while_auc_does_not_rise(patience, expected, tmp_path, monkeypatch):
    scores = [0.5, 0.4, 0.6, 0.6, 0.55, 0.7]
    fake_scores(monkeypatch, scores)
    train(tmp_path, Plain(), epochs=6, schedule="plateau", plateau_patience=patience)
    assert column(tmp_path, "learning_rate") == pytest.approx([1e-2 * share for share in expected])
    reference = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1e-2)
    scheduler, rates = torch.optim.lr_scheduler.ReduceLROnPlateau(reference, "max", 0.5, patience), []
    for score in scores:
        rates.append(reference.param_groups[0]["lr"])
        scheduler.step(score)
    assert column(tmp_path, "learning_rate") == pytest.approx(rates)


def test_the_published_plateau_halves_the_rate_while_auc_rises(tmp_path, monkeypatch):
    fake_scores(monkeypatch, [0.5, 0.6, 0.7, 0.65, 0.4])
    train(tmp_path, Plain(), epochs=5, schedule="plateau", plateau_patience=0, defects=["plateau-minimises"])
    assert column(tmp_path, "learning_rate") == pytest.approx([1e-2, 1e-2, 5e-3, 2.5e-3, 1.25e-3])


def test_training_ends_when_no_epoch_is_better_and_says_how_long_it_was(tmp_path, monkeypatch):
    states = fake_scores(monkeypatch, [0.5, 0.7, 0.6, 0.7, 0.9])
    trained = train(tmp_path, Plain(), epochs=9, patience=2, accumulate=3)
    assert (trained.epoch, trained.epochs, len(states)) == (2, 4, 4) and equal(trained.state, states[1])
    assert column(tmp_path, "epoch") == [1, 2, 3, 4]
    told = provenance(configure(epochs=9, patience=2, accumulate=3), PHOTOS, trained, None)
    assert (told["epochs"], told["best_epoch"], told["pictures_seen"]) == (4, 2, 4 * 2 * 2 * 3)


def test_a_training_that_has_ended_is_not_continued(tmp_path, monkeypatch):
    fake_scores(monkeypatch, [0.5, 0.4])
    whole = trainer.write_rows
    monkeypatch.setattr(trainer, "write_rows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Plain(), patience=1)
    monkeypatch.setattr(trainer, "write_rows", whole)
    # As killed between the epoch's checkpoint and the last one.
    path = tmp_path / "checkpoint.pt"
    torch.save(torch.load(path) | {"step": 4}, path)
    assert train(tmp_path, Plain(), patience=1).epochs == 2 and column(tmp_path, "epoch") == [1, 2]


# In a step's first and second part, between steps, in validation, and when all is trained.
@pytest.mark.parametrize("name, call", [("training_loss", 3), ("training_loss", 4), ("update_average", 4),
                                        ("validate", 3), ("write_rows", 1)])
def test_an_interrupted_training_with_everything_on_ends_as_an_uninterrupted_one(name, call, tmp_path, monkeypatch):
    # Falling scores halve the rate each time, and end the training after its fourth epoch.
    scores, real = iter([0.9, 0.8, 0.7, 0.6, 0.5] * 3), trainer.validate

    def falling(network, *arguments):
        return real(network, *arguments) | {"val_auc": next(scores)}

    def start(folder, first):
        nonlocal scores
        scores = iter([0.9, 0.8, 0.7, 0.6, 0.5][first:])
        return train(folder, Normed(), epochs=5, **EVERYTHING)

    monkeypatch.setattr(trainer, "validate", falling)
    expected = start(tmp_path / "whole", 0)
    assert (expected.epoch, expected.epochs) == (1, 4)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        broken, calls = getattr(trainer, name), count(1)

        def interrupting(*arguments):
            if next(calls) == call:
                raise KeyboardInterrupt
            return broken(*arguments)

        patch.setattr(trainer, name, interrupting)
        start(tmp_path / "broken", 0)
    saved = torch.load(tmp_path / "broken" / "checkpoint.pt")
    found = start(tmp_path / "broken", len(saved["history"]))
    assert (found.epoch, found.figures, found.epochs) == (expected.epoch, expected.figures, expected.epochs)
    assert equal(found.state, expected.state)
    assert (tmp_path / "broken" / "history.csv").read_bytes() == (tmp_path / "whole" / "history.csv").read_bytes()
    first, second = (torch.load(tmp_path / folder / "checkpoint.pt") for folder in ("whole", "broken"))
    assert first["step"] == second["step"] and first["plateau"] == second["plateau"]
    assert equal(first["module"], second["module"]) and equal(first["average"], second["average"])
    assert not equal(first["module"], first["average"])


def test_adamw_decays_matrices_alone_and_adam_nothing():
    module = Normed()
    groups = make_optimizer(module, Optimisation(optimizer="adamw", weight_decay=0.3), 1e-2).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    assert {name: decay[id(parameter)] for name, parameter in module.named_parameters()} == {
        name: 0.3 if parameter.ndim == 4 else 0.0 for name, parameter in module.named_parameters()}
    assert {group["weight_decay"] for group in make_optimizer(module, Optimisation(), 1e-2).param_groups} == {0}


@pytest.mark.parametrize("limit, expected", [(0.125, 0.125), (None, None)])
def test_the_norm_is_that_before_clipping(limit, expected, tmp_path, monkeypatch):
    module, norms = Plain(), []
    moved = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self, *arguments, **named: norms.append(
        torch.cat([each.grad.flatten() for each in module.parameters()]).norm().item())
        or moved(self, *arguments, **named))
    monkeypatch.setattr(trainer, "training_loss", lambda *arguments: 100 * training_loss(*arguments))
    train(tmp_path, module, epochs=1, steps=3, clip_norm=limit)
    (told,) = column(tmp_path, "gradient_norm")
    assert told == pytest.approx(sorted(norms)[1]) if limit is None else norms == pytest.approx([limit] * 3, rel=1e-4)
    assert told > 1


def test_tensorboard_alone_tells_the_speed(tmp_path):
    train(tmp_path, Plain(), accumulate=2)
    board = EventAccumulator(str(tmp_path / "board")).Reload()
    prefix = "retrain/net/"
    assert [event.step for event in board.Scalars(f"{prefix}pictures_per_second")] == [1, 2, 3]
    assert all(event.value > 0 for event in board.Scalars(f"{prefix}pictures_per_second"))
    # Without loader processes, it waits while it forges.
    assert all(0 < event.value < 1 for event in board.Scalars(f"{prefix}waiting"))
    assert [event.value for event in board.Scalars(f"{prefix}gradient_norm")] == pytest.approx(
        column(tmp_path, "gradient_norm"))
    assert not {"pictures_per_second", "waiting"} & set(read_rows(tmp_path / "history.csv")[0])


@pytest.mark.parametrize("chosen, expected", [([], ["TE"] * 4), (["NS", "PM"], ["NS", "PM"] * 2)])
def test_validation_methods_paint_validation_pictures_in_turn_and_no_others(chosen, expected, tmp_path, monkeypatch):
    painted, forge = {"train": [], "validate": []}, ForgeryDataset.forgery

    def spy(self, i):
        found = forge(self, i)
        painted[self.stream_name].append(found.method)
        return found

    monkeypatch.setattr(ForgeryDataset, "forgery", spy)
    train(tmp_path, Plain(), validation_methods=chosen, pictures=0)
    assert painted == {"train": ["TE"] * 12, "validate": expected}


@pytest.mark.parametrize("selected", [None, {"methods": None, "photos": False}, {"methods": ["PM"], "photos": True}])
def test_methods_that_chose_the_epoch_count_as_seen(selected):
    trained = Trained({}, 1, {"val_auc": 0.5}, 3)
    assert "validation_methods" not in provenance(configure(), PHOTOS, trained, None)
    told = provenance(configure(validation_methods=["NS"]), PHOTOS, trained, None) | {"selected_on": selected}
    assert told["methods"] == ["TE"]
    assert methods_known(told) == ["TE", *(["PM"] if selected and selected["methods"] else []), "NS"]
    (mark,) = seen_methods("net", told, ["NS", "BH"])
    assert mark.what.endswith("or its epoch chosen on NS: these results are labelled seen")


@pytest.mark.parametrize("overrides, expected", [
    (["retrain.unseen_validation=true"], "needs retrain.validation_methods"),
    (["retrain.unseen_validation=true", "retrain.validation_methods=[NS,TE]"], "TE in both forgeries.methods and"),
    (["benchmark.protocol=matrix", "retrain.validation_methods=[NS]"], "matrix chooses the best epoch"),
    (["retrain.optimizer=adamw"], "give adamw a weight_decay"), (["retrain.weight_decay=0.1"], "and adam none"),
    (["retrain.accumulate=0"], "retrain.accumulate = 0"), (["retrain.ema=1.0"], "retrain.ema = 1"),
    (["retrain.optimizer=schedule-free"], "give schedule=constant"),
    (["retrain.optimizer=schedule-free", "retrain.schedule=constant", "retrain.ema=0.9"], "give schedule=constant and"),
    (["retrain.patience=0"], "retrain.patience = 0"), (["retrain.clip_norm=0.0"], "retrain.clip_norm = 0"),
    (["retrain.defects=[plateau-minimises]"], "plateau-minimises needs schedule plateau, not cosine"),
    (["retrain.defects=[double-sigmoid]", "retrain.focal_weight=0.0"], "double-sigmoid needs focal_weight above 0"),
    (["retrain.defects=[bayar]"], "retrain.defects.0 = 'bayar': must be 'double-sigmoid', "),
    (["retrain.schedule=step"], "'cosine', 'plateau' or 'constant'")])
def test_what_cannot_be_is_refused_in_one_line(overrides, expected):
    with pytest.raises(UserError) as error:
        load_config("quick", ["forgeries.methods=[TE]", *overrides])
    assert expected in str(error.value) and str(error.value).startswith("retrain") and "\n" not in str(error.value)


def test_unseen_validation_takes_other_methods():
    found = load_config("quick", ["forgeries.methods=[TE]", "retrain.unseen_validation=true",
                                  "retrain.validation_methods=[NS]"])
    assert found.retrain.validation_methods == ["NS"]
