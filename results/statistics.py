"""Intervals, tests, ranks, components of variance and power, for pictures of which those of one source are dependent.

Sources are photographs: independent of each other, and what is drawn, flipped or counted here. Nothing is assumed to
be normal except in `smallest_difference`, `sources_needed` and `critical_difference`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

COVERAGE = 0.95
ALPHA = 0.05
POWER = 0.8
FLIPS = 19_999
"""Random sign flips of a test; with them the smallest p is 1/20,000."""
EXACT = 14
"""Up to so many sources all flips are enumerated."""
BLOCK = 2**22
"""Numbers of a block of resamples or of sign flips: some 200 MB with what drawing them needs."""


def bootstrap_draws(groups: np.ndarray, resamples: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """How often each of N pictures is drawn: float32 rows×N in blocks, `resamples` rows in all. `groups` are the
    pictures' sources, numbered from 0 without gaps.

    Two stages (Davison & Hinkley 1997, section 3.8): sources are drawn, then as many pictures of each, both with
    replacement. Pictures of one source are dependent; resampling sources alone degenerates where there are few. The
    variance within sources counts twice, which widens intervals where sources have a few pictures; its share of the
    whole falls as pictures grow many, and with one a source it is none.
    """
    order, sizes = np.argsort(groups, kind="stable"), np.bincount(groups)
    starts, size = np.cumsum(sizes) - sizes, len(groups)
    most = max(1, BLOCK // size)
    for first in range(0, resamples, most):
        rows = min(most, resamples - first)
        drawn = generator.integers(len(sizes), size=(rows, len(sizes)))
        members = drawn.ravel().repeat(sizes[drawn].ravel())
        picked = starts[members] + (generator.random(len(members)) * sizes[members]).astype(np.int64)
        row = np.arange(rows).repeat(sizes[drawn].sum(1))
        block = np.empty((rows, size), np.float32)
        block[:, order] = np.bincount(row * size + picked, minlength=rows * size).reshape(rows, size)
        yield block


def bootstrap_means(values: np.ndarray, groups: np.ndarray, resamples: int, generator: np.random.Generator) \
        -> np.ndarray:
    """Means of the columns of `values`, N pictures × C, in each resample of `bootstrap_draws`: float64 resamples×C.

    All columns share the draws, so that no difference between detectors or metrics is due to them. NaN is left out;
    the mean of a resample without any value is NaN. `groups` are the pictures' sources as integers. Memory: `values`
    twice and `BLOCK`, whatever N × resamples is.
    """
    defined = ~np.isnan(values)
    # Deviations keep their digits in float32, and make the interval of a constant one of no width.
    centre = np.where(defined, values, 0).sum(0) / np.maximum(defined.sum(0), 1)
    deviations = np.where(defined, values - centre, 0).astype(np.float32)
    # Columns share few patterns of what is undefined, mostly one.
    patterns, pattern = np.unique(np.packbits(defined, axis=0), axis=1, return_inverse=True)
    present = np.unpackbits(patterns, axis=0, count=len(values)).astype(np.float32)
    groups = np.unique(groups, return_inverse=True)[1]
    means = []
    for weights in bootstrap_draws(groups, resamples, generator):
        totals = (weights @ present)[:, pattern.ravel()].astype(float)
        means.append(centre + np.divide(weights @ deviations, totals, where=totals > 0,
                                        out=np.full(totals.shape, np.nan)))
    return np.concatenate(means)


def across_seeds(means: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Resampled means of a detector that was trained with several seeds, from those of each: resamples×seeds×… in,
    resamples×… out; NaN where no seed has a value.

    Seeds and pictures are crossed: both are drawn, independently (Owen 2007, *The pigeonhole bootstrap*). Of few seeds
    the bootstrap gives (K − 1)/K of the variance, so their deviations are stretched by √(K/(K − 1)). One seed says
    nothing about others: there the spread is that of pictures alone.
    """
    count = means.shape[1]
    if count == 1:
        return means[:, 0]
    drawn = generator.multinomial(count, np.full(count, 1 / count), len(means)) / count
    drawn = drawn.reshape(*drawn.shape, *[1] * (means.ndim - 2))
    defined = ~np.isnan(means)
    known = np.maximum(defined.sum(1), 1)
    middle = np.where(defined, means, 0).sum(1) / known
    deviations = np.where(defined, means - middle[:, None], 0)
    return np.where(defined.any(1), middle + math.sqrt(count / (count - 1)) * (drawn * deviations).sum(1), np.nan)


