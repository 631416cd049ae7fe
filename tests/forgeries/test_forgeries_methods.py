"""Each inpainting method: exact outside of the mask, blind to what was inside, repeatable."""

import itertools
from types import SimpleNamespace

import cv2
import hypothesis.extra.numpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import UserError
from forgeries import list_masks, list_methods
from forgeries.masks import draw_mask
from forgeries.methods import clone, exemplar, find_method, inpaint, offsets, poisson, xphoto
from forgeries.methods.poisson import poisson_blend


def picture(seed: int = 0, height: int = 40, width: int = 48) -> np.ndarray:
    """Texture at two scales."""
    generator = np.random.default_rng(seed)
    coarse = cv2.resize(generator.uniform(0, 200, (6, 6, 3)).astype(np.float32), (width, height))
    return (coarse + generator.uniform(0, 55, (height, width, 3))).astype(np.uint8)


def masks() -> list[np.ndarray]:
    """Some kinds, ones that touch the border or all corners, and one that is nowhere far away."""
    drawn = [draw_mask(kind, picture(), (0.05, 0.2), np.random.default_rng(1))
             for kind in ("rectangle", "stroke", "blob")]
    corners = np.zeros((40, 48), bool)
    corners[:5, :5] = corners[-5:, -5:] = corners[:5, -5:] = corners[-5:, :5] = True
    edge = np.zeros((40, 48), bool)
    edge[:, :6] = True
    scattered = np.zeros((40, 48), bool)
    scattered[4::9, 3::10] = True
    scattered[::8, 5::9] = True
    return [*drawn, corners, edge, scattered]


@pytest.mark.parametrize("method", list_methods())
def test_only_masked_pixels_change_whatever_was_there(method):
    for number, mask in enumerate(masks()):
        image = picture(number)
        forged = inpaint(image, mask, method, np.random.default_rng(7))
        assert forged.shape == image.shape and forged.dtype == np.uint8
        assert (forged[~mask] == image[~mask]).all()
        assert (forged[mask] != image[mask]).any(1).mean() > 0.9
        assert (forged == inpaint(image, mask, method, np.random.default_rng(7))).all()
        if not find_method(method).blind:
            continue
        noise = np.random.default_rng(8).integers(0, 256, image.shape, np.uint8)
        hidden = np.where(mask[..., None], noise, image)
        assert (forged == inpaint(hidden, mask, method, np.random.default_rng(7))).all()


@pytest.mark.parametrize("method", list_methods())
def test_what_is_declared_deterministic_draws_nothing_and_the_rest_follows_the_generator(method):
    image, mask = picture(), masks()[0]
    generators = [np.random.default_rng(seed) for seed in range(4)]
    before = [generator.bit_generator.state for generator in generators]
    results = {inpaint(image, mask, method, generator).tobytes() for generator in generators}
    drew_nothing = [generator.bit_generator.state for generator in generators] == before
    assert (len(results) == 1) == drew_nothing == find_method(method).deterministic


@pytest.mark.parametrize("method", list_methods())
@pytest.mark.parametrize("kind", list_masks())
def test_every_method_paints_every_kind_of_mask(method, kind):
    image = picture(height=32, width=32)
    for seed in range(3):
        mask = draw_mask(kind, image, (0.04, 0.25), np.random.default_rng(seed))
        forged = inpaint(image, mask, method, np.random.default_rng(0))
        assert (forged[~mask] == image[~mask]).all()


@pytest.mark.parametrize("method", [name for name in ("EB", "OS", "SM") if name in list_methods()])
def test_a_mask_that_leaves_nothing_to_copy_is_told(method):
    mask = np.ones((40, 48), bool)
    mask[0] = False
    with pytest.raises(UserError, match=rf"'{method}'.*mask_fraction or --fraction$"):
        inpaint(picture(), mask, method, np.random.default_rng(0))


