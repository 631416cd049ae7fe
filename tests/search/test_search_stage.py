"""The search stage: its files agree with each other, and what goes wrong is told in one line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from configs.errors import UserError
from configs.files import read_rows, write_rows
from configs.schema import Photos, RunConfig
from forgeries.dataset import ForgeryDataset, Recipe
from forgeries.photos import find_photos
from search import stage
from search.network import SearchNetwork
from search.one_shot import OneShot
from search_space.genotype import Genotype, SpaceShape, read_genotype

PHOTOS = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)
STRATEGIES = ["one-shot", "darts", "gumbel", "random"]
DIFFERENTIABLE = ["darts", "gumbel"]
SCORES = [0.5, 0.25, 0.75, 9e-05]
"""As text the last is the largest."""


def configure(**search):
    return RunConfig.model_validate({
        "device": "cpu", "seed": 3, "forgeries": {"methods": ["TE"], "image_size": 32, "workers": 0},
        "space": {"cells": 2, "slots": 1, "channels": [64, 128], "strides": [2, 1], "dilations": [1, 1],
                  "width": 0.0625},
        "search": {"epochs": 2, "steps": 2, "batch_size": 2, "candidates": 4, "architectures": 2,
                   "validation_images": 2, "recalibration_batches": 1, "probes": 2,
                   "check": {"random": 2, "steps": 1, "batch_size": 2}} | search})


def give_scores(monkeypatch, scores):
    """Each genotype's AUC, by the order in which they are scored after the training."""
    given = iter(scores)
    monkeypatch.setattr(stage, "race", lambda texts, data, *_: {text: np.full((data.pictures, 2), next(given))
                                                                for text in texts})


def parameters(genotype, channels, strides):
    """Of the extraction block, summed layer by layer from the description of a cell."""
    inputs, total = 4, 0
    for (name,), outputs, stride in zip(genotype.cells, channels, strides, strict=True):
        total += 9 * inputs + 2 * inputs + inputs * outputs + 2 * outputs
        total += {"identity": 0, "sep3": 9 * outputs + 2 * outputs + outputs**2,
                  "relu_sep3": 9 * outputs + outputs**2, "relu_sep5": 25 * outputs + outputs**2}[name]
        total += 2 * outputs + (inputs * outputs + 2 * outputs if stride > 1 or inputs != outputs else 0)
        inputs = outputs
    return total


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_files_of_a_search_agree(strategy, tmp_path):
    config = configure(strategy=strategy)
    space, out = SpaceShape.of(config.space), tmp_path / "search"
    found = stage.run_search(config, tmp_path, PHOTOS)
    rows, genotype = read_rows(out / "candidates.csv"), read_genotype(out / "genotype.yaml", space)
    chosen = rows[0] if strategy in DIFFERENTIABLE else max(rows, key=lambda row: float(row["score"]))
    assert genotype == found and str(genotype) == chosen["genotype"]
    assert [int(row["index"]) for row in rows] == list(range(len(rows)))
    for row in rows:
        assert int(row["params"]) == parameters(found.parse(row["genotype"], space), (4, 8), (2, 1))
        assert int(row["flops"]) > 0 and row["latency_ms"] == ""
        assert (row["pictures"], row["exact"]) == ("2", "1") and row["score"] == row["auc"]
    seen = 2 * 2 * 2 * (2 if strategy in DIFFERENTIABLE else 1)
    expected = {"strategy": strategy, "seed": 3, "score": float(chosen["auc"]), "width": 0.0625,
                "candidates_scored": len(rows), "methods": ["TE"], "methods_scored": ["TE"], "pictures_seen": seen,
                "photos_train": [photo.name for photo in PHOTOS.train],
                "photos_val": [photo.name for photo in PHOTOS.val]}
    assert expected.items() <= {key: genotype.provenance[key] for key in expected}.items() \
        and genotype.provenance["versions"]["torch"] == torch.__version__
    cost = json.loads((out / "cost.json").read_text())
    assert (cost["train_pictures"], cost["check_pictures"]) == (seen, (1 + 2) * 2 * 1 * 2)
    assert cost["score_pictures"] == (0 if strategy == "random" else 2 * len(rows))
    assert [row["role"] for row in read_rows(out / "alone.csv")] == ["chosen", "random", "random"] * 2
    SearchNetwork(space, 0.0625, ["plain"]).load_state_dict(load_file(out / "supernet.safetensors"))
    assert [row["epoch"] for row in read_rows(out / "history.csv")] == ["1", "2"]
    assert not (out / "checkpoint.pt").exists() and not (out / "scores").exists()


