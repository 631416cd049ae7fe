"""Forged datasets on disk, looked at with other tools than those that wrote them; and ones made by others."""

import csv
import errno
import hashlib
import multiprocessing
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from configs.errors import UserError
from configs.files import write_atomic
from configs.schema import Photos
from forgeries import synthesize as module
from forgeries.dataset import ForgeryDataset, Recipe
from forgeries.photos import find_photos
from forgeries.readers import read_by_method
from forgeries.synthesize import PART, synthesize

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
    cases = read_by_method(tmp_path)
    assert [(case.name, case.method, case.source) for case in cases["LaMa"]] == [("one", "LaMa", "one")]
    image, mask = cases["LaMa"][0].load()
    assert (image == [255, 0, 0]).all()
    assert mask.tolist() == [[False, False, False, True], [True, True, False, False]]


def whole(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("jobs", [1, 2])
def test_processes_write_the_same_bytes(folder, photos, tmp_path, jobs):
    assert synthesize(photos, tmp_path, RECIPE, 3, COUNT, jobs) == 2 * COUNT
    assert whole(tmp_path) == whole(folder)


@pytest.mark.parametrize("finished", [0, 1, 4])
def test_an_interrupted_synthesis_is_continued_and_another_refused(folder, photos, tmp_path, monkeypatch, finished):
    real = ForgeryDataset.forgery
    made: list[int] = []

    def forgery(self, i):
        made.append(i)
        return real(self, i) if len(made) <= finished else 1 / 0

    monkeypatch.setattr(ForgeryDataset, "forgery", forgery)
    with pytest.raises(ZeroDivisionError):
        synthesize(photos, tmp_path, RECIPE, 3, COUNT)
    # As a kill in the middle of a line leaves it.
    with (tmp_path / PART).open("a") as file:
        file.write("TE,0000")
    with pytest.raises(UserError, match="another recipe"):
        synthesize(photos, tmp_path, RECIPE, 4, COUNT)
    made.clear()
    monkeypatch.setattr(ForgeryDataset, "forgery", lambda self, i: (made.append(i), real(self, i))[1])
    assert synthesize(photos, tmp_path, RECIPE, 3, COUNT) == 2 * COUNT
    assert len(made) == 2 * COUNT - finished
    assert whole(tmp_path) == whole(folder)
    made.clear()
    assert synthesize(photos, tmp_path, RECIPE, 3, COUNT) == 2 * COUNT and not made


def test_killed_processes_leave_what_is_continued(folder, photos, tmp_path):
    context = multiprocessing.get_context("fork")
    for _ in range(20):
        process = context.Process(target=synthesize, args=(photos, tmp_path, RECIPE, 3, COUNT))
        process.start()
        process.join(0.15)
        process.kill()
        process.join()
        if (tmp_path / "manifest.csv").exists():
            break
    synthesize(photos, tmp_path, RECIPE, 3, COUNT)
    found = {path: data for path, data in whole(tmp_path).items() if not path.name.startswith(".")}
    assert found == whole(folder)


@pytest.mark.parametrize("jobs", [0, 1])
def test_a_full_disk_is_told_in_one_line(photos, tmp_path, monkeypatch, jobs):
    def full(path, data, sync=True):
        if path.suffix == ".png":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomic(path, data, sync)

    monkeypatch.setattr(module, "write_atomic", full)
    with pytest.raises(UserError, match="No space left") as error:
        synthesize(photos, tmp_path, RECIPE, 3, COUNT, jobs)
    assert "\n" not in str(error.value)


def test_what_a_kill_left_half_written_is_removed(folder, photos, tmp_path):
    (tmp_path / "TE" / "images").mkdir(parents=True)
    (tmp_path / "TE" / "images" / ".00001.png.x1y2z3w4").write_bytes(b"half")
    synthesize(photos, tmp_path, RECIPE, 3, COUNT)
    assert whole(tmp_path) == whole(folder)


def test_the_card_counts_the_photographs_that_were_used(photos, tmp_path):
    synthesize(photos, tmp_path, replace(RECIPE, methods=("TE",)), 3, 1)
    assert len(photos) > 1 and "from 1 photograph of 1 scene." in (tmp_path / "README.md").read_text()


def test_the_manifest_says_what_was_applied(photos, tmp_path):
    recipe = replace(RECIPE, perturbations=("jpeg-60..95", "crop-0.8"))
    synthesize(photos, tmp_path, recipe, 0, 6)
    rows = manifest(tmp_path)
    assert {row["perturbation"] for row in rows} == set(recipe.perturbations)
    for row in rows:
        image, original = (np.asarray(Image.open(tmp_path / row["method"] / kind / f"{row['name']}.png"))
                           for kind in ("images", "originals"))
        assert original.shape == (32, 32, 3) and image.shape == (int(row["height"]), int(row["width"]), 3)
        if row["perturbation"] == "crop-0.8":
            assert image.shape[:2] == (26, 26) and row["applied"] == "crop-0.8"
        else:
            assert 60 <= int(row["applied"].removeprefix("jpeg-")) <= 95


def test_the_card_tells_the_figures_of_the_manifest(folder, photos):
    text = (folder / "README.md").read_text()
    fractions = sorted(float(row["mask_fraction"]) for row in manifest(folder))
    assert f"{2 * COUNT} pictures, forged by 2 inpainting methods from {len(photos)} photographs" in text
    assert f"from {fractions[0]:.3f} to {fractions[-1]:.3f}" in text
    for line in ("| TE | 3 | pde | fast marching | Telea 2004 |", "| 32 × 32 | 6 |", "seed 3", "255 = inpainted"):
        assert line in text


def test_other_mask_files_are_another_recipe(photos, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.eye(32, dtype=np.uint8) * 255).save(masks / "a.png")
    recipe = replace(RECIPE, methods=("TE",), masks=(f"files:{masks}",))
    synthesize(photos, tmp_path / "out", recipe, 0, 1)
    assert synthesize(photos, tmp_path / "out", recipe, 0, 1) == 1
    Image.fromarray(np.tri(32, k=-20, dtype=np.uint8) * 255).save(masks / "a.png")
    with pytest.raises(UserError, match="another recipe"):
        synthesize(photos, tmp_path / "out", recipe, 0, 1)
