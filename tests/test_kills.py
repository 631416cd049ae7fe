"""A search that is killed again and again, at any moment, ends in the files of one that never was."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from configs.files import read_rows
from giidnet import main

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["search.stage", "search.one_shot", "search.darts", "forgeries.methods"])
TINY = ["photos=" + str(Path(__file__).parent / "data" / "photos"), "forgeries.image_size=32", "forgeries.methods=[TE]",
        "forgeries.workers=0", "space.cells=2", "space.channels=[64, 64]", "space.strides=[2, 1]",
        "space.dilations=[1, 1]", "space.slots=1", "space.width=0.0625", "search.epochs=2", "search.steps=4",
        "search.batch_size=2", "search.candidates=16", "search.validation_images=4", "search.recalibration_batches=1",
        "search.check.random=1", "search.check.steps=3", "search.check.batch_size=2", "checkpoint_seconds=0.0",
        "device=cpu"]
FILES = ["genotype.yaml", "candidates.csv", "history.csv", "ranking.csv", "supernet.safetensors"]


def search(arguments):
    # With its loader workers it can be killed as one.
    os.setsid()
    # As in a process that a shell starts.
    multiprocessing.set_start_method("fork", force=True)
    import torch
    torch.set_num_threads(1)
    main(arguments)


def start(folder, *arguments, target=search):
    """A search that has just begun, so that no kill is wasted on imports."""
    (folder / "photos.csv").unlink(missing_ok=True)
    process = PROCESSES.Process(target=target, args=(["search", "--out", str(folder), *TINY, *arguments],))
    process.start()
    while process.is_alive() and not (folder / "photos.csv").exists():
        time.sleep(0.002)
    return process


def products(folder):
    """All files that a search leaves, without measured seconds."""
    out = folder / "search"
    alone = [{**row, "seconds": ""} for row in read_rows(out / "alone.csv")]
    names = [*FILES, *(["architecture.csv"] if (out / "architecture.csv").exists() else [])]
    return {name: (out / name).read_bytes() for name in names} | {"alone": alone}


BEGUN = {"training": "../photos.csv", "scoring": "supernet.safetensors", "check": "candidates.csv",
         "end": "genotype.yaml"}
"""What each stage finds when it begins."""


def kill_again_and_again(rounds, folder, options):
    """Kills searches five times each, at random moments of each stage.

    Each then ends in the files of one that was never killed.
    """
    whole = start(folder / "whole", *options)
    whole.join(240)
    assert whole.exitcode == 0
    expected = products(folder / "whole")
    times = [(folder / "whole" / "search" / file).stat().st_mtime for file in BEGUN.values()]
    seconds = dict(zip(BEGUN, np.diff(times), strict=False))
    generator, searches, kills = np.random.default_rng(rounds), 0, 0
    for _ in range(rounds):
        targets = ["training", "training", "scoring", "check", "check"]
        while targets is not None:
            searches += 1
            broken = folder / f"broken{searches}"
            while True:
                resumed = (broken / "search").exists()
                process = start(broken, *options, *(["--resume"] if resumed else []))
                if targets:
                    while process.is_alive() and not (broken / "search" / BEGUN[targets[0]]).exists():
                        time.sleep(0.002)
                    # A resumed search needs some time to come back to where it was.
                    process.join(generator.uniform(0, seconds[targets[0]] + resumed * seconds["training"] / 2))
                else:
                    process.join(240)
                if not process.is_alive():
                    break
                os.killpg(process.pid, signal.SIGKILL)
                process.join()
                kills += 1
                targets.pop(0)
            assert process.exitcode == 0
            assert products(broken) == expected
            assert not (broken / "search" / "checkpoint.pt").exists() and not (broken / "search" / "scores").exists()
            # One that finished too soon is followed by another.
            targets = targets or None
    assert kills == 5 * rounds


EVOLUTION = ["search.strategy=one-shot", "search.sampler=evolution", "search.evolution.population=6",
             "search.evolution.sample=3"]


@pytest.mark.parametrize("options", [EVOLUTION, ["search.strategy=darts"]], ids=["evolution", "darts"])
def test_five_kills_change_nothing(options, tmp_path):
    kill_again_and_again(1, tmp_path, options)


RACE = ["search.strategy=one-shot", "search.epochs=1", "search.candidates=40", "search.racing.keep=4",
        "search.validation_images=12", "search.check.random=0"]


def search_with_pauses(arguments):
    """Waits before each unit, so that a kill does not miss it."""
    from search.units import Store
    compute = Store.compute

    def compute_later(*given):
        time.sleep(0.2)
        compute(*given)

    Store.compute = compute_later
    search(arguments)


def test_kills_between_the_units_of_a_race_change_nothing(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = start(whole, *RACE)
    process.join(240)
    assert process.exitcode == 0
    scores, generator, kept = broken / "search" / "scores", np.random.default_rng(0), {}
    # Of three rounds, a unit each.
    for number, units in enumerate((0, 1, 1, 2, 2)):
        process = start(broken, *RACE, *(["--resume"] if number else []), target=search_with_pauses)
        while process.is_alive() and (len(list(scores.glob("*/*.npz"))) < units or not scores.exists()):
            time.sleep(0.002)
        process.join(generator.uniform(0, 0.1))
        assert process.is_alive()
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        found = {path: path.read_bytes() for path in scores.glob("*/*.npz")}
        # What was finished is not computed again: its seconds would differ.
        assert len(found) == units and {path: found[path] for path in kept} == kept
        assert not (broken / "search" / "candidates.csv").exists()
        kept = found
    process = start(broken, *RACE, "--resume")
    process.join(240)
    assert process.exitcode == 0 and products(broken) == products(whole)
    # 40 began, 14 went on, 5 stayed to the end.
    assert sorted({int(row["pictures"]) for row in read_rows(whole / "search" / "candidates.csv")}) == [2, 4, 12]


@pytest.mark.slow
@pytest.mark.parametrize("options", [
    [*EVOLUTION, "forgeries.workers=1"], ["search.strategy=gumbel"], ["search.strategy=nsga2"],
    ["search.strategy=random", "search.architectures=4"],
    ["search.strategy=one-shot", "search.storage=journal:scores.log"],
    ["search.strategy=one-shot", "search.storage=sqlite:///scores.db"]], ids=" ".join)
def test_twenty_kills_change_nothing(options, tmp_path):
    kill_again_and_again(4, tmp_path, options)
