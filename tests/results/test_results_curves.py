import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from sklearn import metrics as oracle

from configs.streams import stream
from results.metrics import (
    BINS,
    EDGES,
    Curve,
    at_threshold,
    auc,
    average_precision,
    best_f1_iou,
    best_mcc,
    best_threshold,
    calibration_error,
    f1_iou,
    histogram,
    quiet_threshold,
)


def pictures(count, kind="sigmoid", dtype=np.float32):
    draw = stream(0, "curves", kind, count)
    for _ in range(count):
        mask = draw.random((9, 14)) < draw.choice([0, 0.1, 0.5])
        logits = 3 * draw.standard_normal(mask.shape) + 2 * mask
        yield (1 / (1 + np.exp(-logits)) if kind == "sigmoid" else np.clip(np.round(logits), 0, 1)).astype(dtype), mask


def pooled(pairs):
    scores, masks = zip(*pairs, strict=True)
    return np.concatenate(scores), np.concatenate(masks)


def test_bins_are_uniform_in_the_logit_and_one_half_begins_one():
    assert EDGES[0] == 0 and EDGES[BINS // 2] == 0.5 and (np.diff(EDGES) > 0).all()
    assert np.diff(np.log(EDGES[1:] / (1 - EDGES[1:]))) == pytest.approx(np.full(BINS - 2, 1 / 32), abs=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_score_is_in_the_bin_whose_edge_it_reaches(dtype):
    draw = stream(0, "bins")
    near = [np.nextafter(EDGES[1:], side) for side in (0, 1)]
    scores = np.concatenate([EDGES, *near, draw.random(500), [1.0, 1e-30]]).astype(dtype)[None]
    mask = draw.random(scores.shape) < 0.4
    expected = np.zeros((2, BINS), int)
    for score, inpainted in zip(scores[0], mask[0], strict=True):
        expected[int(inpainted), sum(float(score) >= edge for edge in EDGES) - 1] += 1
    assert (histogram(scores, mask) == expected).all()


@pytest.mark.parametrize("outside", [-0.1, 1.1])
def test_histograms_are_of_probabilities(outside):
    with pytest.raises(ValueError, match="within 0 to 1"):
        histogram(np.array([[0.5, outside]]), np.array([[True, False]]))


def test_histograms_add_up_to_that_of_pooled_pixels():
    assert (sum(histogram(*pair) for pair in pictures(7)) == histogram(*pooled(pictures(7)))).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_binned_auc_is_within_its_bound_which_is_tight(seed):
    draw = np.random.default_rng(seed)
    mask = draw.random((6, 40)) < 0.3
    scores = 1 / (1 + np.exp(-draw.normal(mask * draw.random(), draw.choice([0.01, 0.05, 2]), mask.shape)))
    curve = Curve(histogram(scores, mask))
    if not mask.any():
        return
    assert abs(curve.auc - auc(scores, mask)) <= curve.auc_error + 1e-12
    bins = EDGES.searchsorted(scores, side="right") - 1
    for sign in (1, -1):
        assert auc(bins + sign * mask / 2, mask) == pytest.approx(curve.auc + sign * curve.auc_error, abs=1e-12)


@pytest.mark.parametrize("kind", ["sigmoid", "saturated"])
def test_metrics_of_a_curve_are_those_of_scores_put_to_their_edges(kind):
    scores, mask = pooled(pictures(12, kind))
    curve, edges = Curve(histogram(scores, mask)), EDGES[EDGES.searchsorted(scores, side="right") - 1]
    found = curve.numbers()
    assert (found["pixels"], found["positives"]) == (mask.size, mask.sum())
    assert found["auc"] == pytest.approx(auc(edges, mask))
    assert found["ap"] == pytest.approx(average_precision(edges, mask))
    assert (found["f1"], found["iou"]) == pytest.approx(f1_iou(scores, mask, 0.5))
    assert found["mcc"] == pytest.approx(oracle.matthews_corrcoef(mask.ravel(), scores.ravel() >= 0.5))
    assert (found["best_f1"], found["best_iou"]) == pytest.approx(best_f1_iou(edges, mask)[:2])
    assert found["best_f1"] == pytest.approx(f1_iou(scores, mask, found["best_threshold"])[0])
    assert found["best_mcc"] == pytest.approx(best_mcc(edges, mask)[0])
    assert found["calibration_error"] == pytest.approx(calibration_error(scores, mask), abs=0.02)
    for threshold in (0, 0.5, EDGES[700], 0.77, 1.0):
        edge = min([edge for edge in EDGES if edge >= threshold], default=2)
        assert curve.at(threshold) == at_threshold(scores, mask, edge)


def test_curves_are_those_of_scikit_learn():
    scores, mask = pooled(pictures(5))
    curve, truth = Curve(histogram(scores, mask)), mask.ravel()
    edges = EDGES[EDGES.searchsorted(scores, side="right") - 1].ravel()
    false, true, _ = oracle.roc_curve(truth, edges, drop_intermediate=False)
    assert {*zip(*curve.roc, strict=True)} == {*zip(false, true, strict=True)}
    precision, recall, _ = oracle.precision_recall_curve(truth, edges)
    found = curve.precision_recall
    assert found[0] == pytest.approx(recall[:-1][::-1]) and found[1] == pytest.approx(precision[:-1][::-1])


@pytest.mark.parametrize("row", [0, 1])
def test_one_class_alone_is_undefined(row):
    counts = np.zeros((2, BINS), np.int64)
    counts[row, 600] = 5
    found = Curve(counts).numbers()
    assert {key for key, value in found.items() if not math.isnan(value)} == \
        {"pixels", "positives", "calibration_error"}


def test_numbers_of_pixels_beyond_32_bits_do_not_overflow():
    counts = np.zeros((2, BINS), np.int64)
    counts[0, 100], counts[1, 900], counts[1, 100] = 4 * 10**12, 10**12, 10**12
    found = Curve(counts).numbers()
    assert (found["auc"], found["f1"]) == (0.75, pytest.approx(2 / 3))
    assert found["mcc"] == pytest.approx(math.sqrt(0.5 * 4 / 5))


def test_other_shapes_are_no_histogram():
    with pytest.raises(ValueError, match="2×1024"):
        Curve(np.zeros((2, 10), np.int64))


def test_the_best_threshold_maximises_mean_f1_per_picture_over_pictures_of_both_classes():
    pairs = list(pictures(20))
    found = best_threshold(np.stack([histogram(*pair) for pair in pairs]))
    means = [np.nanmean([f1_iou(scores, mask, edge)[0] for scores, mask in pairs]) for edge in EDGES]
    assert found in EDGES and means[list(EDGES).index(found)] == pytest.approx(max(means))
    # Pooled, large masks would weigh most.
    assert found != Curve(sum(histogram(*pair) for pair in pairs)).best_f1_iou[2]


def test_of_equally_good_thresholds_it_is_the_middle_of_the_longest_run():
    counts = np.zeros((2, BINS), np.int64)
    counts[0, 99], counts[1, 600] = 5, 5
    assert best_threshold([counts]) == EDGES[350]
    assert best_threshold(counts[None]) == EDGES[350]


def test_without_a_forged_picture_there_is_no_best_threshold():
    assert math.isnan(best_threshold([]))
    assert math.isnan(best_threshold([histogram(np.zeros((2, 2)), np.zeros((2, 2), bool))]))


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 1.0])
def test_the_quiet_threshold_is_the_best_of_those_that_surely_flag_little_of_authentic_pictures(share):
    pairs = list(pictures(20))
    plain = [scores for scores, _ in pictures(12)]
    nothing = [np.zeros(scores.shape, bool) for scores in plain]
    found = quiet_threshold([histogram(*pair) for pair in pairs],
                            [histogram(*pair) for pair in zip(plain, nothing, strict=True)], share)

    def limit(edge):
        shares = np.array([(scores >= edge).mean() for scores in plain])
        if not shares.any():
            return 0
        return ttest_1samp(shares, 0, alternative="less").confidence_interval(0.95).high

    edges = sorted(EDGES, reverse=True)
    quiet = list(itertools.takewhile(lambda edge: limit(edge) <= share, edges))
    means = {edge: np.nanmean([f1_iou(scores, mask, edge)[0] for scores, mask in pairs]) for edge in quiet}
    assert found in means and means[found] == pytest.approx(max(means.values()))


