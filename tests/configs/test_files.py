"""Run folders: whole files or none, one process at a time; streams that depend on their name alone."""

import subprocess
import sys

import numpy as np
import pytest

from configs.errors import UserError
from configs.files import locked, make_folder, read_rows, write_atomic, write_rows
from configs.streams import stream, torch_seed


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, "old")
    with pytest.raises(TypeError):
        write_atomic(path, 3)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_rows_read_back(tmp_path):
    path = tmp_path / "rows.csv"
    assert read_rows(path) == []
    write_rows(path, ("a", "b"), [{"a": "x,y", "b": None}])
    assert read_rows(path) == [{"a": "x,y", "b": ""}]


def test_a_folder_in_use_is_refused_and_free_afterwards(tmp_path):
    code = ("import sys, pathlib; from configs.files import locked\n"
            "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another process"), locked(tmp_path):
            pass
        other.kill()
    with locked(tmp_path):
        pass


def test_an_impossible_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        make_folder(tmp_path / "file" / "below")


def test_streams_depend_on_seed_and_name_alone():
    draws = stream(1, "train", 2, 3).random(4)
    np.random.default_rng(0).random(9)
    assert np.array_equal(draws, stream(1, "train", 2, 3).random(4))
    others = [stream(1, "train", 3, 2), stream(2, "train", 2, 3), stream(1, "test", 2, 3)]
    assert all(not np.array_equal(draws, other.random(4)) for other in others)
    assert 0 <= torch_seed(0, "weights") < 2**63
