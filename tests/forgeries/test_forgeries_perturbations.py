"""Chains of operations: their names, their pixels against other libraries, and that they can be repeated."""

import io
import sys
from itertools import pairwise
from subprocess import run

import cv2
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from skimage import data
from skimage.exposure import adjust_gamma

from configs.errors import UserError
from configs.load import dump_config, load_config
from configs.schema import Photos
from forgeries.dataset import ForgeryDataset, Recipe, make_loader
from forgeries.perturbations import (
    GRIDS,
    OPERATIONS,
    Step,
    chain_name,
    check_name,
    covers,
    expand,
    parse,
    perturb,
)
from forgeries.photos import find_photos
from giidnet import main, registries

PHOTO = np.ascontiguousarray(data.astronaut()[20:87, 200:297])
MASK = np.zeros(PHOTO.shape[:2], bool)
MASK[20:40, 10:50] = True
ONE_OF_EACH = ("jpeg-70", "webp-70", "resize-0.6", "scale-0.7", "crop-0.6", "blur-1.5", "noise-8", "median-3",
               "gamma-0.7", "sharpen-1")
GROWING = {"jpeg": (95, 80, 50, 10), "webp": (95, 80, 50, 10), "resize": (0.9, 0.6, 0.3), "blur": (0.5, 1, 3),
           "noise": (2, 8, 30), "median": (3, 5, 11), "gamma": (1.1, 1.5, 3), "sharpen": (0.3, 1, 4)}


def done(name, seed=0, image=PHOTO, mask=MASK):
    return perturb(image, mask, name, np.random.default_rng(seed))


def difference(image, other):
    return np.abs(image.astype(float) - other.astype(float))


@st.composite
def steps(draw):
    operation = OPERATIONS[draw(st.sampled_from(sorted(OPERATIONS)))]
    value = st.floats(operation.low, operation.high)
    if operation.step:
        value = st.integers(0, int(operation.high - operation.low) // operation.step).map(
            lambda count: operation.low + float(count * operation.step))
    return Step(operation.name, *sorted((draw(value), draw(value))))


chains = st.lists(steps(), max_size=4).map(tuple)


@given(chains)
def test_names_are_read_back(chain):
    assert parse(chain_name(chain)) == chain
    check_name(chain_name(chain))


@given(st.text() | st.from_regex(r"[a-z]{3,6}-[-0-9.e+]{0,8}(\.\.[0-9.]{0,4})?(\+[a-z]{3,6}-[0-9.]{0,4})?")
       | st.builds("{}-{}".format, st.sampled_from(sorted(OPERATIONS)), st.text("0123456789.-+einfa")))
@example("jpeg-٧٥")
@example("jpeg-" + "9" * 5000)
@example("jpeg-75\n")
@example("grid:jpeg")
@example("")
def test_any_text_is_a_chain_or_a_mistake_told_in_one_line(text):
    try:
        chain = parse(text)
    except UserError as error:
        assert str(error).startswith("perturbation ") and str(error).isprintable()
    else:
        assert parse(chain_name(chain)) == chain


@pytest.mark.parametrize("name, message", [
    ("smear-3", "no operation 'smear'; must be none or like .*jpeg 1..100 whole, .*median 3..15 odd.*sharpen 0.1..5"),
    ("jpeg", "'jpeg' must be jpeg-VALUE or jpeg-LOW..HIGH with values in 1..100 whole [(]quality of JPEG"),
    ("jpeg-0", "1..100"), ("jpeg-101", "1..100"), ("jpeg-75.5", "whole"), ("jpeg-95..60", "LOW..HIGH"),
    ("jpeg-60..101", "1..100"), ("median-4", "3..15 odd"), ("median-3..6", "3..15 odd"), ("resize-0", "0.1..1"),
    ("resize-1.1", "0.1..1"), ("blur--1", "0.2..10"), ("noise-1e1", "0.5..50"), ("gamma-nan", "0.2..5"),
    ("jpeg-75+", "no operation ''"), ("none+jpeg-75", "no operation 'none'"), ("jpeg-75 +blur-1", "whole"),
])
def test_mistakes_are_told_with_what_would_be_right(name, message):
    with pytest.raises(UserError, match=f"^perturbation '{name.replace('+', '[+]')}': .*{message}"):
        done(name)


