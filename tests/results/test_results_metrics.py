import math
import warnings

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from sklearn import metrics as oracle

from configs.streams import stream
from results.metrics import (
    METRICS,
    at_threshold,
    auc,
    auc_f1,
    average_precision,
    best_f1_iou,
    best_mcc,
    boundary_f1,
    calibration_error,
    f1_iou,
    histogram,
    rank,
    score_map,
)

TINY = float(np.nextafter(np.float32(0), np.float32(1)))
LEVELS = {
    "constant": lambda draw: np.full(200, draw.choice([0, 0.3, 0.5, 1, -2])),
    "saturated": lambda draw: draw.choice([0.0, 1.0], 200),
    "eight bits": lambda draw: draw.integers(256, size=200) / 255,
    "heavy ties": lambda draw: draw.choice([0.2, 0.5, float(np.nextafter(0.5, 0)), 0.7], 200),
    "random": lambda draw: draw.random(200),
    "sigmoid": lambda draw: 1 / (1 + np.exp(-12 * draw.standard_normal(200))),
    "logits": lambda draw: draw.standard_normal(200) * 10.0 ** draw.integers(-3, 4),
    "neighbours": lambda draw: draw.choice([1, 1 + 2**-10, 1 + 2**-23, 1 + 2**-52, -TINY, -0.0, 0.0, TINY, -1], 200),
    "all magnitudes": lambda draw: draw.choice([-1, 1], 200) * 10.0 ** draw.integers(-320, 4, 200),
}
SHAPES = ((1, 1), (1, 2), (3, 3), (5, 1), (7, 9), (12, 11))
MASKED = (0, 0.03, 0.2, 0.5, 0.9, 1)
CASES = 38


def case(kind, dtype, number):
    draw = stream(0, "metrics", kind, dtype, number)
    shape = SHAPES[draw.integers(len(SHAPES))]
    scores = LEVELS[kind](draw)[:math.prod(shape)].astype(dtype).reshape(shape)
    return scores, draw.random(shape) < MASKED[draw.integers(len(MASKED))]


def best_of(function, scores, mask):
    """The largest, by scikit-learn, over all distinct scores as thresholds; and the highest where it is reached."""
    found = {float(level): function(mask.ravel(), scores.ravel() >= level) for level in np.unique(scores)}
    largest = max(found.values())
    return largest, max(level for level, value in found.items() if value > largest - 1e-12)


