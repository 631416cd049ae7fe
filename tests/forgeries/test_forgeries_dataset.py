"""Forgeries as a pure function of seed, stream, epoch and index; and written to disk."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from configs.errors import UserError
from configs.pictures import read_photo
from configs.schema import Photos
from forgeries import list_masks, list_methods
from forgeries.dataset import ForgeryDataset, Recipe, make_forgery, make_loader
from forgeries.photos import find_photos, scan
from forgeries.readers import read_by_method
from forgeries.synthesize import synthesize

RECIPE = Recipe(("TE", "NS"), tuple(list_masks()), (0.05, 0.2), 32, ("none", "jpeg-75"), (0.25, 0.5))


@pytest.fixture(scope="module")
def photos():
    return find_photos(Photos(), 32).test


def batches(dataset, workers=0, start=0):
    return list(make_loader(dataset, 3, workers, start))


def same(a, b):
    return len(a) == len(b) and all(torch.equal(*pair) for one, other in zip(a, b, strict=True)
                                    for pair in zip(one, other, strict=True))


def test_workers_and_start_change_nothing(photos):
    dataset = ForgeryDataset(photos, RECIPE, 0, "train", 6, epochs=2)
    expected = batches(dataset)
    assert len(expected) == 4
    for workers in (1, 2):
        assert same(expected, batches(dataset, workers))
    assert same(expected[1:], batches(dataset, start=3))
    assert same(expected[3:], batches(dataset, workers=2, start=9))


def test_items_have_the_promised_form(photos):
    dataset = ForgeryDataset(photos, RECIPE, 1, "train", 12)
    for number, (images, masks) in enumerate(batches(dataset)):
        assert images.shape == (3, 3, 32, 32) and images.dtype == torch.float32
        assert masks.shape == (3, 1, 32, 32) and set(masks.unique().tolist()) == {0.0, 1.0}
        forgery = dataset.forgery(3 * number)
        assert (images[0, 2, 5] == torch.from_numpy(forgery.image[5, :, 2] / np.float32(255))).all()
        assert (masks[0, 0].numpy() == forgery.mask).all()


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_random_state_of_training_alone(photos, workers):
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    batches(ForgeryDataset(photos, RECIPE, 0, "train", 3), workers)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tobytes() == before[1]


def test_each_key_draws_anew(photos):
    def key(seed=0, name="train", epoch=0, index=0):
        forgery = make_forgery(photos, RECIPE, seed, name, epoch, index)
        return forgery.image.tobytes() + forgery.mask.tobytes()

    assert key() == key()
    assert len({key(), key(seed=1), key(name="val"), key(epoch=1), key(index=1)}) == 5


def test_an_epoch_is_not_a_further_stretch_of_the_first(photos):
    two = ForgeryDataset(photos, RECIPE, 0, "train", 4, epochs=2)
    longer = ForgeryDataset(photos, RECIPE, 0, "train", 8)
    assert torch.equal(two[3][0], longer[3][0]) and not torch.equal(two[4][0], longer[4][0])


def test_methods_and_perturbations_share_their_cases(photos):
    for index in range(4):
        cases = [make_forgery(photos, RECIPE, 0, "test", 0, index, method=method, perturbation=perturbation)
                 for method in list_methods() for perturbation in ("none", "jpeg-75")]
        first = cases[0]
        for case in cases:
            assert (case.original == first.original).all() and (case.mask == first.mask).all()
            assert (case.photo, case.mask_kind) == (first.photo, first.mask_kind)
            if case.perturbation == "none":
                assert (case.image[~case.mask] == case.original[~case.mask]).all()
                assert (case.image[case.mask] != case.original[case.mask]).any()


def test_every_choice_is_made(photos):
    forgeries = [make_forgery(photos, RECIPE, 0, "train", 0, index) for index in range(60)]
    for field, names in {"method": RECIPE.methods, "mask_kind": RECIPE.masks, "perturbation": RECIPE.perturbations,
                         "photo": [photo.name for photo in photos]}.items():
        assert {getattr(forgery, field) for forgery in forgeries} == set(names)


def test_balanced_takes_photographs_in_turn_and_shows_them_upright(photos):
    whole = replace(RECIPE, shrink=None, perturbations=("none",))
    for index in range(4):
        forgery = make_forgery(photos, whole, 0, "test", 0, index, balanced=True, flip=False)
        assert forgery.photo == photos[index % len(photos)].name and forgery.digest == photos[index % 2].digest
        picture = read_photo(photos[index % 2].path)
        corner = (picture[:-31, :-31] == forgery.original[0, 0]).all(2)
        assert any((picture[y:y + 32, x:x + 32] == forgery.original).all() for y, x in np.argwhere(corner))


def test_shrinking_averages_areas_and_all_flips_are_drawn(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "photo.png")
    means = image.reshape(32, 2, 32, 2, 3).mean((1, 3))
    turned = [means, means[::-1], means[:, ::-1], means[::-1, ::-1]]
    halved, seen = replace(RECIPE, methods=("TE",), shrink=(0.5, 0.5)), set()
    for index in range(30):
        original = make_forgery(scan([tmp_path], 32).photos, halved, 0, "train", 0, index).original
        seen |= {number for number, expected in enumerate(turned) if np.abs(original - expected).max() <= 0.5}
    assert seen == {0, 1, 2, 3}


def test_a_photograph_smaller_than_the_drawn_window_is_used_whole(photos):
    forgery = make_forgery(photos, replace(RECIPE, shrink=(0.01, 0.01)), 0, "test", 0, 0)
    assert forgery.image.shape == (32, 32, 3)


def test_synthesize_writes_what_the_reader_reads(photos, tmp_path):
    out = [tmp_path / name for name in ("a", "b")]
    for folder in out:
        assert synthesize(photos, folder, RECIPE, 3, 3) == 6
    files = sorted(path.relative_to(out[0]) for path in out[0].rglob("*.*"))
    assert len(files) == 2 * 3 * 3 + 3
    assert all((out[0] / file).read_bytes() == (out[1] / file).read_bytes() for file in files)
    dataset = ForgeryDataset(photos, RECIPE, 3, "synthesize", 3, method="NS", balanced=True)
    for index, case in enumerate(read_by_method(out[0])["NS"]):
        forgery = dataset.forgery(index)
        image, mask = case.load()
        assert (image == forgery.image).all() and (mask == forgery.mask).all() and case.source == forgery.source
        assert (read_photo(case.image.parent.parent / "originals" / case.image.name) == forgery.original).all()


@pytest.mark.parametrize("damage, message", [
    (lambda place: (place / "masks" / "00001.png").unlink(), "has no mask"),
    (lambda place: (place / "masks" / "00001.png").write_bytes((place / "small.png").read_bytes()), "16×16, but"),
    (lambda place: (place / "images" / "00001.png").write_bytes(b""), "empty"),
])
def test_a_damaged_dataset_is_told(photos, tmp_path, damage, message):
    import cv2
    synthesize(photos, tmp_path, replace(RECIPE, methods=("TE",)), 0, 2)
    cv2.imwrite(str(tmp_path / "TE" / "small.png"), np.zeros((16, 16), np.uint8))
    damage(tmp_path / "TE")
    with pytest.raises(UserError, match=message):
        [case.load() for case in read_by_method(tmp_path)["TE"]]


def test_a_folder_without_methods_is_told(tmp_path):
    with pytest.raises(UserError, match=r"no layout fits.*<METHOD>/images"):
        read_by_method(tmp_path)
    with pytest.raises(UserError, match="no such dataset"):
        read_by_method(tmp_path / "nowhere")