@settings(max_examples=40, deadline=None)
@given(chains, st.integers(0, 99))
def test_the_drawn_values_are_in_their_ranges_and_give_the_same_picture_again(chain, seed):
    name = chain_name(chain)
    first, again = done(name, seed), done(name, seed)
    assert first.image.dtype == np.uint8 and first.mask.dtype == bool and first.image.shape[:2] == first.mask.shape
    assert (first.image == again.image).all() and first.applied == again.applied
    applied = parse(first.applied)
    assert all(step.low == step.high for step in applied) and covers(name, first.applied)
    repeated = done(first.applied, seed)
    assert repeated.applied == first.applied
    assert (repeated.image == first.image).all() and (repeated.mask == first.mask).all()


def test_ranges_are_drawn_evenly_with_both_ends():
    generator = np.random.default_rng(0)
    for name, values in {"jpeg-90..93": [90, 91, 92, 93], "median-3..7": [3, 5, 7]}.items():
        drawn = [parse(name)[0].draw(generator).low for _ in range(3000)]
        shares = [drawn.count(value) / 3000 for value in values]
        assert sum(shares) == pytest.approx(1) and shares == pytest.approx([1 / len(values)] * len(values), abs=0.04)
    drawn = [parse("resize-0.505..0.75")[0].draw(generator).low for _ in range(3000)]
    assert min(drawn) >= 0.505 and max(drawn) <= 0.75 and np.mean(drawn) == pytest.approx(0.6275, abs=0.005)
    assert all(value in (0.505, round(value, 2)) for value in drawn)


@pytest.mark.parametrize("name", ["none", *ONE_OF_EACH])
def test_inputs_stay_as_they_were_and_only_none_changes_nothing(name):
    image, mask = PHOTO.copy(), MASK.copy()
    found = done(name, image=image, mask=mask)
    assert (image == PHOTO).all() and (mask == MASK).all() and found.applied == name
    assert (found.image.tobytes() == PHOTO.tobytes()) == (name == "none")
    assert found.image.flags["C_CONTIGUOUS"] and found.mask.flags["C_CONTIGUOUS"]
    if parse(name) and parse(name)[0].operation not in ("crop", "scale"):
        assert found.image.shape == PHOTO.shape and (found.mask == MASK).all()
    random = {done(name, seed).image.tobytes() for seed in range(4)}
    assert (len(random) > 1) == name.startswith(("noise", "crop"))


@pytest.mark.parametrize("operation", sorted(GROWING))
def test_a_stronger_operation_changes_more(operation):
    changes = [difference(done(f"{operation}-{value}").image, PHOTO).mean() for value in GROWING[operation]]
    assert all(a < b for a, b in pairwise(changes))


@pytest.mark.parametrize("format, tolerance", [("jpeg", 2.5), ("webp", 3.0)])
def test_compression_is_as_lossy_as_pillows(format, tolerance):
    for quality in (90, 60, 30):
        file = io.BytesIO()
        Image.fromarray(PHOTO).save(file, format, quality=quality)
        ours, theirs = done(f"{format}-{quality}").image, np.asarray(Image.open(file).convert("RGB"))
        assert difference(ours, PHOTO).mean() == pytest.approx(difference(theirs, PHOTO).mean(), rel=0.1)
        assert difference(ours, theirs).mean() < tolerance


def test_blur_median_gamma_and_sharpening_are_what_other_libraries_compute():
    blurred = ndimage.gaussian_filter(PHOTO.astype(float), (1.5, 1.5, 0), mode="mirror", truncate=6)
    assert difference(done("blur-1.5").image, blurred).max() < 1.6
    assert (done("median-5").image == ndimage.median_filter(PHOTO, (5, 5, 1), mode="nearest")).all()
    assert difference(done("gamma-0.7").image, adjust_gamma(PHOTO / 255, 0.7) * 255).max() <= 0.5 + 1e-9
    soft = ndimage.gaussian_filter(PHOTO.astype(float), (1, 1, 0), mode="mirror", truncate=6)
    assert difference(done("sharpen-0.8").image, np.clip(PHOTO + 0.8 * (PHOTO - soft), 0, 255)).max() < 1.1


