import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score

from configs.streams import stream
from results.metrics import auc, auc_f1, average_precision, best_f1_iou, f1_iou, score_map

SHAPES = npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8)
LEVELS = st.sampled_from([0.0, 1e-300, 0.25, 0.5, np.nextafter(0.5, 0), 1 - 1e-7, 1.0])


@st.composite
def maps(draw):
    shape = draw(SHAPES)
    elements = draw(st.sampled_from([LEVELS, st.floats(0, 1)]))
    return draw(npst.arrays(np.float64, shape, elements=elements)), draw(npst.arrays(bool, shape))


def check_against_scikit_learn(scores, mask):
    found = score_map(scores, mask)
    truth, flat = mask.ravel(), scores.ravel()
    assert found["mask_fraction"] == truth.mean()
    if mask.all() or not mask.any():
        assert all(math.isnan(value) for key, value in found.items() if key != "mask_fraction")
        return
    assert found["auc"] == auc(scores, mask) == pytest.approx(roc_auc_score(truth, flat), abs=1e-12)
    assert found["ap"] == pytest.approx(average_precision_score(truth, flat), abs=1e-12)
    assert found["f1"] == pytest.approx(f1_score(truth, flat >= 0.5), abs=1e-12)
    assert found["iou"] == pytest.approx(jaccard_score(truth, flat >= 0.5), abs=1e-12)
    for name, oracle in (("best_f1", f1_score), ("best_iou", jaccard_score)):
        assert found[name] == pytest.approx(max(oracle(truth, flat >= t) for t in np.unique(flat)), abs=1e-12)
    at_best = f1_iou(scores, mask, found["best_threshold"])
    assert at_best == pytest.approx((found["best_f1"], found["best_iou"]))


@settings(max_examples=150, deadline=None)
@given(maps())
def test_all_metrics_equal_scikit_learn(case):
    check_against_scikit_learn(*case)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("levels", [2, 7, 256, 10**9])
def test_random_maps_of_any_float_type_and_any_number_of_ties(dtype, levels):
    generator = stream(0, "test", levels)
    scores = (generator.integers(levels, size=(24, 31)) / levels).astype(dtype)
    check_against_scikit_learn(scores, generator.random((24, 31)) < 0.2)


TINY = float(np.nextafter(np.float32(0), np.float32(1)))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("levels", [[0.0, -0.0], [-TINY, -0.0, 0.0, TINY], [-1.0, -0.5, -0.0, 0.0, 0.5, 1.0],
                                    [1.0, 1 + 2**-10, 1 + 2**-23, 1 + 2**-52], [-6e4, 6e4, -6e-8, 6e-8]])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.95])
def test_auc_alone_is_that_of_all_metrics_for_signed_zeros_and_neighbouring_numbers(dtype, levels, share):
    generator = stream(0, "test", len(levels))
    scores = generator.choice(np.array(levels, dtype), (21, 17))
    mask = generator.random((21, 17)) < share
    mask[0, :2] = True, False
    found = auc(scores, mask)
    assert found == score_map(scores, mask)["auc"]
    wins = np.sign(scores[mask][:, None].astype(float) - scores[~mask][None].astype(float))
    assert found == pytest.approx((1 + wins.mean()) / 2, abs=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("levels", [3, 10**9])
@pytest.mark.parametrize("share", [0, 0.1, 0.8, 1])
def test_auc_and_f1_together_are_those_of_scikit_learn(dtype, levels, share):
    generator = stream(0, "test", levels)
    scores = (generator.integers(-levels, levels + 1, size=(13, 11)) / levels).astype(dtype)
    mask = generator.random(scores.shape) < share
    found = auc_f1(scores, mask, 0.0)
    if share in (0, 1):
        assert all(map(math.isnan, found))
    else:
        assert found == pytest.approx((roc_auc_score(mask.ravel(), scores.ravel()),
                                       f1_score(mask.ravel(), scores.ravel() >= 0)), abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 1.0])
def test_a_constant_map_is_chance(value):
    mask = stream(0, "test").random((9, 9)) < 0.3
    assert auc(np.full((9, 9), value), mask) == 0.5
    assert average_precision(np.full((9, 9), value), mask) == pytest.approx(mask.mean())
    assert best_f1_iou(np.full((9, 9), value), mask)[2] == value


def test_perfect_reversed_and_one_pixel_masks():
    mask = np.zeros((16, 16), bool)
    mask[3, 5] = True
    assert auc(mask.astype(float), mask) == 1
    assert auc(1 - mask.astype(float), mask) == 0
    assert best_f1_iou(mask.astype(float), mask) == (1, 1, 1)


@settings(max_examples=50, deadline=None)
@given(maps())
def test_auc_does_not_change_under_increasing_maps_and_mirrors_under_inversion(case):
    scores, mask = np.round(case[0], 3), case[1]
    assert auc(3 * scores - 1, mask) == pytest.approx(auc(scores, mask), nan_ok=True)
    assert auc(-scores, mask) == pytest.approx(1 - auc(scores, mask), nan_ok=True)


def test_large_maps_do_not_overflow():
    mask = np.zeros((2048, 2048), bool)
    mask[:1024] = True
    assert auc(mask.astype(np.float32), mask) == score_map(mask.astype(np.float32), mask)["auc"] == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("metric", [auc, average_precision, best_f1_iou, score_map,
                                    lambda scores, mask: f1_iou(scores, mask, 0.5)])
def test_scores_that_are_no_numbers_are_refused(metric, bad):
    scores, mask = np.full((4, 4), 0.5), np.eye(4, dtype=bool)
    scores[1, 2] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        metric(scores, mask)


def test_other_shapes_and_masks_that_are_not_bool_are_refused():
    with pytest.raises(ValueError, match="shape"):
        auc(np.zeros((2, 3)), np.zeros((3, 2), bool))
    with pytest.raises(ValueError, match="empty"):
        auc(np.zeros((0, 3)), np.zeros((0, 3), bool))
    with pytest.raises(ValueError, match="uint8"):
        auc(np.zeros((2, 2)), np.full((2, 2), 255, np.uint8))