def test_a_quiet_threshold_keeps_its_share_on_other_pictures_in_most_draws():
    generator = np.random.default_rng(0)
    forged = [histogram(np.linspace(0, 1, 64)[None], np.arange(64)[None] >= 16)]

    def draw(count):
        return [histogram((level + 0.5 * generator.random((1, 64))).astype(np.float32), np.zeros((1, 64), bool))
                for level in generator.uniform(0, 0.5, count)]

    many = np.array([Curve(one).counts.false_alarm for one in draw(600)]).mean(0)
    found = [quiet_threshold(forged, draw(40), 0.1) for _ in range(60)]
    kept = [many[int(EDGES.searchsorted(threshold))] <= 0.1 for threshold in found if not math.isnan(threshold)]
    # The threshold that the mean alone allows would keep it in one half; skewed shares cost some of the 95 %.
    assert len(kept) > 50 and np.mean(kept) > 0.75


def test_where_authentic_pictures_never_keep_quiet_or_are_none_there_is_no_quiet_threshold():
    forged = [histogram(np.array([[0.2, 0.9]]), np.array([[False, True]]))]
    loud = 3 * [histogram(np.ones((2, 2)), np.zeros((2, 2), bool))]
    quiet = histogram(np.zeros((2, 2)), np.zeros((2, 2), bool))
    assert math.isnan(quiet_threshold(forged, loud, 0.02)) and math.isnan(quiet_threshold(forged, [], 0.02))
    assert math.isnan(quiet_threshold([], 3 * [quiet], 0.02)) and math.isnan(quiet_threshold(forged, [quiet], 0.02))
    assert 0.2 < quiet_threshold(forged, 3 * [quiet], 0.02) <= 0.9
