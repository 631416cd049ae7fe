"""Detectors against each other: paired differences, ranks, what seeds change, and what could be found at all."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from configs.streams import stream
from forgeries.methods.families import canonical
from results.pictures import LABELS, Records, mean_defined, picture_means
from results.records import METRICS, as_text
from results.statistics import (
    ALPHA,
    across_seeds,
    bootstrap_means,
    critical_difference,
    friedman,
    holm,
    limits,
    sign_flip,
    smallest_difference,
    source_sd,
    sources_needed,
    superiority,
    variance_components,
)

COMPARED = ("auc", "val_f1")
"""Metrics of which detectors are compared; more would cost power, for each is a family of comparisons."""

COMPARISONS = ("perturbation", "methods", "metric", "first", "second", "count", "sources", "difference", "low", "high",
               "p", "p_corrected", "effect", "claim", "first_mean", "second_mean", "lost", "comparisons")
"""`count` is of pictures; `lost` of pairs left out because one of the two has no number; `comparisons` what p is
corrected for."""
POWERS = ("perturbation", "methods", "metric", "first", "second", "sd", "sources", "smallest", "wanted",
          "sources_needed", "pictures_needed")
RANKS = ("perturbation", "methods", "metric", "detector", "rank", "blocks", "critical_difference", "p")
VARIANCES = ("detector", "perturbation", "methods", "metric", "seeds", "seed_sd", "source_sd", "picture_sd")

Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Cells:
    """`values` float64 cells × columns of one metric, a cell being a picture with a method; NaN where undefined.

    `method`, `picture` (from 0 without gaps), `source` per cell; `sources` per picture; `owned` are the columns of
    each detector, by its number in `Records.detectors`.
    """

    values: np.ndarray
    method: np.ndarray
    picture: np.ndarray
    source: np.ndarray
    sources: np.ndarray
    owned: dict[int, np.ndarray]


@dataclass(frozen=True)
class Pair:
    """Differences of two detectors in the pictures where both have a number: per picture their sum over cells' means.

    `columns` float64 pictures of all cells × (1 + seeds of both, if several): the mean difference, then deviations of
    each seed from the mean over its detector's seeds; NaN in other pictures.
    """

    first: int
    second: int
    means: tuple[float, float]
    columns: np.ndarray
    seeds: tuple[int, int]
    sources: np.ndarray
    sums: np.ndarray
    counts: np.ndarray
    lost: int


def compare_detectors(records: Records, resamples: int, seed: int, smallest: float,
                      chosen_on: Mapping[str, Collection[str]]) -> tuple[Rows, Rows]:
    """Rows of `comparisons.csv` and of `power.csv`: all pairs of detectors, on methods that both saw, that neither saw,
    and those that neither is known to have seen; by perturbation and metric.

    `chosen_on` are the methods that each detector's validation threshold was chosen on, by their `canonical` names.
    Metrics at it are compared without the methods of either's, except among methods that both saw: nobody may win by
    the choice of a threshold.

    The difference is the mean over pictures of the mean over methods, of seeds' means; its interval covers pictures
    and seeds; p is that of a sign-flip test by source, corrected by Holm for all pairs of one table (perturbation,
    methods, metric), as is the power. The claim "A beats B" stands where corrected p < 0.05 and the interval is on A's
    side of 0.
    """
    comparisons: Rows = []
    powers: Rows = []
    labels, chosen = _labels(records), _chosen(records, chosen_on)
    for perturbation, metric, cells in _tables(records):
        for label, words in enumerate(LABELS):
            pairs = [pair for both in combinations(sorted(cells.owned), 2)
                     if (pair := _pair(cells, *both, _methods(labels, chosen, metric, both, label))) is not None]
            if not pairs:
                continue
            place = {"perturbation": perturbation, "methods": f"mean {words}", "metric": metric}
            names = [{"first": records.detectors[pair.first], "second": records.detectors[pair.second]}
                     for pair in pairs]
            bounds = _bounds(cells, pairs, resamples, seed)
            sums = np.stack([pair.sums for pair in pairs], 1)
            p = sign_flip(sums[np.any([pair.counts > 0 for pair in pairs], axis=0)], stream(seed, "sign flips"))
            corrected = holm(p)
            for pair, name, (low, high), raw, final in zip(pairs, names, bounds, p, corrected, strict=True):
                total, effects = pair.sums[pair.counts > 0], pair.counts[pair.counts > 0]
                claim = ""
                if final < ALPHA and (low > 0 or high < 0):
                    claim = "{first} beats {second}" if low > 0 else "{second} beats {first}"
                comparisons.append(place | name | {
                    "count": str(int(pair.counts.sum())), "sources": str(len(total)),
                    "difference": as_text(pair.means[0] - pair.means[1]), "low": as_text(low), "high": as_text(high),
                    "p": as_text(raw), "p_corrected": as_text(final), "effect": as_text(superiority(total / effects)),
                    "claim": claim.format_map(name), "first_mean": as_text(pair.means[0]),
                    "second_mean": as_text(pair.means[1]), "lost": str(pair.lost), "comparisons": str(len(pairs))})
                sd = source_sd(total, effects)
                needed = None if np.isnan(sd) else sources_needed(sd, smallest, len(pairs))
                powers.append(place | name | {
                    "sd": as_text(sd), "sources": str(len(total)),
                    "smallest": as_text(smallest_difference(sd, len(total), len(pairs))), "wanted": as_text(smallest),
                    "sources_needed": "" if needed is None else str(needed),
                    "pictures_needed": "" if needed is None else str(
                        int(np.ceil(round(needed * effects.sum() / len(total), 6))))})
    return comparisons, powers


def rank_detectors(records: Records, chosen_on: Mapping[str, Collection[str]]) \
        -> Iterator[dict[str, str]]:
    """Rows of `ranks.csv`: average ranks over sources as blocks, 1 for the best, on methods that all detectors saw,
    that none saw, or that none is known to have seen; Friedman's p and Nemenyi's critical difference at α = 0.05.

    A detector without any number is left out; of the others, pictures where all have one count. `chosen_on` as in
    `compare_detectors`.
    """
    labels, taken = _labels(records), _chosen(records, chosen_on)
    for perturbation, metric, cells in _tables(records):
        for label, words in enumerate(LABELS):
            chosen = [number for number, own in sorted(cells.owned.items()) if not np.isnan(cells.values[:, own]).all()]
            if len(chosen) < 2:
                continue
            wanted = _methods(labels, taken, metric, chosen, label)
            values = np.stack([mean_defined(cells.values[:, cells.owned[number]], 1) for number in chosen], 1)
            used = np.flatnonzero(wanted[cells.method] & ~np.isnan(values).any(1))
            if not used.size:
                continue
            blocks = _by_source(cells, used, values[used])
            average, p = friedman(blocks)
            limit = critical_difference(len(chosen), len(blocks))
            for number, rank in zip(chosen, average, strict=True):
                yield {"perturbation": perturbation, "methods": f"mean {words}", "metric": metric,
                       "detector": records.detectors[number], "rank": as_text(rank), "blocks": str(len(blocks)),
                       "critical_difference": as_text(limit), "p": as_text(p)}


def variances(records: Records) -> Iterator[dict[str, str]]:
    """Rows of `variance.csv`: standard deviations between seeds, between photographs and between pictures of one, of a
    detector on its seen, unseen or unknown methods, from pictures where all its seeds have a number."""
    for number, perturbation in enumerate(records.perturbations):
        for methods, rows in records.means():
            rows = rows[records.perturbation[rows] == number]
            found = picture_means(records, rows, COMPARED)
            for detector, name in enumerate(records.detectors):
                own = np.flatnonzero(records.owner[found.columns] == detector)
                for place, metric in enumerate(COMPARED):
                    values = found.values[:, own, place].T
                    known = ~np.isnan(values).any(0)
                    if not own.size or not known.any():
                        continue
                    parts = variance_components(values[:, known], found.sources[known])
                    yield {"detector": name, "perturbation": perturbation, "methods": methods, "metric": metric,
                           "seeds": str(len(own)), "seed_sd": as_text(parts.seed), "source_sd": as_text(parts.source),
                           "picture_sd": as_text(parts.picture)}


def _tables(records: Records) -> Iterator[tuple[str, str, Cells]]:
    """All forged pictures of a perturbation, by metric; metrics that are nowhere defined are left out."""
    for number, perturbation in enumerate(records.perturbations):
        rows = np.flatnonzero(records.forged & (records.perturbation == number))
        if not rows.size:
            continue
        pictures, picture = np.unique(records.picture[rows], return_inverse=True)
        columns, column = np.unique(records.column[rows], return_inverse=True)
        methods = len(records.methods)
        cells, cell = np.unique(picture * methods + records.method[rows], return_inverse=True)
        owned = {int(owner): np.flatnonzero(records.owner[columns] == owner)
                 for owner in np.unique(records.owner[columns])}
        sources = records.source_of[pictures]
        for metric in COMPARED:
            values = np.full((len(cells), len(columns)), np.nan)
            values[cell, column] = records.numbers[rows, METRICS.index(metric)]
            if not np.isnan(values).all():
                yield perturbation, metric, Cells(values, cells % methods, cells // methods,
                                                  sources[cells // methods], sources, owned)


def _labels(records: Records) -> np.ndarray:
    """Places in `LABELS`, detectors × methods; −1 where a detector has no rows of a method."""
    labels = np.full((len(records.detectors), len(records.methods)), -1, np.int8)
    labels[records.owner[records.column], records.method] = records.label
    return labels


def _chosen(records: Records, chosen_on: Mapping[str, Collection[str]]) -> np.ndarray:
    """Bool detectors × methods: the detector's threshold was chosen on forgeries by the method."""
    chosen = [canonical(method) in chosen_on.get(name, ()) for name in records.detectors for method in records.methods]
    return np.array(chosen, bool).reshape(len(records.detectors), len(records.methods))


