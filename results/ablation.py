"""What an ablation says: each variant against the full network, from the benchmark's comparisons of all pairs."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from results.records import as_text
from results.statistics import ALPHA, holm

ABLATION = ("perturbation", "methods", "metric", "variant", "part", "count", "sources", "variant_mean", "full_mean",
            "difference", "low", "high", "p", "p_corrected", "comparisons", "claim")
"""Columns of `ablation.csv`. `difference` is the variant's mean less that of the full network: below 0 where what was
left out or exchanged is worth having."""

FULL = "full"
"""The variant that all others are compared with."""

MEANS = ("mean unseen", "mean unknown", "mean seen")

Row = Mapping[str, str]


def closing_lines(rows: Sequence[Row]) -> list[str]:
    """Differences in AUC with their intervals at the first perturbation, on the first methods in the order unseen,
    unknown, seen that there are rows of."""
    found = [row for row in rows if row["metric"] == "auc" and row["perturbation"] == rows[0]["perturbation"]]
    chosen = next((own for mean in MEANS if (own := [row for row in found if row["methods"] == mean])), [])
    if not chosen:
        return []
    width = max(len(row["variant"]) for row in chosen)
    lines = [f"AUC less that of the full network, {chosen[0]['methods']}, 95 % interval, p corrected"]
    for row in chosen:
        interval = f"[{float(row['low']):+.3f}, {float(row['high']):+.3f}]" if row["low"] else "no interval"
        p = f"p {float(row['p_corrected']):.3f}" if row["p_corrected"] else "no p"
        lines.append(f"{row['variant']:{width}}  {float(row['difference']):+.3f}  {interval}  {p}"
                     + f"  {row['claim'].partition(' is ')[2]}" * bool(row["claim"]))
    return lines


def groups_of(about: Mapping[str, Any]) -> dict[str, str]:
    """Variant by detector, from `benchmark.json`; empty where the protocol is another, or where there is not the one
    full network to compare with, as in a leaderboard of several ablations."""
    if about.get("protocol") != "ablate":
        return {}
    trained = {name: (entries[0].get("trained_on") or {}) for name, entries in about["detectors"].items() if entries}
    found = {name: known["group"] for name, known in trained.items() if known.get("group")}
    return found if list(found.values()).count(FULL) == 1 else {}


def ablation_rows(comparisons: Sequence[Row], groups: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Rows of `ablation.csv`, from rows of `comparisons.csv`; `groups` are the variants' names by detector.

    Differences and intervals are those of `comparisons.csv`; p is corrected anew (Holm 1979), for the comparisons with
    the full network alone, which were planned before any number was seen. A claim stands where the corrected p < 0.05
    and the interval is on one side of 0.
    """
    for place, table in groupby(comparisons, itemgetter("perturbation", "methods", "metric")):
        rows = [row for row in table if {row["first"], row["second"]} <= groups.keys()
                and FULL in (groups[row["first"]], groups[row["second"]])]
        corrected = holm(np.array([float(row["p"] or "nan") for row in rows]))
        for row, p in zip(rows, corrected, strict=True):
            first = groups[row["second"]] == FULL
            ours, other = ("first", "second") if first else ("second", "first")
            ends = [float(row[key] or "nan") for key in ("difference", "low", "high")]
            difference, low, high = ends if first else (-ends[0], -ends[2], -ends[1])
            variant = groups[row[ours]]
            claim = p < ALPHA and (low > 0 or high < 0)
            yield dict(zip(("perturbation", "methods", "metric"), place, strict=True)) | {
                "variant": variant, "part": variant.partition("-")[0], "count": row["count"],
                "sources": row["sources"], "variant_mean": row[f"{ours}_mean"], "full_mean": row[f"{other}_mean"],
                "difference": as_text(difference), "low": as_text(low), "high": as_text(high), "p": row["p"],
                "p_corrected": as_text(p), "comparisons": str(int(np.sum(~np.isnan(corrected)))),
                "claim": f"{variant} is {'better' if low > 0 else 'worse'} than {FULL}" if claim else ""}