def test_defocus_blurs_a_part():
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    shares = []
    for seed in range(8):
        after = perturb(image, np.zeros((96, 96), bool), "defocus-3", np.random.default_rng(seed)).image
        energy = cv2.blur(np.abs(np.diff(after.astype(float), axis=1)).mean(2), (9, 9))
        before = cv2.blur(np.abs(np.diff(image.astype(float), axis=1)).mean(2), (9, 9))
        shares.append((energy < 0.5 * before).mean())
        assert (energy > 0.9 * before).any() and (energy < 0.2 * before).any()
    assert 0.25 < np.mean(shares) < 0.75


def test_noise_has_the_deviation_asked_for_and_no_mean():
    grey = np.full((200, 200, 3), 128, np.uint8)
    added = done("noise-12", image=grey, mask=grey[..., 0] > 0).image.astype(float) - 128
    assert added.std() == pytest.approx(12, rel=0.02) and abs(added.mean()) < 0.15
    assert np.abs(np.corrcoef(added.reshape(-1, 3).T) - np.eye(3)).max() < 0.03


def test_scaling_changes_both_sizes_and_keeps_their_places():
    for factor in (0.5, 0.75, 1.6):
        found = done(f"scale-{factor}")
        assert found.image.shape == (round(67 * factor), round(97 * factor), 3)
        assert found.mask.mean() == pytest.approx(MASK.mean(), rel=0.1)
        centre = np.argwhere(found.mask).mean(0) + 0.5
        assert np.abs(centre / factor - (30, 30)).max() < 1
    painted = np.where(MASK[..., None], 255, np.zeros_like(PHOTO))
    found = done("scale-0.5", image=painted)
    assert (found.image[..., 0] > 127).sum() == pytest.approx(found.mask.sum(), abs=40)
    small = np.zeros((20, 12, 3), np.uint8)
    assert done("scale-0.25", image=small, mask=small[..., 0] > 0).image.shape == (16, 12, 3)


def test_a_crop_is_a_part_of_both_and_shows_an_outline():
    numbered = np.indices((67, 97, 1))[:2, ..., 0].transpose(1, 2, 0).astype(np.uint8)
    image, corner = np.dstack([numbered, numbered[..., :1]]), np.zeros((67, 97), bool)
    corner[:3, :2] = True
    places = set()
    for seed in range(40):
        for mask in (MASK, corner, ~corner):
            found = done("crop-0.5", seed, image, mask)
            (top, left), (height, width) = found.image[0, 0, :2].tolist(), found.mask.shape
            assert (height, width) == (round(33.5), round(48.5)) and found.image.shape == (height, width, 3)
            assert (found.image == image[top:top + height, left:left + width]).all()
            assert (found.mask == mask[top:top + height, left:left + width]).all()
            assert 0 < found.mask.sum() < found.mask.size
            places.add((top, left))
    assert len(places) > 30
    assert not done("crop-0.5", mask=np.zeros_like(MASK)).mask.any()


def test_steps_are_taken_in_their_order():
    expected = done("jpeg-50", image=done("blur-2").image).image
    assert (done("blur-2+jpeg-50").image == expected).all()
    assert (done("jpeg-50+blur-2").image != expected).any()


def test_older_names_do_what_they_did():
    assert (done("jpeg-75").image == cv2.imdecode(cv2.imencode(
        ".jpg", PHOTO[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])[1], cv2.IMREAD_COLOR)[..., ::-1]).all()
    small = cv2.resize(PHOTO, (round(97 * 0.75), round(67 * 0.75)), interpolation=cv2.INTER_AREA)
    assert (done("resize-0.75").image == cv2.resize(small, (97, 67), interpolation=cv2.INTER_LINEAR)).all()


@given(chains, chains)
def test_covering_is_reflexive_and_goes_one_way(first, second):
    a, b = chain_name(first), chain_name(second)
    assert covers(a, a)
    if covers(a, b) and covers(b, a):
        assert first == second
    assume(first and second)
    assert not covers("none", a) and not covers(a, "none")


@pytest.mark.parametrize("trained, tested, expected", [
    ("none", "none", True), ("jpeg-60..95", "jpeg-75", True), ("jpeg-60..95", "jpeg-95", True),
    ("jpeg-60..95", "jpeg-50", False), ("jpeg-75", "jpeg-60..95", False), ("jpeg-60..95", "jpeg-70..80", True),
    ("jpeg-60..95", "webp-75", False), ("jpeg-75", "resize-0.5+jpeg-75", False),
    ("resize-0.5..1+jpeg-60..95", "resize-0.75+jpeg-80", True),
    ("jpeg-60..95+resize-0.5..1", "resize-0.75+jpeg-80", False),
])
def test_what_training_covers(trained, tested, expected):
    assert covers(trained, tested) == expected


