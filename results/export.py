"""A table of the report as data, and the same table as Markdown, LaTeX (booktabs) and CSV."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.files import write_atomic

SEEN = "†"
"""Stands after a number that a detector reached on what it was trained on."""

FAILED = "‡"
"""Stands after a mean from which failures are left out."""

LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
         "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "−": "$-$", "×": r"$\times$",
         "≥": r"$\geq$", "≤": r"$\leq$", "<": r"\textless{}", ">": r"\textgreater{}", SEEN: r"$^\dagger$",
         FAILED: r"$^\ddagger$", "≈": r"$\approx$",
         "…": r"\dots{}", "▲": r"$\uparrow$", "▼": r"$\downarrow$", "|": r"\textbar{}"}
"""What stands for a character that LaTeX would take for a command, or that its default fonts lack."""


@dataclass(frozen=True)
class Cell:
    """A field of a table: `text`, the number behind it to sort by, its interval or another small `note`, "seen",
    "unseen" or "unknown" where that applies, whether it is the best of its column, and whether maps were missing."""

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seen: str = ""
    best: bool = False
    note: str = ""
    failed: bool = False

    @property
    def small(self) -> str:
        """What stands below the number."""
        if self.note or self.low is None or self.high is None:
            return self.note
        return f"{self.low:.2f}–{self.high:.2f}".replace("-", "−")

    @property
    def marks(self) -> str:
        """What stands behind the number."""
        return SEEN * (self.seen == "seen") + FAILED * self.failed


@dataclass(frozen=True)
class Column:
    """A column's head; columns of one `group` stand next to each other below its name. `text` is aligned left."""

    name: str
    group: str = ""
    text: bool = False


@dataclass(frozen=True)
class Sheet:
    """A table: `name` of its files, caption, columns and rows of as many cells; the first cell is the row's head.

    `order` is the column that the rows are sorted by, largest first. `heat` colours cells by their numbers.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    order: int | None = None
    heat: bool = False

    @property
    def groups(self) -> list[tuple[str, int]]:
        """(group, columns in it) for the head's upper line."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            name, count = found[-1] if found else ("", 0)
            found[-1:] = [(name, count + 1)] if found and name == column.group else [*found[-1:], (column.group, 1)]
        return found


def number(text: str | float | None, decimals: int = 3, seen: str = "") -> Cell:
    """A cell of one number; "–" where there is none."""
    if text is None or text == "":
        return Cell("–", seen=seen)
    return Cell(f"{float(text):,.{decimals}f}".replace("-", "−"), float(text), seen=seen)


def estimate(row: Mapping[str, str], key: str, seen: str = "") -> Cell:
    """A cell of the number `key` of a row with its interval, from the columns `key`_low and `key`_high."""
    cell = replace(number(row.get(key), seen=seen), failed=row.get("failures", "0") not in ("", "0"))
    ends = row.get(f"{key}_low"), row.get(f"{key}_high")
    return replace(cell, low=float(ends[0]), high=float(ends[1])) if ends[0] and ends[1] else cell


def mark_best(rows: Sequence[Sequence[Cell]], columns: Iterable[int], lower: bool = False) -> list[list[Cell]]:
    """The same rows with the largest number, or smallest, of each of the columns marked, if there are several. What
    failed somewhere is not ranked."""
    found = [list(row) for row in rows]
    for index in columns:
        values = [row[index].value for row in found if row[index].value is not None and not row[index].failed]
        best = (min if lower else max)(values) if len(set(values)) > 1 else None  # type: ignore[type-var]
        for row in found:
            ranked = best is not None and not row[index].failed
            row[index] = replace(row[index], best=ranked and row[index].value == best)
    return found


