"""What counts as seen in training: names of one method, methods that nobody names, and what a search looked at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.load import load_config
from forgeries.methods import METHODS, canonical, same_method
from forgeries.methods.families import ALIASES, LITERATURE
from results.benchmark import seen_label, validation_methods
from results.guards import seen_methods


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
