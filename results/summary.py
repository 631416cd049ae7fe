"""`summary.csv`: means with intervals, from the records alone."""

from collections.abc import Mapping, Sequence

from configs.streams import stream
from results.metrics import METRICS
from results.statistics import bootstrap_interval

SUMMARY = ("detector", "perturbation", "method", "seen", "count", "sources", "undefined",
           *(f"{metric}{part}" for metric in METRICS for part in ("", "_low", "_high")))

Rows = Sequence[Mapping[str, str]]


def summarize(records: Rows, resamples: int, seed: int) -> list[dict[str, str]]:
    """One row a detector × perturbation × method, and one each over its seen and its unseen methods.

    Those last are called "mean seen" and "mean unseen". Order: that of the records.
    """
    groups: dict[tuple[str, str, str, str], list[Mapping[str, str]]] = {}
    for row in records:
        groups.setdefault((row["detector"], row["perturbation"], row["method"], row["seen"]), []).append(row)
    for row in records:
        groups.setdefault((row["detector"], row["perturbation"], f"mean {row['seen']}", row["seen"]), []).append(row)
    return [_summary(key, rows, resamples, seed) for key, rows in groups.items()]


def _summary(key: tuple[str, str, str, str], rows: Rows, resamples: int, seed: int) -> dict[str, str]:
    summary = dict(zip(("detector", "perturbation", "method", "seen"), key, strict=True))
    sources = [row["source"] for row in rows]
    for metric in METRICS:
        values = [float(row[metric]) if row[metric] else float("nan") for row in rows]
        # The same resamples for every metric and detector: differences are not due to the draw.
        interval = bootstrap_interval(values, sources, resamples, stream(seed, "bootstrap", key[1], key[2]))
        summary |= {"count": str(interval.count), "sources": str(interval.clusters),
                    "undefined": str(interval.undefined), metric: f"{interval.mean:.6f}",
                    f"{metric}_low": f"{interval.low:.6f}", f"{metric}_high": f"{interval.high:.6f}"}
    return summary