def test_one_shot_takes_the_best_score_as_a_number(tmp_path, monkeypatch):
    give_scores(monkeypatch, SCORES)
    found = stage.run_search(configure(), tmp_path, PHOTOS)
    rows = read_rows(tmp_path / "search" / "candidates.csv")
    assert [float(row["auc"]) for row in rows] == SCORES
    assert str(found) == rows[2]["genotype"] and found.provenance["score"] == 0.75


def test_darts_takes_its_own_choice_whatever_others_score(tmp_path, monkeypatch):
    proposals = []

    class Epochs(stage.make_strategy("darts").__class__):
        def epoch_end(self, epoch):
            # Another genotype is strongest at the end of each epoch.
            with torch.no_grad():
                for alpha in self.alphas.values():
                    alpha[epoch] += 10 * (epoch + 1)
            ended = super().epoch_end(epoch)
            proposals.append(str(self.propose([])[0]))
            return ended

    monkeypatch.setattr(stage, "make_strategy", lambda name: Epochs())
    give_scores(monkeypatch, [0.25, 0.75])
    found = stage.run_search(configure(strategy="darts"), tmp_path, PHOTOS)
    assert [row["genotype"] for row in read_rows(tmp_path / "search" / "candidates.csv")] == proposals[::-1]
    assert str(found) == proposals[-1] and found.provenance["score"] == 0.25


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("steps, expected", [(3, r"became (nan|inf) at step \d; "), (1, r"not finite")])
def test_divergence_in_an_epoch_and_in_its_last_step_is_told_in_one_line(strategy, steps, expected, tmp_path):
    with pytest.raises(UserError, match=expected + r".*lower search\.learning_rate") as error:
        stage.run_search(configure(strategy=strategy, steps=steps, learning_rate=1e30), tmp_path, PHOTOS)
    assert "\n" not in str(error.value) and not (tmp_path / "search" / "genotype.yaml").exists()


def test_weights_that_are_not_finite_never_replace_a_good_checkpoint(tmp_path, monkeypatch):
    class Poisoned(OneShot):
        def step(self, number, train, validation):
            loss = super().step(number, train, validation)
            if number == 1:
                next(self.context.network.parameters()).data[0] = torch.nan
            return loss

    monkeypatch.setattr(stage, "make_strategy", lambda name: Poisoned())
    config = configure(steps=3).model_copy(update={"checkpoint_seconds": 0.0})
    for _ in range(2):
        with pytest.raises(UserError, match=r"weights are not finite after step 1; lower search\.learning_rate"):
            stage.run_search(config, tmp_path, PHOTOS)
        state = torch.load(tmp_path / "search" / "checkpoint.pt")
        assert state["step"] == 1 and all(value.isfinite().all() for value in state["network"].values())


def test_candidates_of_another_search_are_refused(tmp_path):
    path = tmp_path / "search" / "candidates.csv"
    write_rows(path, stage.CANDIDATES, [{
        "index": 0, "genotype": "identity|identity", "score": 0.9, "auc": 0.9, "f1": 0, "pictures": 2, "exact": 1,
        "params": 1, "flops": 1}])
    with pytest.raises(UserError, match="other candidates"):
        stage.run_search(configure(), tmp_path, PHOTOS)
    assert len(read_rows(path)) == 1


