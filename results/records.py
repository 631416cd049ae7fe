"""What the files of a benchmark hold, column by column; each stage reads what the one before it wrote."""

KEYS = ("detector", "seed", "method", "kind", "seen", "perturbation", "perturbation_seen", "image", "source",
        "mask_kind", "mask_fraction", "pixels")
"""What a row of `records.csv` is of. `seed` is the training's, empty where there is none; the `kind` of a method is
"classical", "learned", "diffusion", "authentic" or "unknown"; `seen` is "seen", "unseen" or "unknown"; `mask_fraction`
is the share of the `pixels` that is marked."""

METRICS = ("auc", "ap", "f1", "iou", "mcc", "precision", "recall", "balanced_accuracy", "boundary_f1",
           "best_f1", "best_iou", "best_mcc", "val_f1", "val_iou", "val_mcc", "calibration_error", "false_alarm",
           "val_false_alarm")
"""Numbers of one map, all in [0, 1], or [−1, 1] for mcc: at 0.5 where the name says nothing, at the map's own best
threshold (an oracle) for `best_`, at the detector's validation threshold for `val_`. `false_alarm` is the share of the
pristine pixels that is flagged."""

RECORDS = (*KEYS, *METRICS, "best_threshold", "score", "error")
"""Columns of `records.csv`. An undefined number is an empty field. `score` is the picture's, from its map by the
configured pooling; `error` tells why a detector has no map of the picture, and then there are no numbers."""

VALIDATION = ("detector", "seed", "threshold", "image_threshold", "pictures", "authentic", "methods")
"""Columns of `thresholds.csv`: what was chosen on validation photographs, and on how many forgeries and authentic ones
of them."""