def test_grids_hold_valid_single_chains_and_are_expanded_once():
    assert {"jpeg", "webp", "resize", "blur", "noise", "gamma", "median", "sharpen", "crop", "social"} <= set(GRIDS)
    for name, names in GRIDS.items():
        assert len(set(names)) == len(names) > 1
        for chain in names:
            assert all(step.low == step.high for step in parse(chain)) and chain_name(parse(chain)) == chain
            assert name.removeprefix("imdlbenco-") in (parse(chain)[0].operation, "social", "span")
    assert expand(["none", "jpeg-75", "grid:jpeg", "blur-1"]) == [
        "none", "jpeg-75", *(name for name in GRIDS["jpeg"] if name != "jpeg-75"), "blur-1"]
    with pytest.raises(UserError, match="'grid:jpg': must be one of grid:jpeg"):
        expand(["grid:jpg"])


def test_the_configuration_takes_chains_ranges_and_grids_and_reads_them_back(tmp_path):
    config = load_config("quick", ["forgeries.perturbations=[none, jpeg-60..95, resize-0.5..1+jpeg-60..95]",
                                   "benchmark.perturbations=[none, grid:social]"], registries())
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml", names=registries()) == config
    assert Recipe.of(config).perturbations == ("none", "jpeg-60..95", "resize-0.5..1+jpeg-60..95")


@pytest.mark.parametrize("value, expected", [
    ("[none, jpeg-200]", "benchmark.perturbations.1 = 'jpeg-200': 'jpeg-200' must be jpeg-VALUE"),
    ("[smear]", "benchmark.perturbations.0 = 'smear': no operation 'smear'"),
    ("[grid:smear]", "benchmark.perturbations.0 = 'grid:smear': must be one of grid:jpeg"),
])
def test_the_configuration_refuses_others(value, expected):
    with pytest.raises(UserError) as error:
        load_config("quick", [f"benchmark.perturbations={value}"], registries())
    assert expected in str(error.value) and "\n" not in str(error.value)


@pytest.fixture(scope="module")
def photos():
    return find_photos(Photos(), 32).test


def test_batches_are_of_one_size_whatever_is_done(photos):
    names = ("scale-0.5..2", "crop-0.5..0.9+jpeg-75", "noise-5")
    dataset = ForgeryDataset(photos, Recipe(("TE",), ("blob",), (0.1, 0.2), 32, names), 0, "train", 12)
    (images, masks), = make_loader(dataset, 12, 1)
    assert images.shape == (12, 3, 32, 32) and masks.shape == (12, 1, 32, 32)
    assert set(masks.unique().tolist()) == {0, 1} and all(0 < mask.mean() < 1 for mask in masks)
    assert len({dataset.forgery(index).mask.shape for index in range(12)}) > 3


def test_forgeries_tell_what_was_applied_and_draw_it_anew(photos):
    recipe = Recipe(("TE",), ("blob",), (0.1, 0.2), 32, ("jpeg-10..90", "noise-2..9"))
    dataset = ForgeryDataset(photos, recipe, 0, "train", 12)
    forgeries = [dataset.forgery(index) for index in range(12)]
    assert {forgery.perturbation for forgery in forgeries} == set(recipe.perturbations)
    assert len({forgery.applied for forgery in forgeries}) > 8
    assert all(covers(forgery.perturbation, forgery.applied) for forgery in forgeries)


def test_the_command_line_lists_operations_and_grids(capsys):
    main(["list", "perturbations"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert list(lines) == ["none", *OPERATIONS, *(f"grid:{name}" for name in GRIDS)]
    assert all(operation.values in lines[name] for name, operation in OPERATIONS.items())
    assert "resize-0.75+jpeg-85" in lines["grid:social"]


def test_names_are_read_without_heavy_imports():
    code = ("import sys, forgeries.perturbations as p, forgeries.masks as m; p.parse('jpeg-60..95'); "
            "m.check_kind('text'); print([name for name in ('cv2', 'torch', 'scipy', 'nni') if name in sys.modules])")
    assert run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