def _methods(labels: np.ndarray, chosen: np.ndarray, metric: str, detectors: Sequence[int], label: int) -> np.ndarray:
    """Bool per method: `detectors` are compared on it under `label`."""
    alike = _alike(labels, detectors) == label
    if metric.startswith("val_") and LABELS[label] != "seen":
        alike &= ~chosen[list(detectors)].any(0)
    return alike


def _alike(labels: np.ndarray, detectors: Sequence[int]) -> np.ndarray:
    """The label of each method that all `detectors` share; unknown where it is of one and no other saw it; else −1,
    where one has, or may have, an advantage that another has not."""
    found, unknown = labels[list(detectors)], LABELS.index("unknown")
    same = np.where((found == found[0]).all(0), found[0], -1)
    fair = (found >= 0).all(0) & (found != LABELS.index("seen")).all(0)
    return np.where((found == unknown).any(0) & fair, unknown, same)


def _pair(cells: Cells, first: int, second: int, methods: np.ndarray) -> Pair | None:
    """None where they have no pair on these methods (bool per method)."""
    inside = np.flatnonzero(methods[cells.method])
    ours, theirs = (cells.values[np.ix_(inside, cells.owned[number])] for number in (first, second))
    a, b = mean_defined(ours, 1), mean_defined(theirs, 1)
    both = ~np.isnan(a) & ~np.isnan(b)
    if not both.any():
        return None
    used, size = cells.picture[inside[both]], len(cells.sources)
    counts = np.bincount(used, minlength=size)

    def by_picture(values: np.ndarray) -> np.ndarray:
        return np.divide(np.bincount(used, values, size), counts, where=counts > 0, out=np.full(size, np.nan))

    own, other = by_picture(a[both]), by_picture(b[both])
    columns, seeds = [own - other], (ours.shape[1], theirs.shape[1])
    for values, mean in ((ours, a), (theirs, b)):
        if values.shape[1] > 1:
            columns += [by_picture(np.nan_to_num(column - mean)[both]) for column in values.T]
    known = counts > 0
    length = int(cells.sources.max()) + 1
    return Pair(first, second, (float(own[known].mean()), float(other[known].mean())), np.stack(columns, 1), seeds,
                cells.sources, np.bincount(cells.sources[known], columns[0][known], length),
                np.bincount(cells.sources[known], minlength=length),
                int(np.sum(np.isnan(a) != np.isnan(b))))


def _bounds(cells: Cells, pairs: Sequence[Pair], resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Lower and upper limit of each pair's difference, all from the same draws."""
    means = bootstrap_means(np.concatenate([pair.columns for pair in pairs], 1), cells.sources, resamples,
                            stream(seed, "bootstrap"))
    start = 0
    for pair in pairs:
        spread = means[:, start].copy()
        start += 1
        for sign, count, name in zip((1, -1), pair.seeds, ("first", "second"), strict=True):
            if count > 1:
                spread += sign * across_seeds(means[:, start:start + count], stream(seed, "bootstrap seeds", name))
                start += count
        yield limits(spread[:, None], int(np.sum(pair.counts > 0)), int(pair.counts.sum()))[:, 0]


def _by_source(cells: Cells, used: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Means of cells by picture, then of pictures by source: sources × columns."""
    def means(groups: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        names, group = np.unique(groups, return_inverse=True)
        return names, np.stack([np.bincount(group, column) for column in values.T], 1) / np.bincount(group)[:, None]

    pictures, per_picture = means(cells.picture[used], values)
    return means(cells.sources[pictures], per_picture)[1]
