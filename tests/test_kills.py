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
        "search.batch_size=2", "search.candidates=8", "search.validation_images=4", "search.recalibration_batches=1",
        "search.check.random=1", "search.check.steps=3", "search.check.batch_size=2", "checkpoint_seconds=0.0",
        "device=cpu"]
FILES = ["genotype.yaml", "candidates.csv", "history.csv", "ranking.csv", "supernet.safetensors"]


def search(arguments):
    # With its loader workers it can be killed as one.
    os.setsid()
    import torch
    torch.set_num_threads(1)
    main(arguments)


def start(folder, *arguments):
    """A search that has just begun, so that no kill is wasted on imports."""
    (folder / "photos.csv").unlink(missing_ok=True)
    process = PROCESSES.Process(target=search, args=(["search", "--out", str(folder), *TINY, *arguments],))
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


def stage_of(folder):
    """Where a search stands that was killed."""
    out = folder / "search"
    return next((name for name, file in (("check", "alone.csv"), ("scoring", "supernet.safetensors"),
                                         ("training", "checkpoint.pt")) if (out / file).exists()), "start")


def killed_often(kills, folder, options):
    """Kills a search `kills` times at random moments; where it finishes sooner, another is begun.

    Each time its files are those of one that was never killed. Returns where it stood at the kills.
    """
    whole = start(folder / "whole", *options)
    started = time.monotonic()
    whole.join(240)
    assert whole.exitcode == 0
    seconds, expected = time.monotonic() - started, products(folder / "whole")
    generator, stages, turn = np.random.default_rng(kills), [], 0
    while len(stages) < kills or turn == 0:
        turn += 1
        broken = folder / f"broken{turn}"
        while True:
            process = start(broken, *options, *(["--resume"] if (broken / "search").exists() else []))
            # Half the time that all takes: several kills for each search.
            process.join(generator.uniform(0, seconds / 2) if len(stages) < kills else 240)
            if not process.is_alive():
                break
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
            stages.append(stage_of(broken))
        assert process.exitcode == 0
        assert products(broken) == expected
        assert not (broken / "search" / "checkpoint.pt").exists() and not (broken / "search" / "scores").exists()
    return stages


@pytest.mark.parametrize("options", [["search.strategy=one-shot", "search.sampler=random"],
                                     ["search.strategy=darts"]], ids=["one-shot", "darts"])
def test_five_kills_change_nothing(options, tmp_path):
    stages = killed_often(5, tmp_path, options)
    assert len(stages) == 5


@pytest.mark.slow
@pytest.mark.parametrize("options", [["search.strategy=one-shot"], ["search.strategy=darts"],
                                     ["search.strategy=random", "search.architectures=4"],
                                     ["search.strategy=one-shot", "search.storage=journal:scores.log"],
                                     ["search.strategy=one-shot", "search.storage=sqlite:///scores.db"]])
def test_twenty_kills_change_nothing(options, tmp_path):
    stages = killed_often(20, tmp_path, options)
    assert {"training", "scoring", "check"} <= set(stages)
