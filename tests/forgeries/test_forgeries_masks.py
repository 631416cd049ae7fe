"""Masks of any kind, size and area."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import UserError
from forgeries.masks import MASKS, draw_mask

sizes, seeds = st.integers(16, 96), st.integers(0, 2**32)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(MASKS)), sizes, sizes, st.floats(0.02, 0.4), st.floats(0.05, 0.3), seeds)
def test_area_is_within_the_range_and_the_draw_is_repeatable(kind, height, width, low, span, seed):
    mask = draw_mask(kind, height, width, (low, low + span), np.random.default_rng(seed))
    assert mask.dtype == bool and mask.shape == (height, width)
    assert low <= mask.mean() <= low + span
    assert (mask == draw_mask(kind, height, width, (low, low + span), np.random.default_rng(seed))).all()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(MASKS)), sizes, seeds, st.sampled_from([1e-6, 0.01, 0.3, 0.999999]))
def test_a_range_without_width_is_met_to_the_pixel(kind, side, seed, fraction):
    mask = draw_mask(kind, side, side, (fraction, fraction), np.random.default_rng(seed))
    assert 0 < mask.sum() < mask.size
    assert abs(mask.sum() - fraction * mask.size) <= 1


def test_kinds_differ_in_shape():
    def filled_box(kind: str) -> float:
        shares = []
        for seed in range(20):
            mask = draw_mask(kind, 64, 64, (0.05, 0.2), np.random.default_rng(seed))
            rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
            shares.append(mask.sum() / ((np.ptp(rows) + 1) * (np.ptp(columns) + 1)))
        return float(np.mean(shares))

    assert filled_box("rectangle") == 1 > filled_box("blob") > filled_box("stroke")


def test_an_unknown_kind_is_named():
    with pytest.raises(UserError, match=r"star.*rectangle"):
        draw_mask("star", 32, 32, (0.1, 0.2), np.random.default_rng(0))
