"""Lists of photographs that cost little, and what is known of files from before."""

import os
import pickle
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import forgeries.photos as module
from forgeries.index import Checked, CheckedFiles, Photo, PhotoList, stamp
from forgeries.photos import check_files

words = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
photos = st.builds(Photo, words.map(Path), words, words, words, st.integers(0, 2**64 - 1))


@given(st.lists(photos, max_size=8), st.data())
def test_a_list_of_photographs_is_as_a_tuple(items, data):
    found = PhotoList(items)
    assert tuple(found) == tuple(items) and len(found) == len(items)
    for i in range(-len(items), len(items)):
        assert found[i] == items[i]
    with pytest.raises(IndexError):
        found[len(items)]
    cut = data.draw(st.slices(len(items)))
    assert tuple(found[cut]) == tuple(items[cut])
    assert pickle.loads(pickle.dumps(found)) == found == PhotoList(found)
    assert not items or found != PhotoList(items[1:])


def test_a_name_that_is_not_utf_8_is_kept():
    photo = Photo(Path(os.fsdecode(b"caf\xe9.png")), os.fsdecode(b"caf\xe9"), "s", "d")
    assert PhotoList([photo])[0] == photo


def test_a_hundred_thousand_photographs_are_some_megabytes():
    items = (Photo(Path(f"/photographs/{i:06d}.jpg"), f"{i:06d}", f"{i:06d}-12345678", "f" * 64)
             for i in range(100_000))
    assert len(pickle.dumps(PhotoList(items))) < 20e6


def save(path: Path, seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """The cache folder in `tmp_path`, and the list of files that were decoded."""
    monkeypatch.setenv("GIIDNET_CACHE", str(tmp_path / "cache"))
    decoded: list[Path] = []
    real = module._check
    monkeypatch.setattr(module, "_check", lambda path: (decoded.append(path), real(path))[1])
    return decoded


def test_a_file_is_decoded_once_until_it_changes(tmp_path, counted):
    files = [save(tmp_path / "a.png"), save(tmp_path / "b.png", 1), tmp_path / "bad.png"]
    files[2].write_bytes(b"no picture")
    first = check_files(files)
    assert sorted(counted) == files and check_files(files) == first and len(counted) == 3
    assert [(entry.height, entry.width, bool(entry.problem)) for entry in first] == [
        (20, 30, False), (20, 30, False), (0, 0, True)]
    save(files[0], 2)
    os.utime(files[0], ns=(0, 12345))
    changed = check_files(files)
    assert counted[3:] == files[:1] and changed[0].digest != first[0].digest and changed[1:] == first[1:]


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"rubbish" * 1000),
                                    lambda path: path.write_bytes(b""), lambda path: (path.unlink(), path.mkdir())])
def test_a_damaged_table_costs_time_only(tmp_path, counted, damage):
    files = [save(tmp_path / "a.png")]
    first = check_files(files)
    for path in (tmp_path / "cache").glob("photos.sqlite*"):
        path.unlink() if path.suffix != ".sqlite" else damage(path)
    assert check_files(files) == first and len(counted) == 2
    if (tmp_path / "cache" / "photos.sqlite").is_file() or not any((tmp_path / "cache").iterdir()):
        check_files(files)
        assert check_files(files) == first and len(counted) <= 3


def test_a_table_of_another_version_is_made_anew(tmp_path):
    table, entry = CheckedFiles(tmp_path / "t.sqlite"), Checked(3, 4, "d", 2 ** 63 + 5)
    known = stamp(save(tmp_path / "a.png"))
    table.keep([(known, entry)])
    assert table.find([known, ("other", 1, 2)]) == [entry, None]
    with sqlite3.connect(tmp_path / "t.sqlite") as file:
        file.execute("PRAGMA user_version = 77")
    assert table.find([known]) == [None]
    table.keep([(known, entry)])
    assert table.find([known]) == [entry]
