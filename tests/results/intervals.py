"""Parts of `results.statistics` and `results.summary` as one looks at them alone."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from results.pictures import index_records
from results.records import frame_of
from results.statistics import bootstrap_draws, bootstrap_means, limits
from results.summary import summary_rows


class Interval(NamedTuple):
    mean: float
    low: float
    high: float
    count: int
    clusters: int
    undefined: int


def bootstrap_interval(values, clusters, resamples, generator):
    """Of the mean of `values`, NaN where undefined, one a picture; `clusters` are their sources."""
    data = np.asarray(values, float)
    defined = ~np.isnan(data)
    names, groups = np.unique(np.asarray(clusters, str)[defined], return_inverse=True)
    if not len(names):
        return Interval(math.nan, math.nan, math.nan, 0, 0, data.size)
    means = bootstrap_means(data[defined, None], groups, resamples, generator)
    low, high = limits(means, len(names), int(defined.sum()))[:, 0]
    return Interval(float(data[defined].mean()), float(low), float(high), int(defined.sum()), len(names),
                    int(np.sum(~defined)))


def bootstrap_weights(clusters, resamples, generator):
    """All rows of `bootstrap_draws`."""
    groups = np.unique(np.asarray(clusters, str), return_inverse=True)[1]
    return np.concatenate(list(bootstrap_draws(groups, resamples, generator)))


def summarize(records, resamples, seed):
    """Rows of `summary.csv` of a table of records, or of rows as `csv.DictReader` gives them."""
    frame = records if isinstance(records, pd.DataFrame) else frame_of(records)
    return list(summary_rows(index_records(frame), resamples, seed))
