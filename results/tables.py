"""Tables for people, from `summary.csv`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from configs.files import read_rows

NOT_DETECTED = 0.6
"""A mean AUC whose interval reaches below this is called not detected: chance is 0.5."""


def closing_table(folder: Path) -> str:
    """AUC by detector and method, the seen methods first, with 95 % intervals; then what is not detected."""
    rows = read_rows(folder / "results" / "summary.csv")
    if not rows:
        return "No results yet."
    parts = []
    for perturbation in dict.fromkeys(row["perturbation"] for row in rows):
        chosen = [row for row in rows if row["perturbation"] == perturbation]
        parts.append(f"Mean per-image AUC [95 % interval], perturbation: {perturbation}\n{_grid(chosen)}")
        weak = weakest(chosen)
        if weak:
            parts.append(f"Not detected (interval reaches below {NOT_DETECTED}): {weak}")
    return "\n\n".join(parts)


def weakest(rows: Sequence[Mapping[str, str]]) -> str:
    """Which detector does not find which methods, in words; empty if each finds all."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if not row["method"].startswith("mean ") and row["auc_low"] != "nan" and float(row["auc_low"]) < NOT_DETECTED:
            found.setdefault(row["detector"], []).append(row["method"])
    return "; ".join(f"{detector}: {', '.join(methods)}" for detector, methods in found.items())


def columns_of(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Methods seen by any detector, the others, then the two means."""
    seen = dict.fromkeys(row["method"] for row in rows if row["seen"] == "seen")
    every = dict.fromkeys(row["method"] for row in rows)
    means = [name for name in ("mean seen", "mean unseen") if name in every]
    return [name for name in (*seen, *(name for name in every if name not in seen)) if name not in means] + means


def _grid(rows: Sequence[Mapping[str, str]]) -> str:
    columns = columns_of(rows)
    cells = {(row["detector"], row["method"]): f"{float(row['auc']):.3f}{'*' if row['seen'] == 'unseen' else ' '}"
             f"[{float(row['auc_low']):.2f},{float(row['auc_high']):.2f}]" for row in rows}
    names = list(dict.fromkeys(row["detector"] for row in rows))
    first = max(map(len, names))
    lines = []
    per_line = max(1, (108 - first) // 19)
    for start in range(0, len(columns), per_line):
        part = columns[start:start + per_line]
        lines.append(" " * first + "".join(f"  {column:>17}" for column in part))
        lines += [f"{name:{first}}" + "".join(f"  {cells.get((name, column), '–'):>17}" for column in part)
                  for name in names]
        lines.append("")
    return "\n".join(lines) + "* a method that this detector was not trained on"
