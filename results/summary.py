"""The tables of a benchmark, from its records alone: see docs/statistics.md for each file and column."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from configs.files import read_rows, write_rows
from configs.streams import stream
from forgeries.methods.families import canonical
from results.comparisons import COMPARISONS, POWERS, RANKS, VARIANCES, compare_detectors, rank_detectors, variances
from results.pictures import (
    AUTHENTIC,
    LABELS,
    PictureMeans,
    Records,
    index_records,
    mean_by_picture,
    mean_defined,
    picture_means,
)
from results.pooled import POOLED, pool_curves
from results.records import METRICS, as_text, read_records
from results.statistics import across_seeds, bootstrap_means, limits

SUMMARY = ("detector", "perturbation", "method", "kind", "seen", "seeds", "count", "sources", "undefined", "failures",
           *(f"{metric}{part}" for metric in METRICS for part in ("", "_low", "_high")))
IMAGES = ("detector", "perturbation", "method", "forged", "authentic", "auc", "auc_low", "auc_high", "accuracy",
          "balanced_accuracy", "f1", "threshold")
SIZES = ("detector", "perturbation", "seen", "factor", "level", "count", "sources", "auc", "auc_low", "auc_high",
         "f1", "f1_low", "f1_high")

Row = Mapping[str, str]


def write_summaries(folder: Path, resamples: int, seed: int, smallest: float = 0.02,
                    fractions: Sequence[float] = (0.01, 0.05, 0.1, 0.25)) -> None:
    """Writes all tables beside `records.csv` in the results `folder`, `summary.csv` last; the same files give the same
    bytes.

    Intervals come from `resamples`. `smallest` is the smallest interesting difference, for `power.csv`; `fractions`
    are the edges of the levels of mask fraction, ascending in (0, 1), for `sizes.csv`. `images.csv` and `pooled.csv`
    are written where there are authentic pictures and `curves.safetensors`, else removed.

    Raises:
        UserError: `records.csv` is absent or no table of records.
    """
    records = index_records(read_records(folder / "records.csv"))
    thresholds = read_rows(folder / "thresholds.csv")
    chosen_on: dict[str, set[str]] = {}
    for row in thresholds:
        chosen_on.setdefault(row["detector"], set()).update(map(canonical, row["methods"].split()))
    comparisons, powers = compare_detectors(records, resamples, seed, smallest, chosen_on)
    write_rows(folder / "comparisons.csv", COMPARISONS, comparisons)
    write_rows(folder / "power.csv", POWERS, powers)
    write_rows(folder / "ranks.csv", RANKS, rank_detectors(records, chosen_on))
    write_rows(folder / "variance.csv", VARIANCES, variances(records))
    write_rows(folder / "sizes.csv", SIZES, size_rows(records, fractions, resamples, seed))
    images, pooled, curves = folder / "images.csv", folder / "pooled.csv", folder / "curves.safetensors"
    if AUTHENTIC in records.methods:
        write_rows(images, IMAGES, image_rows(records, thresholds, resamples, seed))
    else:
        images.unlink(missing_ok=True)
    if curves.exists():
        write_rows(pooled, POOLED, pool_curves(curves, records))
    else:
        pooled.unlink(missing_ok=True)
    write_rows(folder / "summary.csv", SUMMARY, summary_rows(records, resamples, seed))


def summary_rows(records: Records, resamples: int, seed: int) -> Iterator[dict[str, str]]:
    """Rows of `summary.csv`: one a detector × perturbation × method, and one each over its seen, its unseen and its
    unknown methods, called "mean seen" and so on.

    A picture that several methods painted into counts once there, with its mean; authentic pictures do not count. Of a
    detector with several seeds the number is the mean over seeds, and the interval covers them. `count` and
    `undefined` are pictures with and without AUC, or false alarm for authentic ones; `failures` are records without
    a map. An undefined number is an empty field. Order: of appearance, by perturbation, method, detector.
    """
    for perturbation, method, rows in _parts(records):
        kind = "" if method.startswith("mean ") else records.kinds[records.methods.index(method)]
        counted = METRICS.index("false_alarm" if method == AUTHENTIC else "auc")
        found_rows = []
        for label in np.unique(records.label[rows]):
            found = picture_means(records, rows[records.label[rows] == label], METRICS)
            for name, own, low, high in _intervals(records, found, resamples, seed):
                values = found.values[:, own]
                defined = ~np.isnan(values[..., counted]).all(1)
                means = mean_defined(mean_defined(values, 0), 0)
                found_rows.append({
                    "detector": name, "perturbation": perturbation, "method": method, "kind": kind,
                    "seen": LABELS[label], "seeds": str(len(own)), "count": str(int(defined.sum())),
                    "sources": str(len(np.unique(found.sources[defined]))),
                    "undefined": str(int(np.sum(found.present[:, own].any(1) & ~defined))),
                    "failures": str(int(found.failures[own].sum()))} | {
                    f"{metric}{part}": as_text(numbers[number]) for number, metric in enumerate(METRICS)
                    for part, numbers in (("", means), ("_low", low), ("_high", high))})
        yield from sorted(found_rows, key=lambda row: records.detectors.index(row["detector"]))


def size_rows(records: Records, fractions: Sequence[float], resamples: int, seed: int) -> Iterator[dict[str, str]]:
    """Rows of `sizes.csv`: AUC and F1 at 0.5 by the share of the picture that is marked, and by kind of mask. Upper
    edges belong to their level."""
    edges = [0.0, *fractions, 1.0]
    levels = [f"{_percent(low)}–{_percent(high)} %" for low, high in pairwise(edges)]
    factors = [("mask fraction", levels, np.searchsorted(np.array(fractions, np.float32), records.fraction)),
               ("mask kind", records.mask_kinds, records.mask_kind)]
    known = ~np.isnan(records.fraction) & (records.fraction > 0)
    for number, perturbation in enumerate(records.perturbations):
        for mean, rows in records.means():
            rows = rows[(records.perturbation[rows] == number) & known[rows]]
            for factor, names, level_of in factors:
                for level, name in enumerate(names):
                    chosen = rows[level_of[rows] == level]
                    if not name or not chosen.size:
                        continue
                    found = picture_means(records, chosen, ("auc", "f1"))
                    for detector, own, low, high in _intervals(records, found, resamples, seed):
                        defined = ~np.isnan(found.values[:, own, 0]).all(1)
                        auc, f1 = mean_defined(mean_defined(found.values[:, own], 0), 0)
                        yield {"detector": detector, "perturbation": perturbation, "seen": mean.removeprefix("mean "),
                               "factor": factor, "level": name, "count": str(int(defined.sum())),
                               "sources": str(len(np.unique(found.sources[defined]))),
                               "auc": as_text(auc), "auc_low": as_text(low[0]), "auc_high": as_text(high[0]),
                               "f1": as_text(f1), "f1_low": as_text(low[1]), "f1_high": as_text(high[1])}


def image_rows(records: Records, thresholds: Sequence[Row], resamples: int, seed: int) -> Iterator[dict[str, str]]:
    """Rows of `images.csv`: forged against authentic pictures by their score.

    AUC is the chance that a forged picture scores above an authentic one, ties counting half. Its interval resamples
    the two means of placement values that its first-order expansion consists of (DeLong, DeLong & Clarke-Pearson 1988;
    for clusters Obuchowski 1997), sources being shared. Accuracy, balanced accuracy and F1 (forged is positive) are
    at the threshold that `thresholds.csv` gives, a score at it being flagged; empty where there is none.
    """
    limit_of = {(row["detector"], row["seed"]): float(row["image_threshold"])
                for row in thresholds if row.get("image_threshold")}
    for perturbation, method, rows in _parts(records):
        if method == AUTHENTIC:
            continue
        number = records.perturbations.index(perturbation)
        others = np.flatnonzero(~records.forged & (records.perturbation == number)
                                & np.isin(records.column, np.unique(records.column[rows])))
        both = np.concatenate([rows, others])
        both = both[~np.isnan(records.score[both])]
        placement, scores, forged = np.full(len(both), np.nan), records.score[both], records.forged[both]
        decided: dict[int, np.ndarray] = {}
        for column in np.unique(records.column[both]):
            ours, theirs = (np.flatnonzero((records.column[both] == column) & side) for side in (forged, ~forged))
            if not ours.size or not theirs.size:
                continue
            placement[ours] = _placement(scores[ours], scores[theirs])
            placement[theirs] = 1 - _placement(scores[theirs], scores[ours])
            limit = limit_of.get(records.columns[column], math.nan)
            decided[column] = np.array([ours.size, theirs.size,
                                        *_decisions(scores[ours], scores[theirs], limit), limit])
        if not decided:
            continue
        found = mean_by_picture(records, both, [np.where(forged, placement, np.nan),
                                                np.where(forged, np.nan, placement)])
        means = bootstrap_means(found.values.reshape(len(found.values), -1), found.sources, resamples,
                                stream(seed, "bootstrap")).reshape(resamples, -1, 2)
        area = mean_defined(found.values[..., 0], 0)
        for name, own in _owned(records, found.columns):
            own = np.array([place for place in own if found.columns[place] in decided], int)
            if not own.size:
                continue
            spread = across_seeds(means[:, own].sum(2) - area[own], stream(seed, "bootstrap seeds"))
            sources = len(np.unique(found.sources[found.present[:, own].any(1)]))
            counts = mean_defined(np.stack([decided[column] for column in found.columns[own]]), 0)
            low, high = limits(spread[:, None], sources, int(counts[:2].min())).clip(0, 1)[:, 0]
            yield {"detector": name, "perturbation": perturbation, "method": method,
                   "forged": str(round(counts[0])), "authentic": str(round(counts[1])),
                   "auc": as_text(area[own].mean()), "auc_low": as_text(low), "auc_high": as_text(high)} | dict(
                zip(("accuracy", "balanced_accuracy", "f1", "threshold"), map(as_text, counts[2:]), strict=True))


def _parts(records: Records) -> Iterator[tuple[str, str, np.ndarray]]:
    """Rows by perturbation and method, "mean seen" and so on last."""
    groups = records.groups()
    for number, perturbation in enumerate(records.perturbations):
        for method, rows in groups:
            rows = rows[records.perturbation[rows] == number]
            if rows.size:
                yield perturbation, method, rows


def _owned(records: Records, columns: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Places of each detector's seeds among `columns`."""
    owner = records.owner[columns]
    return [(name, places) for number, name in enumerate(records.detectors)
            if (places := np.flatnonzero(owner == number)).size]


