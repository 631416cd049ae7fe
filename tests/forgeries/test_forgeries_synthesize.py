"""Forged datasets on disk, looked at with other tools than those that wrote them; and ones made by others."""

import csv
import hashlib

import numpy as np
import pytest
from PIL import Image

from configs.schema import Photos
from forgeries.dataset import Recipe
from forgeries.photos import find_photos
from forgeries.readers import read_forged_folder
from forgeries.synthesize import synthesize

COUNT, KINDS = 3, ("images", "masks", "originals")
RECIPE = Recipe(("TE", "PC"), ("rectangle", "blob"), (0.05, 0.2), 32, shrink=(0.25, 0.5))


@pytest.fixture(scope="module")
def photos():
    return find_photos(Photos(), 32).test


@pytest.fixture(scope="module")
def folder(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("forged")
    synthesize(photos, out, RECIPE, 3, COUNT)
    return out


def manifest(folder):
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_manifest_tells_each_file_and_no_other(folder):
    rows = manifest(folder)
    assert [(row["method"], row["name"]) for row in rows] == [
        (method, f"{index:05d}") for method in RECIPE.methods for index in range(COUNT)]
    told = {folder / row["method"] / kind / f"{row['name']}.png" for row in rows for kind in KINDS}
    assert told == set(folder.rglob("*.png"))


def test_the_manifest_tells_what_the_pictures_show(folder, photos):
    digests = {photo.name: hashlib.sha256(photo.path.read_bytes()).hexdigest() for photo in photos}
    for row in manifest(folder):
        image, mask, original = (np.asarray(Image.open(folder / row["method"] / kind / f"{row['name']}.png"))
                                 for kind in KINDS)
        assert image.shape == original.shape == (int(row["height"]), int(row["width"]), 3) == (32, 32, 3)
        assert mask.shape == (32, 32) and set(np.unique(mask)) == {0, 255}
        assert float(row["mask_fraction"]) == pytest.approx((mask == 255).mean(), abs=1e-6)
        assert (image[mask == 0] == original[mask == 0]).all() and (image[mask == 255] != original[mask == 255]).any()
        assert row["photo"] == photos[int(row["name"]) % len(photos)].name and row["digest"] == digests[row["photo"]]
        assert row["mask_kind"] in RECIPE.masks and (row["perturbation"], row["seed"]) == ("none", "3")


def test_methods_forge_the_same_cases(folder):
    for kind in ("masks", "originals"):
        first, second = ([path.read_bytes() for path in sorted((folder / method / kind).iterdir())]
                         for method in RECIPE.methods)
        assert first == second and len(set(first)) == COUNT


def test_datasets_of_others_need_no_manifest_and_may_be_any_format(tmp_path):
    for place in ("images", "masks"):
        (tmp_path / "LaMa" / place).mkdir(parents=True)
    Image.new("RGB", (4, 2), "red").save(tmp_path / "LaMa" / "images" / "one.BMP")
    Image.fromarray(np.array([[0, 1, 127, 128], [254, 255, 0, 0]], np.uint8)).save(
        tmp_path / "LaMa" / "masks" / "one.png")
    (tmp_path / "LaMa" / "images" / "Thumbs.db").write_text("no picture")
    cases = read_forged_folder(tmp_path)
    assert [(case.name, case.method, case.source) for case in cases["LaMa"]] == [("one", "LaMa", "one")]
    image, mask = cases["LaMa"][0].load()
    assert (image == [255, 0, 0]).all()
    assert mask.tolist() == [[False, False, False, True], [True, True, False, False]]
