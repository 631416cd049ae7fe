"""What users type: odd values and odd names end in one line, or in what was asked for."""

import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from forgeries.readers import read_by_method
from giidnet import _one_line_errors, main

PICTURE = Path(__file__).parents[1] / "data" / "photos" / "picture0.png"


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    shutil.copy(PICTURE, tmp_path / "photos" / "a.png")
    return tmp_path / "photos"


def refused(arguments, capsys) -> str:
    """The line that such a command ends in."""
    with pytest.raises(SystemExit) as code:
        main([str(argument) for argument in arguments])
    assert code.value.code == 2
    line, end = capsys.readouterr().err.rsplit("giidnet: ", 1)[1].split("\n")
    assert not end
    return line


@pytest.mark.parametrize("options, message", [
    (["--fraction", "nan", "0.1"], "no finite number"),
    (["--fraction", "0.3", "0.1"], "the lower value"),
    (["--shrink", "0.5", "nan"], "no finite number"),
    (["--seed", str(2**32)], "--seed"),
    (["--masks", "text=nan"], "--masks text=nan: the weight"),
    (["--masks", "text="], "--masks text=: the weight"),
    (["--masks", "files:a=b=1"], "files:a=b"),
])
def test_impossible_values_of_synthesize_are_told(photos, tmp_path, capsys, options, message):
    arguments = ["synthesize", "--photos", photos, "--methods", "TE", "--out", tmp_path / "out", "--size", 32]
    assert message in refused([*arguments, *options], capsys)
    assert not (tmp_path / "out").exists()


def test_forged_pictures_do_not_become_photographs(photos, capsys):
    out = photos / "below" / "forged"
    assert "lies in --photos" in refused(["synthesize", "--photos", photos, "--methods", "TE", "--out", out], capsys)
    assert not out.exists()


def test_a_manifest_of_others_is_not_taken_for_finished_work(photos, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.csv").write_text("image,mask\n1.png,1_mask.png\n")
    assert "another recipe" in refused(["synthesize", "--photos", photos, "--methods", "TE", "--out", tmp_path / "out",
                                        "--size", 32, "--count", 1, "--jobs", 0], capsys)
    assert not (tmp_path / "out" / "recipe.json").exists()


@pytest.mark.parametrize("options, message", [
    (["--size", "33"], "multiple of 4"),
    (["--size", "48", "--depth", "5"], "multiple of 32"),
    (["--seed", str(2**32)], "--seed"),
    (["--learning-rate", "nan"], "no finite number"),
    (["--learning-rate", "inf"], "no finite number"),
])
def test_impossible_values_of_train_inpainter_are_told(photos, tmp_path, capsys, options, message):
    arguments = ["train-inpainter", "MINE", "--photos", photos, "--out", tmp_path / "out", "--up", "nearest"]
    assert message in refused([*arguments, *options], capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a/b", ".hidden", "Ü", "TE", "x" * 41])
def test_names_that_no_method_could_have_are_refused(photos, capsys, name):
    arguments = ["train-inpainter", name, "--photos", photos, "--up", "nearest"]
    assert "not the name of a method" in refused(arguments, capsys)


def test_a_preview_is_a_file(tmp_path, capsys):
    (tmp_path / "folder.png").mkdir()
    assert "be no folder" in refused(["list", "methods", "--preview", tmp_path / "folder.png"], capsys)


@pytest.mark.parametrize("command, end", [("search", "; --resume continues"), ("detect", ""),
                                          ("synthesize", "; the same command continues")])
def test_an_interrupted_command_says_how_it_continues(capsys, command, end):
    with pytest.raises(SystemExit) as code, _one_line_errors(False, command):
        raise KeyboardInterrupt
    assert code.value.code == 130 and capsys.readouterr().err == f"giidnet: interrupted{end}\n"


def test_more_processes_than_cores_are_no_matter_of_a_warning(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        main(["synthesize", "--photos", str(photos), "--methods", "TE", "--out", str(tmp_path / "out"), "--size", "32",
              "--count", "2", "--jobs", "2"])


def test_names_may_be_any_bytes(photos, tmp_path):
    """Also the end of a line, and what is no UTF-8; on a strict terminal, too."""
    name = os.fsdecode(b"caf\xe9\n\xe2\x80\xa8,\"x")
    (photos / "a.png").rename(photos / f"{name}.png")
    out = tmp_path / os.fsdecode(b"out \xe9")
    command = [sys.executable, "-m", "giidnet", "synthesize", "--photos", photos, "--methods", "TE", "--out", out,
               "--size", "32", "--count", "2", "--jobs", "1", "--masks", "blob"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"})
    assert done.returncode == 0 and os.fsencode(out) in done.stdout, done.stderr
    sources = {case.source for case in read_by_method(out)["TE"]}
    assert len(sources) == 1 and sources.pop().startswith(name)
