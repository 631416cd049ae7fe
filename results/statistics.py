"""Intervals that respect which pictures are dependent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COVERAGE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % percentile bootstrap interval, over `count` pictures of `clusters` sources.

    `undefined` pictures had no value and are left out. Where none has a value, the numbers are NaN.
    """

    mean: float
    low: float
    high: float
    count: int
    clusters: int
    undefined: int


def bootstrap_interval(values: Sequence[float] | np.ndarray, clusters: Sequence[str], resamples: int,
                       generator: np.random.Generator) -> Interval:
    """Interval of the mean of `values`, one a picture, NaN where undefined; `clusters` are their sources."""
    return interval(values, clusters, bootstrap_weights(clusters, resamples, generator))


def bootstrap_weights(clusters: Sequence[str], resamples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each of N pictures is drawn, float64 resamples×N.

    Two stages (Davison & Hinkley 1997, section 3.8): sources are drawn, then as many pictures of each.
    Pictures of one source are dependent; resampling sources alone degenerates where there are few.
    """
    names, groups = np.unique(np.asarray(clusters, str), return_inverse=True)
    drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    weights = np.empty((resamples, groups.size))
    for number in range(len(names)):
        members = np.flatnonzero(groups == number)
        weights[:, members] = generator.multinomial(drawn[:, number] * members.size,
                                                    np.full(members.size, 1 / members.size))
    return weights


def interval(values: Sequence[float] | np.ndarray, clusters: Sequence[str], weights: np.ndarray) -> Interval:
    """Interval of the mean of `values` under given `bootstrap_weights`: with the same weights for two
    detectors or metrics, no difference between them is due to the draw."""
    data = np.asarray(values, float)
    defined = ~np.isnan(data)
    undefined = int(np.sum(~defined))
    if undefined == data.size:
        return Interval(float("nan"), float("nan"), float("nan"), 0, 0, undefined)
    weights = weights[:, defined]
    totals = weights.sum(1)
    # A resample of undefined pictures alone has no mean.
    weights, totals = weights[totals > 0], totals[totals > 0]
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(weights @ data[defined] / totals, [tail, 1 - tail])
    sources = len(np.unique(np.asarray(clusters, str)[defined]))
    return Interval(float(data[defined].mean()), float(low), float(high), int(defined.sum()), sources,
                    undefined)
