"""Photographs of every kind that users have, and the splits that keep a picture on one side."""

import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from configs.errors import UserError
from configs.pictures import read_photo
from configs.schema import Photos, Split
from forgeries.photos import find_photos, hold_out, scan


def pixels(seed: int, height: int = 40, width: int = 48) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(path, seed: int = 0, **size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, **size)).save(path)
    return path


def test_every_mode_becomes_rgb_bytes(tmp_path):
    rgb = Image.fromarray(pixels(0))
    grey = np.asarray(rgb.convert("L"))
    rgb.save(tmp_path / "rgb.png")
    rgb.convert("L").save(tmp_path / "grey.png")
    rgb.convert("RGBA").save(tmp_path / "rgba.png")
    rgb.quantize(16).save(tmp_path / "palette.png")
    cv2.imwrite(str(tmp_path / "deep.png"), pixels(0)[..., ::-1].astype(np.uint16) * 256 + 7)
    for name, expected in {"rgb": pixels(0), "grey": np.repeat(grey[..., None], 3, 2), "rgba": pixels(0),
                           "palette": np.asarray(rgb.quantize(16).convert("RGB")), "deep": pixels(0)}.items():
        image = read_photo(tmp_path / f"{name}.png")
        assert image.dtype == np.uint8 and image.flags.c_contiguous
        assert np.array_equal(image, expected), name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_tag_is_respected(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(cv2.resize(pixels(0, 5, 6), (48, 40))).save(tmp_path / "turned.jpg", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "turned.jpg")))
    found = read_photo(tmp_path / "turned.jpg")
    # Two decoders may round differently; a wrong turn of this picture is tens of levels away.
    assert found.shape == expected.shape and np.abs(found.astype(int) - expected).mean() < 2


def test_what_cannot_be_used_is_skipped_with_its_reason(tmp_path):
    save(tmp_path / "deep" / "good.png", 1)
    save(tmp_path / "same.png", 1)
    save(tmp_path / "tiny.png", 2, height=8)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "garbage.jpg").write_bytes(b"no picture at all")
    (tmp_path / "cut.png").write_bytes(save(tmp_path / "whole.txt.png", 3).read_bytes()[:50])
    (tmp_path / "late.jpg").write_bytes(save(tmp_path / "late.jpg", 4).read_bytes()[:-99])
    vast = bytearray(save(tmp_path / "vast.bmp", 5).read_bytes())
    vast[18:26] = struct.pack("<ii", 70_000, 70_000)
    (tmp_path / "vast.bmp").write_bytes(vast)
    (tmp_path / "notes.txt").write_text("not looked at")
    found = scan([tmp_path], 32)
    assert [photo.name for photo in found.photos] == ["good", "whole.txt"]
    reasons = {path.name: reason for path, reason in found.skipped}
    words = {"same.png": "same as good", "tiny.png": "48×8 is smaller than 32", "empty.png": "empty",
             "garbage.jpg": "decoded", "cut.png": "decoded", "late.jpg": "decoded", "vast.bmp": "PIXELS"}
    assert set(reasons) == set(words)
    for name, word in words.items():
        assert word in reasons[name]


@pytest.mark.parametrize("prepare, message", [
    (lambda folder: None, "no such folder"),
    (lambda folder: folder.mkdir(), "no photographs there"),
    (lambda folder: save(folder / "tiny.png", height=8), "none of 1 photographs can be used; tiny.png: 48×8"),
])
def test_a_folder_without_photographs_is_refused(tmp_path, prepare, message):
    prepare(tmp_path / "photos")
    with pytest.raises(UserError, match=message):
        scan([tmp_path / "photos"], 32)


def test_shares_depend_on_content_alone(tmp_path):
    for seed in range(20):
        save(tmp_path / "here" / f"{seed}.png", seed)
        save(tmp_path / "there" / "below" / f"other{97 - seed}.png", seed)
    save(tmp_path / "there" / "tiny.png", height=8)
    photos = {name: Photos(dirs=[str(tmp_path / name)], split=Split(train=0.5, val=0.25, test=0.25))
              for name in ("here", "there")}
    here, there = (find_photos(photos[name], 32) for name in ("here", "there"))
    for split, size in {"train": 10, "val": 5, "test": 5}.items():
        assert {photo.digest for photo in getattr(here, split)} == {photo.digest for photo in getattr(there, split)}
        assert len(getattr(here, split)) == size
    assert len({photo.digest for split in (here.train, here.val, here.test) for photo in split}) == 20
    assert [path.name for path, _ in there.skipped] == ["tiny.png"]


