"""Masks of any kind, size and area; each kind looks like what it is called."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from configs.errors import UserError
from configs.load import dump_config, load_config
from configs.schema import Photos
from forgeries.dataset import ForgeryDataset, Recipe, draw_name, make_loader
from forgeries.masks import MASKS, Mask, _smallest, check_masks, draw_mask
from forgeries.photos import find_photos
from giidnet import _one_line_errors, main, registries

sizes, seeds, kinds = st.integers(16, 96), st.integers(0, 2**32), st.sampled_from(sorted(MASKS))
RANGE = (0.05, 0.2)


def picture(height=64, width=64, seed=0):
    """Patches of colour, about a quarter of the side long."""
    patches = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return cv2.resize(patches, (width, height), interpolation=cv2.INTER_NEAREST)


def draw(kind, seed, image=None, fraction=RANGE):
    return draw_mask(kind, picture(seed=seed) if image is None else image, fraction, np.random.default_rng(seed))


def components(mask):
    """Their number, with corners that touch."""
    return ndimage.label(mask, np.ones((3, 3)))[1]


def thickness(mask):
    """Mean distance from inside to the outline, in pixels."""
    return ndimage.distance_transform_edt(mask)[mask].mean()


@settings(max_examples=150, deadline=None)
@given(kinds, sizes, sizes, st.floats(0.02, 0.4), st.floats(0.05, 0.3), seeds)
def test_area_is_within_the_range_and_the_draw_is_repeatable(kind, height, width, low, span, seed):
    image = picture(height, width, seed)
    before = image.copy()
    mask = draw(kind, seed, image, (low, low + span))
    assert mask.dtype == bool and mask.shape == (height, width) and (image == before).all()
    assert 0 < mask.sum() < mask.size and low <= mask.mean() <= low + span
    assert (mask == draw(kind, seed, image, (low, low + span))).all()


@settings(max_examples=60, deadline=None)
@given(kinds, sizes, seeds, st.sampled_from([1e-6, 0.01, 0.3, 0.999999]))
def test_a_range_without_width_is_met_to_the_pixel(kind, side, seed, fraction):
    mask = draw(kind, seed, picture(side, side), (fraction, fraction))
    assert 0 < mask.sum() < mask.size
    assert abs(mask.sum() - fraction * mask.size) <= 1


@pytest.mark.parametrize("kind", sorted(MASKS))
@pytest.mark.parametrize("image", [np.zeros((32, 48, 3), np.uint8),
                                   np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)])
def test_pictures_of_one_colour_and_of_noise_have_masks_too(kind, image):
    drawn = [draw(kind, seed, image) for seed in range(5)]
    assert len({mask.tobytes() for mask in drawn}) == 5
    assert all(RANGE[0] <= mask.mean() <= RANGE[1] for mask in drawn)


@pytest.mark.parametrize("kind", sorted(MASKS))
def test_the_range_is_met_by_drawing_and_not_by_thickening(kind, monkeypatch):
    monkeypatch.setattr("forgeries.masks._fit", lambda mask, fraction: pytest.fail(f"{kind} was thickened"))
    for seed in range(40):
        draw(kind, seed, picture(128, 128), (0.04, 0.25))


def test_what_missed_the_range_keeps_its_shape(monkeypatch):
    """A square of 10 × 10 becomes one of about 9 or 12, in its place."""
    monkeypatch.setitem(MASKS, "square", Mask("square", "", lambda *_: square))
    square = np.zeros((40, 40), bool)
    square[10:20, 5:15] = True
    for area, common in ((81, 81), (144, 100)):
        fraction = area / 1600
        mask = draw("square", 0, picture(40, 40), (fraction, fraction))
        rows, columns = np.nonzero(mask)
        assert mask.sum() == area and (mask & square).sum() == common and components(mask) == 1
        assert 8 <= rows.min() <= rows.max() <= 21 and 3 <= columns.min() <= columns.max() <= 16


def test_older_kinds_differ_in_shape():
    def filled_box(kind):
        shares = []
        for seed in range(20):
            mask = draw(kind, seed)
            rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
            shares.append(mask.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))
        return float(np.mean(shares))

    assert filled_box("rectangle") == 1 > filled_box("blob") > filled_box("stroke")


def test_an_object_follows_the_edges_of_the_picture():
    """Where the outline runs, colours differ more than where the same outline runs if it is moved."""
    on, off = [], []
    for seed in range(12):
        image = picture(96, 96, seed)
        mask = draw("object", seed, image)
        edges = sum(ndimage.gaussian_gradient_magnitude(image[..., channel].astype(float), 1) for channel in range(3))
        outline = ndimage.binary_dilation(mask) & ~ndimage.binary_erosion(mask, border_value=1)
        on.append(edges[outline].mean())
        off += [edges[np.roll(outline, shift, (0, 1))].mean() for shift in ((9, 4), (-7, 8), (-5, -9))]
        assert components(mask) <= 2 and (mask == ndimage.binary_fill_holes(mask)).all()
    assert np.mean(on) > 1.8 * np.mean(off)


def test_an_object_is_of_one_colour_as_far_as_the_picture_has_enough_of_it():
    image = np.full((80, 80, 3), (200, 60, 60), np.uint8)
    image[:, 37:] = 60, 60, 200
    image += np.random.default_rng(0).integers(0, 20, image.shape, np.uint8)
    shares = [draw("object", seed, image)[:, :37].sum() / draw("object", seed, image).sum() for seed in range(20)]
    assert all(min(share, 1 - share) < 0.1 for share in shares) and len({share > 0.5 for share in shares}) == 2


def test_an_object_follows_edges_of_pictures_larger_than_are_segmented():
    image = picture(600, 420, 3)
    mask = draw("object", 0, image)
    edges = np.abs(np.diff(image.astype(int), axis=0)).sum(2)
    rows, columns = np.nonzero(np.diff(mask, axis=0))
    near = [edges[max(0, row - 4):row + 5, column].any() for row, column in zip(rows, columns, strict=True)]
    assert mask.shape == (600, 420) and np.mean(near) > 0.6


def test_scratches_are_thin_and_long_and_holes_small_and_many():
    for seed in range(10):
        scratch, holes, blob = (draw(kind, seed, picture(128, 128), (0.1, 0.2))
                                for kind in ("scratch", "holes", "blob"))
        assert thickness(scratch) < 1.6 < thickness(holes) < 4 < thickness(blob)
        longest = max(ndimage.find_objects(ndimage.label(scratch, np.ones((3, 3)))[0]),
                      key=lambda box: box[0].stop - box[0].start)
        assert longest[0].stop - longest[0].start > 60
        assert components(holes) >= 6 and np.bincount(ndimage.label(holes)[0][holes]).max() < 128**2 / 20


def test_borders_are_straight_bands_and_sometimes_frames():
    sides = set()
    for seed in range(60):
        mask = draw("border", seed, picture(64, 48))
        touched = mask[0].all(), mask[-1].all(), mask[:, 0].all(), mask[:, -1].all()
        sides.add(sum(touched))
        kept = np.argwhere(~mask)
        (top, left), (bottom, right) = kept.min(0), kept.max(0)
        assert not mask[top:bottom + 1, left:right + 1].any() and any(touched)
    assert sides == {1, 2, 3, 4}


def echo(mask):
    """How well the mask fits itself when it is moved by more than a letter; 1 is exactly."""
    def correlate(values):
        return np.fft.fftshift(np.fft.ifft2(np.abs(np.fft.fft2(values, (256, 256))) ** 2).real)

    found = correlate(mask - mask.mean()) / np.maximum(correlate(np.ones_like(mask, float)), mask.size / 4)
    best = found.max()
    found[108:149, 108:149] = 0
    return found.max() / best


def test_text_is_of_many_letters_and_about_half_are_watermarks_that_repeat_themselves():
    masks = [draw("text", seed, picture(128, 128), (0.08, 0.12)) for seed in range(24)]
    assert all(components(mask) >= 4 and thickness(mask) < 5 for mask in masks)
    echoes = np.array([echo(mask) for mask in masks])
    assert 6 <= (echoes > 0.8).sum() <= 18 and 6 <= (echoes < 0.65).sum() <= 18


def save(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(mask, np.uint8) * 255).save(path)


def cross(height=40, width=40, half=5):
    mask = np.zeros((height, width), bool)
    mask[height // 2 - half:height // 2 + half, 4:-4] = mask[4:-4, width // 2 - half:width // 2 + half] = True
    return mask


def test_masks_from_files_that_fit_are_taken_as_they_are(tmp_path):
    corner = np.zeros((32, 48), bool)
    corner[:8, :20] = True
    save(tmp_path / "below" / "corner.png", corner)
    flips = {part.tobytes() for part in (corner, corner[::-1], corner[:, ::-1], corner[::-1, ::-1])}
    found = {draw(f"files:{tmp_path}", seed, picture(32, 48)).tobytes() for seed in range(40)}
    assert found == flips
    doubled = draw(f"files:{tmp_path / 'below' / 'corner.png'}", 0, picture(64, 96))
    assert doubled.reshape(32, 2, 48, 2).all((1, 3)).sum() == corner.sum() == doubled.sum() / 4
    spots = np.random.default_rng(0).random((30, 44)) < 0.3
    save(tmp_path / "spots.png", spots)
    nearest = np.array(Image.fromarray(spots).resize((32, 48), Image.Resampling.NEAREST))
    mask = draw(f"files:{tmp_path / 'spots.png'}", 1, picture(48, 32), (0.1, 0.9))
    assert any((mask == part).all() for part in (nearest, nearest[::-1], nearest[:, ::-1], nearest[::-1, ::-1]))


@settings(max_examples=25, deadline=None)
@given(sizes, sizes, st.floats(0.02, 0.4), seeds)
def test_masks_from_files_are_brought_to_the_range(tmp_path_factory, height, width, low, seed):
    place = tmp_path_factory.mktemp("masks")
    save(place / "cross.png", cross())
    save(place / "dot.png", np.pad([[True]], 20))
    mask = draw(f"files:{place}", seed, picture(height, width), (low, low + 0.05))
    assert mask.shape == (height, width) and low <= mask.mean() <= low + 0.05


def test_a_shrunk_shape_from_a_file_stays_whole_and_is_laid_anywhere(tmp_path):
    save(tmp_path / "cross.png", cross(80, 80, 9))
    centres = []
    for seed in range(20):
        mask = draw(f"files:{tmp_path}", seed, picture(80, 80), (0.07, 0.09))
        rows, columns = np.nonzero(mask)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        expected = cv2.resize(cross(80, 80, 9)[4:-4, 4:-4].astype(np.uint8), (width, height)) > 0.5
        box = mask[rows.min():rows.max() + 1, columns.min():columns.max() + 1]
        assert abs(height - width) <= 1 and (box != expected).mean() < 0.12
        centres.append((rows.mean(), columns.mean()))
    assert np.ptp(centres, 0).min() > 15


@pytest.mark.parametrize("make, message", [
    (lambda place: None, "no masks there"),
    (lambda place: save(place / "black.png", np.zeros((8, 8))), r"black\.png: all black"),
    (lambda place: save(place / "white.png", np.ones((8, 8))), r"white\.png: all white"),
    (lambda place: (place.mkdir(), (place / "broken.png").write_bytes(b"PNG")), r"broken\.png: no picture"),
])
def test_files_that_are_no_masks_are_told(tmp_path, make, message):
    make(tmp_path / "masks")
    with pytest.raises(UserError, match=message) as error:
        draw(f"files:{tmp_path / 'masks'}", 0)
    assert "\n" not in str(error.value)


def test_hidden_files_are_no_masks(tmp_path):
    save(tmp_path / "mask.png", np.eye(8))
    (tmp_path / "._mask.png").write_bytes(b"no picture")
    for seed in range(8):
        assert draw(f"files:{tmp_path}", seed).any()


def test_a_mistake_met_in_a_worker_process_is_one_line_too(tmp_path, capsys):
    save(tmp_path / "black.png", np.zeros((8, 8)))
    photos = find_photos(Photos(), 32).test
    dataset = ForgeryDataset(photos, Recipe(("TE",), (f"files:{tmp_path}",), RANGE, 32), 0, "train", 2)
    with pytest.raises(SystemExit) as code, _one_line_errors(debug=False):
        list(make_loader(dataset, 2, 1))
    assert code.value.code == 2
    line, end = capsys.readouterr().err.split("\n")
    assert line.startswith(f"giidnet: {tmp_path / 'black.png'}: all black") and not end


@pytest.mark.parametrize("kind", ["star", "files:", "", "Rectangle", "rectangle "])
def test_an_unknown_kind_is_answered_with_the_known_ones(kind):
    for ask in (check_masks, lambda kind: draw(kind, 0), lambda kind: Recipe(("TE",), (kind,), RANGE, 32)):
        with pytest.raises(UserError, match=f"'{kind}'.*rectangle.*files:FOLDER"):
            ask(kind)


def test_a_missing_folder_is_told_before_training_starts(tmp_path):
    config = load_config("quick", [f"forgeries.masks=[blob, 'files:{tmp_path}']"], registries())
    with pytest.raises(UserError, match="no masks there"):
        Recipe.of(config)


def test_weights_decide_how_often_a_kind_is_drawn():
    recipe = Recipe.of(load_config("quick", ["forgeries.masks={rectangle: 1, text: 2.5, blob: 0.5}"], registries()))
    assert (recipe.masks, recipe.mask_weights) == (("rectangle", "text", "blob"), (1, 2.5, 0.5))
    generator = np.random.default_rng(0)
    drawn = [draw_name(recipe.masks, recipe.mask_weights, generator) for _ in range(4000)]
    assert [drawn.count(kind) / 4000 for kind in recipe.masks] == pytest.approx([0.25, 0.625, 0.125], abs=0.03)


def test_a_list_is_drawn_as_it_always_was():
    recipe = Recipe.of(load_config("quick", [], registries()))
    first, second = np.random.default_rng(5), np.random.default_rng(5)
    assert [draw_name(recipe.masks, recipe.mask_weights, first) for _ in range(50)] == [
        second.choice(("rectangle", "stroke", "blob")) for _ in range(50)]


@pytest.mark.parametrize("value", ["{rectangle: 2, text: 1}", "[holes, scratch]", "['files:/some/where', border]",
                                   "{files:/some/where: 0.5, object: 1}"])
def test_lists_and_weights_are_read_back(value, tmp_path):
    config = load_config("quick", [f"forgeries.masks={value}"], registries())
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml", names=registries()) == config


@pytest.mark.parametrize("value, expected", [
    ("[rectangle, star]", "forgeries.masks.1 = 'star': must be one of rectangle"),
    ("[rectangle, rectangle]", "forgeries.masks = ['rectangle', 'rectangle']: must name each entry once"),
    ("[]", "forgeries.masks = []: "),
    ("blob", "forgeries.masks = 'blob': must be a valid list"),
    ("{star: 1}", "forgeries.masks.star = 'star': must be one of rectangle"),
    ("{blob: 0}", "forgeries.masks.blob = 0: must be greater than 0"),
    ("{blob: many}", "forgeries.masks.blob = 'many': must be a valid number"),
    ("{blob: .inf}", "forgeries.masks.blob = inf: must be a finite number"),
    ("{}", "forgeries.masks: "),
])
def test_mistakes_in_lists_and_weights_are_told_in_one_line(value, expected):
    with pytest.raises(UserError) as error:
        load_config("quick", [f"forgeries.masks={value}"], registries())
    assert expected in str(error.value) and "\n" not in str(error.value) and "(" not in str(error.value).split("=")[0]


def test_the_command_line_lists_every_kind(capsys):
    main(["list", "masks"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*MASKS, "files:FOLDER"]
    assert all(mask.title in line for mask, line in zip(MASKS.values(), lines, strict=False))


@given(st.integers(1, 3000), seeds, st.sampled_from(["continuous", "tied", "sorted", "constant"]), st.data())
def test_the_value_of_a_rank_is_that_of_sorting(size, seed, kind, data):
    values = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    values = {"continuous": values, "tied": values.round(), "sorted": np.sort(values), "constant": values * 0}[kind]
    rank = data.draw(st.integers(1, size))
    assert _smallest(values, rank) == np.sort(values)[rank - 1]
