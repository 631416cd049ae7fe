"""Tables for people, from `summary.csv`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

from configs.files import read_rows
from forgeries.readers import AUTHENTIC

NOT_DETECTED = 0.6
"""A mean AUC whose interval reaches below this is called not detected: chance is 0.5."""

LINE = 110
GAP = 2

Row = Mapping[str, str]


def closing_table(folder: Path) -> str:
    """Mean AUC by detector and method with 95 % intervals, seen methods first, for the first perturbation, and means
    over methods for the others; then what is not detected, what is flagged of authentic pictures, and what failed."""
    summary = read_rows(folder / "results" / "summary.csv")
    if not summary:
        return "No results yet: the benchmark has not finished."
    rows = [row for row in summary if row["method"] != AUTHENTIC]
    first = [row for row in summary if row["perturbation"] == summary[0]["perturbation"]]
    forged = [row for row in rows if row["perturbation"] == summary[0]["perturbation"]]
    parts = []
    if forged:
        after = "" if forged[0]["perturbation"] == "none" else f" after {forged[0]['perturbation']}"
        counts = f"{_range(forged, 'count')} pictures of {_range(forged, 'sources')} photographs a method"
        parts += [f"Mean AUC per picture{after}, 95 % interval below; chance is 0.5; {counts}", "", _grid(forged)]
        parts += [fill(f"{detector} does not detect {', '.join(methods)} (interval reaches below {NOT_DETECTED}).",
                       LINE, break_on_hyphens=False) for detector, methods in not_detected(forged).items()]
    parts += _perturbed(rows)
    alarms = [f"{row['detector']} {float(row['false_alarm']):.1%}" for row in first
              if row["method"] == AUTHENTIC and row["false_alarm"]]
    if alarms:
        parts.append(fill(f"Flagged at 0.5 in authentic pictures: {', '.join(alarms)} of their area.", LINE,
                          break_on_hyphens=False))
    failures: dict[str, int] = {}
    for row in summary:
        if not is_mean(row["method"]) and row["failures"] not in ("", "0"):
            failures[row["detector"]] = failures.get(row["detector"], 0) + int(row["failures"])
    parts += [f"{detector} failed on {count} picture{'s' * (count > 1)}: see the column error of records.csv."
              for detector, count in failures.items()]
    return "\n".join(parts)


def _range(rows: Sequence[Row], key: str) -> str:
    """Least and largest number of the methods."""
    found = sorted({int(row[key]) for row in rows if not is_mean(row["method"])})
    return "–".join(map(str, found[:1] + found[1:][-1:]))


def _perturbed(rows: Sequence[Row]) -> list[str]:
    """A table of means by perturbation, where there are several: over unseen methods, else those that there are."""
    names = list(dict.fromkeys(row["perturbation"] for row in rows))
    means = [row for row in rows if is_mean(row["method"]) and row["auc"]]
    if len(names) < 2 or not means:
        return []
    kind = next(kind for kind in ("mean unseen", "mean unknown", "mean seen")
                if any(row["method"] == kind for row in means))
    cells = {(row["perturbation"], row["detector"]): f"{float(row['auc']):.3f}" for row in means
             if row["method"] == kind}
    detectors = list(dict.fromkeys(row["detector"] for row in means if row["method"] == kind))
    first, widths = max(map(len, names)), {name: max(len(name), 5) + GAP for name in detectors}
    lines = ["", f"{kind.capitalize()} AUC by perturbation", ""]
    for block in _blocks(detectors, widths, LINE - first):
        lines.append(" " * first + "".join(f"{name:>{widths[name]}}" for name in block))
        lines += [f"{name:{first}}" + "".join(f"{cells.get((name, detector), '–'):>{widths[detector]}}"
                                              for detector in block) for name in names]
        lines.append("")
    return lines


def not_detected(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Methods by detector, of those that it cannot be said to find."""
    found: dict[str, list[str]] = {row["detector"]: [] for row in rows}
    for row in rows:
        if not is_mean(row["method"]) and row["auc_low"] and float(row["auc_low"]) < NOT_DETECTED:
            found[row["detector"]].append(row["method"])
    return {detector: methods for detector, methods in found.items() if methods}


def is_mean(method: str) -> bool:
    """Whether a summary row is one over several methods."""
    return method.startswith("mean ")


def shares_methods(summary: Sequence[Row], mean: str) -> bool:
    """Whether all detectors have the `mean` over one set of methods: others cannot be ranked by it. Of no detector and
    of one it is true."""
    return len(set(method_sets(summary, mean).values())) < 2


def method_sets(summary: Sequence[Row], mean: str) -> dict[str, frozenset[str]]:
    """The methods that the `mean` of each detector is over; a detector that has none is left out."""
    label, sets = mean.removeprefix("mean "), dict[str, set[str]]()
    for row in summary:
        if row["seen"] == label and not is_mean(row["method"]) and row["method"] != AUTHENTIC:
            sets.setdefault(row["detector"], set()).add(row["method"])
    return {name: frozenset(methods) for name, methods in sets.items()}


def columns_of(rows: Sequence[Row]) -> dict[str, str]:
    """Methods and the two means, with "seen", "unseen" or, where detectors differ, "mixed"; in this order."""
    labels: dict[str, set[str]] = {}
    for row in rows:
        labels.setdefault(row["method"], set()).add(row["seen"])
    names = {method: found.pop() if len(found) == 1 else "mixed" for method, found in labels.items()}
    order = ["seen", "mixed", "unseen", "unknown"]
    return dict(sorted(names.items(), key=lambda item: (is_mean(item[0]), order.index(item[1]))))


def _grid(rows: Sequence[Row]) -> str:
    columns = columns_of(rows)
    means, intervals = {}, {}
    for row in rows:
        key = row["detector"], row["method"]
        mark = {"unseen": "*", "unknown": "?"}.get(row["seen"], "") if columns[row["method"]] == "mixed" else ""
        means[key] = f"{float(row['auc']):.3f}{mark}" if row["auc"] else "undefined"
        intervals[key] = f"{float(row['auc_low']):.2f}–{float(row['auc_high']):.2f}" if row["auc_low"] else ""
    detectors = list(dict.fromkeys(row["detector"] for row in rows))
    first = max(map(len, detectors))
    widths = {column: max(len(column), 9) + GAP for column in columns}
    lines: list[str] = []
    for block in _blocks(list(columns), widths, LINE - first):
        def line(head: str, cells: Mapping[str, str], block: Sequence[str] = block) -> str:
            return (f"{head:{first}}" + "".join(f"{cells[name]:>{widths[name]}}" for name in block)).rstrip()

        lines += [line("", {name: name for name in block}),
                  line("", {name: "" if is_mean(name) else columns[name] for name in block})]
        for detector in detectors:
            lines += [line(detector, {name: means.get((detector, name), "–") for name in block}),
                      line("", {name: intervals.get((detector, name), "") for name in block})]
        lines.append("")
    if "mixed" in columns.values():
        lines.append("* not among the methods that this detector was trained on; ? not known")
    return "\n".join(lines)


def _blocks(names: Sequence[str], widths: Mapping[str, int], room: int) -> list[list[str]]:
    """`names` in as many rows of tables as their widths need."""
    blocks: list[list[str]] = [[]]
    for name in names:
        if blocks[-1] and sum(widths[other] for other in [*blocks[-1], name]) > room:
            blocks.append([])
        blocks[-1].append(name)
    return blocks
