"""What guards find, refuse and let pass."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import UserError
from forgeries.duplicates import NEAR
from results.guards import (
    Finding,
    Fingerprint,
    apply,
    near_duplicates_of,
    seen_methods,
    seen_perturbations,
    threshold_on_test,
    trained_on,
)

HASH = 0x0123456789ABCDEF


def provenance(*entries, **changes):
    return {"methods": ["TE"], "perturbations": ["none", "jpeg-60..95"],
            "photos": {"train": [entry for entry in entries if entry["name"] != "v"],
                       "val": [entry for entry in entries if entry["name"] == "v"]}} | changes


def entry(name, digest, number=None):
    return {"name": name, "source": name, "digest": digest} | ({} if number is None else {"hash": f"{number:016x}"})


def flipped(number, bits, seed=0):
    for bit in np.random.default_rng(seed).choice(64, bits, replace=False):
        number ^= 1 << int(bit)
    return number


def test_photographs_that_were_trained_on():
    known = provenance(entry("t", "aa"), entry("v", "bb"))
    assert trained_on("net", known, [("x.png", "cc")]) == []
    (one,) = trained_on("net", known, [("x.png", "cc"), ("y.png", "bb")])
    assert one == Finding("trained-on", "net", "y.png: a test photograph that is in the val split of net; give other "
                          "test photographs")
    (two,) = trained_on("net", known, iter([("x.png", "aa"), ("y.png", "bb")]))
    assert "x.png: a test photograph that is in the train split of net, and 1 more;" in two.what


@pytest.mark.parametrize("what", [{"methods": None, "photos": {}}, {"methods": ["GC"], "photos": {}}])
def test_unknown_photographs_are_marked(what):
    (mark,) = trained_on("net", provenance(**what), [("x.png", "aa")])
    assert mark.allowed and "does not say on which photographs" in mark.what


def test_what_was_not_trained_is_not_marked():
    untrained = {"methods": [], "perturbations": [], "photos": {}}
    assert trained_on("ela", untrained, [("x.png", "aa")]) == []
    assert near_duplicates_of("ela", untrained, {"x.png": HASH}) == []
    assert seen_methods("ela", untrained, ["TE"]) == seen_perturbations("ela", untrained, ["jpeg-80"]) == []


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 2**64 - 1), st.integers(0, 24), st.integers(0, 9))
def test_near_duplicates_are_those_of_few_other_bits(number, bits, seed):
    other = flipped(number, bits, seed)
    known = provenance(entry("t", "aa", number))
    found = near_duplicates_of("net", known, {"x.png": other})
    assert bool(found) == (bits <= NEAR and other != 0)
    validation, test = [Fingerprint("v.png", "vv", number)], [Fingerprint("x.png", "xx", other)]
    assert bool(threshold_on_test("net", validation, test)) == bool(found)


def test_the_first_near_duplicate_is_named():
    known = provenance(entry("t", "aa", HASH), entry("v", "bb", flipped(HASH, 32)))
    hashes = {"far.png": flipped(HASH, 32, 5), "near.png": flipped(flipped(HASH, 32), 3), "same.png": HASH}
    (found,) = near_duplicates_of("net", known, hashes)
    assert found == Finding("near-duplicate", "net", "near.png: a test photograph that looks nearly the same as v of "
                            "the val split of net, and 1 more; give other test photographs")


def test_photographs_without_hashes_are_marked_beside_what_is_found():
    known = provenance(entry("t", "aa", HASH), entry("old", "bb"))
    refused, mark = near_duplicates_of("net", known, {"x.png": HASH})
    assert not refused.allowed and mark.allowed and "were not looked for" in mark.what
    assert near_duplicates_of("net", provenance(entry("t", "aa", 0)), {"x.png": 0}) == []


def test_a_threshold_that_was_chosen_on_test_photographs():
    validation = [Fingerprint("v1", "aa", HASH), Fingerprint("v2", "bb")]
    assert threshold_on_test("net", validation, [Fingerprint("x", "cc", flipped(HASH, 30))]) == []
    (same,) = threshold_on_test("net", validation, [Fingerprint("x", "cc", HASH), Fingerprint("y", "bb")])
    assert same.what == ("y: a test photograph that the threshold of net was chosen on, and 1 more; give other "
                         "validation photographs")
    (near,) = threshold_on_test("net", validation, [Fingerprint("x", "cc", flipped(HASH, 2))])
    assert "x: a test photograph that the threshold of net was chosen on, or nearly the same;" in near.what


def test_seen_methods_and_perturbations_are_marked():
    (methods,) = seen_methods("net", provenance(), ["NS", "TE", "authentic"])
    assert methods == Finding("seen-methods", "net", "net was trained on TE: these results are labelled seen", True)
    assert seen_methods("net", provenance(), ["NS", "authentic"]) == []
    (drawn,) = seen_perturbations("net", provenance(), ["none", "jpeg-80", "jpeg-50", "scale-0.5"])
    assert drawn.guard == "seen-perturbations" and "trained on jpeg-80:" in drawn.what
    assert seen_perturbations("net", provenance(), ["none", "scale-0.5"]) == []
    for guard, tested in ((seen_methods, ["TE"]), (seen_perturbations, ["jpeg-80"])):
        (unknown,) = guard("net", provenance(methods=None, perturbations=None), tested)
        assert unknown.allowed and "labelled unknown" in unknown.what


def test_histories_of_unforged_training_pictures_are_seen_perturbations():
    past = {"before": {"none": 2, "webp-70..90": 0.5}, "authentic": 0.1}
    assert seen_perturbations("net", provenance(), ["webp-80"]) == []
    (found,) = seen_perturbations("net", provenance(config={"forgeries": past}), ["webp-80", "webp-50"])
    assert "trained on webp-80:" in found.what
    assert seen_perturbations("net", provenance(config={"forgeries": past | {"authentic": 0.0}}), ["webp-80"]) == []


def test_what_is_refused_and_what_is_let_pass():
    mark = Finding("seen-methods", "net", "net was trained on TE", True)
    leak, near, again = (Finding(guard, "net", f"{name}: found") for guard, name in (
        ("trained-on", "a.png"), ("near-duplicate", "b.png"), ("near-duplicate", "c.png")))
    assert apply([mark], []) == [mark] and apply([], ["partial"]) == []
    with pytest.raises(UserError) as error:
        apply([mark, leak, near, again], [])
    assert str(error.value) == ("a.png: found (and 2 more such findings), or set "
                                "benchmark.allow=[trained-on, near-duplicate], which the report will say")
    with pytest.raises(UserError, match=r"^b.png: found \(and 1 more such finding\), or set "
                                        r"benchmark.allow=\[trained-on, near-duplicate\]"):
        apply([mark, leak, near, again], ["trained-on"])
    passed = apply([mark, leak, near], ["trained-on", "near-duplicate"])
    assert [finding.allowed for finding in passed] == [True] * 3
    assert [finding.what for finding in passed] == [mark.what, leak.what, near.what]
