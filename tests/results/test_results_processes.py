"""Benchmarks that are killed, and that several processes share, end in the files of one that was neither."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from configs.files import read_rows
from giidnet import main

ARGUMENTS = ["--config", "seen-unseen", "--detectors", "noise-variance", "random", "forgeries.image_size=48",
             "forgeries.workers=0", "photos=" + str(Path(__file__).parents[1] / "data" / "photos"), "device=cpu",
             "benchmark.methods=[TE, NS]", "benchmark.perturbations=[none]", "benchmark.images=60",
             "benchmark.authentic=10", "benchmark.validation=8", "benchmark.bootstrap=100"]


def start(*command):
    return subprocess.Popen([sys.executable, *command, *ARGUMENTS], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


def product(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "results").rglob("*"))
            if path.is_file()}


@pytest.fixture
def whole(tmp_path, monkeypatch):
    monkeypatch.setenv("GIIDNET_CACHE", str(tmp_path / "cache"))
    main(["benchmark", "--out", str(tmp_path / "whole"), *ARGUMENTS, "benchmark.map_cache_gigabytes=0"])
    return product(tmp_path / "whole")


def test_a_killed_benchmark_continues_to_the_same_files(tmp_path, whole):
    folder, lines = tmp_path / "killed", 0
    process = start("-m", "giidnet", "benchmark", "--out", str(folder), "benchmark.map_cache_gigabytes=0")
    while process.poll() is None and lines < 60:
        lines = sum(path.read_bytes().count(b"\n") for path in (folder / "results").rglob("*.jsonl"))
        time.sleep(0.002)
    assert process.poll() is None, "ended before it was killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "results" / "records.csv").exists()
    # What is there can be looked at, and is completed all the same.
    main(["benchmark", "--out", str(folder), "--resume", *ARGUMENTS, "benchmark.map_cache_gigabytes=0",
          "benchmark.allow=[partial]"])
    assert 0 < len(read_rows(folder / "results" / "records.csv")) < 260
    main(["benchmark", "--out", str(folder), "--resume", *ARGUMENTS, "benchmark.map_cache_gigabytes=0"])
    assert product(folder) == whole


@pytest.mark.slow
def test_processes_share_the_pictures(tmp_path, whole):
    folder = tmp_path / "shared"
    process = start("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29517", "-m", "giidnet",
                    "benchmark", "--out", str(folder), "benchmark.map_cache_gigabytes=0")
    assert process.wait(300) == 0
    assert product(folder) == whole