@pytest.mark.parametrize("objective, expected", [
    ({}, lambda auc, f1, share: auc),
    ({"metric": "f1"}, lambda auc, f1, share: f1),
    ({"metric": "auc", "cost": "params", "cost_weight": 0.25}, lambda auc, f1, share: auc - 0.25 * share),
])
def test_scores_are_the_objective(objective, expected, tmp_path):
    config = configure(objective=objective, validation_images=4)
    stage.run_search(config, tmp_path, PHOTOS)
    rows = read_rows(tmp_path / "search" / "candidates.csv")
    space = SpaceShape.of(config.space)
    largest = max(parameters(Genotype.parse(f"{a}|{b}", space), (4, 8), (2, 1))
                  for a in space.operations for b in space.operations)
    for row in rows:
        share = int(row["params"]) / largest
        assert float(row["score"]) == pytest.approx(expected(float(row["auc"]), float(row["f1"]), share))


def test_candidates_are_scored_on_the_methods_of_the_objective_in_turns():
    config = configure(objective={"methods": ["NS", "HD"]}, validation_images=5)
    data = stage.scoring_data(config, PHOTOS, torch.device("cpu"))
    images = torch.cat([images for images, _ in data.validation])
    for index, method in enumerate(("NS", "HD", "NS", "HD", "NS")):
        case = ForgeryDataset(PHOTOS.val, Recipe.of(config), config.seed, "search-score", 3, method=method,
                              balanced=True, flip=False)[index // 2]
        assert torch.equal(images[index], case[0])
    assert stage.scored_methods(config) == ["NS", "HD"] and stage.scored_methods(configure()) == ["TE"]


@pytest.mark.parametrize("strategy", DIFFERENTIABLE)
def test_architecture_weights_are_trained_by_the_methods_of_the_objective(strategy, tmp_path, monkeypatch):
    seen = {}

    class Recorded(stage.make_strategy(strategy).__class__):
        def step(self, number, train, validation):
            seen[number] = train[0].clone(), validation[0].clone()
            return super().step(number, train, validation)

    monkeypatch.setattr(stage, "make_strategy", lambda name: Recorded())
    config = configure(strategy=strategy, objective={"methods": ["NS"]}, check={"random": 0})
    stage.run_search(config, tmp_path, PHOTOS)
    recipe = Recipe.of(config)
    for part, name, method, index in ((PHOTOS.train, "search-train", "TE", 0),
                                      (PHOTOS.val, "search-architecture", "NS", 1)):
        drawn = ForgeryDataset(part, replace(recipe, methods=(method,)), config.seed, name, 4, 2)
        assert torch.equal(seen[1][index], torch.stack([drawn[2][0], drawn[3][0]]))


def test_a_cost_in_the_objective_makes_the_architecture_cheaper(tmp_path):
    cheap, dear = (stage.run_search(configure(strategy="darts", architecture_learning_rate=0.5, steps=6, check={
        "random": 0}, objective={"cost": "params", "cost_weight": weight}), tmp_path / str(weight), PHOTOS)
        for weight in (100.0, 0.0))
    assert {name for cell in cheap.cells for name in cell} == {"identity"} != {name for cell in dear.cells
                                                                                for name in cell}


def test_latencies_are_measured_once_in_a_run(tmp_path):
    config = configure(latency=True, check={"random": 0})
    stage.run_search(config, tmp_path / "a", PHOTOS)
    rows = read_rows(tmp_path / "a" / "search" / "candidates.csv")
    assert all(float(row["latency_ms"]) > 0 for row in rows)
    (tmp_path / "b" / "search").mkdir(parents=True)
    (tmp_path / "b" / "search" / "costs.json").write_bytes((tmp_path / "a" / "search" / "costs.json").read_bytes())
    stage.run_search(config, tmp_path / "b", PHOTOS)
    assert read_rows(tmp_path / "b" / "search" / "candidates.csv") == rows


def test_a_check_that_diverges_can_be_set_anew(tmp_path):
    with pytest.raises(UserError, match=r"trained alone: .* lower search\.check\.learning_rate and add --resume"):
        stage.run_search(configure(check={"random": 2, "steps": 3, "batch_size": 2, "learning_rate": 1e30}), tmp_path,
                         PHOTOS)
    assert len(read_rows(tmp_path / "search" / "candidates.csv")) == 4
    stage.run_search(configure(), tmp_path, PHOTOS)
    rows = read_rows(tmp_path / "search" / "alone.csv")
    assert len(rows) == 3 * 2 and {row["steps"] for row in rows} == {"1"}
