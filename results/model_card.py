"""The tables of a model card, from what benchmarks left."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.files import write_atomic
from results.bench_tables import after, false_alarms, scores
from results.bench_view import AUTHENTIC, Bench, read_bench
from results.export import markdown
from results.metrics import Curve
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
    authentic pictures, how many pictures they are of, on what each detector was trained, and what it flags at the
    threshold that its weights carry.

    Raises:
        UserError: the run has no results.
    """
    bench = read_bench(folder / "results")
    if not bench.summary:
        raise UserError(f"{folder}: no results of a benchmark there (results/summary.csv)")
    sheets = [scores(bench, "auc", perturbation) for perturbation in bench.perturbations if bench.methods]
    parts = [f"### {folder.resolve().name}", *map(markdown, [*sheets, *false_alarms(bench)]), _counts(bench),
             "\n".join(_detectors(bench))]
    return "\n\n".join(part.strip() for part in parts if part)


def _counts(bench: Bench) -> str:
    """How many pictures and photographs each method has, and what guards found; of paths the last part."""
    found = {row["method"]: f"{row['method']} {row['count']} of {row['sources']}" for row in bench.first(bench.summary)
             if not is_mean(row["method"])}
    forged = [text for method, text in found.items() if method != AUTHENTIC]
    told = [*forged, *([found[AUTHENTIC]] if AUTHENTIC in found else [])]
    guards = "; ".join(re.sub(r"\S*/(?=\S)", "", finding["what"]) for finding in bench.about.get("guards", ()))
    return f"Pictures and the photographs that they are made of{after(bench.perturbations[0])}: {', '.join(told)}. " \
           f"Guards: {guards or 'nothing found'}."


def _detectors(bench: Bench) -> Iterator[str]:
    """A line for each: size, training, and what it flags at the threshold that its weights carry. The latter is from
    pooled histograms, which can be asked for any threshold but give no intervals."""
    pooled = {method: bench.histograms([method]) for method in (*bench.methods, AUTHENTIC)}
    for name in bench.detectors:
        about: Mapping[str, Any] = next(iter(bench.about.get("detectors", {}).get(name, ())), {})
        methods, size, threshold = (bench.trainings.get(name, {}).get("methods"), about.get("parameters"),
                                    about.get("threshold"))
        text = f"- `{name}`" + f", {size:,} parameters" * bool(size) + ": trained on " + (
            "unknown methods" if methods is None else ", ".join(methods) or "nothing")
        if threshold is not None:
            counts = {method: Curve(found[name]).at(threshold) for method, found in pooled.items() if name in found}
            parts = [f"{float(counts[AUTHENTIC].false_alarm):.1%} of the area of authentic pictures"] \
                if AUTHENTIC in counts else []
            painted = [f"{method} {float(one.recall):.0%}" for method, one in counts.items() if method != AUTHENTIC]
            parts += [f"of the area that was inpainted by {', '.join(painted)}"] if painted else []
            text += f". At the threshold that its weights carry, {threshold:.4g}, it flags {', and '.join(parts)} " \
                    "(all pixels pooled)."
        yield text