def _intervals(records: Records, found: PictureMeans, resamples: int, seed: int) \
        -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Each detector with the places of its seeds, and the limits of its metrics' means."""
    size, columns, metrics = found.values.shape
    means = bootstrap_means(found.values.reshape(size, -1), found.sources, resamples, stream(seed, "bootstrap"))
    means = means.reshape(resamples, columns, metrics)
    for name, own in _owned(records, found.columns):
        defined = ~np.isnan(found.values[:, own]).all(1)
        sources = np.array([len(np.unique(found.sources[column])) for column in defined.T])
        spread = across_seeds(means[:, own], stream(seed, "bootstrap seeds"))
        yield (name, own, *limits(spread, sources, defined.sum(0)))


def _placement(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Share of `others` below each score, ties counting half."""
    ranked = np.sort(others)
    return (ranked.searchsorted(scores) + ranked.searchsorted(scores, "right")) / (2 * len(ranked))


def _decisions(forged: np.ndarray, authentic: np.ndarray, limit: float) -> tuple[float, float, float]:
    """Accuracy, balanced accuracy and F1 of the scores of each at a limit; NaN without one."""
    if math.isnan(limit):
        return math.nan, math.nan, math.nan
    # As a float of Python it would be rounded to the scores' 32 bits, and may become one of them.
    exact = np.float64(limit)
    true, false = int(np.sum(forged >= exact)), int(np.sum(authentic >= exact))
    return ((true + authentic.size - false) / (forged.size + authentic.size),
            (true / forged.size + 1 - false / authentic.size) / 2, 2 * true / (true + false + forged.size))


def _percent(share: float) -> str:
    return f"{100 * share:.6g}"
