"""Tuning: with a stand-in for the training, whose best values are known, and with trainings of seconds."""

import json
import math
import multiprocessing
from pathlib import Path

import optuna
import pytest
import torch
from filelock import FileLock

from configs.errors import UserError
from configs.files import read_rows, write_rows
from configs.load import dump_config, load_config
from configs.schema import Photos, RunConfig
from configs.storage import open_storage
from forgeries.dataset import ForgeryDataset
from forgeries.photos import find_photos
from giidnet import main, registries
from retrain import tune
from retrain.ranges import split_ranges
from retrain.tune import claim, importances, make_tuning, run_tuning
from search_space.genotype import Genotype, SpaceShape, write_genotype

DIRECTORY = Path(__file__).parent.parent / "data" / "photos"
PHOTOS = find_photos(Photos(dirs=[str(DIRECTORY)]), 32)
RANGES = ["retrain.learning_rate=log:1e-4..1e-1", "retrain.batch_size=2..9",
          "forgeries.methods=choice:[TE],[NS],[TE,NS]"]


def configure(**changes):
    return RunConfig.model_validate({
        "device": "cpu", "seed": 3, "checkpoint_seconds": 0, "photos": {"dirs": [str(DIRECTORY)]},
        "forgeries": {"methods": ["TE"], "image_size": 32, "workers": 0},
        "retrain": {"detectors": ["hpfcn"], "epochs": 2, "steps": 2, "batch_size": 2, "validation_images": 2,
                    "width": 0.0625}} | changes)


def tuning_of(folder, words=RANGES, **changes):
    return make_tuning(configure(**changes), split_ranges(words)[0], folder, registries())


def score(config):
    """Highest, 1, at a rate of 1e-2; the size of a batch matters little, methods not at all."""
    rate = math.log10(config.retrain.learning_rate)
    return 1 - (rate + 2) ** 2 / 4 - 1e-4 * config.retrain.batch_size


def stand_in(trainee, genotype, config, photos, out, board, title, protocol=None, validation=None, on_epoch=None):
    """A training of four epochs that ends with `score`."""
    for epoch in range(1, 5):
        on_epoch(epoch, {"val_auc": score(config) * epoch / 4})
    write_rows(out / "history.csv", ("epoch", "val_auc"), [
        {"epoch": epoch, "val_auc": score(config) * epoch / 4} for epoch in range(1, 5)])
    (out / "model.json").write_text(json.dumps({"provenance": {"val_auc": score(config)}}))
    (out / "model.safetensors").write_text("")


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(tune, "train_detector", stand_in)


def test_the_study_finds_the_best_values_and_what_matters(tmp_path, no_training):
    tuning = tuning_of(tmp_path)
    told = run_tuning(tuning, tmp_path, PHOTOS, 30)
    rows = read_rows(tmp_path / "tune" / "trials.csv")
    assert len(rows) == 30 and {row["state"] for row in rows} == {"complete", "pruned"}
    # What is pruned is told by its last epoch, and is none of the better half.
    complete = [float(row["val_auc"]) for row in rows if row["state"] == "complete"]
    assert all(row["epochs"] == "4" for row in rows if row["state"] == "complete")
    for row in rows:
        assert 1e-4 <= float(row["retrain.learning_rate"]) <= 1e-1 and 2 <= int(row["retrain.batch_size"]) <= 9
        if row["state"] == "pruned":
            ended = tuning.at({key: row[key] for key in tuning.ranges})
            assert float(row["val_auc"]) == pytest.approx(score(ended) * int(row["epochs"]) / 4, rel=1e-6)
            assert score(ended) < max(complete)
    best = load_config(tmp_path / "tune" / "best.yaml", names=registries())
    assert score(best) == pytest.approx(max(complete)) and score(best) > 0.95
    assert f"validation AUC {max(complete):.4f}" in told
    # All else is as it was given.
    values = {key: next(row for row in rows if row["val_auc"] == f"{max(complete):.9g}")[key] for key in tuning.ranges}
    assert best == tuning.at(values)
    importance = {row["key"]: float(row["importance"]) for row in read_rows(tmp_path / "tune" / "importance.csv")}
    assert next(iter(importance)) == "retrain.learning_rate" and importance["retrain.learning_rate"] > 0.5
    assert sum(importance.values()) == pytest.approx(1) and importance.keys() == tuning.ranges.keys()
    drawn = (tmp_path / "tune" / "importance.svg").read_text()
    assert drawn.startswith("<svg") and "xmlns" in drawn


