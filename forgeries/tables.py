"""Tables for the terminal: methods, and what was found in datasets."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from forgeries.check import MethodSummary, Report
from forgeries.methods import Method
from forgeries.readers import KINDS, LAYOUTS, Problem

WIDE = 1000
"""Columns of a console that breaks no line."""


def show_reports(reports: Sequence[Report], between: Sequence[Problem]) -> None:
    """Prints what each dataset holds, then its problems by kind, last those `between` datasets."""
    console = _console()
    for report in reports:
        dataset = report.dataset
        console.print(f"{dataset.place}: layout {dataset.layout} ({LAYOUTS[dataset.layout].title}), "
                      f"{_counted(len(dataset.cases), 'picture')}")
        if report.methods:
            console.print(_method_table(report.methods))
        _show_problems(console, report.problems, dataset.place if dataset.place.is_dir() else dataset.place.parent)
    if len(reports) > 1:
        console.print(f"Between these {len(reports)} sets:")
        _show_problems(console, between)


def show_methods(methods: Iterable[Method]) -> None:
    """Prints a row for each method."""
    table = Table(box=box.SIMPLE)
    for column in ("method", "kind", "what", "source", "speed", "same case", "outside of the mask"):
        table.add_column(column)
    for method in methods:
        table.add_row(method.name, method.kind, method.title, method.source, method.speed,
                      "same result" if method.deterministic else "random",
                      "untouched" if method.composite else "made anew")
    _console().print(table)


def _console() -> Console:
    # Piped, a row is a line: programs that search lines would not find broken ones.
    return Console(width=None if sys.stdout.isatty() else WIDE, markup=False, highlight=False, emoji=False)


def _method_table(methods: Iterable[MethodSummary]) -> Table:
    table = Table(box=box.SIMPLE)
    for name, side in (("method", "left"), ("pictures", "right"), ("checked", "right"), ("sizes", "left"),
                       ("masks, median", "right"), ("range", "right")):
        table.add_column(name, justify="right" if side == "right" else "left", overflow="fold")
    for found in methods:
        fractions = found.fractions
        table.add_row(found.method or "unknown", str(found.pictures), str(found.looked), _sizes(found.sizes),
                      _percent(median(fractions)) if fractions else "–",
                      f"{_percent(fractions[0])} … {_percent(fractions[-1])}" if fractions else "–")
    return table


def _show_problems(console: Console, problems: Sequence[Problem], base: Path | None = None) -> None:
    if not problems:
        console.print("No problems found.\n")
        return
    table = Table(box=box.SIMPLE)
    for name in ("", "problem", "count", "the first, and what to do"):
        table.add_column(name, justify="right" if name == "count" else "left", overflow="fold")
    # Errors before warnings, which is also the order of the alphabet.
    for kind in sorted(KINDS, key=lambda kind: KINDS[kind].severity):
        found = [problem for problem in problems if problem.kind == kind]
        if not found:
            continue
        # The dataset itself is named above.
        file = found[0].file.removeprefix(f"{base}/")
        table.add_row(KINDS[kind].severity, kind, f"{len(found):,}", f"{file}: {found[0].what}\n→ {KINDS[kind].advice}",
                      style="red" if KINDS[kind].severity == "error" else "yellow")
    console.print(table)


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    shown = [f"{width}×{height}" for width, height in (sizes if len(sizes) < 3 else (sizes[0], sizes[-1]))]
    return (" … " if len(sizes) > 2 else ", ").join(shown) + (f" ({len(sizes)} sizes)" if len(sizes) > 2 else "") or "–"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
