"""Re-synthesis by random decoders, local manipulations, and what happened to a photograph before."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from forgeries.dataset import ForgeryDataset, Recipe, make_forgery
from forgeries.methods import inpaint
from forgeries.methods.decoders import _components, _fitted, _texture
from forgeries.photos import scan

RECIPE = Recipe(("HD",), ("rectangle",), (0.05, 0.2), 32)


@pytest.fixture
def texture():
    noise = np.random.default_rng(0).normal(size=(96, 96, 3))
    smooth = gaussian_filter(noise, (1.5, 1.5, 0)) * 200 + gaussian_filter(noise, (8, 8, 0)) * 900 + 120
    return smooth.clip(0, 255).astype(np.uint8)


@pytest.fixture
def hole():
    mask = np.zeros((96, 96), bool)
    mask[30:70, 25:65] = True
    return mask


def test_content_stays_and_no_two_decoders_leave_the_same_trace(texture, hole):
    made = [inpaint(texture, hole, "RD", np.random.default_rng(seed)) for seed in range(12)]
    error = [np.abs(each.astype(float) - texture)[hole].mean() for each in made]
    spread = np.abs(texture.astype(float) - texture[hole].mean(0))[hole].mean()
    assert np.median(error) < spread / 2  # the content is what the hole held, not its mean colour
    assert len({each.tobytes() for each in made}) == 12 and max(error) > 3 * min(error)


def test_a_random_inpainter_invents_what_a_random_decoder_keeps(texture, hole):
    hidden = texture.copy()
    hidden[hole] = (200, 20, 20)
    kept, made = (np.array([inpaint(hidden, hole, name, np.random.default_rng(seed))[hole].mean(0)
                            for seed in range(6)]) for name in ("RD", "RI"))
    assert np.abs(kept - (200, 20, 20)).max() < 40 < np.abs(made - (200, 20, 20)).min(0).max()
    # Where the fill is Telea's, which draws nothing, it has a new trace each time.
    smooth = [seed for seed in range(40) if np.random.default_rng(seed).random() >= 0.75]
    fill = inpaint(hidden, hole, "TE", np.random.default_rng(0)).astype(float)
    made = [inpaint(hidden, hole, "RI", np.random.default_rng(seed)) for seed in smooth]
    assert len({each.tobytes() for each in made}) == len(smooth) > 5
    assert np.median([np.abs(each - fill)[hole].mean() for each in made]) < 10 < np.abs(hidden - fill)[hole].mean()


def test_the_layer_is_the_least_squares_solution():
    generator = np.random.default_rng(1)
    features = torch.from_numpy(generator.standard_normal((1, 2, 12, 13), np.float32))
    target = F.conv2d(F.pad(features, (1, 1, 1, 1), mode="replicate"),
                      torch.from_numpy(generator.standard_normal((5, 2, 3, 3), np.float32)), torch.arange(5.0))
    assert torch.allclose(_fitted(features, target, 1e-9, generator), target, atol=1e-3)


def test_all_components_hold_the_whole_picture(texture):
    picture = torch.from_numpy(texture).permute(2, 0, 1)[None].double() / 255
    blocks = F.pixel_unshuffle(picture, 2)
    whole, one = _components(picture, 2, 12), _components(picture, 2, 1)
    assert torch.allclose(whole.square().sum(), blocks.square().sum())
    covariance = np.cov(blocks[0].flatten(1).numpy())
    assert float(one.var()) == pytest.approx(np.linalg.eigvalsh(covariance)[-1], rel=1e-6)


def test_texture_takes_the_place_of_what_is_missing():
    generator = np.random.default_rng(2)
    missing = torch.from_numpy(generator.standard_normal((1, 3, 64, 64), np.float32))
    missing[..., :32] *= 0.01
    for _ in range(5):
        added = _texture(missing, generator)
        assert added[..., 40:].std() > 20 * added[..., :24].std() > 0
        assert abs(np.corrcoef(added.flatten(), missing.flatten())[0, 1]) < 0.1


def test_manipulations_stay_within_the_hole_and_differ(texture, hole):
    made = [inpaint(texture, hole, "LM", np.random.default_rng(seed)) for seed in range(20)]
    assert len({each.tobytes() for each in made}) > 15
    shift = [abs(each.astype(float)[hole].mean() - texture[hole].mean()) for each in made]
    assert np.median(shift) < 5  # colours stay


@pytest.fixture
def photos(tmp_path, texture):
    cv2.imwrite(str(tmp_path / "a.png"), np.tile(texture, (2, 2, 1)))
    return scan([tmp_path], 32).photos


def test_a_history_is_part_of_the_original_and_its_grid_begins_anywhere(photos):
    recipe = replace(RECIPE, before=("jpeg-10",))

    def grid(pixels):
        """Where, of eight columns, the steps to the next column are largest."""
        steps = np.abs(np.diff(pixels.astype(float), axis=1)).mean((0, 2))
        return int(np.argmax([steps[start::8].mean() for start in range(8)]))

    starts = set()
    for index in range(24):
        forgery = make_forgery(photos, recipe, 0, "test", 0, index)
        assert (forgery.image == forgery.original)[~forgery.mask].all()
        starts.add(grid(forgery.original))
    assert len(starts) >= 6


def test_histories_that_change_the_size_leave_squares_of_the_right_one(photos):
    for before in ("scale-0.3", "crop-0.5", "scale-1.7"):
        assert make_forgery(photos, replace(RECIPE, before=(before,)), 0, "t", 0, 0).image.shape == (32, 32, 3)


def test_a_share_of_the_pictures_is_left_as_it_was(photos):
    some = [make_forgery(photos, replace(RECIPE, authentic=0.25), 0, "t", 0, index) for index in range(200)]
    all_forged = [make_forgery(photos, RECIPE, 0, "t", 0, index) for index in range(200)]
    unforged = [each for each in some if each.method == "authentic"]
    assert 30 < len(unforged) < 70
    assert all(not each.mask.any() and (each.image == each.original).all() for each in unforged)
    assert all((one.image == other.image).all() for one, other in zip(some, all_forged, strict=True)
               if one.method != "authentic")
    assert ForgeryDataset(photos, replace(RECIPE, authentic=0.99), 0, "t", 1)[0][1].sum() == 0


def test_the_smallest_pictures_can_be_resynthesised():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    mask = np.zeros((16, 16), bool)
    mask[4:12, 4:12] = True
    for seed in range(60):
        assert (inpaint(image, mask, "RD", np.random.default_rng(seed))[~mask] == image[~mask]).all()
