"""What counts as seen in training: names of one method, methods that nobody names, and what a search looked at."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.files import write_rows
from configs.load import load_config
from forgeries.methods import METHODS, canonical, same_method
from forgeries.methods.families import ALIASES, LITERATURE
from forgeries.readers import read_by_method
from results.cases import case_sets
from results.fingerprints import of_dataset, origins_known
from results.guards import seen_methods, trained_on, unknown_origins, unknown_selection, unnamed_methods
from results.scoring import method_label, seen_label
from results.thresholds import validation_methods
from search_space.genotype import PAPER_SPACE, random_genotype, released_genotype, selection_methods


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


@pytest.fixture
def forged(tmp_path):
    """Two methods, two photographs, each painted into twice, with the manifest of `giidnet synthesize`."""
    rows = []
    for method in ("TE", "NS"):
        write_pictures(tmp_path / "syn", "abcd", method)
        rows += [{"method": method, "name": name, "photo": f"photo-{number // 2}", "source_id": f"scene-{number // 2}",
                  "digest": f"digest-{number // 2}"} for number, name in enumerate("abcd")]
    write_rows(tmp_path / "syn" / "manifest.csv", ("method", "name", "photo", "source_id", "digest"), rows)
    (tmp_path / "syn" / "list.csv").write_text("TE/images/a.png,TE/masks/a.png\nTE/images/b.png,TE/masks/b.png\n"
                                               "NS/images/a.png,\n")
    (tmp_path / "link").symlink_to(tmp_path / "syn" / "NS")
    return tmp_path


@pytest.mark.parametrize("place, methods, digests", [
    ("syn", {"TE", "NS"}, {"digest-0", "digest-1"}), ("syn/TE", {"TE"}, {"digest-0", "digest-1"}),
    ("syn/list.csv", {"TE", "authentic"}, {"digest-0"}), ("link", {"NS"}, {"digest-0", "digest-1"})])
def test_a_part_of_a_forged_dataset_keeps_its_methods_sources_and_origins(forged, place, methods, digests):
    read = read_by_method(forged / place)
    assert set(read) == methods == {case.method for cases in read.values() for case in cases}
    assert all(case.source == f"scene-{'abcd'.index(case.name[-1]) // 2}" for cases in read.values() for case in cases)
    tested = of_dataset(forged / place, read)
    assert {photo.digest for photo in tested} >= digests
    assert {photo.digest for photo in tested if photo.digest.startswith("digest-")} == digests
    leak = {"methods": ["PM"], "photos": {"train": [{"name": "x", "digest": "digest-0"}]}}
    (found,) = trained_on("net", leak, [(photo.label, photo.digest) for photo in tested])
    assert not found.allowed and found.what.startswith("photo-0: a test photograph")
    assert origins_known(forged / place, read)


def test_what_a_list_says_of_method_and_source_holds(forged):
    (forged / "syn" / "own.csv").write_text("image,mask,method,source\nTE/images/a.png,TE/masks/a.png,GC,mine\n")
    (case,) = read_by_method(forged / "syn" / "own.csv")["GC"]
    assert (case.method, case.source) == ("GC", "mine")


@pytest.mark.parametrize("content", [None, "method,name\nother,a\n", "a\0b,\"", "method,name,digest\nTE,zz,d\n"])
def test_pictures_without_an_origin_are_marked(tmp_path, content):
    write_pictures(tmp_path / "around" / "TE", ["a"])
    if content:
        (tmp_path / "around" / "manifest.csv").write_text(content)
    place = tmp_path / "around" / "TE"
    read = read_by_method(place)
    assert {case.source for case in read["TE"]} == {"a"} and not origins_known(place, read)
    mark = unknown_origins("theirs")
    assert mark.allowed and mark.what.startswith("theirs: origin of the pictures is not known")
    photographs = write_pictures(tmp_path / "plain", ["a"]) / "images"
    (photographs / "a.png").rename(tmp_path / "plain" / "a.png")
    for folder in ("images", "masks"):
        shutil.rmtree(tmp_path / "plain" / folder)
    assert origins_known(tmp_path / "plain", read_by_method(tmp_path / "plain"))


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


def test_what_a_search_looked_at_was_seen(tmp_path):
    write_pictures(tmp_path, ["a"], "telea")
    write_pictures(tmp_path, ["a"], "NS")
    trained = {"methods": ["PM"], "photos": {}, "selected_on": {"methods": ["TE"], "photos": True}}
    sets = case_sets(load_config("quick"), (), read_by_method(tmp_path))
    assert {one.method: method_label(one, trained) for one in sets} == {"telea": "seen", "NS": "unseen"}
    (mark,) = seen_methods("net", trained, ["telea", "NS"])
    assert mark.what == "net was trained or its architecture selected on telea: these results are labelled seen"
    assert not unknown_selection("net", trained)
    assert method_label(sets[0], trained | {"methods": None}) == "unknown"


def test_a_selection_that_is_not_known_is_marked():
    silent = {"methods": ["PM"], "photos": {}, "selected_on": {"methods": None, "photos": False}}
    marks = unknown_selection("net", silent)
    assert [(mark.guard, mark.allowed) for mark in marks] == [("seen-methods", True), ("trained-on", True)]
    for provenance in ({"selected_on": None}, {}):
        assert unknown_selection("net", provenance) == []


@pytest.mark.parametrize("provenance, expected", [
    ({"methods": ["TE", "PM"], "methods_scored": ["GC"]}, ["TE", "PM", "GC"]), ({"methods": ["TE"]}, ["TE"]),
    ({"strategy": "somebody's"}, None), ({"methods": None}, None)])
def test_methods_of_a_search(provenance, expected):
    assert selection_methods(replace(released_genotype(), provenance=provenance)) == expected
    assert selection_methods(released_genotype()) is None
    assert selection_methods(random_genotype(PAPER_SPACE, np.random.default_rng(0))) == []
