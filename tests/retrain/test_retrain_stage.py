"""The retraining stage: which detectors with which genotype, width and pictures, and what their files say."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from configs.errors import UserError
from configs.files import read_rows, write_rows
from configs.pictures import read_photo
from configs.schema import Photos, RunConfig
from detectors.checkpoints import load_detector
from forgeries.duplicates import perceptual_hash
from forgeries.photos import find_photos
from results.guards import trained_on
from retrain import list_trainees, stage, trainer
from retrain.stage import run_retrain
from search_space.genotype import (
    PAPER_SPACE,
    Genotype,
    SpaceShape,
    genotype_from_dict,
    released_genotype,
    write_genotype,
)

PHOTOS = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)
SPACE = {"cells": 2, "slots": 1, "channels": [64, 128], "strides": [2, 1], "dilations": [1, 1]}
FOUND = "identity|relu_sep5"


def configure(space=SPACE, **retrain):
    return RunConfig.model_validate({
        "device": "cpu", "seed": 3, "forgeries": {"methods": ["TE"], "image_size": 32, "workers": 0}, "space": space,
        "retrain": {"epochs": 2, "steps": 2, "batch_size": 2, "validation_images": 2, "width": 0.0625} | retrain})


def write_found(path, config):
    write_genotype(path, Genotype.parse(FOUND, SpaceShape.of(config.space)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = configure(detectors=list_trainees(), widths={"mantranet": 0.125})
    write_found(folder / "search" / "genotype.yaml", config)
    run_retrain(config, folder, PHOTOS)
    return folder, config


def test_trainees_have_their_genotype_and_width(trained):
    folder, _ = trained
    # The released genotype is none of this space.
    assert {path.name for path in (folder / "retrain").iterdir()} == {
        "giidnet", "giidnet-random", "mantranet", "mantranet-gru", "hpfcn"}
    assert load_detector(folder / "retrain" / "mantranet-gru").name == "mantranet-gru"
    ours, random, other = (load_detector(folder / "retrain" / name)
                           for name in ("giidnet", "giidnet-random", "mantranet"))
    assert str(genotype_from_dict(ours.options["genotype"])) == FOUND
    assert genotype_from_dict(random.options["genotype"]).space == SpaceShape.of(configure().space)
    assert str(genotype_from_dict(random.options["genotype"])) != FOUND
    assert ours.options["width"] == random.options["width"] == 0.0625 and other.options["width"] == 0.125
    # A quarter of 64 channels, and an eighth of 256.
    assert ours.module.extraction[0].conv.depthwise.in_channels == 4
    assert other.module.anomalies.adaptation.in_channels == 32


def test_provenance_tells_pictures_budget_and_score(trained):
    folder, config = trained
    for out in (folder / "retrain").iterdir():
        provenance = load_detector(out).provenance
        for split in ("train", "val"):
            photos = getattr(PHOTOS, split)
            assert [entry["digest"] for entry in provenance["photos"][split]] == [
                hashlib.sha256(photo.path.read_bytes()).hexdigest() for photo in photos]
            assert [entry["name"] for entry in provenance["photos"][split]] == [photo.path.stem for photo in photos]
        assert provenance["methods"] == ["TE"] and provenance["image_size"] == 32 and provenance["seed"] == 3
        assert (provenance["epochs"], provenance["steps"], provenance["batch_size"]) == (2, 2, 2)
        assert provenance["pictures_seen"] == 2 * 2 * 2
        assert RunConfig.model_validate(provenance["config"]) == config
        entry = provenance["photos"]["train"][0]
        photo = next(photo for photo in PHOTOS.train if photo.digest == entry["digest"])
        assert int(entry["hash"], 16) == int(perceptual_hash(read_photo(photo.path))) == photo.hash
        scores = [float(row["val_auc"]) for row in read_rows(out / "history.csv")]
        assert provenance["val_auc"] == pytest.approx(max(scores), abs=1e-6)
        assert provenance["best_epoch"] == 1 + scores.index(max(scores))
        assert not (out / "checkpoint.pt").exists()


def test_provenance_tells_what_the_search_looked_at(trained):
    selected = {out.name: load_detector(out).provenance.get("selected_on")
                for out in (trained[0] / "retrain").iterdir()}
    # The genotype that was written for this run does not say.
    assert selected.pop("giidnet") == {"methods": None, "photos": False}
    assert selected.pop("giidnet-random") == {"methods": [], "photos": True}
    assert set(selected.values()) == {None}


def test_methods_and_photographs_of_another_runs_search_are_in_the_provenance(tmp_path):
    config = configure()
    genotype = replace(Genotype.parse(FOUND, SpaceShape.of(config.space)),
                       provenance={"methods": ["PM"], "methods_scored": ["GC-S"]})
    told = {"photos": {"train": [{"name": "a", "digest": "aa"}], "val": []}, "methods": ["TE"]}
    file = tmp_path / "run" / "search" / "genotype.yaml"
    alone = stage.add_selection(told, genotype, file)
    assert alone["selected_on"] == {"methods": ["PM", "GC-S"], "photos": False} and alone["photos"] == told["photos"]
    write_rows(tmp_path / "run" / "photos.csv", ("split", "name", "source", "digest", "hash"), [
        {"split": split, "name": name, "source": name, "digest": name * 2, "hash": number}
        for split, name, number in (("train", "a", "1"), ("train", "b", "2"), ("val", "c", ""), ("test", "d", "3"))])
    found = stage.add_selection(told, genotype, file)
    assert found["selected_on"] == {"methods": ["PM", "GC-S"], "photos": True} and found["methods"] == ["TE"]
    assert found["photos"]["search"] == [{"name": "b", "source": "b", "digest": "bb", "hash": "2"},
                                         {"name": "c", "source": "c", "digest": "cc"}]
    (leak,) = trained_on("net", found, [("c.png", "cc"), ("d.png", "dd")])
    assert leak.what.startswith("c.png: a test photograph that is in the search split of net")
    assert stage.add_selection(told, genotype, None)["selected_on"]["photos"]


def test_saved_weights_are_those_of_the_best_epoch_whatever_else_is_trained(trained, tmp_path, monkeypatch):
    states, scores = [], iter([0.9, 0.6])

    def validate(network, *_):
        states.append({key: value.clone() for key, value in network.state_dict().items()})
        return {"val_loss": 1.0, "val_auc": next(scores)}

    monkeypatch.setattr(trainer, "validate", validate)
    run_retrain(configure(detectors=["giidnet-random"]), tmp_path, PHOTOS)
    loaded = load_detector(tmp_path / "retrain" / "giidnet-random")
    assert loaded.provenance["best_epoch"] == 1
    torch.testing.assert_close(loaded.module.state_dict(), states[0], rtol=0, atol=0)
    assert any(not torch.equal(states[0][key], states[1][key]) for key in states[0])
    beside_others = load_detector(trained[0] / "retrain" / "giidnet-random")
    torch.testing.assert_close(beside_others.module.state_dict(), states[beside_others.provenance["best_epoch"] - 1],
                               rtol=0, atol=0)


def test_all_trainees_see_the_same_pictures_in_the_same_order(tmp_path, monkeypatch):
    class Recorder(nn.Module):
        def __init__(self, draws):
            super().__init__()
            self.seen, self.conv, self.noise = [], nn.Conv2d(3, 1, 1), nn.Dropout(0.5)
            torch.rand(draws)

        def logits(self, images):
            self.seen.append(images.clone())
            return self.conv(self.noise(images))

    made = []
    # Networks that draw different amounts of random numbers must not change what the next one sees.
    monkeypatch.setattr(stage, "create_detector", lambda *_, **__: made.append(Recorder(len(made))) or made[-1])
    config = configure(detectors=["giidnet-random", "giidnet", "mantranet"], pictures=0)
    write_found(tmp_path / "search" / "genotype.yaml", config)
    run_retrain(config, tmp_path, PHOTOS)
    first, *others = (torch.cat(recorder.seen) for recorder in made)
    assert len(others) == 2 and all(torch.equal(first, other) for other in others)
    # Two epochs of four training pictures and two of validation, and only these are seen again.
    assert len(first) == 2 * (4 + 2) and len(first.unique(dim=0)) == 2 * 4 + 2


def test_the_released_genotype_is_trained_in_the_papers_space(tmp_path):
    config = configure(space={}, detectors=["giidnet-released"], epochs=1, steps=1)
    run_retrain(config, tmp_path, PHOTOS)
    found = genotype_from_dict(load_detector(tmp_path / "retrain" / "giidnet-released").options["genotype"])
    assert found == released_genotype() and found.space == PAPER_SPACE


def test_a_missing_genotype_and_one_of_another_space_are_refused(tmp_path):
    config = configure(detectors=["giidnet"])
    with pytest.raises(UserError, match="no genotype there"):
        run_retrain(config, tmp_path, PHOTOS)
    path = tmp_path / "elsewhere.yaml"
    space = replace(SpaceShape.of(config.space), dilations=(1, 2))
    write_genotype(path, Genotype.parse(FOUND, space))
    with pytest.raises(UserError, match="of another space"):
        run_retrain(configure(detectors=["giidnet"], genotype=str(path)), tmp_path, PHOTOS)
    assert not (tmp_path / "retrain").exists()
