import math

import numpy as np
import pytest
from intervals import bootstrap_interval, bootstrap_weights, summarize

from configs.streams import stream

NAN = float("nan")


def test_the_same_stream_gives_the_same_interval():
    values, clusters = stream(0, "values").random(30), [f"photo{i % 4}" for i in range(30)]
    first, second = (bootstrap_interval(values, clusters, 500, stream(1, "b")) for _ in range(2))
    assert first == second
    assert first.low < first.mean < first.high
    assert (first.count, first.clusters, first.undefined) == (30, 4, 0)


def test_undefined_values_are_left_out_and_counted():
    found = bootstrap_interval([0.5, NAN, 0.7, NAN], ["a", "a", "b", "c"], 200, stream(0, "b"))
    assert found.mean == pytest.approx(0.6)
    assert (found.count, found.clusters, found.undefined) == (2, 2, 2)


def test_nothing_defined_is_nan_and_not_zero():
    found = bootstrap_interval([NAN, NAN], ["a", "b"], 200, stream(0, "b"))
    assert math.isnan(found.mean) and math.isnan(found.low) and math.isnan(found.high)
    assert (found.count, found.clusters, found.undefined) == (0, 0, 2)


def test_constant_values_have_an_interval_of_no_width():
    found = bootstrap_interval([0.25] * 6, list("aabbcc"), 200, stream(0, "b"))
    assert found.mean == found.low == pytest.approx(found.high) == 0.25


def test_one_source_still_has_an_interval():
    found = bootstrap_interval([0.1, 0.5, 0.9, 0.4], ["a"] * 4, 500, stream(0, "b"))
    assert found.low < found.mean < found.high


def test_dependent_pictures_widen_the_interval():
    clusters = [f"photo{i // 20}" for i in range(100)]
    dependent = np.repeat(stream(0, "d").random(5), 20) + 0.01 * stream(1, "d").random(100)
    alone = bootstrap_interval(dependent, [str(i) for i in range(100)], 1000, stream(0, "b"))
    together = bootstrap_interval(dependent, clusters, 1000, stream(0, "b"))
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_weights_draw_sources_whole_and_then_their_pictures():
    clusters = ["a", "b", "a", "c", "a"]
    weights = bootstrap_weights(clusters, 4000, stream(0, "b"))
    drawn_a = weights[:, [0, 2, 4]].sum(1)
    assert set(np.unique(drawn_a)) == {0, 3, 6, 9}
    assert np.all(drawn_a / 3 + weights[:, 1] + weights[:, 3] == 3)
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.1)


def test_coverage_with_many_independent_pictures_is_about_95_percent():
    hits = 0
    for trial in range(200):
        values = stream(trial, "coverage").normal(0.7, 0.1, 60)
        found = bootstrap_interval(values, [str(i // 2) for i in range(60)], 300, stream(trial, "b"))
        hits += found.low <= 0.7 <= found.high
    assert hits >= 180


def record(detector, method, seen, image, auc, source="cat"):
    return {"detector": detector, "method": method, "seen": seen, "perturbation": "none", "image": image,
            "source": source, "auc": auc, "ap": auc, "f1": auc, "iou": auc, "best_f1": auc, "best_iou": auc}


def test_summary_has_a_row_a_method_and_one_each_over_seen_and_unseen():
    rows = [record("net", method, seen, image, auc) for method, seen, image, auc in (
        ("TE", "seen", "0", "0.9"), ("TE", "seen", "1", ""),
        ("PM", "seen", "0", "0.5"), ("PM", "seen", "1", ""),
        ("NS", "unseen", "0", "0.6"), ("NS", "unseen", "1", "0.8"))]
    found = {row["method"]: row for row in summarize(rows, 200, 0)}
    assert list(found) == ["TE", "PM", "NS", "mean seen", "mean unseen"]
    assert (found["TE"]["auc"], found["TE"]["count"], found["TE"]["undefined"]) == ("0.900000", "1", "1")
    assert (found["mean seen"]["auc"], found["mean seen"]["count"]) == ("0.700000", "1")
    assert found["mean unseen"]["auc"] == "0.700000"


def test_summary_leaves_undefined_numbers_empty():
    row, mean = summarize([record("net", "TE", "seen", "0", "")], 200, 0)
    assert (row["auc"], row["auc_low"], row["count"], row["undefined"]) == ("", "", "0", "1")
    assert mean["auc"] == ""
