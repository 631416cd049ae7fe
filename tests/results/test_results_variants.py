import math

import numpy as np
import pytest

from configs.streams import stream
from results.metrics import auc, best_f1_iou
from results.metrics.variants import VARIANTS


def score(name, *pairs):
    return VARIANTS[name].function(iter(pairs))


def corner(side, size):
    mask = np.zeros((side, side), bool)
    mask[:size, :size] = True
    return mask


AUTHENTIC = np.zeros((4, 4), np.float32), np.zeros((4, 4), bool)
FORGED = np.array([[0.9, 0.2], [0.6, 0.1]], np.float32), np.array([[True, True], [False, False]])
"""Above 0.5: one hit, one false alarm, one miss; AUC 3/4."""


def test_iid_net_is_the_mean_auc_in_percent():
    other = 1 - FORGED[0], FORGED[1]
    assert score("iid-net", FORGED) == {"auc": pytest.approx(75)}
    assert score("iid-net", FORGED, other, FORGED) == {"auc": pytest.approx(100 * (0.75 + 0.25 + 0.75) / 3)}
    assert math.isnan(score("iid-net", FORGED, AUTHENTIC)["auc"])


def test_imdlbenco_by_hand():
    assert score("imdlbenco", FORGED) == pytest.approx({"f1": 1 / 2, "iou": 1 / 3, "auc": 3 / 4})


def test_imdlbenco_gives_an_authentic_picture_zero_for_a_perfect_answer():
    assert score("imdlbenco", AUTHENTIC) == pytest.approx({"f1": 0, "iou": 0, "auc": 0})
    assert score("imdlbenco", FORGED, AUTHENTIC)["f1"] == pytest.approx(1 / 4)


def test_imdlbenco_ranks_equal_scores_by_their_place():
    top = np.array([[True, True, True], [False, False, False]])
    for mask, expected in ((top, 1), (~top, 0), (np.array([[True, False, True], [False, True, False]]), 2 / 3)):
        assert score("imdlbenco", (np.full((2, 3), 0.7, np.float32), mask))["auc"] == pytest.approx(expected)
        assert auc(np.full((2, 3), 0.7), mask) == 0.5
    distinct = stream(0, "variants").permutation(48).reshape(6, 8) / 48
    mask = stream(0, "mask").random((6, 8)) < 0.3
    assert score("imdlbenco", (distinct, mask))["auc"] == pytest.approx(auc(distinct, mask))


def test_imdlbenco_compares_strictly():
    assert score("imdlbenco", (np.full((2, 2), 0.5, np.float32), FORGED[1]))["f1"] == 0


def plain_trufor(scores, mask):
    """Kept pixels by loops over windows; the frame mirrored, the edge pixel repeated."""
    def window(region, size, function):
        padded = np.pad(region, size // 2, mode="symmetric")
        return np.array([[function(padded[y:y + size, x:x + size]) for x in range(region.shape[1])]
                         for y in range(region.shape[0])])

    inpainted, pristine = window(mask, 15, np.all), ~window(mask, 11, np.any)
    kept = inpainted | pristine
    truth, values = inpainted[kept], scores[kept]

    def f1(flagged):
        return 2 * np.sum(flagged & truth) / max(np.sum(flagged) + np.sum(truth), 1e-32)

    levels = np.unique(values)
    return (max(max(f1(values > level), f1(values <= level)) for level in levels),
            max(f1(values > 0.5), f1(values <= 0.5)))


@pytest.mark.parametrize("number", range(4))
def test_trufor_leaves_out_the_border_and_takes_the_inverse(number):
    draw = stream(0, "trufor", number)
    mask = np.zeros((44, 50), bool)
    mask[10:10 + 9 * number, :30] = True
    scores = (draw.random(mask.shape) * 0.6 + 0.4 * (mask if number % 2 else ~mask)).astype(np.float32)
    best, fixed = plain_trufor(scores, mask)
    assert score("trufor", (scores, mask)) == pytest.approx({"best_f1": best, "f1": fixed, "skipped": 0})


def test_trufor_calls_a_map_that_is_wrong_everywhere_perfect():
    mask = corner(40, 20)
    assert score("trufor", (1 - mask.astype(np.float32), mask)) == {"best_f1": 1, "f1": 1, "skipped": 0}
    assert best_f1_iou(1 - mask.astype(float), mask)[0] < 0.5


def test_trufor_ignores_false_alarms_near_the_mask():
    mask = corner(60, 30)
    assert score("trufor", (corner(60, 35).astype(np.float32), mask))["f1"] == 1
    assert score("trufor", (corner(60, 36).astype(np.float32), mask))["f1"] < 1


def test_trufor_skips_pictures_that_it_fails_on():
    thin = np.zeros((40, 40), bool)
    thin[:, 20:23] = True
    dark, bright = np.zeros(thin.shape, np.float32), thin.T.astype(np.float32)
    assert score("trufor", (dark, thin)) == pytest.approx({"best_f1": 0, "f1": math.nan, "skipped": 1}, nan_ok=True)
    assert score("trufor", (bright, thin)) == {"best_f1": 0, "f1": 0, "skipped": 0}
    assert score("trufor", (dark, thin), (corner(40, 20).astype(np.float32), corner(40, 20))) == {
        "best_f1": 0.5, "f1": 1, "skipped": 1}


def test_mvss_by_hand():
    loud = np.eye(4, dtype=np.float32), np.zeros((4, 4), bool)
    missed = np.full((2, 2), 0.2, np.float32), FORGED[1]
    found = score("mvss", FORGED, AUTHENTIC, AUTHENTIC, loud, missed)
    assert found == pytest.approx({
        "pixel_f1": 0.5 / 2, "image_auc": 1 / 3 * 2 / 2, "accuracy": 3 / 5, "sensitivity": 1 / 2,
        "specificity": 2 / 3, "image_f1": 4 / 7, "combined_f1": 2 * 0.25 * 4 / 7 / (0.25 + 4 / 7)} | {
            # 0.898 and 0.2 against 0, 0 and 1: four of six pairs in the right order.
            "image_auc": 4 / 6}, abs=1e-5)


def test_mvss_cuts_maps_off_to_eight_bits():
    # 0.5019 · 255 = 127.98 is written as 127, which is not above one half.
    assert score("mvss", (np.full((2, 2), 0.5019, np.float32), FORGED[1]))["sensitivity"] == 0
    assert score("mvss", (np.full((2, 2), 0.5021, np.float32), FORGED[1]))["sensitivity"] == pytest.approx(1, abs=1e-5)


def test_mvss_of_one_class_has_auc_zero_and_no_f1():
    found = score("mvss", AUTHENTIC)
    assert found["image_auc"] == 0 and math.isnan(found["pixel_f1"])
    assert found["specificity"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_refuse_maps_of_nan_and_of_another_size_and_say_what_they_do(name):
    with pytest.raises(ValueError, match="NaN"):
        score(name, (np.full((2, 2), np.nan, np.float32), FORGED[1]))
    with pytest.raises(ValueError, match="shape"):
        score(name, (np.zeros((2, 3), np.float32), FORGED[1]))
    assert VARIANTS[name].text and all(math.isnan(value) or value == 0 for value in score(name).values())
