"""Records as arrays, and means per picture of any part of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forgeries.readers import AUTHENTIC
from results.records import METRICS

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("seen", "unseen", "unknown")


@dataclass(frozen=True)
class Records:
    """Rows of `records.csv` as integers into lists of names, which are in order of appearance.

    `column` is a detector with one of its seeds, of `columns`; `owner` the detector of each column. `picture` numbers
    what several methods may have painted into: rows of one source, image, size and masked share are of one picture,
    authentic ones apart; with another size or mask it is another picture of that source. `source_of` is a picture's
    source. `numbers` are float32 rows × `METRICS`, `score`, `fraction` float32.
    """

    detectors: list[str]
    perturbations: list[str]
    methods: list[str]
    kinds: list[str]
    mask_kinds: list[str]
    columns: list[tuple[str, str]]
    owner: np.ndarray
    column: np.ndarray
    perturbation: np.ndarray
    method: np.ndarray
    label: np.ndarray
    mask_kind: np.ndarray
    picture: np.ndarray
    source_of: np.ndarray
    numbers: np.ndarray
    score: np.ndarray
    fraction: np.ndarray
    failed: np.ndarray

    @property
    def forged(self) -> np.ndarray:
        """Bool per row: of a method that paints."""
        return self.method != self.methods.index(AUTHENTIC) if AUTHENTIC in self.methods \
            else np.ones(len(self.method), bool)

    def groups(self) -> list[tuple[str, np.ndarray]]:
        """("TE", its rows), … for each method, then ("mean seen", …), ("mean unseen", …), ("mean unknown", …)."""
        found = [(name, np.flatnonzero(self.method == number)) for number, name in enumerate(self.methods)]
        return found + self.means()

    def means(self) -> list[tuple[str, np.ndarray]]:
        """The last of these: rows of all methods with one label."""
        return [(f"mean {label}", np.flatnonzero(self.forged & (self.label == number)))
                for number, label in enumerate(LABELS) if np.any(self.forged & (self.label == number))]


@dataclass(frozen=True)
class PictureMeans:
    """`values` float64 pictures × columns × metrics: means over the rows of a picture, NaN where undefined.

    `present` bool pictures × columns: there is a row; `failures` int per column; `columns` into `Records.columns`;
    `sources` int per picture.
    """

    values: np.ndarray
    present: np.ndarray
    failures: np.ndarray
    columns: np.ndarray
    sources: np.ndarray


def index_records(frame: "pd.DataFrame") -> Records:
    """The arrays of a table of `results.records.read_records`."""
    import pandas as pd

    def numbered(name: str) -> tuple[np.ndarray, list[str]]:
        codes, names = pd.factorize(frame[name])
        return codes.astype(np.int32), [str(text) for text in names]

    def paired(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of pairs in order of appearance, and the row where each appears first."""
        codes, pairs = pd.factorize(first.astype(np.int64) * (int(second.max(initial=0)) + 1) + second)
        rows = np.empty(len(pairs), np.int64)
        rows[codes[::-1]] = np.arange(len(codes))[::-1]
        return codes.astype(np.int32), rows

    detector, detectors = numbered("detector")
    seed, seeds = numbered("seed")
    method, methods = numbered("method")
    perturbation, perturbations = numbered("perturbation")
    source, _ = numbered("source")
    image, _ = numbered("image")
    kind, kinds = numbered("kind")
    mask_kind, mask_kinds = numbered("mask_kind")
    seen, labels = numbered("seen")
    column, column_rows = paired(detector, seed)
    # A number that is not there is −1.
    pixels, fraction = (pd.factorize(frame[name])[0] + 1 for name in ("pixels", "mask_fraction"))
    shape, _ = paired(paired(pixels, fraction)[0], (frame["method"] == AUTHENTIC).to_numpy(np.int8))
    picture, picture_rows = paired(paired(source, image)[0], shape)
    _, method_rows = paired(method, np.zeros_like(method))
    label = np.asarray([LABELS.index(name) if name in LABELS else LABELS.index("unknown") for name in labels], np.int8)
    return Records(
        detectors, perturbations, methods, [kinds[kind[row]] for row in method_rows], mask_kinds,
        [(detectors[detector[row]], seeds[seed[row]]) for row in column_rows], detector[column_rows], column,
        perturbation, method, label[seen] if len(seen) else np.empty(0, np.int8), mask_kind, picture,
        source[picture_rows], frame[list(METRICS)].to_numpy(np.float32), frame["score"].to_numpy(np.float32),
        frame["mask_fraction"].to_numpy(np.float32), (frame["error"] != "").to_numpy())


def picture_means(records: Records, rows: np.ndarray, metrics: Sequence[str]) -> PictureMeans:
    """Means of `metrics` over those of `rows` that are of one picture and one column."""
    return mean_by_picture(records, rows, [records.numbers[:, METRICS.index(name)][rows] for name in metrics])


def mean_by_picture(records: Records, rows: np.ndarray, values: Sequence[np.ndarray]) -> PictureMeans:
    """The same of any numbers, an array of `rows` each."""
    pictures, picture = np.unique(records.picture[rows], return_inverse=True)
    columns, column = np.unique(records.column[rows], return_inverse=True)
    cell, shape = picture * len(columns) + column, (len(pictures), len(columns))
    size = len(pictures) * len(columns)
    means = np.full((size, len(values)), np.nan)
    for number, value in enumerate(values):
        known = ~np.isnan(value)
        counts = np.bincount(cell[known], minlength=size)
        totals = np.bincount(cell[known], value[known], size)
        np.divide(totals, counts, out=means[:, number], where=counts > 0)
    return PictureMeans(means.reshape(*shape, len(values)), np.bincount(cell, minlength=size).reshape(shape) > 0,
                        np.bincount(column[records.failed[rows]], minlength=len(columns)), columns,
                        records.source_of[pictures])


def mean_defined(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean over `axis` of what is defined; NaN where nothing is."""
    defined = ~np.isnan(values)
    counts = defined.sum(axis)
    return np.divide(np.where(defined, values, 0).sum(axis), counts, where=counts > 0,
                     out=np.full(counts.shape, np.nan))
