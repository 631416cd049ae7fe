"""`summary.csv`: means with intervals, from the records alone."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np

from configs.streams import stream
from results.metrics import METRICS
from results.statistics import Interval, bootstrap_weights, interval

SUMMARY = ("detector", "perturbation", "method", "seen", "count", "sources", "undefined",
           *(f"{metric}{part}" for metric in METRICS for part in ("", "_low", "_high")))

Row = Mapping[str, str]
Picture = tuple[str, str]
"""Source and name."""


def summarize(records: Sequence[Row], resamples: int, seed: int) -> list[dict[str, str]]:
    """One row a detector × perturbation × method, and one each over its seen and its unseen methods.

    Those last are called "mean seen" and "mean unseen", or "mean unknown" where it is not known what a detector was
    trained on; a picture that several methods painted into counts
    once there, with its mean. An undefined number is an empty field. Order: that of the records.
    """
    groups: dict[tuple[str, ...], list[Row]] = {}
    for prefix in ("{method}", "mean {seen}"):
        for row in records:
            key = (row["detector"], row["perturbation"], prefix.format_map(row), row["seen"])
            groups.setdefault(key, []).append(row)
    return [_summary(key, rows, resamples, seed) for key, rows in groups.items()]


def compare(records: Iterable[Row], first: str, second: str, methods: Sequence[str], perturbation: str,
            resamples: int, seed: int) -> Interval:
    """By how much the AUC of `first` exceeds that of the detector `second`, picture by picture."""
    chosen = [row for row in records if row["method"] in methods and row["perturbation"] == perturbation]
    ours, theirs = (per_picture([row for row in chosen if row["detector"] == name], "auc")
                    for name in (first, second))
    both = [picture for picture in ours if picture in theirs]
    sources = tuple(source for source, _ in both)
    return interval([ours[picture] - theirs[picture] for picture in both], sources,
                    _weights(sources, resamples, seed))


def per_picture(rows: Iterable[Row], metric: str) -> dict[Picture, float]:
    """Mean of `metric` over the methods that painted into a picture; NaN where it has no value."""
    values: dict[Picture, list[float]] = {}
    for row in rows:
        found = values.setdefault((row["source"], row["image"]), [])
        if row[metric]:
            found.append(float(row[metric]))
    return {picture: float(np.mean(found)) if found else float("nan") for picture, found in values.items()}


def _summary(key: tuple[str, ...], rows: Sequence[Row], resamples: int, seed: int) -> dict[str, str]:
    summary = dict(zip(("detector", "perturbation", "method", "seen"), key, strict=True))
    for metric in METRICS:
        values = per_picture(rows, metric)
        sources = tuple(source for source, _ in values)
        found = interval(list(values.values()), sources, _weights(sources, resamples, seed))
        summary |= {"count": str(found.count), "sources": str(found.clusters),
                    "undefined": str(found.undefined), metric: _text(found.mean),
                    f"{metric}_low": _text(found.low), f"{metric}_high": _text(found.high)}
    return summary


@lru_cache(maxsize=4)
def _weights(sources: tuple[str, ...], resamples: int, seed: int) -> np.ndarray:
    return bootstrap_weights(sources, resamples, stream(seed, "bootstrap"))


def _text(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"