FILES = ("trials.csv", "best.yaml", "importance.csv", "importance.svg", "study.yaml")


def test_the_same_command_gives_the_same_bytes_in_any_storage(tmp_path, no_training):
    first, second = tmp_path / "first", tmp_path / "second"
    run_tuning(tuning_of(first), first, PHOTOS, 8)
    # In two parts: N counts all trials.
    for count in (3, 8, 8):
        run_tuning(tuning_of(second), second, PHOTOS, count, "journal:trials.log")
        assert len(read_rows(second / "tune" / "trials.csv")) == count
    for name in FILES:
        assert (first / "tune" / name).read_bytes() == (second / "tune" / name).read_bytes(), name
    other = tmp_path / "other"
    run_tuning(tuning_of(other, seed=4), other, PHOTOS, 2)
    assert read_rows(other / "tune" / "trials.csv") != read_rows(first / "tune" / "trials.csv")[:2]


def test_trials_that_cannot_be_trained_are_counted_and_told(tmp_path, monkeypatch):
    def fails(trainee, genotype, config, *rest, **options):
        if config.retrain.batch_size > 5:
            raise torch.OutOfMemoryError("out of\nmemory")
        if config.retrain.batch_size > 3:
            raise UserError("the loss became nan")
        stand_in(trainee, genotype, config, *rest, **options)

    monkeypatch.setattr(tune, "train_detector", fails)
    told = run_tuning(tuning_of(tmp_path), tmp_path, PHOTOS, 10, "journal:trials.log")
    rows = read_rows(tmp_path / "tune" / "trials.csv")
    for row in rows:
        size = int(row["retrain.batch_size"])
        assert row["reason"] == ("out of memory" if size > 5 else "the loss became nan" if size > 3 else "")
        assert (row["state"] == "fail") == (size > 3)
    assert len(rows) == 10 and "fail" in told
    with pytest.raises(UserError, match=r"all 2 trials failed; the last: out of memory"):
        run_tuning(tuning_of(tmp_path / "none", ["retrain.batch_size=6..9"]), tmp_path / "none", PHOTOS, 2,
                   "journal:trials.log")