@pytest.mark.parametrize("method, algorithm", [("TE", cv2.INPAINT_TELEA), ("NS", cv2.INPAINT_NS)])
@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["rectangle", "stroke", "blob", "pixels"]))
def test_the_holes_box_alone_gives_the_bits_of_the_whole_picture(method, algorithm, seed, kind):
    generator = np.random.default_rng(seed)
    height, width = generator.integers(16, 64, 2)
    image = picture(seed, height, width)
    mask = generator.random((height, width)) < generator.choice([0.001, 0.2]) if kind == "pixels" else \
        draw_mask(kind, image, (0.02, 0.3), generator)
    mask[height // 2, width // 3] = True
    blank = image.copy()
    blank[mask] = image[~mask].mean(0).round()
    whole = cv2.inpaint(blank, mask.astype(np.uint8), 3, algorithm)
    whole[~mask] = image[~mask]
    assert (inpaint(image, mask, method, generator) == whole).all()


def test_harmonic_diffusion_solves_the_dense_system_and_keeps_planes():
    for number, mask in enumerate(masks()):
        image = picture(number)
        places = {tuple(place): number for number, place in enumerate(np.argwhere(mask).tolist())}
        system, right = np.eye(len(places)), np.zeros((len(places), 3))
        for (y, x), row in places.items():  # each pixel is the mean of its neighbours inside of the picture
            around = [(v, u) for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                      if 0 <= v < 40 and 0 <= u < 48]
            for place in around:
                if place in places:
                    system[row, places[place]] -= 1 / len(around)
                else:
                    right[row] += image[place] / len(around)
        painted = inpaint(image, mask, "HD", np.random.default_rng(0))
        assert np.abs(painted[mask] - np.linalg.solve(system, right)).max() < 0.501
        constant = np.full_like(image, 93)
        assert (inpaint(constant, mask, "HD", np.random.default_rng(0)) == 93).all()
    rows, columns = np.indices((40, 48))
    plane = np.stack([rows, columns, 2 * rows + 3 * columns], -1).astype(np.uint8)
    inside = np.zeros((40, 48), bool)
    inside[3:30, 5:40] = inside[31:36, 10:47] = True
    assert (inpaint(plane, inside, "HD", np.random.default_rng(0)) == plane).all()


def test_both_solvers_of_poissons_equation_agree(monkeypatch):
    for number, mask in enumerate(masks()):
        banded = poisson_blend(picture(number), mask, picture(number + 10))
        with monkeypatch.context() as patch:
            patch.setattr(poisson, "BANDWIDTH", -1)
            assert np.abs(poisson_blend(picture(number), mask, picture(number + 10)).astype(int) - banded).max() <= 1


@given(st.integers(2, 30), st.data())
def test_cloning_reflects_as_numpy_pads(side, data):
    margin = data.draw(st.integers(0, side - 1))
    expected = np.pad(np.arange(side), margin, "reflect")
    assert (clone._mirrored(np.arange(-margin, side + margin), side) == expected).all()


def colours(pixels: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, pixels.reshape(-1, 3).tolist()))


def test_exemplars_continue_a_stripe_and_an_edge():
    rows, columns = np.indices((40, 48))
    stripe = np.where((abs(columns - 24) < 3)[..., None], np.uint8([200, 30, 40]), np.uint8([20, 90, 160]))
    edge = np.where((rows + columns < 44)[..., None], np.uint8([220, 220, 210]), np.uint8([30, 60, 20]))
    mask = np.zeros((40, 48), bool)
    mask[13:26, 16:34] = True
    for image in (stripe, edge):
        assert (inpaint(image, mask, "EB", np.random.default_rng(0)) == image).all()


def test_exemplars_find_the_one_place_that_shows_the_same():
    image = np.random.default_rng(5).integers(0, 256, (40, 96, 3), np.uint8)
    image[4:36, 60:92] = image[4:36, 4:36]
    mask = np.zeros((40, 96), bool)
    mask[14:26, 13:28] = True
    assert (inpaint(image, mask, "EB", np.random.default_rng(0)) == image).all()


def test_exemplars_are_copied_pixel_by_pixel_also_where_only_small_ones_are_left():
    lattice = np.zeros((40, 48), bool)
    lattice[::4] = lattice[:, ::4] = True
    for number, mask in enumerate([*masks(), lattice]):
        image = picture(number)
        painted = inpaint(image, mask, "EB", np.random.default_rng(0))
        assert colours(painted[mask]) <= colours(image[~mask])


def test_the_best_exemplar_has_the_least_masked_distance():
    generator = np.random.default_rng(3)
    lab = generator.uniform(-50, 50, (30, 34, 3)).astype(np.float32)
    centres, known = np.zeros((30, 34), bool), generator.random((9, 9)) < 0.6
    centres[4:-4, 4:-4] = generator.random((22, 26)) < 0.5
    patch = generator.uniform(-50, 50, (9, 9, 3)).astype(np.float32)
    distances = {(y, x): (np.square(lab[y - 4:y + 5, x - 4:x + 5] - patch)[known]).sum()
                 for y, x in np.argwhere(centres).tolist()}
    planes = [np.ascontiguousarray(lab[..., channel]) for channel in range(3)]
    found = exemplar._best_exemplar(planes, np.square(lab).sum(2), centres, patch, known, 20, 12)
    assert found == min(distances, key=distances.__getitem__)


def test_offsets_recover_a_periodic_texture():
    tile = np.random.default_rng(2).integers(0, 256, (9, 11, 3), np.uint8)
    image = np.tile(tile, (7, 8, 1))
    mask = np.zeros(image.shape[:2], bool)
    mask[20:41, 25:51] = mask[3:7, 60:80] = mask[:5, :7] = True
    main = offsets._dominant_offsets(np.where(mask[..., None], 0, image).astype(np.uint8), mask)[0]
    assert main[0] % 9 == 0 and main[1] % 11 == 0
    assert (inpaint(image, mask, "OS", np.random.default_rng(0)) == image).all()


