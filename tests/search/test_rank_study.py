"""The rank study and training alone: alike for all, the same after a kill, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from configs.errors import UserError
from configs.files import read_rows
from configs.schema import Photos, RunConfig
from forgeries.photos import find_photos
from giidnet import main
from search import alone, rank_study, stage
from search.alone import share_of_rate
from search.strategy import SearchContext
from search_space.cost import Cost, CostTable
from search_space.genotype import Genotype, SpaceShape

ROOT = Path(__file__).parent.parent.parent
PHOTOS = find_photos(Photos(dirs=[str(ROOT / "tests" / "data" / "photos")]), 32)
TINY = {"device": "cpu", "seed": 3, "forgeries": {"methods": ["TE"], "image_size": 32, "workers": 0},
        "photos": {"dirs": [str(ROOT / "tests" / "data" / "photos")]},
        "space": {"cells": 2, "slots": 1, "channels": [64, 64], "strides": [2, 1], "dilations": [1, 1],
                  "width": 0.0625}}
STUDY = {"architectures": 5, "seeds": 3, "steps": 3, "batch_size": 2, "bootstrap": 100}
SEARCH = {"epochs": 1, "steps": 2, "batch_size": 2, "candidates": 16, "validation_images": 4,
          "recalibration_batches": 1, "racing": {"keep": 0}, "probes": 2,
          "check": {"random": 2, "steps": 2, "batch_size": 2}}
FILES = ["rank_study.csv", "rank_study.json", "rank_study_alone.csv"]


def configure(study=None, **search):
    return RunConfig.model_validate(TINY | {"search": SEARCH | {"rank_study": STUDY | (study or {})} | search})


def overrides(**search):
    """As arguments of the command line."""
    config = {**TINY, "search": SEARCH | {"rank_study": STUDY} | search}
    return [f"{key}={json.dumps(value)}" for key, value in config.items()]


def contents(folder):
    return {name: (folder / "search" / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search that scored the whole space, and its study."""
    folder = tmp_path_factory.mktemp("study")
    stage.run_search(configure(), folder, PHOTOS)
    study = rank_study.run_rank_study(configure(), folder, PHOTOS)
    return folder, study


def beside(searched, tmp_path):
    """A folder with the same supernet and no study."""
    (tmp_path / "search").mkdir()
    os.link(searched[0] / "search" / "supernet.safetensors", tmp_path / "search" / "supernet.safetensors")
    return tmp_path


def test_inherited_scores_are_those_of_the_search(searched):
    candidates = {row["genotype"]: float(row["auc"]) for row in read_rows(searched[0] / "search" / "candidates.csv")}
    assert len(candidates) == 16
    found = read_rows(searched[0] / "search" / "rank_study.csv")
    assert len({row["genotype"] for row in found}) == 5
    for row in found:
        assert float(row["inherited"]) == pytest.approx(candidates[row["genotype"]], abs=1e-6)


def test_files_of_a_study_agree(searched):
    folder, study = searched
    found, written = read_rows(folder / "search" / "rank_study.csv"), read_rows(folder / "search" / FILES[2])
    for row in found:
        scores = [float(one["auc"]) for one in written if one["genotype"] == row["genotype"]]
        assert [float(row[f"seed_{seed}"]) for seed in range(3)] == scores
        assert float(row["alone"]) == pytest.approx(np.mean(scores))
        assert float(row["sd"]) == pytest.approx(np.std(scores, ddof=1))
    tau = stats.kendalltau(*([float(row[key]) for row in found] for key in ("inherited", "alone"))).statistic
    summary = json.loads((folder / "search" / "rank_study.json").read_text())
    assert summary["kendall_tau"]["value"] == pytest.approx(tau) and study.kendall_tau.value == pytest.approx(tau)
    assert (summary["architectures"], summary["seeds"], summary["pictures"]) == (5, 3, 4)
    assert summary["pictures_trained"] == 5 * 3 * 3 * 2 and summary["settings"]["steps"] == 3
    assert summary["text"] in study.table()


