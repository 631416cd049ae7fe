"""The tables of a model card, from what benchmarks left."""

from collections.abc import Sequence
from pathlib import Path

from configs.errors import UserError
from configs.files import write_atomic
from results.bench_tables import after, false_alarms, scores
from results.bench_view import AUTHENTIC, Bench, read_bench
from results.export import markdown
from results.tables import is_mean

BEGIN = "<!-- tables: written by 'giidnet weights card', do not edit -->"
END = "<!-- end of tables -->"


def write_card(path: Path, folders: Sequence[Path]) -> None:
    """Replaces what stands between the marks of the Markdown file `path` by the tables of the runs `folders`; the same
    results give the same bytes.

    Raises:
        UserError: no such file, no marks in it, or a run without results.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such model card; name one with --card")
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f"{path}: has no block for tables; it begins with the line {BEGIN} and ends with {END}")
    before, _, rest = text.partition(BEGIN)
    blocks = [block(folder) for folder in folders]
    write_atomic(path, "\n\n".join([f"{before}{BEGIN}", *blocks, END]) + rest.partition(END)[2])


def block(folder: Path) -> str:
    """Markdown of one run: AUC by detector and method with intervals after each perturbation, what is flagged in
    authentic pictures, how many pictures they are of, and on what each detector was trained.

    Raises:
        UserError: the run has no results.
    """
    bench = read_bench(folder / "results")
    if not bench.summary:
        raise UserError(f"{folder}: no results of a benchmark there (results/summary.csv)")
    sheets = [scores(bench, "auc", perturbation) for perturbation in bench.perturbations if bench.methods]
    parts = [f"### {folder.resolve().name}", *map(markdown, [*sheets, *false_alarms(bench)]), _counts(bench),
             _trainings(bench)]
    return "\n\n".join(part.strip() for part in parts if part)


def _counts(bench: Bench) -> str:
    """How many pictures and photographs each method has."""
    found = {row["method"]: f"{row['method']} {row['count']} of {row['sources']}" for row in bench.first(bench.summary)
             if not is_mean(row["method"])}
    forged = [text for method, text in found.items() if method != AUTHENTIC]
    told = [*forged, *([found[AUTHENTIC]] if AUTHENTIC in found else [])]
    return f"Pictures and the photographs that they are made of{after(bench.perturbations[0])}: {', '.join(told)}. " \
           f"Guards: {'; '.join(finding['what'] for finding in bench.about.get('guards', ())) or 'nothing found'}."


def _trainings(bench: Bench) -> str:
    """A line for each detector."""
    lines = []
    for name in bench.detectors:
        size = next((entry.get("parameters") for entry in bench.about.get("detectors", {}).get(name, ())), None)
        methods = bench.trainings.get(name, {}).get("methods")
        lines.append(f"- `{name}`" + f", {size:,} parameters" * bool(size) + ": trained on " + (
            "unknown methods" if methods is None else ", ".join(methods) or "nothing"))
    return "\n".join(lines)
