"""Perceptual hashes of photographs that were changed a little, and the search against comparing all with all."""

from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.pictures import read_photo
from configs.schema import Photos
from forgeries.duplicates import FLAT, NEAR, Pair, near_duplicates, perceptual_hash
from forgeries.methods import inpaint
from forgeries.photos import find_photos


def bits(a: np.uint64, b: np.uint64) -> int:
    return (int(a) ^ int(b)).bit_count()


@pytest.fixture(scope="module")
def photographs():
    found = find_photos(Photos(), 64)
    return {photo.name: cv2.resize(read_photo(photo.path), (240, 200), interpolation=cv2.INTER_AREA)
            for split in (found.train, found.val, found.test) for photo in split}


def test_the_hash_is_the_documented_formula(photographs):
    image = cv2.resize(photographs["astronaut"], (270, 180))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(float)
    means = [[grey[20 * i:20 * i + 20, 30 * j:30 * j + 30].mean() for j in range(9)] for i in range(9)]
    expected = 0
    for i in range(8):
        for j in range(8):
            expected = 2 * expected + int(means[i][j] + means[i + 1][j + 1] > means[i][j + 1] + means[i + 1][j])
    assert int(perceptual_hash(image)) == expected
    assert isinstance(perceptual_hash(image), np.uint64)


@pytest.mark.parametrize("change", [
    lambda image: cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_COLOR),
    lambda image: cv2.resize(image, (120, 100), interpolation=cv2.INTER_AREA),
    lambda image: cv2.resize(image, (512, 300), interpolation=cv2.INTER_CUBIC),
    lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=10),
    lambda image: inpaint(image, _box(image), "TE", np.random.default_rng(0)),
])
def test_a_photograph_that_was_changed_a_little_is_found_again(photographs, change):
    for name, image in photographs.items():
        assert bits(perceptual_hash(image), perceptual_hash(change(image))) <= NEAR, name


def _box(image: np.ndarray) -> np.ndarray:
    """A region of 10 % of the picture."""
    mask = np.zeros(image.shape[:2], bool)
    mask[30:90, 120:200] = True
    return mask


def test_different_photographs_are_far(photographs):
    hashes = [perceptual_hash(image) for image in photographs.values()]
    assert FLAT not in hashes
    assert min(bits(a, b) for a, b in combinations(hashes, 2)) > NEAR


@pytest.mark.parametrize("image", [
    np.zeros((40, 40, 3), np.uint8), np.full((40, 50, 3), 200, np.uint8), np.full((1, 1, 3), 9, np.uint8),
    np.repeat(np.arange(64, dtype=np.uint8)[None, :, None], 64, 0).repeat(3, 2),
    # A small object before a white ground, of which there are many.
    np.pad(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8), ((80, 80), (80, 80), (0, 0)),
           constant_values=255)])
def test_a_picture_without_structure_is_like_nothing(image):
    assert perceptual_hash(image) == FLAT
    assert near_duplicates({"a": [FLAT], "b": [FLAT, np.uint64(1)]}) == []


def all_with_all(hashes, distance):
    """Pairs by comparing everything."""
    names = list(hashes)
    return [Pair(a, i, b, j, bits(x, y)) for place, a in enumerate(names) for b in names[place + 1:]
            for i, x in enumerate(hashes[a]) for j, y in enumerate(hashes[b])
            if x and y and bits(x, y) <= distance]


words = st.integers(0, 2**64 - 1)


@settings(max_examples=40, deadline=None)
@given(words, st.lists(st.tuples(st.integers(0, 2), st.sets(st.integers(0, 63), max_size=9)), max_size=12),
       st.integers(0, 9))
def test_the_search_finds_what_comparing_all_finds(word, flips, distance):
    hashes: dict[str, list[np.uint64]] = {"train": [], "val": [], "test": []}
    for split, places in flips:
        hashes[list(hashes)[split]].append(np.uint64(word ^ sum(1 << place for place in places)))
    assert near_duplicates(hashes, distance) == all_with_all(hashes, distance)


def test_the_search_on_many_hashes():
    generator = np.random.default_rng(0)
    # Few distinct bands: every lookup has many candidates, and equal hashes occur within a split.
    hashes = {name: generator.choice(np.array([0, 1, 3, 0xFF00, 2**63], np.uint64), (300, 4)).astype(np.uint64)
              @ np.array([1, 2**16, 2**20, 2**5], np.uint64) for name in ("train", "test")}
    assert near_duplicates(hashes, 5) == all_with_all(hashes, 5) != []
    spread = {name: generator.integers(1, 2**64, 20_000, np.uint64) for name in ("train", "test")}
    spread["test"][7] = spread["train"][19_999] ^ np.uint64(0x8000_0001_0000_0001)
    assert Pair("train", 19_999, "test", 7, 3) in near_duplicates(spread, 3)
