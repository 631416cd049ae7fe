"""Trainings of protocols: what each of them sees and says, and that finished ones survive a kill untouched."""

from pathlib import Path

import pytest

import giidnet
from configs.errors import UserError
from configs.schema import Photos, RunConfig
from detectors.places import read_description
from forgeries.dataset import ForgeryDataset, Recipe
from forgeries.photos import find_photos
from results.protocols import plan
from retrain import protocols, trainer
from retrain.protocols import run_trainings, training_config
from retrain.stage import run_retrain

PHOTOS = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)
FILES = ("model.safetensors", "model.json", "history.csv")


def configure(protocol="leave-one-method-out", detectors=("mantranet",), **benchmark):
    return RunConfig.model_validate({
        "device": "cpu", "seed": 3, "checkpoint_seconds": 0.0,
        "forgeries": {"methods": ["TE", "NS"], "image_size": 32, "workers": 0},
        "space": {"cells": 1, "slots": 1, "channels": [64], "strides": [1], "dilations": [1]},
        "retrain": {"detectors": list(detectors), "epochs": 2, "steps": 1, "batch_size": 2, "validation_images": 2,
                    "width": 0.0625},
        "benchmark": {"protocol": protocol, "methods": ["TE", "NS", "PM"], **benchmark}})


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def provenance(folder):
    return read_description(folder / "model.safetensors")["provenance"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run_trainings(configure(seeds=2), folder, PHOTOS)
    return folder / "retrain"


def test_checkpoints_say_what_they_were_trained_on_and_for(trained):
    expected = {"mantranet-on-all": ("all", ["TE", "NS"]), "mantranet-without-TE": ("TE", ["NS"]),
                "mantranet-without-NS": ("NS", ["TE"])}
    assert {path.name for path in trained.iterdir()} == set(expected)
    for name, (group, methods) in expected.items():
        for seed in (0, 1):
            out = trained / name / f"seed-{seed}"
            assert {path.name for path in out.iterdir()} == set(FILES)
            found = provenance(out)
            assert found["methods"] == found["config"]["forgeries"]["methods"] == methods
            assert found["protocol"] == {"name": "leave-one-method-out", "group": group, "trainee": "mantranet",
                                         "training_seed": seed}
            assert found["seed"] == found["config"]["seed"]


def test_seeds_differ_in_weights_and_pictures_but_not_in_photographs(trained):
    found = {(path.parent.name, path.name): provenance(path) for path in trained.glob("*/seed-*")}
    photos = [each["photos"] for each in found.values()]
    assert all(each == photos[0] for each in photos)
    assert {split: [one["digest"] for one in entries] for split, entries in photos[0].items()} == {
        "train": [photo.digest for photo in PHOTOS.train], "val": [photo.digest for photo in PHOTOS.val]}
    first, second = ({each["seed"] for (_, seed), each in found.items() if seed == f"seed-{number}"}
                     for number in (0, 1))
    assert first == {3} and len(second) == 1 and first != second
    weights = [(trained / "mantranet-on-all" / f"seed-{seed}" / "model.safetensors").read_bytes() for seed in (0, 1)]
    assert weights[0] != weights[1]


def test_one_seed_has_the_weights_of_the_first_of_several(trained, tmp_path):
    run_trainings(configure(), tmp_path, PHOTOS)
    for name in ("mantranet-on-all", "mantranet-without-NS"):
        one, of_two = tmp_path / "retrain" / name, trained / name / "seed-0"
        assert provenance(one)["protocol"]["training_seed"] is None
        assert (one / "history.csv").read_bytes() == (of_two / "history.csv").read_bytes()
    # Trained on all of forgeries.methods, it is what a plain retraining gives.
    run_retrain(configure("seen-unseen"), tmp_path / "plain", PHOTOS)
    plain = tmp_path / "plain" / "retrain" / "mantranet"
    on_all = tmp_path / "retrain" / "mantranet-on-all"
    assert (plain / "history.csv").read_bytes() == (on_all / "history.csv").read_bytes()
    assert "protocol" not in provenance(plain)


def test_no_picture_of_a_training_was_painted_by_what_it_leaves_out(tmp_path, monkeypatch):
    painted = []

    class Recorded(ForgeryDataset):
        def __getitem__(self, i):
            painted.append((self.stream_name, self.forgery(i).method))
            return super().__getitem__(i)

    monkeypatch.setattr(trainer, "ForgeryDataset", Recorded)
    config = configure("matrix", groups={"smooth": ["TE", "NS"], "patch": ["PM"]})
    for training in plan(config):
        painted.clear()
        monkeypatch.setattr(protocols, "plan", lambda _, chosen=training: [chosen])
        run_trainings(config, tmp_path, PHOTOS)
        assert {stream for stream, _ in painted} == {"train", "validate"}
        assert {method for _, method in painted} <= set(training.methods)


def test_groups_differ_in_what_paints_and_in_nothing_else():
    config = configure("matrix", seeds=2)
    first, second, *_ = (training_config(config, training) for training in plan(config))
    assert first.forgeries.methods == ["TE"] and second.forgeries.methods == ["NS"]
    assert first.model_copy(update={"forgeries": second.forgeries}) == second
    assert first.forgeries.model_copy(update={"methods": ["NS"]}) == second.forgeries
    seeds = [training_config(config, training).seed for training in plan(config)]
    assert seeds[0] == seeds[1] == config.seed and seeds[2] == seeds[3] != config.seed


def test_a_seed_of_giidnet_is_of_the_same_architecture(tmp_path):
    run_trainings(configure("matrix", ["giidnet-random"], groups={"a": ["TE"]}, seeds=3), tmp_path, PHOTOS)
    options = [read_description(path)["options"] for path in sorted(tmp_path.rglob("model.safetensors"))]
    assert len(options) == 3 and options[0] == options[1] == options[2]


def test_an_interrupted_protocol_keeps_what_is_finished_and_ends_the_same(trained, tmp_path, monkeypatch, capsys):
    class KilledError(Exception):
        pass

    steps, loss = [], trainer.training_loss

    def killed_at(step):
        def count(*arguments):
            steps.append(None)
            if len(steps) == step:
                raise KilledError
            return loss(*arguments)
        return count

    config, place = configure(seeds=2), tmp_path / "retrain"
    # A training takes two steps, and a loss for the validation after each: the second one is cut in its second epoch.
    monkeypatch.setattr(trainer, "training_loss", killed_at(7))
    with pytest.raises(KilledError):
        run_trainings(config, tmp_path, PHOTOS)
    done = place / "mantranet-on-all" / "seed-0"
    before, stamp = files(done), (done / "model.safetensors").stat().st_mtime_ns
    assert set(before) == set(FILES) and (place / "mantranet-without-TE" / "seed-0" / "checkpoint.pt").exists()
    monkeypatch.setattr(trainer, "training_loss", loss)
    capsys.readouterr()
    run_trainings(config, tmp_path, PHOTOS)
    assert files(done) == before and (done / "model.safetensors").stat().st_mtime_ns == stamp
    assert files(place) == files(trained)
    said = capsys.readouterr().err
    assert "training 1 of 6" not in said and "training 2 of 6: mantranet-without-TE/seed-0 (NS)" in said
    run_trainings(config, tmp_path, PHOTOS)
    assert "training" not in capsys.readouterr().err


def test_a_trainee_that_the_space_has_no_genotype_for_is_left_out(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(protocols, "train_detector", lambda trainee, *_: trained.append(trainee))
    run_trainings(configure("matrix", ["giidnet-released", "mantranet"]), tmp_path, PHOTOS)
    assert trained == ["mantranet"] * 2


def test_the_retraining_that_the_protocol_asks_for_runs_before_its_benchmark(tmp_path, monkeypatch):
    ran = []

    def run_stage(name, config, folder, photos):
        ran.append(name)
        (folder / "results").mkdir(exist_ok=True)
        if name == "benchmark":
            (folder / "results" / "summary.csv").touch()

    monkeypatch.setattr(giidnet, "_run_stage", run_stage)
    monkeypatch.setattr("results.tables.closing_table", lambda folder: "")

    def stages(config, given=("benchmark",), out="out"):
        ran.clear()
        giidnet.run(config, given, tmp_path / out, resume=True)
        return ran

    assert stages(configure(), out="a") == ["retrain", "benchmark"]
    assert stages(configure(), ("benchmark", "report"), "b") == ["retrain", "benchmark", "report"]
    assert stages(configure(), ("retrain", "benchmark"), "c") == ["retrain", "benchmark"]
    assert stages(configure("robustness"), out="d") == ["benchmark"]
    assert stages(configure(detectors=["mantranet"], **{"methods": ["TE", "NS"]}), ("report",), "e") == ["report"]
    assert stages(RunConfig.model_validate(configure().model_dump() | {
        "benchmark": {"protocol": "matrix", "detectors": ["elsewhere"]}}), out="f") == ["benchmark"]
    with pytest.raises(UserError, match="leaves out NS"):
        giidnet.run(configure(methods=["TE"]), ("benchmark",), tmp_path / "g", resume=False)
    assert not (tmp_path / "g").exists()


def test_weights_of_methods_go_with_the_methods():
    config = configure(protocol="leave-one-method-out", methods=["TE", "NS"])
    weighed = config.model_copy(update={"forgeries": config.forgeries.model_copy(update={
        "methods": {"TE": 2.0, "NS": 0.5}})})
    assert [training_config(weighed, training).forgeries.methods for training in plan(weighed)] == [
        {"TE": 2.0, "NS": 0.5}, {"NS": 0.5}, {"TE": 2.0}]
    assert Recipe.of(training_config(weighed, plan(weighed)[0])).method_weights == (2.0, 0.5)