def plain_calibration_error(scores, mask, bins=15):
    scores, total = scores.astype(float), 0.0
    for number in range(bins):
        inside = (scores >= number / bins) & ((scores < (number + 1) / bins) | (number == bins - 1))
        if inside.any():
            total += inside.mean() * abs(mask[inside].mean() - scores[inside].mean())
    return total


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_all_metrics_of_a_thousand_cases_are_those_of_scikit_learn(kind, dtype):
    with sklearn.config_context(skip_parameter_validation=True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(CASES):
            check_against_scikit_learn(*case(kind, dtype, number), thorough=number % 19 == 0)


def check_against_scikit_learn(scores, mask, thorough):
    found = score_map(scores, mask, 0.3)
    assert set(found) == {*METRICS, "best_threshold", "mask_fraction"}
    truth, flat, flagged = mask.ravel(), scores.ravel(), (scores >= 0.5).ravel()
    assert found["mask_fraction"] == truth.mean()
    close = {"abs": 1e-9, "nan_ok": True}
    if scores.min() >= 0 and scores.max() <= 1:
        assert found["calibration_error"] == pytest.approx(plain_calibration_error(scores, mask), **close)
    else:
        assert math.isnan(found["calibration_error"])
    assert found["recall"] == pytest.approx(flagged[truth].mean() if truth.any() else math.nan, **close)
    assert found["false_alarm"] == pytest.approx(flagged[~truth].mean() if not truth.all() else math.nan, **close)
    if mask.all() or not mask.any():
        assert all(math.isnan(found[key]) for key in METRICS
                   if key not in ("calibration_error", "recall", "false_alarm", "val_false_alarm"))
        return
    assert found["auc"] == auc(scores, mask) == pytest.approx(oracle.roc_auc_score(truth, flat), **close)
    assert found["ap"] == pytest.approx(oracle.average_precision_score(truth, flat), **close)
    assert found["f1"] == pytest.approx(oracle.f1_score(truth, flagged), **close)
    assert found["iou"] == pytest.approx(oracle.jaccard_score(truth, flagged), **close)
    assert found["mcc"] == pytest.approx(oracle.matthews_corrcoef(truth, flagged), **close)
    assert found["precision"] == pytest.approx(
        oracle.precision_score(truth, flagged) if flagged.any() else math.nan, **close)
    assert found["balanced_accuracy"] == pytest.approx(oracle.balanced_accuracy_score(truth, flagged), **close)
    assert found["val_f1"] == pytest.approx(oracle.f1_score(truth, (scores.astype(float) >= 0.3).ravel()), **close)
    if thorough:
        assert (found["best_f1"], found["best_threshold"]) == pytest.approx(
            best_of(oracle.f1_score, scores, mask), **close)
        assert found["best_iou"] == pytest.approx(best_of(oracle.jaccard_score, scores, mask)[0], **close)
        assert best_mcc(scores, mask)[0] == found["best_mcc"] == pytest.approx(
            best_of(oracle.matthews_corrcoef, scores, mask)[0], **close)
        assert f1_iou(scores, mask, found["best_threshold"]) == pytest.approx((found["best_f1"], found["best_iou"]))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_auc_is_the_share_of_pairs_in_the_right_order(data):
    shape = data.draw(npst.array_shapes(min_dims=2, max_dims=2, max_side=7))
    width = data.draw(st.sampled_from([16, 32, 64]))
    scores = data.draw(npst.arrays(f"f{width // 8}", shape,
                                   elements=st.floats(width=width, allow_nan=False, allow_infinity=False)))
    mask = data.draw(npst.arrays(bool, shape))
    wins = scores[mask][:, None] > scores[~mask]
    ties = scores[mask][:, None] == scores[~mask]
    assert auc(scores, mask) == pytest.approx((wins + ties / 2).mean() if wins.size else math.nan, nan_ok=True)
    with np.errstate(over="ignore"):
        assert auc(-scores, mask) == pytest.approx(1 - auc(scores, mask), nan_ok=True)


@pytest.mark.parametrize("share", [0, 0.1, 0.8, 1])
def test_auc_and_f1_together_are_those_apart(share):
    draw = stream(0, "test")
    scores = draw.standard_normal((13, 11)).astype(np.float32)
    mask = draw.random(scores.shape) < share
    assert auc_f1(scores, mask, 0.0) == pytest.approx((auc(scores, mask), f1_iou(scores, mask, 0.0)[0]), nan_ok=True)


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 1.0])
def test_a_constant_map_is_chance(value):
    mask = stream(0, "test").random((9, 9)) < 0.3
    found = score_map(np.full((9, 9), value), mask)
    assert (found["auc"], found["mcc"], found["best_mcc"], found["balanced_accuracy"]) == (0.5, 0, 0, 0.5)
    assert found["ap"] == pytest.approx(mask.mean())
    assert found["best_threshold"] == value


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_ranking_gives_the_scores_back(kind, dtype):
    for number in range(8):
        scores, mask = case(kind, dtype, number)
        found = rank(scores, mask)
        np.testing.assert_array_equal(found.values, np.sort(scores, axis=None))
        assert found.positives == mask.sum() and found.negatives == (~mask).sum()


def test_perfect_reversed_and_one_pixel_masks():
    mask = np.zeros((16, 16), bool)
    mask[3, 5] = True
    perfect = score_map(mask.astype(float), mask, 0.1)
    assert {key for key in METRICS if perfect[key] != 1} == {"calibration_error", "false_alarm", "val_false_alarm"}
    assert auc(1 - mask.astype(float), mask) == 0
    assert best_f1_iou(mask.astype(float), mask) == (1, 1, 1)


def test_nothing_flagged_is_a_failure_and_no_undefined_case():
    mask = np.eye(8, dtype=bool)
    found = score_map(np.full((8, 8), 0.1), mask)
    assert [found[key] for key in ("recall", "f1", "iou", "mcc", "boundary_f1", "false_alarm")] == [0] * 6
    assert math.isnan(found["precision"])


def test_an_authentic_picture_has_its_false_alarm_and_calibration_alone():
    scores = np.array([[0.1, 0.5], [0.6, 0.0]])
    found = score_map(scores, np.zeros((2, 2), bool), 0.05)
    assert {key: value for key, value in found.items() if not math.isnan(value)} == {
        "false_alarm": 0.5, "val_false_alarm": 0.75, "calibration_error": pytest.approx(0.3), "mask_fraction": 0}


