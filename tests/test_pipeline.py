"""The whole path on tiny pictures: same files after real kills, and what is refused."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from configs.files import locked, make_folder, read_rows
from detectors import WEIGHTLESS
from giidnet import main

TINY = [
    "forgeries.image_size=32", "forgeries.methods=[TE]", "space.cells=2", "space.channels=[64, 64]",
    "space.strides=[2, 1]", "space.dilations=[1, 1]", "space.slots=1", "search.epochs=2", "search.steps=4",
    "search.batch_size=2", "search.candidates=3", "search.validation_images=4", "search.check.steps=2",
    "search.check.random=2", "retrain.epochs=2",
    "retrain.steps=4", "retrain.batch_size=2", "retrain.validation_images=4", "retrain.width=0.125",
    "retrain.widths={}", "benchmark.images=4", "benchmark.methods=[TE, NS]", "benchmark.perturbations=[none]",
    "benchmark.bootstrap=100", "benchmark.gallery=1", "device=cpu",
]
PRODUCTS = ["config.yaml", "search/genotype.yaml", "search/candidates.csv", "search/history.csv",
            "search/supernet.safetensors", "results/records.csv", "results/summary.csv", "results/report.html"] + [
    f"retrain/{name}/{file}" for name in ("giidnet", "giidnet-random", "mantranet")
    for file in ("model.safetensors", "model.json", "history.csv")]
ROOT = Path(__file__).parent.parent


def command(out, *arguments):
    return [sys.executable, str(ROOT / "run_search.py"), "--out", str(out), *TINY, *arguments]


def products(folder):
    """Files whose bytes a kill must not change; of the report without measured times and the run's folder."""
    return {name: re.sub(rb'(?<=<span class="time">)[^<]*', b"",
                         (folder / name).read_bytes().replace(str(folder).encode(), b"RUN")) for name in PRODUCTS}


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as error:
        main(list(map(str, arguments)))
    text = capsys.readouterr().err
    assert error.value.code == 2
    assert "Traceback" not in text
    lines = [line for line in text.splitlines() if line.startswith("giidnet: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    done = subprocess.run(command(folder), capture_output=True, text=True, check=True)
    assert "Mean AUC per picture" in done.stdout and "report.html" in done.stdout
    return folder


def kill_when(out, appears, *arguments):
    """Starts a run with a checkpoint after each step, and kills it, with its workers, once `appears` exists."""
    process = subprocess.Popen(command(out, "checkpoint_seconds=0.0", *arguments), stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (out / appears).exists():
        assert process.poll() is None, "finished before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # Workers die after it, and until then hold the run's lock with it.
    with FileLock(out / ".lock", timeout=10):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["one-shot", "darts"])
def test_killed_runs_end_in_the_same_files(tmp_path, strategy):
    choice = f"search.strategy={strategy}"
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(whole, "checkpoint_seconds=0.0", choice), capture_output=True, check=True)
    kill_when(broken, "search/checkpoint.pt", choice)
    assert not (broken / "search" / "genotype.yaml").exists()
    kill_when(broken, "retrain/giidnet/checkpoint.pt", choice, "--resume")
    kill_when(broken, "retrain/mantranet/checkpoint.pt", choice, "--resume")
    assert not (broken / "retrain" / "mantranet" / "model.safetensors").exists()
    subprocess.run(command(broken, "checkpoint_seconds=0.0", choice, "--resume"), capture_output=True, check=True)
    assert products(whole) == products(broken)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_paper_preset_runs_at_full_width(tmp_path):
    short = ["forgeries.image_size=64", "forgeries.workers=1", "search.epochs=1", "search.steps=2",
             "search.batch_size=2",
             "search.candidates=2", "search.validation_images=2", "search.recalibration_batches=1", "search.probes=2",
             "search.check.random=1", "search.check.steps=2", "search.check.batch_size=2", "retrain.epochs=1",
             "retrain.steps=2", "retrain.batch_size=2", "retrain.validation_images=2", "retrain.pretrain.epochs=1",
             "retrain.pretrain.steps=2", "retrain.pretrain.batch_size=2", "retrain.pretrain.validation_patches=4",
             "benchmark.images=2", "benchmark.validation=2",
             "benchmark.methods=[TE]", "benchmark.bootstrap=100", "device=cpu"]
    subprocess.run([sys.executable, str(ROOT / "run_search.py"), "--config", "paper", "--out", str(tmp_path / "run"),
                    *short], capture_output=True, check=True)
    rows = read_rows(tmp_path / "run" / "results" / "records.csv")
    assert {row["detector"] for row in rows} == {
        "giidnet", "giidnet-random", "giidnet-released", "mantranet", "hpfcn", *WEIGHTLESS}
    from search_space.genotype import PAPER_SPACE, read_genotype
    assert len(read_genotype(tmp_path / "run" / "search" / "genotype.yaml", PAPER_SPACE).cells) == 10


def test_a_kill_in_search_and_one_in_retraining_change_nothing(finished, tmp_path):
    out = tmp_path / "broken"
    kill_when(out, "search/checkpoint.pt")
    kill_when(out, "retrain/giidnet-random/checkpoint.pt", "--resume")
    subprocess.run(command(out, "checkpoint_seconds=0.0", "--resume"), capture_output=True, check=True)
    ours, theirs = products(out), products(finished)
    # These three record how often checkpoints were written, or contain what does.
    for name in ours:
        if name not in ("config.yaml", "results/report.html") and "/model." not in name:
            assert ours[name] == theirs[name], name
    from safetensors.torch import load_file
    for detector in ("giidnet", "giidnet-random", "mantranet"):
        path = f"retrain/{detector}/model.safetensors"
        a, b = load_file(out / path), load_file(finished / path)
        assert all((a[key] == b[key]).all() for key in b) and set(a) == set(b)


def test_a_finished_run_is_kept_and_resumed_without_work(finished, capsys):
    before = products(finished)
    assert "add --resume" in fails(capsys, "run", "--out", finished, *TINY)
    assert "another config" in fails(capsys, "run", "--out", finished, *TINY, "seed=5", "--resume")
    # As after a kill between a search and its figures.
    shutil.rmtree(finished / "tensorboard" / "report")
    main(["search", "--out", str(finished), *TINY, "--resume"])
    assert (finished / "tensorboard" / "report").exists()
    main(["run", "--out", str(finished), *TINY, "--resume"])
    assert products(finished) == before


def test_detect_and_benchmark_take_the_trained_weights(finished, tmp_path, capsys):
    import cv2
    import numpy as np
    picture = tmp_path / "photo.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    weights = finished / "retrain" / "giidnet"
    main(["detect", str(picture), str(tmp_path / "broken.jpg"), "--weights", str(weights), "--raw", "--out",
          str(tmp_path / "maps")])
    raw = np.load(tmp_path / "maps" / "photo_map.npy")
    assert raw.shape == (40, 50) and raw.dtype == np.float32
    assert cv2.imread(str(tmp_path / "maps" / "photo_overlay.png")).shape == (40, 50, 3)
    assert "broken.jpg" in capsys.readouterr().err
    assert (tmp_path / "maps" / "detections.csv").read_text().count("\n") == 3
    wrong = fails(capsys, "detect", picture, "--weights", weights, "--detector", "mantranet")
    assert "a checkpoint of giidnet" in wrong

    main(["synthesize", "--photos", str(ROOT / "tests" / "data" / "photos"), "--methods", "TE", "NS", "--count", "2",
          "--size", "32", "--out", str(tmp_path / "forged")])
    main(["benchmark", "--detectors", str(weights), str(finished / "retrain" / "mantranet"), "--data",
          str(tmp_path / "forged"), "--out", str(tmp_path / "bench"), "benchmark.bootstrap=100",
          "benchmark.perturbations=[none]"])
    text = (tmp_path / "bench" / "results" / "records.csv").read_text()
    assert text.count("\n") == 1 + 2 * 2 * 2 and "unseen" in text


def test_several_networks_of_one_detector_are_told_apart(finished, tmp_path, capsys):
    weights = [str(finished / "retrain" / name) for name in ("giidnet", "giidnet-random", "mantranet")]
    given = [word for path in weights for word in ("--weights", path)]
    main(["detect", str(ROOT / "tests" / "data" / "photos"), *given, "--out", str(tmp_path)])
    rows = read_rows(tmp_path / "detections.csv")
    assert {row["detector"] for row in rows} == {"giidnet", "giidnet-random", "mantranet"} and len(rows) == 9
    assert (tmp_path / "contact_sheet_01.png").exists()
    assert "two checkpoints are called" in fails(capsys, "detect", ROOT / "tests" / "data" / "photos", *given, *given,
                                                 "--out", tmp_path)


def test_published_weights_are_imported_used_and_exported(tmp_path, monkeypatch, capsys):
    import torch

    from detectors import create_detector
    from detectors.published import published_keys
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = create_detector("mantranet-gru")
    keys = published_keys("mantranet-gru", network)
    torch.save({f"module.{keys[key]}": value for key, value in network.state_dict().items()}, "published.pth")
    assert "published checkpoints are known of" in fails(capsys, "weights", "import", "published.pth", "--detector",
                                                         "giidnet")
    main(["weights", "import", "published.pth", "--detector", "mantranet-gru", "--method", "GC"])
    photo = str(ROOT / "tests" / "data" / "photos" / "picture0.png")
    main(["detect", photo, "--detector", "mantranet-gru", "--raw", "--out", "a"])
    main(["detect", photo, "--detector", "mantranet-gru", "--weights", "published.pth", "--raw", "--out", "b"])
    assert Path("a/picture0_map.npy").read_bytes() == Path("b/picture0_map.npy").read_bytes()
    main(["benchmark", "--detectors", "weights/mantranet-gru", "--out", "bench", "benchmark.images=2",
          "benchmark.methods=[TE]", "forgeries.image_size=32", "benchmark.perturbations=[none]",
          f"photos={ROOT / 'tests' / 'data' / 'photos'}", "photos.shrink=null"])
    assert read_rows(Path("bench/results/records.csv"))[0]["seen"] == "unseen"
    assert read_rows(Path("bench/results/records.csv"))[0]["perturbation_seen"] == "unknown"


@pytest.mark.parametrize("arguments, expected", [
    (["run", "--config", "nowhere.yaml"], "no such file or preset"),
    (["run", "search.epoch=3"], "did you mean epochs"),
    (["run", "--nonsense"], "No such option"),
    (["nonsense"], "No such command"),
    (["detect"], "Missing argument"),
    (["detect", "nowhere.jpg"], "no such file or folder"),
    (["detect", "*.jpg"], "no file matches"),
    (["detect", str(ROOT / "tests"), "--detector", "mantra"], "known are giidnet, iid-net"),
    (["detect", str(ROOT / "tests"), "--weights", "no.pth"], "no such checkpoint"),
    (["detect", str(ROOT / "tests"), "--threshold", "2"], "--threshold"),
    (["detect", str(ROOT / "tests"), "--tile", "8"], "0 or at least 128"),
    (["detect", str(ROOT / "tests")], "giidnet weights import"),
    (["export", "--weights", "no.pth"], "no such checkpoint"),
    (["weights", "import", "no.pth", "--detector", "mantranet"], "no such file"),
    (["list", "everything"], "methods"),
    (["report", "nowhere"], "no run there"),
    (["synthesize", "--photos", ".", "--methods", "XX", "--out", "x"], "known are TE"),
])
def test_mistakes_end_in_one_line_and_exit_code_2(arguments, expected, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("detectors.places.WEIGHTS", tmp_path / "none")
    assert expected in fails(capsys, *arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [
    ["--help"], ["run", "search.epoch=3"], ["search", "--config", "nothing"], ["detect", "nowhere.jpg"],
    ["detect", str(ROOT / "tests"), "--weights", "nothing"],
    ["weights", "import", "no.pth", "--detector", "mantranet"]])
def test_help_and_usage_errors_import_nothing_heavy(arguments):
    code = ("import sys, giidnet\ntry: giidnet.main(sys.argv[1:])\nexcept SystemExit: pass\n"
            "print([name for name in ('torch', 'nni', 'cv2', 'skimage', 'matplotlib') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_photographs_that_cannot_be_used_are_told(capsys, tmp_path):
    out = tmp_path / "run"
    (tmp_path / "empty").mkdir()
    assert "no photographs there" in fails(capsys, "search", "--out", out, *TINY, f"photos={tmp_path / 'empty'}")
    assert "no such folder" in fails(capsys, "search", "--out", tmp_path / "b", *TINY, f"photos={tmp_path / 'none'}")


def test_a_start_that_failed_does_not_claim_the_folder(capsys, tmp_path):
    out = tmp_path / "run"
    assert "no such folder" in fails(capsys, "search", "--out", out, *TINY, "photos=nowhere")
    assert "no such folder" in fails(capsys, "search", "--out", out, *TINY, "photos=elsewhere")


def test_a_folder_in_use_is_refused(capsys, tmp_path):
    with locked(make_folder(tmp_path / "run")):
        assert "another process" in fails(capsys, "search", "--out", tmp_path / "run", *TINY)


def test_skipped_photographs_are_counted_and_listed(capsys, tmp_path):
    place = tmp_path / "photos"
    shutil.copytree(ROOT / "tests" / "data" / "photos", place)
    (place / "broken.jpg").write_bytes(b"no picture")
    main(["search", "--out", str(tmp_path / "run"), *TINY, f"photos={place}"])
    told = capsys.readouterr().err
    assert "1 train, 1 val, 1 test, 1 skipped" in told and "broken.jpg: no picture" in told
    rows = read_rows(tmp_path / "run" / "photos.csv")
    assert sorted(row["split"] for row in rows) == ["skipped", "test", "train", "val"]


def test_a_genotype_of_another_space_is_refused(capsys, tmp_path):
    from search_space.genotype import released_genotype, write_genotype
    path = tmp_path / "genotype.yaml"
    write_genotype(path, released_genotype())
    assert "another space" in fails(capsys, "retrain", "--genotype", path, "--out", tmp_path / "run", *TINY)
