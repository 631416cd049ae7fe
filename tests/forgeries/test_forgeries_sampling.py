"""How often each method is drawn: uniformly, by weight, in equal shares of families."""

from dataclasses import replace

import numpy as np
import pytest

from configs.errors import UserError
from configs.load import dump_config, load_config
from configs.schema import Photos
from forgeries.dataset import Recipe, draw_name, make_forgery
from forgeries.photos import find_photos
from giidnet import registries


def recipe_of(*overrides):
    return Recipe.of(load_config("quick", overrides, registries()))


@pytest.mark.parametrize("overrides, expected", [
    (["forgeries.methods=[TE,NS,GC-S]"], None),
    (["forgeries.methods={TE: 3, NS: 3}"], None),
    (["forgeries.methods={TE: 3, NS: 1, GC-S: 4}"], [3 / 8, 1 / 8, 4 / 8]),
    # Two families in equal shares, whatever the number of their methods, and weights within each.
    (["forgeries.methods=[TE,NS,PM,GC-S]", "forgeries.sampling=families"], [1 / 6, 1 / 6, 1 / 6, 1 / 2]),
    (["forgeries.methods={TE: 3, RS-N2: 1, NS: 1, GC-S: 9}", "forgeries.sampling=families"],
     [3 / 8, 1 / 20, 1 / 8, 9 / 20]),
    (["forgeries.methods=[TE,NS]", "forgeries.sampling=families"], None)])
def test_shares_of_methods(overrides, expected):
    recipe = recipe_of(*overrides)
    if expected is None:
        assert recipe.method_weights is None
    else:
        assert np.divide(recipe.method_weights, sum(recipe.method_weights)) == pytest.approx(expected)


def test_methods_are_drawn_by_weight():
    generator = np.random.default_rng(0)
    drawn = [draw_name(("a", "b", "c"), (1, 5, 2), generator) for _ in range(4000)]
    assert [drawn.count(name) / 4000 for name in "abc"] == pytest.approx([1 / 8, 5 / 8, 2 / 8], abs=0.03)


def test_weights_change_who_paints_and_not_where():
    photos = find_photos(Photos(), 32).test
    plain, weighed = (recipe_of("forgeries.image_size=32", "forgeries.cache_gigabytes=0", f"forgeries.methods={value}")
                      for value in ("[TE,HD]", "{TE: 1, HD: 9}"))
    cases = [[make_forgery(photos, recipe, 0, "train", 0, index) for index in range(24)] for recipe in (plain, weighed)]
    assert all((first.mask == second.mask).all() and (first.original == second.original).all()
               for first, second in zip(*cases, strict=True))
    uniform, by_weight = ([case.method for case in some].count("TE") for some in cases)
    assert 6 <= uniform <= 18 and by_weight <= 6


@pytest.mark.parametrize("key, names, weights", [
    ("before", "before", "before_weights"), ("perturbations", "perturbations", "perturbation_weights")])
def test_histories_are_drawn_by_weight_and_grids_share_theirs(key, names, weights):
    recipe = recipe_of(f"forgeries.{key}={{none: 3, 'grid:scale': 2, scale-0.5: 1}}")
    found = dict(zip(getattr(recipe, names), getattr(recipe, weights), strict=True))
    assert found == {"none": 3, "scale-0.5": 1.5, "scale-0.75": 0.5, "scale-1.25": 0.5, "scale-1.5": 0.5}
    listed = recipe_of(f"forgeries.{key}=[none, jpeg-75, 'grid:scale', scale-0.5]")
    assert getattr(listed, weights) is None and len(getattr(listed, names)) == 6
    with pytest.raises(UserError, match=r"forgeries\." + key):
        recipe_of(f"forgeries.{key}=[none, none]")


def test_photographs_have_histories_as_frequent_as_their_weights():
    photos = find_photos(Photos(), 32).test
    same, rare = (recipe_of("forgeries.image_size=32", "forgeries.cache_gigabytes=0", f"forgeries.before={value}")
                  for value in ("{none: 1, gamma-1: 1}", "{none: 1, gamma-5: 9}"))
    brightness = [[make_forgery(photos, recipe, 0, "train", 0, index).original.mean() for index in range(60)]
                  for recipe in (same, rare)]
    darker = [first > 1.1 * second for first, second in zip(*brightness, strict=True)]
    assert 40 < sum(darker) < 60


def test_histories_are_as_frequent_as_their_weights():
    photos = find_photos(Photos(), 32).test
    recipe = recipe_of("forgeries.image_size=32", "forgeries.cache_gigabytes=0", "forgeries.methods=[TE]",
                       "forgeries.perturbations={none: 1, gamma-3: 9}")
    drawn = [make_forgery(photos, recipe, 0, "train", 0, index).perturbation for index in range(60)]
    assert drawn.count("gamma-3") > 40


@pytest.mark.parametrize("method, share", [("RD", 0.5), ("LM", 0.5), ("TE", 0.0)])
def test_inverted_pictures_are_pristine_in_the_hole(method, share):
    photos = find_photos(Photos(), 48).test
    recipe = replace(recipe_of("forgeries.image_size=48", "forgeries.cache_gigabytes=0"), inverted=0.5)
    forgeries = [make_forgery(photos, recipe, 0, "train", 0, index, method=method, perturbation="none")
                 for index in range(24)]
    changed = [(one.image != one.original).any(2) for one in forgeries]
    inside = [bool(where[one.mask].any()) for where, one in zip(changed, forgeries, strict=True)]
    outside = [bool(where[~one.mask].any()) for where, one in zip(changed, forgeries, strict=True)]
    assert not any(i and o for i, o in zip(inside, outside, strict=True))
    assert abs(np.mean(outside) - share) <= (0.25 if share else 0)
    plain = [make_forgery(photos, replace(recipe, inverted=0.0), 0, "train", 0, index, method=method,
                          perturbation="none") for index in range(24)]
    assert all((one.mask == other.mask).all() for one, other in zip(forgeries, plain, strict=True))


def test_weights_are_read_back(tmp_path):
    config = load_config("quick", ["forgeries.methods={TE: 1, PM: 2.5}", "forgeries.sampling=families"], registries())
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml", names=registries()) == config


@pytest.mark.parametrize("override, expected", [
    ("forgeries.methods={TE: 0}", "forgeries.methods.TE = 0: must be greater than 0"),
    ("forgeries.methods={XX: 1}", "forgeries.methods.XX = 'XX': must be one of TE"),
    ("forgeries.methods={}", "forgeries.methods: "), ("forgeries.methods=TE", "forgeries.methods = 'TE': "),
    ("forgeries.sampling=kinds", "forgeries.sampling = 'kinds': must be 'uniform' or 'families'")])
def test_wrong_weights_are_told_in_one_line(override, expected):
    with pytest.raises(UserError) as error:
        load_config("quick", [override], registries())
    assert str(error.value).startswith(expected) and "\n" not in str(error.value)
