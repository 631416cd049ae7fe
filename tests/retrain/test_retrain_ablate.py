"""Trainings of an ablation and its command: equal budgets, what checkpoints say, resumption, the table at the end."""

from pathlib import Path

import pytest
import yaml

from configs.errors import UserError
from configs.files import read_rows
from configs.load import load_config
from configs.schema import Photos, RunConfig
from detectors.checkpoints import load_detector
from detectors.places import read_description
from forgeries.photos import find_photos
from giidnet import main
from retrain import ablate, trainer
from retrain.ablate import find_genotypes, run_ablation, variant_config
from retrain.variants import variants
from search_space.genotype import Genotype, SpaceShape, genotype_from_dict, write_genotype

FOLDER = str(Path(__file__).parent.parent / "data" / "photos")
PHOTOS = find_photos(Photos(dirs=[FOLDER]), 32)
SETTINGS = {
    "device": "cpu", "seed": 3, "checkpoint_seconds": 0.0, "photos": {"dirs": [FOLDER]},
    "forgeries": {"methods": ["TE", "NS"], "image_size": 32, "workers": 0},
    "space": {"cells": 1, "slots": 2, "channels": [64], "strides": [1], "dilations": [1]},
    "retrain": {"epochs": 1, "steps": 2, "batch_size": 2, "validation_images": 2, "width": 0.0625},
    "benchmark": {"methods": ["TE", "PM"], "images": 2, "validation": 2, "bootstrap": 100, "baselines": ["constant"],
                  "gallery": 0}}
CELLS = (("relu_sep5", "identity"),)


def configure(parts, genotype=None, **more):
    return RunConfig.model_validate(SETTINGS | more | {
        "retrain": SETTINGS["retrain"] | {"genotype": genotype and str(genotype)},
        "benchmark": SETTINGS["benchmark"] | {"protocol": "ablate"}, "ablate": {"parts": list(parts)}})


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def genotype(tmp_path_factory):
    """As a search on PM would have left it."""
    path = tmp_path_factory.mktemp("found") / "genotype.yaml"
    write_genotype(path, Genotype(CELLS, SpaceShape.of(configure(["loss"]).space),
                                  {"strategy": "one-shot", "methods": ["PM"]}))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory, genotype):
    folder = tmp_path_factory.mktemp("run")
    run_ablation(configure(["attention", "loss"], genotype), folder, PHOTOS)
    return folder / "retrain"


def test_every_variant_is_trained_with_every_seed_and_says_what_it_is(trained):
    names = {"full", "attention-without-global", "attention-without-local", "loss-without-focal"}
    assert {path.name for path in trained.iterdir()} == names
    budgets, photos = [], []
    for name in names:
        seeds = []
        for seed in range(3):
            told = read_description(trained / name / f"seed-{seed}" / "model.safetensors")
            found, options = told["provenance"], told["options"]
            assert found["protocol"] == {"name": "ablate", "group": name, "trainee": "giidnet", "training_seed": seed}
            assert found["config"]["retrain"]["focal_weight"] == (0.0 if name == "loss-without-focal" else 1.0)
            assert genotype_from_dict(options["genotype"]).cells == CELLS
            assert options.get("global_attention", True) == (name != "attention-without-global")
            assert options.get("local_attention", True) == (name != "attention-without-local")
            assert found["selected_on"]["methods"] == ["PM"]
            budgets.append((found["pictures_seen"], found["epochs"], found["steps"]))
            photos.append(found["photos"])
            seeds.append(found["seed"])
        assert seeds[0] == 3 and len(set(seeds)) == 3
    assert len(set(budgets)) == 1 and all(each == photos[0] for each in photos)
    attention = load_detector(trained / "attention-without-local" / "seed-0").module.decision.state_dict()
    whole = load_detector(trained / "full" / "seed-0").module.decision.state_dict()
    assert attention.keys() < whole.keys()