def write_tables(folder: Path, sheets: Iterable[Sheet]) -> None:
    """Writes each sheet as `<name>.md`, `.tex` and `.csv` in `folder`; tables of an earlier report go."""
    formats = {"md": markdown, "tex": latex, "csv": comma_separated}
    written = {f"{sheet.name}.{suffix}": form(sheet) for sheet in sheets for suffix, form in formats.items()}
    for name, text in written.items():
        write_atomic(folder / name, text, sync=False)
    for path in folder.glob("*.*"):
        if path.name not in written and path.suffix[1:] in formats:
            path.unlink()


def markdown(sheet: Sheet) -> str:
    """The sheet as a table of GitHub's Markdown, bold where it is best, below its caption."""
    def row(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    lines = [f"**{_pipes(sheet.title)}**", "",
             row(_pipes(column.name + f" ({column.group})" * bool(column.group)) for column in sheet.columns),
             row(":--" if column.text or index == 0 else "--:" for index, column in enumerate(sheet.columns))]
    for cells in sheet.rows:
        lines.append(row(_pipes(_starred(cell) + (f" ({cell.small})" if cell.small else "")) for cell in cells))
    return "\n".join([*lines, *(["", _pipes(note)] if (note := _note(sheet)) else [])]) + "\n"


def latex(sheet: Sheet) -> str:
    """The sheet as a LaTeX table; needs the package booktabs. Bold where it is best, intervals small."""
    heads = [column.name for column in sheet.columns]
    layout = "".join("l" if column.text or index == 0 else "r" for index, column in enumerate(sheet.columns))
    lines = [r"\begin{table}", r"\centering\small\setlength{\tabcolsep}{4pt}",
             rf"\caption{{{_latex(sheet.title)}. {_latex(_note(sheet))}}}".replace(". }", "}"),
             rf"\label{{tab:{sheet.name}}}", rf"\begin{{tabular}}{{{layout}}}", r"\toprule"]
    if any(column.group for column in sheet.columns):
        lines.append(" & ".join(rf"\multicolumn{{{count}}}{{c}}{{{_latex(name)}}}" for name, count in sheet.groups)
                     + r" \\")
    lines += [" & ".join(map(_latex, heads)) + r" \\", r"\midrule"]
    for cells in sheet.rows:
        lines.append(" & ".join(_latex_cell(cell) for cell in cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def comma_separated(sheet: Sheet) -> str:
    """The sheet as CSV: a column for each number, and further ones for its interval and for "seen" where any has it.
    Numbers have all their digits, undefined ones are empty."""
    parts = [[key for key in ("low", "high", "seen")
              if any(getattr(row[index], key) not in (None, "") for row in sheet.rows)]
             for index in range(len(sheet.columns))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name for column, more in zip(sheet.columns, parts, strict=True)
                     for name in (column.name, *(f"{column.name} {key}".strip() for key in more))])
    for row in sheet.rows:
        writer.writerow([field for cell, column, more in zip(row, sheet.columns, parts, strict=True) for field in (
            cell.text if column.text else _plain(cell), *(getattr(cell, key) for key in more))])
    return text.getvalue()


def _plain(cell: Cell) -> str | float:
    """The number, a count without decimals; "–" and "undefined" are empty."""
    if cell.value is None:
        return ""
    return int(cell.value) if cell.value.is_integer() and "." not in cell.text else cell.value


def _note(sheet: Sheet) -> str:
    marked = any(cell.seen == "seen" for row in sheet.rows for cell in row)
    failed = any(cell.failed for row in sheet.rows for cell in row)
    return " ".join(filter(None, [sheet.note, f"{SEEN} trained on this, or chosen by it." if marked else "",
                                  f"{FAILED} some maps are missing; not ranked." if failed else ""]))


def _pipes(text: str) -> str:
    return text.replace("|", "\\|")


def _starred(cell: Cell) -> str:
    text = cell.text + cell.marks
    return f"**{text}**" if cell.best else text


def _latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)


def _latex_cell(cell: Cell) -> str:
    text = _latex(cell.text + cell.marks)
    if cell.best:
        text = rf"\textbf{{{text}}}"
    return text + (rf" {{\scriptsize {_latex(cell.small)}}}" if cell.small else "")
