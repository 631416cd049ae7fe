"""Each inpainting method: exact outside of the mask, blind to what was inside, repeatable."""

import cv2
import numpy as np
import pytest

from configs.errors import UserError
from forgeries import list_methods
from forgeries.masks import draw_mask
from forgeries.methods import inpaint
from forgeries.methods.poisson import poisson_blend


def picture(seed: int = 0, height: int = 40, width: int = 48) -> np.ndarray:
    """Texture at two scales."""
    generator = np.random.default_rng(seed)
    coarse = cv2.resize(generator.uniform(0, 200, (6, 6, 3)).astype(np.float32), (width, height))
    return (coarse + generator.uniform(0, 55, (height, width, 3))).astype(np.uint8)


def masks() -> list[np.ndarray]:
    """Of each kind, and ones that touch the border or all corners."""
    drawn = [draw_mask(kind, picture(), (0.05, 0.2), np.random.default_rng(1))
             for kind in ("rectangle", "stroke", "blob")]
    corners = np.zeros((40, 48), bool)
    corners[:5, :5] = corners[-5:, -5:] = corners[:5, -5:] = corners[-5:, :5] = True
    edge = np.zeros((40, 48), bool)
    edge[:, :6] = True
    return [*drawn, corners, edge]


@pytest.mark.parametrize("method", list_methods())
def test_only_masked_pixels_change_whatever_was_there(method):
    for number, mask in enumerate(masks()):
        image = picture(number)
        forged = inpaint(image, mask, method, np.random.default_rng(7))
        assert forged.shape == image.shape and forged.dtype == np.uint8
        assert (forged[~mask] == image[~mask]).all()
        assert (forged[mask] != image[mask]).any(1).mean() > 0.9
        assert (forged == inpaint(image, mask, method, np.random.default_rng(7))).all()
        noise = np.random.default_rng(8).integers(0, 256, image.shape, np.uint8)
        hidden = np.where(mask[..., None], noise, image)
        assert (forged == inpaint(hidden, mask, method, np.random.default_rng(7))).all()


@pytest.mark.parametrize("method", ["PM", "PC"])
def test_random_methods_follow_the_generator(method):
    image, mask = picture(), masks()[0]
    assert len({inpaint(image, mask, method, np.random.default_rng(seed)).tobytes() for seed in range(4)}) > 1


def test_a_mask_that_leaves_nothing_to_copy_is_told():
    mask = np.ones((40, 48), bool)
    mask[0] = False
    with pytest.raises(UserError, match=r"'PM'.*mask_fraction"):
        inpaint(picture(), mask, "PM", np.random.default_rng(0))


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