def test_a_killed_trial_is_continued_and_ends_as_if_nothing_had_happened(tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = RANGES[:1]
    run_tuning(tuning_of(whole, words), whole, PHOTOS, 2)
    train = tune.train_detector

    def dies(*arguments, on_epoch, **options):
        # At the end of the second epoch, after it was reported.
        def told(epoch, figures):
            on_epoch(epoch, figures)
            if epoch == 2:
                raise KeyboardInterrupt

        train(*arguments, on_epoch=told, **options)

    monkeypatch.setattr(tune, "train_detector", dies)
    with pytest.raises(KeyboardInterrupt):
        run_tuning(tuning_of(killed, words), killed, PHOTOS, 2)
    assert (killed / "tune" / "trial-0" / "checkpoint.pt").exists()
    steps = []
    monkeypatch.setattr(tune, "train_detector", train)
    monkeypatch.setattr("retrain.trainer.training_loss", count_calls(steps))
    run_tuning(tuning_of(killed, words), killed, PHOTOS, 2)
    # One step was lost with the epoch under way; and each validation has a loss too: 1 + 1, then 4 + 2.
    assert len(steps) == 8
    for name in ("trials.csv", "best.yaml", "trial-0/model.safetensors", "trial-0/history.csv", "trial-1/history.csv"):
        assert (whole / "tune" / name).read_bytes() == (killed / "tune" / name).read_bytes(), name
    assert not list(killed.rglob("checkpoint.pt"))


def test_a_lost_study_repeats_only_trainings_of_other_values(tmp_path, monkeypatch):
    trained = []

    def counted(trainee, genotype, config, photos, out, *rest, **options):
        trained.append(out.name)
        stand_in(trainee, genotype, config, photos, out, *rest, **options)

    monkeypatch.setattr(tune, "train_detector", counted)
    run_tuning(tuning_of(tmp_path), tmp_path, PHOTOS, 3, "journal:tune/study.log")
    before = [(tmp_path / "tune" / name).read_bytes() for name in ("best.yaml", "trials.csv")]
    (tmp_path / "tune" / "study.log").unlink()
    (tmp_path / "tune" / "trial-1" / "config.yaml").write_text("seed: 7")
    run_tuning(tuning_of(tmp_path), tmp_path, PHOTOS, 3, "journal:tune/study.log")
    assert trained == ["trial-0", "trial-1", "trial-2", "trial-1"]
    assert [(tmp_path / "tune" / name).read_bytes() for name in ("best.yaml", "trials.csv")] == before


def count_calls(calls):
    from retrain.losses import training_loss

    def loss(*arguments):
        calls.append(arguments)
        return training_loss(*arguments)

    return loss


def work(folder, count):
    tune.train_detector = stand_in
    run_tuning(tuning_of(folder), folder, PHOTOS, count)


def test_workers_share_the_trials(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(tmp_path, 12)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    rows = read_rows(tmp_path / "tune" / "trials.csv")
    assert [row["trial"] for row in rows] == [str(number) for number in range(12)]
    assert {row["state"] for row in rows} <= {"complete", "pruned"}
    # Nobody draws what another drew.
    assert len({row["retrain.learning_rate"] for row in rows}) == 12


def test_only_a_trial_whose_process_is_gone_is_taken_over(tmp_path):
    study = optuna.create_study(storage=open_storage("journal:log", tmp_path))
    study.ask()
    (tmp_path / "trial-0").mkdir()
    with FileLock(tmp_path / "trial-0" / ".lock"), claim(study, tmp_path, 2) as trial:
        assert trial.number == 1
        with claim(study, tmp_path, 2) as nothing:
            assert nothing is None
    with claim(study, tmp_path, 2) as trial:
        assert trial.number == 0
        study.tell(trial, 1.0)
    with claim(study, tmp_path, 2) as trial:
        assert trial.number == 1
        study.tell(trial, 1.0)
    # One that runs on another machine, whose folder is there.
    study.ask()
    with claim(study, tmp_path, 3) as trial:
        assert trial is None


def test_another_tuning_in_the_same_folder_is_refused(tmp_path, no_training):
    run_tuning(tuning_of(tmp_path), tmp_path, PHOTOS, 1)
    with pytest.raises(UserError, match=r"another tuning .* \(its ranges differ\); name another --out"):
        run_tuning(tuning_of(tmp_path, RANGES[:2]), tmp_path, PHOTOS, 1)
    with pytest.raises(UserError, match=r"its config differ"):
        run_tuning(tuning_of(tmp_path, precision="bf16-mixed"), tmp_path, PHOTOS, 1)
    with pytest.raises(UserError, match=r"^--storage = 'nowhere': must be"):
        run_tuning(tuning_of(tmp_path), tmp_path, PHOTOS, 1, "nowhere")


@pytest.mark.parametrize("words, reason", [
    ([], "nothing to tune"), (["retrain.lerning_rate=1..2"], "did you mean learning_rate"),
    (["retrain.batch_size=0..4"], "batch_size = 0"), (["retrain.epochs=1.0..4.0"], "epochs = "),
    (["forgeries.methods=choice:[TE],[XX]"], "XX"), (["retrain.pretrain.classes=2..500"], "classes = 500"),
])
def test_ranges_that_the_configuration_cannot_take_are_told_before_a_training(words, reason, tmp_path):
    with pytest.raises(UserError, match=reason):
        tuning_of(tmp_path, words)


def test_all_trials_are_validated_on_the_same_pictures(tmp_path, monkeypatch):
    made = []

    def dataset(photos, recipe, seed, name, *rest, **options):
        made.append((name, recipe))
        return ForgeryDataset(photos, recipe, seed, name, *rest, **options)

    monkeypatch.setattr("retrain.trainer.ForgeryDataset", dataset)
    tuning = tuning_of(tmp_path, ["forgeries.methods=choice:[NS],[BH]"])
    run_tuning(tuning, tmp_path, PHOTOS, 2)
    assert {recipe.methods for name, recipe in made if name == "validate"} == {("TE",)}
    assert {recipe.methods for name, recipe in made if name == "train"} <= {("NS",), ("BH",)}


def test_importances_name_the_entry_that_matters():
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(lambda trial: -trial.suggest_float("a", -1, 1) ** 2 + 0 * trial.suggest_float("b", 0, 1), 40)
    found = importances(study)
    assert list(found) == ["a", "b"] and found["a"] > 0.7


def test_the_command_writes_what_a_retraining_takes(tmp_path, capsys):
    config = tmp_path / "mine.yaml"
    config.write_text(dump_config(configure()))
    out = tmp_path / "run"
    main(["tune", "--config", str(config), "--out", str(out), "--trials", "2", "retrain.learning_rate=log:1e-4..1e-2",
          "retrain.steps=1"])
    told = capsys.readouterr().out
    assert "best: trial" in told and str(out / "tune") in told
    best = load_config(out / "tune" / "best.yaml", names=registries())
    assert best.retrain.steps == 1 and best.retrain.learning_rate != configure().retrain.learning_rate
    main(["retrain", "--config", str(out / "tune" / "best.yaml"), "--out", str(tmp_path / "best")])
    trained = json.loads((tmp_path / "best" / "retrain" / "hpfcn" / "model.json").read_text())["provenance"]
    chosen = max(read_rows(out / "tune" / "trials.csv"), key=lambda row: float(row["val_auc"]))
    assert trained["val_auc"] == pytest.approx(float(chosen["val_auc"]), rel=1e-6)


def test_pruners_and_detectors_by_name(tmp_path):
    assert [type(tune.make_pruner(name)).__name__ for name in tune.PRUNERS] == [
        "MedianPruner", "SuccessiveHalvingPruner", "NopPruner"]
    ranges, _ = split_ranges(RANGES)
    found = make_tuning(configure(), ranges, tmp_path, registries(), "mantranet")
    assert found.trainee == "mantranet" and found.config.retrain.detectors == ["mantranet"]
    with pytest.raises(UserError, match=r"retrain\.detectors"):
        make_tuning(configure(), ranges, tmp_path, registries(), "nothing")
    with pytest.raises(UserError, match="no genotype there"):
        make_tuning(configure(), ranges, tmp_path, registries(), "giidnet")
    config = configure(space={"cells": 2, "slots": 1, "channels": [64, 128], "strides": [2, 1], "dilations": [1, 1]})
    with pytest.raises(UserError, match="not of this space"):
        make_tuning(config, ranges, tmp_path, registries(), "giidnet-released")
    # The best configuration can be retrained in another folder.
    genotype = Genotype.parse("identity|relu_sep5", SpaceShape.of(config.space))
    write_genotype(tmp_path / "search" / "genotype.yaml", genotype)
    found = make_tuning(config, ranges, tmp_path, registries(), "giidnet")
    assert found.genotype == genotype and found.config.retrain.genotype == str(tmp_path / "search" / "genotype.yaml")
