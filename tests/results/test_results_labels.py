"""What counts as seen in training: names of one method, methods that nobody names, and what a search looked at."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.load import load_config
from forgeries.methods import METHODS, canonical, same_method
from forgeries.methods.families import ALIASES, LITERATURE
from forgeries.readers import read_by_method
from results.benchmark import case_sets, method_label, seen_label, validation_methods
from results.guards import seen_methods, unnamed_methods


@pytest.mark.parametrize("first, second", [
    ("TE", "telea"), ("NS", "navier_stokes"), ("PM", "Patch Match"), ("lama", "LAMA"), ("LaMa", "Big-LaMa"),
    ("GC", "deepfillv2"), ("DeepFill-v2", "Gated_Conv"), ("LB", "lbam"), ("SD1.5", "stable-diffusion-v1-5"),
    ("EB", "Criminisi"), ("LDM", "latent_diffusion"), ("inpainter of mine", "Inpainter-of-Mine"), ("ÉTÉ", "été")])
def test_names_of_one_method(first, second):
    assert same_method(first, second) and same_method(second, first)
    assert seen_label(second, [first], same_method) == seen_label(first, [second], same_method) == "seen"
    assert "these results are labelled seen" in seen_methods("net", {"methods": [first]}, [second])[0].what


@pytest.mark.parametrize("first, second", [
    ("TE", "NS"), ("SD1.5", "SD2"), ("SD", "SDXL"), ("ZITS", "ZITS++"), ("GC", "CA"), ("GC", "GC-S"), ("LaMa", "MAT"),
    ("DeepFill-v1", "DeepFill-v2"), ("方法", "模型"), ("-", "_"), ("", "TE")])
def test_names_of_two_methods(first, second):
    assert not same_method(first, second)
    assert seen_label(second, [first], same_method) == "unseen" and not seen_methods("net", {"methods": [first]},
                                                                                     [second])


@given(st.text(max_size=8))
def test_a_canonical_name_is_its_own(name):
    assert canonical(canonical(name)) == canonical(name) and same_method(name, name)


def test_no_name_stands_for_two_methods():
    assert len({canonical(name) for name in METHODS}) == len(METHODS)
    assert len({canonical(names.split()[0]) for names in ALIASES}) == len(ALIASES)
    for names in ALIASES:
        assert len({canonical(name) for name in names.split()}) == 1
    listed = [canonical(name) for names in LITERATURE.values() for name in names.split()]
    assert len(set(listed)) == len(listed)


def test_thresholds_are_chosen_by_another_name_of_the_method():
    config = load_config("quick", ["forgeries.methods=[PM]"])
    assert validation_methods(config, {"methods": ["telea", "LaMa", "patchmatch"]}) == {"TE": "TE", "PM": "PM"}


def write_pictures(folder, names, method=None, seed=0):
    """Random pictures with masks: pairs, or of a method."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((40, 48), np.uint8)
    mask[8:20, 8:20] = 255
    for name in names:
        pixels = generator.integers(0, 256, (5, 6, 3), np.uint8)
        for kind, image in (("images", cv2.resize(pixels, (48, 40))), ("masks", mask)):
            place = folder / (method or "") / kind / f"{name}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place), image)
    return folder


def test_a_method_that_nobody_names_is_unknown_though_its_title_is_a_methods(tmp_path):
    write_pictures(tmp_path / "NS", ["a"])
    config = load_config("quick")
    (one,) = case_sets(config, (), read_by_method(tmp_path / "NS"))[:1]
    assert (one.method, one.kind, one.named) == ("NS", "unknown", False)
    for methods, label in ((["TE"], "unknown"), (["NS"], "unknown"), (None, "unknown"), ([], "unseen")):
        assert method_label(one, {"methods": methods}) == label
    (mark,) = unnamed_methods([one.method, one.method])
    assert mark.allowed and "NS: the dataset does not name the method" in mark.what


def test_cases_without_a_method_do_not_hide_those_of_one_that_is_called_as_the_place(tmp_path):
    place = tmp_path / "NS"
    for folder in (place, place / "NS"):
        write_pictures(tmp_path / "made", ["a"])
        folder.mkdir(exist_ok=True)
        (tmp_path / "made" / "images" / "a.png").rename(folder / "a.png")
        (tmp_path / "made" / "masks" / "a.png").rename(folder / "a_mask.png")
    read = read_by_method(place)
    assert {title: [case.method for case in cases] for title, cases in read.items()} == {
        "NS": ["NS"], "NS-unnamed": [""]}
    named = {one.method: method_label(one, {"methods": ["TE"]}) for one in case_sets(load_config("quick"), (), read)}
    assert named == {"NS": "unseen", "NS-unnamed": "unknown"}