@pytest.mark.parametrize("count", range(1, 6))
@pytest.mark.parametrize("shares", [(0.98, 0.01, 0.01), (0.5, 0.01, 0.49), (0.01, 0.01, 0.98)])
def test_no_split_is_ever_empty(tmp_path, count, shares):
    for seed in range(count):
        save(tmp_path / f"{seed}.png", seed)
    photos = Photos(dirs=[str(tmp_path)], split=Split(train=shares[0], val=shares[1], test=shares[2]))
    if count < 3:
        with pytest.raises(UserError, match="at least 3"):
            find_photos(photos, 32)
    else:
        found = find_photos(photos, 32)
        assert min(map(len, (found.train, found.val, found.test))) >= 1


def test_a_content_in_two_given_splits_stays_in_the_later_one(tmp_path):
    for split, seeds in {"train": (0, 1, 2), "val": (1, 3), "test": (2, 4)}.items():
        for seed in seeds:
            save(tmp_path / split / f"{split}{seed}.png", seed)
    given = Photos(train=[str(tmp_path / "train")], val=[str(tmp_path / "val")], test=[str(tmp_path / "test")])
    found = find_photos(given, 32)
    assert [[photo.name for photo in split] for split in (found.train, found.val, found.test)] == [
        ["train0"], ["val1", "val3"], ["test2", "test4"]]
    assert len(found.skipped) == 2
    (tmp_path / "train" / "train0.png").unlink()
    with pytest.raises(UserError, match=r"photos\.train: all its photographs"):
        find_photos(given, 32)


def test_scikit_image_splits_share_no_scene():
    found = find_photos(Photos(), 64)
    sources = [{photo.source for photo in split} for split in (found.train, found.val, found.test)]
    assert all(sources) and not found.skipped
    assert len(set.union(*sources)) == sum(map(len, sources))
    everything = [*found.train, *found.val, *found.test]
    assert len({photo.source for photo in everything if photo.name.startswith("motorcycle_")}) == 1
    assert all(read_photo(photo.path).std() > 0 for photo in everything)
    with pytest.raises(UserError, match="smaller than 600 pixels"):
        find_photos(Photos(), 600)


def test_files_of_one_name_are_different_sources(tmp_path):
    for seed, card in enumerate(("first", "second")):
        save(tmp_path / card / "IMG_1.png", seed)
    photos = scan([tmp_path], 32).photos
    assert [photo.name for photo in photos] == ["IMG_1", "IMG_1"] and photos[0].source != photos[1].source


def scene(seed: int) -> np.ndarray:
    """A smooth picture, whose look survives compression."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (6, 8, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC))


def test_photographs_that_look_the_same_are_one_source_and_in_one_split(tmp_path):
    for seed in range(12):
        for quality in (95, 40):
            Image.fromarray(scene(seed)).save(tmp_path / f"{seed}-{quality}.jpg", quality=quality)
    found = find_photos(Photos(dirs=[str(tmp_path)]), 32)
    splits = [{photo.source for photo in split} for split in (found.train, found.val, found.test)]
    assert sum(map(len, splits)) == len(set.union(*splits)) == 12
    assert [len(split) for split in (found.train, found.val, found.test)] == [18, 2, 4]


def test_a_look_in_two_given_splits_stays_in_the_later_one(tmp_path):
    for split, seeds in {"train": (0, 1, 2), "val": (1, 3), "test": (2, 4)}.items():
        for seed in seeds:
            (tmp_path / split).mkdir(exist_ok=True)
            Image.fromarray(scene(seed)).save(tmp_path / split / f"{split}{seed}.jpg", quality=20 * len(split))
    found = find_photos(Photos(**{split: [str(tmp_path / split)] for split in ("train", "val", "test")}), 32)
    assert [[photo.name for photo in split] for split in (found.train, found.val, found.test)] == [
        ["train0"], ["val1", "val3"], ["test2", "test4"]]
    assert {path.name: reason for path, reason in found.skipped} == {
        "train1.jpg": "nearly the same as val1 of val", "train2.jpg": "nearly the same as test2 of test"}


def test_a_tenth_is_held_out_by_content(tmp_path):
    for seed in range(20):
        save(tmp_path / f"{seed}.png", seed)
    photos = scan([tmp_path], 32).photos
    rest, held = hold_out(photos)
    assert (len(rest), len(held)) == (18, 2) and {*rest, *held} == set(photos)
    assert hold_out(photos[::-1]) == (rest, held)
    assert hold_out(photos, held[:1]) == (tuple(photo for photo in hold_out(photos)[1][1:] + rest
                                                if photo != held[0]), held[:1])
    with pytest.raises(UserError, match="held out"):
        hold_out(photos[:1])
    # One scene is on one side.
    alike = [replace(photo, source=held[0].source) if photo in rest[:5] else photo for photo in photos]
    assert {photo.digest for photo in hold_out(alike)[0]} == {photo.digest for photo in rest[5:]}