def test_an_interrupted_ablation_keeps_what_is_finished_and_ends_the_same(trained, genotype, tmp_path, monkeypatch,
                                                                          capsys):
    class KilledError(Exception):
        pass

    steps, loss = [], trainer.training_loss

    def killed(*arguments):
        steps.append(None)
        # A training takes two steps and one loss for the validation: the second training is cut in its second step.
        if len(steps) == 5:
            raise KilledError
        return loss(*arguments)

    config = configure(["attention", "loss"], genotype)
    monkeypatch.setattr(trainer, "training_loss", killed)
    with pytest.raises(KilledError):
        run_ablation(config, tmp_path, PHOTOS)
    done = tmp_path / "retrain" / "full" / "seed-0"
    stamp = (done / "model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(trainer, "training_loss", loss)
    capsys.readouterr()
    run_ablation(config, tmp_path, PHOTOS)
    said = capsys.readouterr().err
    assert (done / "model.safetensors").stat().st_mtime_ns == stamp
    assert "training 1 of 12" not in said and "training 2 of 12: attention-without-global/seed-0" in said
    assert files(tmp_path / "retrain") == files(trained)


def test_cells_that_no_search_found_are_not_said_to_be_selected(genotype, tmp_path, monkeypatch):
    config = configure(["genotype", "methods"], genotype)
    found = {one.name: one for one in variants(config, find_genotypes(config, tmp_path))}
    assert list(found) == ["full", "genotype-random", "genotype-separable", "genotype-residual", "methods-without-TE",
                           "methods-without-NS"]
    monkeypatch.setattr(ablate, "variants", lambda *_: [found["genotype-separable"], found["methods-without-TE"]])
    run_ablation(config, tmp_path, PHOTOS)
    told = {path.parent.parent.name: read_description(path)["provenance"]
            for path in tmp_path.rglob("seed-0/model.safetensors")}
    assert told["genotype-separable"]["selected_on"] == {"methods": [], "photos": True}
    assert told["genotype-separable"]["methods"] == ["TE", "NS"]
    assert told["methods-without-TE"]["selected_on"]["methods"] == ["PM"]
    assert told["methods-without-TE"]["methods"] == ["NS"]


def test_seeds_are_the_same_for_all_variants():
    config = configure(["loss", "methods"])
    found = variants(config, {"random": Genotype(CELLS, SpaceShape.of(config.space))})
    seeds = [[variant_config(config, variant, seed).seed for variant in found] for seed in range(3)]
    assert all(len(set(row)) == 1 for row in seeds) and len({row[0] for row in seeds}) == 3


def test_the_genotype_is_the_named_one_or_that_of_the_runs_own_search(genotype, tmp_path):
    assert list(find_genotypes(configure(["loss"]), tmp_path)) == ["random"]
    assert list(find_genotypes(configure(["loss"], genotype), tmp_path)) == ["discovered", "random"]
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "genotype.yaml").write_bytes(genotype.read_bytes())
    assert find_genotypes(configure(["loss"]), tmp_path)["discovered"].cells == CELLS
    paper = RunConfig.model_validate({"benchmark": {"protocol": "ablate"}})
    assert list(find_genotypes(paper, tmp_path / "empty")) == ["released", "random"]
    with pytest.raises(UserError, match="no genotype there"):
        find_genotypes(configure(["loss"], tmp_path / "none.yaml"), tmp_path)


def test_the_command_trains_and_benchmarks_and_leaves_the_table(tmp_path, capsys):
    path, out = tmp_path / "tiny.yaml", tmp_path / "out"
    path.write_text(yaml.safe_dump(SETTINGS | {"ablate": {"parts": ["loss"]}}))
    main(["ablate", "--config", str(path), "--out", str(out)])
    rows = read_rows(out / "results" / "ablation.csv")
    assert {row["variant"] for row in rows} == {"loss-without-focal"}
    assert {(row["methods"], row["metric"]) for row in rows} >= {("mean unseen", "auc"), ("mean seen", "auc")}
    comparisons = {(row["methods"], row["metric"]): row for row in read_rows(out / "results" / "comparisons.csv")
                   if {row["first"], row["second"]} == {"full", "loss-without-focal"}}
    for row in rows:
        source = comparisons[row["methods"], row["metric"]]
        sign = 1 if source["second"] == "full" else -1
        assert float(row["difference"]) == sign * float(source["difference"]) and row["p"] == source["p"]
    summary = read_rows(out / "results" / "summary.csv")
    assert {row["seeds"] for row in summary if row["detector"] == "full"} == {"3"}
    assert 'id="ablation"' in (out / "results" / "report.html").read_text()
    assert load_config(out / "config.yaml").benchmark.protocol == "ablate"
    capsys.readouterr()
    before = (out / "results" / "ablation.csv").read_bytes()
    with pytest.raises(SystemExit):
        main(["ablate", "--config", str(path), "--out", str(out)])
    assert "--resume" in capsys.readouterr().err
    main(["ablate", "--config", str(path), "--out", str(out), "--resume"])
    assert (out / "results" / "ablation.csv").read_bytes() == before


@pytest.mark.parametrize("keys, expected", [
    (["ablate.seeds=2"], "ablate.seeds"), (["ablate.parts=[]"], "ablate.parts"), (["ablate.parts=[depth]"], "streams"),
    (["benchmark.detectors=[ela]"], "tests what it trains"), (["benchmark.seeds=2"], "ablate.seeds"),
    (["ablate.parts=[methods]", "forgeries.methods=[TE]"], "nothing of these")])
def test_mistakes_are_told_in_one_line(tmp_path, capsys, keys, expected):
    with pytest.raises(SystemExit) as stopped:
        main(["ablate", "--config", "quick", "--out", str(tmp_path / "out"), f"photos={FOLDER}",
                      "forgeries.image_size=32", *keys])
    assert stopped.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("giidnet:")]
    assert len(said) == 1 and expected in said[0]