def test_without_a_validation_threshold_its_metrics_are_undefined():
    found = score_map(np.eye(3), np.eye(3, dtype=bool))
    assert {key for key in METRICS if math.isnan(found[key])} == {"val_f1", "val_iou", "val_mcc", "val_false_alarm"}


def test_thresholds_are_compared_exactly():
    scores, mask = np.array([[0.3, 0.1]], np.float32), np.array([[True, False]])
    assert at_threshold(scores, mask, float(np.float32(0.3))).true == 1
    assert at_threshold(scores, mask, float(np.nextafter(np.float64(np.float32(0.3)), 1))).true == 0


def test_views_and_strided_maps_are_scored_as_copies():
    draw = stream(0, "test")
    scores, mask = draw.random((20, 22))[::2, 1:-3], draw.random((18, 10)).T < 0.4
    assert score_map(scores, mask, 0.4) == score_map(scores.copy(), mask.copy(), 0.4)


def test_large_maps_do_not_overflow():
    mask = np.zeros((2048, 2048), bool)
    mask[:1024] = True
    found = score_map(mask.astype(np.float32), mask)
    assert found["auc"] == found["mcc"] == found["best_mcc"] == 1


BAD = [auc, average_precision, best_f1_iou, score_map, histogram, calibration_error,
       lambda scores, mask: f1_iou(scores, mask, 0.5), lambda scores, mask: boundary_f1(scores, mask, 0.5)]


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_scores_that_are_no_numbers_are_refused(bad, dtype):
    scores, mask = np.full((4, 4), 0.5, dtype), np.eye(4, dtype=bool)
    scores[1, 2] = bad
    for metric in BAD:
        with pytest.raises(ValueError, match="NaN or infinite"):
            metric(scores, mask)


def test_other_shapes_and_masks_that_are_not_bool_are_refused():
    for metric in BAD:
        with pytest.raises(ValueError, match="shape"):
            metric(np.zeros((2, 3)), np.zeros((3, 2), bool))
        with pytest.raises(ValueError, match="empty"):
            metric(np.zeros((0, 3)), np.zeros((0, 3), bool))
        with pytest.raises(ValueError, match="uint8"):
            metric(np.zeros((2, 2)), np.full((2, 2), 255, np.uint8))


def plain_boundary(region):
    inside = np.pad(region, 1, mode="edge")
    outside = [~inside[1 + y:inside.shape[0] - 1 + y, 1 + x:inside.shape[1] - 1 + x]
               for y, x in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    return np.argwhere(region & np.any(outside, 0))


def plain_boundary_f1(flagged, mask, tolerance):
    found, wanted = plain_boundary(flagged), plain_boundary(mask)
    if not len(wanted):
        return math.nan
    if not len(found):
        return 0.0
    near = ((found[:, None] - wanted) ** 2).sum(2) <= tolerance**2
    precision, recall = near.any(1).mean(), near.any(0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("tolerance", [1, 1.5, 2, 5, 16, 17.5, 25])
def test_boundary_f1_is_that_of_all_pairs_of_points(tolerance):
    draw = stream(0, "boundary", int(10 * tolerance))
    for share in (0, 0.002, 0.1, 0.5, 0.99, 1):
        scores, mask = draw.random((40, 33)), np.zeros((40, 33), bool)
        mask[draw.integers(30):, :draw.integers(1, 34)] = True
        flagged = scores < share
        assert boundary_f1(flagged.astype(float), mask, 0.5, tolerance) == pytest.approx(
            plain_boundary_f1(flagged, mask, tolerance), nan_ok=True)


def test_boundary_tolerance_is_a_share_of_the_diagonal_and_one_pixel_at_least():
    mask = np.zeros((300, 400), bool)
    mask[100:200, 100:300] = True
    for shift, expected in ((3, 1), (4, 0)):
        moved = np.zeros_like(mask)
        moved[100 + shift:200 - shift, 100 + shift:300 - shift] = True
        # 0.0075 · 500 = 3.75 pixels; corners of the outer outline lie further from the inner one.
        found = boundary_f1(moved.astype(np.float32), mask, 0.5)
        assert (found > 0.98) if expected else found < 0.5
    small = np.zeros((9, 9), bool)
    small[3:6, 3:6] = True
    assert boundary_f1(np.roll(small, 1, 0).astype(float), small, 0.5) == 1
    assert boundary_f1(np.roll(small, 1, 0).astype(float), small, 0.5, 0.5) < 1
