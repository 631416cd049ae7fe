import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from configs.streams import stream
from detectors.inference import findings
from results.metrics import check_pooling, image_threshold, picture_auc, picture_counts, pool


@pytest.mark.parametrize("side", [1, 7, 40])
def test_the_default_pooling_is_the_score_of_detect(side):
    scores = stream(0, "pool", side).random((side, 2 * side)).astype(np.float32)
    assert pool(scores, "top-0.01") == findings(scores).score


def test_poolings_by_hand():
    scores = np.array([[0.1, 0.2, 0.3, 0.8]])
    assert pool(scores, "max") == 0.8
    assert pool(scores, "mean") == pytest.approx(0.35)
    assert pool(scores, "top-0.5") == pytest.approx(0.55)
    assert pool(scores, "top-1") == pytest.approx(0.35)
    assert pool(scores, "share-0.3") == 0.5
    assert pool(scores, "p-norm-2") == pytest.approx(math.sqrt((0.01 + 0.04 + 0.09 + 0.64) / 4))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=30), st.floats(1, 30))
def test_power_means_lie_between_mean_and_maximum(values, power):
    scores = np.array([values], np.float32)
    assert pool(scores, "mean") - 1e-6 <= pool(scores, f"p-norm-{power:.3f}") <= pool(scores, "max") + 1e-6


@pytest.mark.parametrize("how", ["", "median", "top", "top-0", "top-1.5", "top-x", "top-nan", "share-2", "p-norm-0.5",
                                 "max-1", "top-0.01 "])
def test_other_poolings_are_refused_with_those_there_are(how):
    for call in (lambda: check_pooling(how), lambda: pool(np.zeros((2, 2)), how)):
        with pytest.raises(ValueError, match="max, mean, top-SHARE"):
            call()


def test_maps_of_nan_have_no_score():
    with pytest.raises(ValueError, match="NaN"):
        pool(np.array([[0.1, np.nan]]), "mean")


def test_picture_metrics_are_those_of_scikit_learn():
    draw = stream(0, "pictures")
    for levels in (3, 10**6):
        scores, forged = draw.integers(levels, size=50) / levels, draw.random(50) < 0.6
        counts = picture_counts(scores, forged, 0.5)
        assert picture_auc(scores, forged) == pytest.approx(oracle.roc_auc_score(forged, scores))
        assert counts.accuracy == pytest.approx(oracle.accuracy_score(forged, scores >= 0.5))
        assert counts.f1 == pytest.approx(oracle.f1_score(forged, scores >= 0.5))
        assert counts.balanced_accuracy == pytest.approx(oracle.balanced_accuracy_score(forged, scores >= 0.5))


def test_pictures_of_one_class_have_an_accuracy_alone():
    scores, forged = np.array([0.2, 0.7]), np.ones(2, bool)
    counts = picture_counts(scores, forged, 0.5)
    assert counts.accuracy == 0.5
    assert all(math.isnan(value) for value in (picture_auc(scores, forged), counts.f1, counts.balanced_accuracy,
                                               image_threshold(scores, forged)))
    assert math.isnan(picture_auc(np.zeros(0), np.zeros(0, bool)))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.4, 0.5, 0.9, 1.0]), st.booleans()), min_size=2, max_size=20))
def test_no_threshold_has_a_larger_balanced_accuracy(pairs):
    scores, forged = np.array([score for score, _ in pairs]), np.array([label for _, label in pairs])
    if forged.all() or not forged.any():
        return
    found = picture_counts(scores, forged, image_threshold(scores, forged)).balanced_accuracy
    assert found == pytest.approx(max(picture_counts(scores, forged, threshold).balanced_accuracy
                                      for threshold in (*np.unique(scores), 2)))


def test_of_equally_good_thresholds_it_is_the_middle_of_the_widest_gap():
    # Balanced accuracy 3/4 above 0.1 and above 0.4.
    scores, forged = np.array([0.1, 0.2, 0.4, 0.8]), np.array([False, True, False, True])
    assert image_threshold(scores, forged) == pytest.approx(0.6)


def test_a_detector_no_better_than_chance_calls_nothing_forged():
    for scores in (np.array([0.9, 0.1]), np.array([0.5, 0.5])):
        threshold = image_threshold(scores, np.array([False, True]))
        assert picture_counts(scores, np.array([False, True]), threshold).false_alarm == 0


def test_between_neighbouring_numbers_the_lower_one_is_not_flagged():
    scores, forged = np.array([0.5, np.nextafter(0.5, 1)]), np.array([False, True])
    assert picture_counts(scores, forged, image_threshold(scores, forged)).accuracy == 1