def test_the_objectives_metric_is_studied(searched, tmp_path):
    folder = beside(searched, tmp_path)
    rank_study.run_rank_study(configure(objective={"metric": "f1"}), folder, PHOTOS)
    ours, theirs = (read_rows(place / "search" / "rank_study.csv") for place in (folder, searched[0]))
    rows = {(row["genotype"], row["seed"]): row for row in read_rows(folder / "search" / FILES[2])}
    candidates = {row["genotype"]: row for row in read_rows(searched[0] / "search" / "candidates.csv")}
    for row, other in zip(ours, theirs, strict=True):
        assert row["genotype"] == other["genotype"]
        assert row["seed_1"] == rows[row["genotype"], "1"]["f1"]
        assert float(row["inherited"]) == pytest.approx(float(candidates[row["genotype"]]["f1"]), abs=1e-6)


def test_an_interrupted_study_ends_in_the_same_files(searched, tmp_path, monkeypatch):
    folder, train, trained = beside(searched, tmp_path), alone.train_alone, []

    def interrupted(*arguments):
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(arguments)
        return train(*arguments)

    monkeypatch.setattr(alone, "train_alone", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rank_study.run_rank_study(configure(), folder, PHOTOS)
    assert len(read_rows(folder / "search" / FILES[2])) == 3
    monkeypatch.setattr(alone, "train_alone", lambda *arguments: trained.append(arguments) or train(*arguments))
    rank_study.run_rank_study(configure(), folder, PHOTOS)
    assert len(trained) == 15 and contents(folder) == contents(searched[0])
    assert alone.spent_seconds(folder / "search" / FILES[2]) > 0


def test_a_larger_study_keeps_what_was_trained_and_other_training_does_not(searched, tmp_path, monkeypatch):
    folder, train, trained = beside(searched, tmp_path), alone.train_alone, []
    monkeypatch.setattr(alone, "train_alone", lambda *arguments: trained.append(arguments) or train(*arguments))
    rank_study.run_rank_study(configure({"architectures": 4}), folder, PHOTOS)
    assert len(trained) == 12
    rank_study.run_rank_study(configure(), folder, PHOTOS)
    assert len(trained) == 15
    assert all((folder / "search" / name).read_bytes() == contents(searched[0])[name] for name in FILES[:2])
    rank_study.run_rank_study(configure({"architectures": 4, "steps": 2}), folder, PHOTOS)
    assert len(trained) == 27 and len(read_rows(folder / "search" / FILES[2])) == 27


def test_a_killed_study_ends_in_the_same_files(searched, tmp_path):
    folder, arguments = tmp_path / "run", ["rank-study", "--resume", *overrides()]
    main(["search", "--out", str(folder), *overrides()])
    process = subprocess.Popen([sys.executable, str(ROOT / "giidnet.py"), *arguments, "--out", str(folder)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (folder / "search" / FILES[2]).exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "search" / FILES[0]).exists()
    main([*arguments, "--out", str(folder)])
    assert contents(folder) == contents(searched[0])


def test_all_are_trained_on_the_same_pictures_and_tested_on_others_than_scored(searched, tmp_path, monkeypatch):
    seen, make = {}, alone.make_loader

    def recorded(dataset, *arguments, **options):
        batches = list(make(dataset, *arguments, **options))
        seen.setdefault(dataset.stream_name, []).append(torch.cat([images for images, _ in batches]))
        return batches

    monkeypatch.setattr(alone, "make_loader", recorded)
    config = configure()
    rank_study.run_rank_study(config, beside(searched, tmp_path), PHOTOS)
    assert set(seen) == {"alone-0", "alone-1", "alone-2"}
    for pictures in seen.values():
        assert len(pictures) == 5 and all(torch.equal(pictures[0], other) for other in pictures)
    assert not torch.equal(seen["alone-0"][0], seen["alone-1"][0])
    first, other = (torch.cat([images for images, _ in stage.validation_batches(config, PHOTOS, "cpu", name)])
                    for name in ("search-score", "alone-score"))
    assert first.shape == other.shape and not any(torch.equal(a, b) for a in first for b in other)


def test_training_alone_learns_and_depends_on_the_seed_alone():
    config = configure({"steps": 60, "batch_size": 4, "learning_rate": 0.01})
    genotype = Genotype.parse("sep3|identity", SpaceShape.of(config.space))
    validation = stage.validation_batches(config, PHOTOS, "cpu", "alone-score")
    fabric = stage.make_fabric(config)

    def train(study, seed):
        return alone.train_alone(config, study, genotype, seed, PHOTOS, fabric, validation)

    first = train(config.search.rank_study, 0)
    assert first.shape == (4, 2)
    torch.rand(3)
    assert np.array_equal(train(config.search.rank_study, 0), first)
    assert not np.array_equal(train(config.search.rank_study, 1), first)
    none = train(config.search.rank_study.model_copy(update={"steps": 1}), 0)
    assert first[:, 0].mean() > none[:, 0].mean() + 0.02


@pytest.mark.parametrize("section, name", [("rank_study", "rank_study"), ("check", "check")])
def test_divergence_names_the_rate_to_lower(section, name):
    config = configure({"learning_rate": 1e30}, check={"learning_rate": 1e30, "steps": 3, "batch_size": 2})
    genotype = Genotype.parse("sep3|identity", SpaceShape.of(config.space))
    with pytest.raises(UserError, match=rf"lower search\.{name}\.learning_rate"):
        alone.train_alone(config, getattr(config.search, section), genotype, 0, PHOTOS, stage.make_fabric(config), [])


def test_rivals_are_others_than_the_chosen_within_the_limits():
    config = configure(limits={"params": 2})
    space = SpaceShape.of(config.space)
    prices = {"sep3": 1, "relu_sep3": 1, "relu_sep5": 2, "identity": 0}
    costs = CostTable(Cost(0, 0), {label: {name: Cost(price, 0) for name, price in prices.items()}
                                   for label in space.labels()})
    context = SearchContext(None, None, space, config.search, 3, costs, None)
    chosen = alone.random_rivals(context, 5)[1]
    rivals = alone.random_rivals(context, 100, [chosen])
    texts = {str(rival) for rival in rivals}
    allowed = {f"{a}|{b}" for a in prices for b in prices if prices[a] + prices[b] <= 2}
    assert len(rivals) == len(texts) and texts == allowed - {str(chosen)}


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as error:
        main(list(map(str, arguments)))
    text = capsys.readouterr().err
    assert error.value.code == 2 and "Traceback" not in text
    return next(line for line in text.splitlines() if line.startswith("giidnet: "))


def test_what_cannot_be_studied_is_told_before_any_work(searched, tmp_path, capsys):
    out = tmp_path / "run"
    assert "strategy with a supernet" in refused(capsys, "rank-study", "--out", out, *overrides(strategy="random"))
    assert not out.exists()
    with pytest.raises(UserError, match="no trained supernet"):
        rank_study.run_rank_study(configure(), out, PHOTOS)
    folder = beside(searched, tmp_path)
    other = configure().model_copy(update={"space": configure().space.model_copy(update={"width": 0.125})})
    with pytest.raises(UserError, match="of another space, width or streams"):
        rank_study.run_rank_study(other, folder, PHOTOS)


def test_the_command_searches_first_and_says_what_came_out(tmp_path, capsys):
    out = tmp_path / "run"
    main(["rank-study", "--out", str(out), *overrides()])
    printed = capsys.readouterr().out
    assert "The search " in printed and "Kendall τ" in printed and "rank_study.csv" in printed
    assert json.loads((out / "search" / "rank_study.json").read_text())["text"] in printed
    assert "add --resume" in refused(capsys, "rank-study", "--out", out, *overrides())
    assert "another config" in refused(capsys, "rank-study", "--out", out, "--resume", *overrides(), "seed=4")
    main(["rank-study", "--out", str(out), "--resume", "search.rank_study.architectures=6"])
    assert len(read_rows(out / "search" / "rank_study.csv")) == 6
    main(["search", "--out", str(out), "--resume", *overrides()])
    assert "The search " in capsys.readouterr().out


@pytest.mark.parametrize("steps", [1, 2, 9, 10, 19, 200])
def test_the_rate_rises_over_a_tenth_and_falls_to_nothing(steps):
    shares = [share_of_rate(step, steps) for step in range(steps + 1)]
    peak = max(1, steps // 10) - 1
    assert shares[peak] == 1 and shares == sorted(shares[:peak + 1]) + sorted(shares[peak + 1:], reverse=True)
    assert min(shares[:-1]) > 0 and shares[-1] < 1e-12
