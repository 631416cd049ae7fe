"""Intervals that respect which pictures are dependent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COVERAGE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % percentile bootstrap interval, over `count` pictures of `clusters` sources.

    `undefined` pictures had no value and are left out.
    """

    mean: float
    low: float
    high: float
    count: int
    clusters: int
    undefined: int


def bootstrap_interval(values: Sequence[float], clusters: Sequence[str], resamples: int,
                       generator: np.random.Generator) -> Interval:
    """Two-stage bootstrap of the mean (Davison & Hinkley 1997, section 3.8): sources first, then their pictures.

    Pictures of one source are dependent; resampling sources alone degenerates where there are few. NaN values are
    left out and counted.
    """
    data = np.asarray(values, float)
    defined = ~np.isnan(data)
    names, groups = np.unique(np.asarray(clusters)[defined], return_inverse=True)
    data = data[defined]
    undefined = int(np.sum(~defined))
    if not data.size:
        return Interval(float("nan"), float("nan"), float("nan"), 0, 0, undefined)
    order = np.argsort(groups, kind="stable")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    data = data[order]
    means = np.empty(resamples)
    for i in range(resamples):
        chosen = generator.integers(len(names), size=len(names))
        counts = sizes[chosen]
        within = (generator.random(counts.sum()) * np.repeat(counts, counts)).astype(int)
        means[i] = data[np.repeat(starts[chosen], counts) + within].mean()
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(data.mean()), float(low), float(high), int(data.size), len(names), undefined)
