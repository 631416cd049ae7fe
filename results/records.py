"""What the files of a benchmark hold, column by column; each stage reads what the one before it wrote."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("detector", "seed", "method", "kind", "seen", "perturbation", "perturbation_seen", "image", "source",
        "digest", "mask_kind", "mask_fraction", "pixels")
"""What a row of `records.csv` is of. `seed` is the training's, empty where there is none; the `kind` of a method is
"classical", "learned", "diffusion", "authentic" or "unknown"; `seen` is "seen", "unseen" or "unknown"; `mask_fraction`
is the share of the `pixels` that is marked. `digest` is of the pixels of picture and mask: the same case in any run."""

METRICS = ("auc", "ap", "f1", "iou", "mcc", "precision", "recall", "balanced_accuracy", "boundary_f1",
           "best_f1", "best_iou", "best_mcc", "val_f1", "val_iou", "val_mcc", "calibration_error", "false_alarm",
           "val_false_alarm")
"""Numbers of one map, all in [0, 1], or [−1, 1] for mcc: at 0.5 where the name says nothing, at the map's own best
threshold (an oracle) for `best_`, at the detector's validation threshold for `val_`. `false_alarm` is the share of the
pristine pixels that is flagged."""

RECORDS = (*KEYS, *METRICS, "best_threshold", "score", "error")
"""Columns of `records.csv`. An undefined number is an empty field. `score` is the picture's, from its map by the
configured pooling; `error` tells why a detector has no map of the picture, and then there are no numbers."""

VALIDATION = ("detector", "seed", "threshold", "quiet_threshold", "image_threshold", "pictures", "authentic",
              "methods")
"""Columns of `thresholds.csv`: what was chosen on validation photographs, and on how many forgeries and authentic ones
of them. `quiet_threshold` is that of those which flag little of authentic ones."""

VARIANTS = ("iid-net", "imdlbenco", "trufor", "mvss")
"""Published protocols of scoring, see `results.metrics.variants`."""

VARIANT_ROWS = ("detector", "seed", "perturbation", "method", "variant", "number", "value", "pictures")
"""Columns of `variants.csv`; `method` is also "all": the forged pictures of all methods and the authentic ones as one
dataset. `pictures` have a map."""

TEXTS = ("detector", "seed", "method", "kind", "seen", "perturbation", "perturbation_seen", "image", "source",
         "digest", "mask_kind", "error")
NUMBERS = tuple(name for name in RECORDS if name not in TEXTS)


def as_text(value: float) -> str:
    """A number as tables hold it: six decimals, empty for NaN."""
    return "" if math.isnan(value) else f"{round(float(value), 6) + 0.0:.6f}"


def read_records(path: Path, columns: Collection[str] = RECORDS) -> "pd.DataFrame":
    """`records.csv` with the `columns` of `RECORDS`: texts as categories, numbers as float32, NaN where the field is
    empty. A column that the file has not is empty; bytes of a name that are no UTF-8 become `\\xff`. 4,000,000 rows
    take about 1 GB.

    Raises:
        UserError: there is no such file, or it is no table of records.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, usecols=lambda name: name in columns, keep_default_na=False,
                            na_values={name: [""] for name in NUMBERS},
                            dtype=dict.fromkeys(TEXTS, "category") | dict.fromkeys(NUMBERS, "float32"),
                            encoding_errors="backslashreplace")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the benchmark first") from None
    except (ValueError, pd.errors.EmptyDataError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path}: not a table of records ({reason}); run the benchmark again") from None
    return _complete(frame, columns)


def frame_of(rows: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """The same from rows as `csv.DictReader` gives them."""
    import pandas as pd

    columns: dict[str, Any] = {name: [row.get(name, "") for row in rows] for name in RECORDS}
    for name in NUMBERS:
        columns[name] = pd.Series([float(value) if value not in ("", None) else float("nan")
                                   for value in columns[name]], dtype="float32")
    return _complete(pd.DataFrame(columns).astype(dict.fromkeys(TEXTS, "category")))


def _complete(frame: "pd.DataFrame", columns: Collection[str] = RECORDS) -> "pd.DataFrame":
    import pandas as pd

    for name in columns:
        if name not in frame:
            frame[name] = pd.Categorical([""] * len(frame)) if name in TEXTS else pd.Series(
                float("nan"), index=frame.index, dtype="float32")
    return frame[list(columns)]
