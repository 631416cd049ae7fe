"""The benchmark of metrics runs, and measures maps that are what it says."""

import numpy as np
import pytest

from benchmarks import metrics
from results.metrics import auc, score_map


def test_maps_are_of_their_kinds():
    found, mask = metrics.maps(64)
    assert 0.1 < mask.mean() < 0.2
    assert 0.7 < auc(found["sigmoid"], mask) < 0.999 and abs(auc(found["random"], mask) - 0.5) < 0.05
    assert len(np.unique(found["8 bits"])) <= 256 and found["logits"].min() < 0
    assert np.mean(np.abs(found["saturated"] - 0.5) > 0.49) > 0.5


def test_what_is_compared_is_the_same():
    found, mask = metrics.maps(40)
    theirs, ours = metrics.sklearn_numbers(found["sigmoid"], mask), score_map(found["sigmoid"], mask, 0.3)
    names = ("auc", "ap", "f1", "iou", "mcc", "val_f1", "val_iou", "val_mcc", "precision", "recall",
             "balanced_accuracy", "best_f1")
    assert np.allclose(theirs, [ours[name] for name in names], atol=1e-9)


@pytest.mark.filterwarnings("ignore:Precision is ill-defined")
def test_tables_have_a_row_a_map_and_memory_a_line():
    assert [row.split(" | ")[0] for row in metrics.speed(24, 1)] == ["| sigmoid", "| saturated", "| 8 bits", "| random",
                                                                    "| logits"]
    assert "after 40" in metrics.memory(16, 40)
