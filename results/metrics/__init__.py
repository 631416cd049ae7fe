"""Metrics of maps and pictures, in NumPy; `tensors` and `streaming` have them in torch, `variants` as others compute
them. docs/metrics.md defines each, also where it is undefined."""

from results.metrics.bins import BINS, EDGES
from results.metrics.counts import Counts
from results.metrics.curves import Curve, best_threshold, quiet_threshold
from results.metrics.pictures import image_threshold, picture_auc, picture_counts
from results.metrics.pixels import (
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
    score_map,
)
from results.metrics.ranked import RankedMap, rank
from results.pooling import check_pooling, pool
from results.records import METRICS

__all__ = ["BINS", "EDGES", "METRICS", "Counts", "Curve", "RankedMap", "at_threshold", "auc", "auc_f1",
           "average_precision", "best_f1_iou", "best_mcc", "best_threshold", "boundary_f1", "calibration_error",
           "check_pooling", "f1_iou", "histogram", "image_threshold", "picture_auc", "picture_counts", "pool",
           "quiet_threshold", "rank", "score_map"]