def test_offsets_of_a_large_hole_are_labelled_by_squares(monkeypatch):
    tile = np.random.default_rng(2).integers(0, 256, (9, 11, 3), np.uint8)
    image = np.tile(tile, (7, 8, 1))
    mask = np.zeros(image.shape[:2], bool)
    mask[20:41, 25:51] = True
    monkeypatch.setattr(offsets, "NODES", 40)
    assert (inpaint(image, mask, "OS", np.random.default_rng(0)) == image).all()


@settings(max_examples=50, derandomize=True, deadline=None)
@given(hypothesis.extra.numpy.arrays(bool, (6, 9)),
       st.lists(st.tuples(st.integers(-5, 5), st.integers(-8, 8)), max_size=4))
def test_every_pixel_of_the_hole_is_served_by_some_offset(mask, given_offsets):
    mask[0, 0] = False
    found = offsets._cover(np.array(given_offsets, int).reshape(-1, 2), mask)
    assert found[:len(given_offsets)].tolist() == [list(offset) for offset in given_offsets]
    for y, x in np.argwhere(mask).tolist():
        assert any(0 <= y + v < 6 and 0 <= x + u < 9 and not mask[y + v, x + u] for v, u in found.tolist())


@pytest.mark.parametrize("seed", range(10))
def test_a_cut_between_two_offsets_is_the_best_of_all_labellings(seed):
    generator = np.random.default_rng(seed)
    number = np.arange(9).reshape(3, 3)
    first = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    second = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    unary = generator.integers(0, 400, (2, 9)).astype(float)
    shown = np.zeros((2, 9, 3), np.float32)
    shown[..., 1] = generator.integers(0, 100, (2, 9))  # in one channel, so that distances are whole numbers

    def energy(labels: np.ndarray) -> float:
        total = sum(unary[label, place] for place, label in enumerate(labels))
        for p, q in zip(first, second, strict=True):
            total += sum(np.linalg.norm(shown[labels[p], place] - shown[labels[q], place]) for place in (p, q))
        return float(total)

    best = min(map(energy, itertools.product((0, 1), repeat=9)))
    found = offsets._expand(offsets._Graph(number.ravel(), unary, shown, first, second))
    assert energy(found) == best


def test_xphoto_is_told_from_the_folder_of_opencv(tmp_path, monkeypatch):
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path / "cv2")])
    monkeypatch.setattr(xphoto, "find_spec", lambda name: spec if name == "cv2" else None)
    assert not xphoto.has_xphoto()
    (tmp_path / "cv2" / "xphoto").mkdir(parents=True)
    assert xphoto.has_xphoto()
    monkeypatch.setattr(xphoto, "find_spec", lambda name: None)
    assert not xphoto.has_xphoto()


def test_methods_of_xphoto_are_listed_where_opencv_has_it():
    assert ("SM" in list_methods()) == ("FSR" in list_methods()) == hasattr(cv2, "xphoto")


def test_a_damaged_xphoto_is_told(monkeypatch):
    monkeypatch.delattr(cv2, "xphoto", raising=False)
    with pytest.raises(UserError, match="keep opencv-contrib-python alone"):
        xphoto._frequency_selective(picture(), masks()[0], np.random.default_rng(0))


@pytest.mark.skipif("SM" not in list_methods(), reason="OpenCV without xphoto")
def test_methods_of_xphoto_paint_the_hole_in_the_pictures_colours():
    image, mask = picture(3, 64, 64), np.zeros((64, 64), bool)
    mask[20:40, 24:44] = True
    copied = inpaint(image, mask, "SM", np.random.default_rng(0))
    assert colours(copied[mask]) <= colours(image[~mask])
    wave = 128 + 60 * np.sin(np.arange(64) * np.pi / 4)[None, :, None] * np.full((64, 1, 3), [1, 0.5, 0.25])
    painted = inpaint(wave.astype(np.uint8), mask, "FSR", np.random.default_rng(0))
    assert np.abs(painted - wave)[mask].mean() < 3


def test_poisson_blending_solves_the_dense_system():
    for number, mask in enumerate(masks()):
        target, source = picture(number), picture(number + 10)
        assert (poisson_blend(target, mask, target) == target).all()
        places = [tuple(place) for place in np.argwhere(mask)]
        system, right = np.zeros((len(places),) * 2), np.zeros((len(places), 3))
        for i, (y, x) in enumerate(places):
            for other in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if not (0 <= other[0] < mask.shape[0] and 0 <= other[1] < mask.shape[1]):
                    continue
                system[i, i] += 1
                right[i] += source[y, x].astype(float) - source[other]
                if mask[other]:
                    system[i, places.index(other)] -= 1
                else:
                    right[i] += target[other]
        expected = np.linalg.solve(system, right).clip(0, 255)
        blended = poisson_blend(target, mask, source)
        assert np.abs(blended[mask] - expected).max() < 0.501
        assert (blended[~mask] == target[~mask]).all()


def test_methods_leave_different_pictures():
    image, mask = picture(), masks()[0]
    results = [inpaint(image, mask, method, np.random.default_rng(0)).tobytes() for method in list_methods()]
    assert len(set(results)) == len(results)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"XX.*TE"):
        inpaint(picture(), masks()[0], "XX", np.random.default_rng(0))