def limits(means: np.ndarray, sources: int | np.ndarray, pictures: int | np.ndarray) -> np.ndarray:
    """Lower and upper 95 % limit of each column of resampled means: 2×C, NaN where a column is all NaN, or of fewer
    than two `pictures` (one number, or one a column), which say nothing about others.

    Percentiles, further out the fewer `sources` (one number, or one a column) a mean is of: the expanded percentile
    interval (Hesterberg 2015), since the plain one is as narrow as a normal interval with the variance
    over n: at five sources it covers 83 % instead of 95 %. One source says nothing about others: plain percentiles.
    """
    counts = np.broadcast_to(sources, means.shape[1])
    some = ~np.isnan(means).all(0) & np.broadcast_to(np.asarray(pictures) > 1, means.shape[1])
    bounds = np.full((2, means.shape[1]), np.nan)
    for count in np.unique(counts[some]):
        columns, tail = some & (counts == count), (1 - COVERAGE) / 2
        if count > 1:
            tail = stats.norm.cdf(math.sqrt(count / (count - 1)) * stats.t.ppf(tail, count - 1))
        bounds[:, columns] = np.nanquantile(means[:, columns], [tail, 1 - tail], axis=0)
    return bounds


def sign_flip(sums: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Two-sided p of each column of `sums`, sources × C: the summed differences of each source's pictures, 0 for none.

    H₀: a source's differences are as likely as their negatives, all of a source at once; nothing else is assumed of
    pictures of one source. The statistic is the sum over all sources, so that p belongs to the mean difference over
    pictures. All flips are enumerated for up to `EXACT` sources; for more, `FLIPS` random ones, the same for all
    columns, with p = (b + 1)/(m + 1) (Phipson & Smyth 2010). Randomisation test of matched pairs: Fisher
    1935, section 21; flips by cluster: Winkler et al. 2015.
    """
    size = len(sums)
    observed = np.abs(sums.sum(0))
    if size <= EXACT:
        # A flip and its negative give the same: the first sign stays.
        signs = 1 - 2.0 * ((np.arange(2 ** max(size - 1, 0))[:, None] >> np.arange(size)) & 1)
        return np.mean(np.abs(signs @ sums) >= observed - 1e-9 * np.abs(sums).sum(0), axis=0)
    scaled = sums.astype(np.float32)
    # Ties within the rounding of float32 sums count against the difference.
    bar = observed - 1e-6 * np.abs(sums).sum(0)
    reached, rows = np.zeros(sums.shape[1], int), max(1, BLOCK // size)
    for first in range(0, FLIPS, rows):
        signs = _signs(min(rows, FLIPS - first), size, generator)
        reached += np.sum(np.abs(signs @ scaled) >= bar, axis=0)
    return (reached + 1) / (FLIPS + 1)


def holm(p: np.ndarray) -> np.ndarray:
    """p corrected for as many comparisons as there are numbers (Holm 1979): the chance of any false claim among them
    is at most α, however they depend. NaN is no comparison and stays."""
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[:int(np.sum(~np.isnan(p)))]
    steps = np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1))
    corrected[order] = np.minimum(steps, 1)
    return corrected


def superiority(differences: np.ndarray) -> float:
    """Share of sources with a mean difference above 0, ties counting half: the probability of superiority for
    dependent groups (Grissom & Kim 2012). 0.5 is no effect; NaN for no sources."""
    return float(np.mean((np.sign(differences) + 1) / 2)) if len(differences) else math.nan


def friedman(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Average rank of each column, 1 for the highest values, and the p of all being alike; `values` are blocks ×
    detectors. Friedman's χ² with ties (Conover 1999, section 5.8); of two detectors, the sign test's normal form."""
    blocks, size = values.shape
    ranks = stats.rankdata(-values, axis=1)
    average = ranks.mean(0)
    spread = np.sum(np.square(ranks - (size + 1) / 2))
    if not spread:
        return average, 1.0
    chi2 = (size - 1) * blocks**2 * np.sum(np.square(average - (size + 1) / 2)) / spread
    return average, float(stats.chi2.sf(chi2, size - 1))


def critical_difference(detectors: int, blocks: int) -> float:
    """Average ranks that differ by more differ at α = 0.05, all pairs considered: Nemenyi's test (Demšar 2006,
    section 3.2.2), q_α √(k(k + 1)/(6N)) with the studentised range over √2."""
    quantile = stats.studentized_range.isf(ALPHA, detectors, math.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(detectors * (detectors + 1) / (6 * blocks)))


@dataclass(frozen=True)
class Variance:
    """Standard deviations of what differs between trainings, between photographs, and between pictures of one
    photograph; NaN where the data have no more than one of them."""

    seed: float
    source: float
    picture: float


def variance_components(values: np.ndarray, groups: np.ndarray) -> Variance:
    """Components of `values`, seeds × pictures without NaN; `groups` are the pictures' sources as integers.

    ANOVA estimators of random effects (Searle, Casella & McCulloch 1992): sources and pictures by the unbalanced
    one-way layout, averaged over seeds, so that `picture` holds what one training adds at random; seeds
    by the two-way layout of sources' means, less their interaction with sources. A negative estimate is
    0. With one picture a source, `source` holds both.
    """
    seeds, size = values.shape
    groups = np.unique(groups, return_inverse=True)[1]
    counts = np.bincount(groups)
    sources = len(counts)
    means = np.stack([np.bincount(groups, row) for row in values]) / counts
    seed = source = picture = math.nan
    if seeds > 1 and sources > 1:
        by_seed, by_source = means.mean(1, keepdims=True), means.mean(0)
        residual = np.sum(np.square(means - by_seed - by_source + means.mean())) / ((seeds - 1) * (sources - 1))
        seed = math.sqrt(max(0.0, float(by_seed.var(ddof=1) - residual / sources)))
    within = 0.0
    if size > sources:
        within = float(np.sum(np.square(values - means[:, groups])) / (seeds * (size - sources)))
        picture = math.sqrt(within)
    if sources > 1:
        between = np.sum(counts * np.square(means - values.mean(1, keepdims=True))) / (seeds * (sources - 1))
        per_source = (size - np.sum(np.square(counts)) / size) / (sources - 1)
        source = math.sqrt(max(0.0, float(between - within) / per_source))
    return Variance(seed, source, picture)


def source_sd(sums: np.ndarray, counts: np.ndarray) -> float:
    """Standard deviation over sources of the mean difference, such that sd/√sources is the standard error of the mean
    over all pictures: that of a ratio of source totals (Cochran 1977, section 2.11). With equally many pictures a
    source, the plain one of source means. NaN for fewer than two sources."""
    sources = len(sums)
    if sources < 2:
        return math.nan
    deviations = (sums - counts * sums.sum() / counts.sum()) * sources / counts.sum()
    return math.sqrt(float(np.sum(np.square(deviations))) / (sources - 1))


def fewest(comparisons: int) -> int:
    """Sources below which no sign-flip test can give p < α after correction for so many comparisons: of n sources the
    smallest p is 2/2ⁿ. 6 for one comparison, 11 for 28."""
    return math.floor(2 + math.log2(comparisons / ALPHA))


def smallest_difference(sd: float, sources: int, comparisons: int = 1) -> float:
    """The mean difference that a two-sided test at α/m, for m `comparisons`, finds with 80 % power, from the standard
    deviation over so many sources: (t₁₋α/₂ₘ + t₀.₈) sd/√n, with n − 1 degrees of freedom. What Holm's correction finds
    is no larger. NaN below `fewest` sources, where no difference can be found."""
    if sources < fewest(comparisons) or math.isnan(sd):
        return math.nan
    return float(stats.t.ppf(_power_levels(comparisons), sources - 1).sum()) * sd / math.sqrt(sources)


def sources_needed(sd: float, wanted: float, comparisons: int = 1) -> int:
    """The fewest sources whose `smallest_difference` is at most `wanted`."""
    size = max(fewest(comparisons), math.floor((stats.norm.ppf(_power_levels(comparisons)).sum() * sd / wanted) ** 2))
    while smallest_difference(sd, size, comparisons) > wanted:
        size += 1
    return size


def _power_levels(comparisons: int) -> list[float]:
    return [1 - ALPHA / (2 * comparisons), POWER]


def _signs(rows: int, columns: int, generator: np.random.Generator) -> np.ndarray:
    """Random signs ±1, float32 rows × columns."""
    bits = np.frombuffer(generator.bytes(rows * -(-columns // 8)), np.uint8).reshape(rows, -1)
    return np.unpackbits(bits, axis=1, count=columns) * np.float32(2) - np.float32(1)
