"""Classes of manipulation: evenly spread, really different, and drawn the same in every process."""

from collections import Counter
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.errors import UserError
from configs.schema import Photos, Pretrain
from forgeries.dataset import draw_square, make_loader
from forgeries.manipulations import FAMILIES, MAXIMUM, Manipulation, manipulation_classes
from forgeries.patches import PatchDataset
from forgeries.photos import find_photos

PHOTOS = find_photos(Photos(), 32)
CLASSES = manipulation_classes(385)
SMALLEST = 32


def noisy(height, width, seed=0):
    """Texture at two scales."""
    generator = np.random.default_rng(seed)
    coarse = cv2.resize(generator.uniform(0, 200, (6, 6, 3)).astype(np.float32), (width, height))
    return (coarse + generator.uniform(0, 55, (height, width, 3))).astype(np.uint8)


def applied(manipulation, patch, seed=0):
    return manipulation.apply(patch, np.random.default_rng(seed))


@given(st.integers(2, MAXIMUM))
def test_classes_are_distinct_and_evenly_spread(count):
    classes = manipulation_classes(count)
    assert classes == manipulation_classes(count) and classes[0] == Manipulation() and classes[0].name == "pristine"
    assert len({entry.name for entry in classes}) == len(set(classes)) == count
    assert all(0 < entry.strength <= 1 for entry in classes[1:])
    families = Counter(entry.family for entry in classes[1:])
    shares = [families[family] for family in FAMILIES]
    assert max(shares) - min(shares) <= 1 and sum(shares) == count - 1
    for family, kinds in FAMILIES.items():
        strengths = {kind: [entry.strength for entry in classes if (entry.family, entry.kind) == (family, kind)]
                     for kind in kinds}
        assert max(map(len, strengths.values())) - min(map(len, strengths.values())) <= 1
        assert all(a < b for found in strengths.values() for a, b in pairwise(found))


@pytest.mark.parametrize("count", [-1, 0, 1, MAXIMUM + 1])
def test_impossible_counts_are_told_by_the_function_and_by_the_configuration(count):
    with pytest.raises(UserError, match=f"from 2 to {MAXIMUM}"):
        manipulation_classes(count)
    with pytest.raises(ValidationError):
        Pretrain(classes=count)


def test_the_configuration_takes_as_many_classes_as_there_are():
    assert Pretrain().classes == len(CLASSES) and len(manipulation_classes(Pretrain(classes=MAXIMUM).classes)) == 393


@settings(deadline=None)
@given(st.sampled_from(manipulation_classes(MAXIMUM)), st.integers(SMALLEST, 80), st.integers(SMALLEST, 80),
       st.integers(0, 99))
def test_a_manipulation_changes_values_only_and_repeats_itself(manipulation, height, width, seed):
    patch = noisy(height, width, seed)
    before = patch.copy()
    result = applied(manipulation, patch, seed)
    assert result.shape == patch.shape and result.dtype == np.uint8 and (patch == before).all()
    assert (result == applied(manipulation, patch, seed)).all()
    assert (result == patch).all() == (manipulation.family == "pristine")


@pytest.mark.parametrize("count", [385, MAXIMUM])
@pytest.mark.parametrize("size", [SMALLEST, 64])
def test_consecutive_strengths_differ_on_a_photograph(count, size):
    patch = draw_square(PHOTOS.train[0], size, (0.25, 0.5), np.random.default_rng(0))
    for first, second in pairwise(manipulation_classes(count)):
        assert (applied(first, patch) != applied(second, patch)).any(), (first.name, second.name)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "contrast"])
def test_a_stronger_manipulation_changes_more(family):
    """Contrast aside, whose mean change depends on the patch alone."""
    patch = draw_square(PHOTOS.train[0], 64, (0.25, 0.5), np.random.default_rng(0)).astype(float)
    for kind in FAMILIES[family]:
        changes = [np.abs(applied(Manipulation(family, kind, strength), patch.astype(np.uint8)) - patch).mean()
                   for strength in (0.05, 0.35, 0.65, 0.95)]
        assert all(a < b for a, b in pairwise(changes)), (kind, changes)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_random_manipulations_follow_the_generator_and_others_do_not(family):
    random = {"blurring": {"motion"}, "noise": set(FAMILIES["noise"]), "quantization": {"dither"}}.get(family, set())
    for kind in FAMILIES[family]:
        found = {applied(Manipulation(family, kind, 0.5), noisy(40, 40), seed).tobytes() for seed in range(9)}
        assert (len(found) > 1) == (kind in random)


def dataset(length=6, epochs=2, seed=0, name="pretrain", **options):
    return PatchDataset(PHOTOS.train, CLASSES, 32, (0.25, 0.5), seed, name, length, epochs, **options)


def test_patches_are_the_same_for_any_number_of_workers_and_any_start():
    expected = list(make_loader(dataset(), 3, 0))
    assert len(expected) == 4
    for found, start in ((make_loader(dataset(), 3, 2), 0), (make_loader(dataset(), 3, 1, 6), 2)):
        for one, other in zip(expected[start:], found, strict=True):
            assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_each_key_draws_anew():
    def key(item):
        return item[0].numpy().tobytes() + item[1].numpy().tobytes()

    assert len({key(dataset()[0]), key(dataset()[1]), key(dataset()[6]), key(dataset(seed=1)[0]),
                key(dataset(name="other")[0])}) == 5


def test_items_have_the_promised_form_and_classes_their_turn():
    drawn = [dataset(400, 1)[i] for i in range(40)]
    assert all(patch.shape == (3, 32, 32) and patch.dtype == torch.float32 and 0 <= patch.min() <= patch.max() <= 1
               and number.dtype == torch.int64 for patch, number in drawn)
    assert len({number.item() for _, number in drawn}) > 30
    for count, length in ((8, 20), (8, 5)):
        patches = PatchDataset(PHOTOS.val, CLASSES[:count], 32, None, 0, "validate", length, balanced=True)
        turns = Counter(patches[i][1].item() for i in range(length))
        assert len(turns) == min(count, length) and max(turns.values()) - min(turns.values()) <= 1
