"""Several runs in one table, as far as their detectors were tested on the same pictures."""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from safetensors.numpy import load_file, save_file

from configs.errors import UserError
from configs.files import make_folder, read_rows, write_atomic, write_json, write_rows
from results.bench_plots import auc_by_method, critical
from results.bench_tables import comparisons, failures, leading, power, ranks, variance
from results.bench_view import Bench, read_bench
from results.export import Sheet, comma_separated, latex, markdown
from results.records import RECORDS, VALIDATION
from results.report import board_context, render
from results.summary import write_summaries

CASE = ("method", "source", "image", "perturbation", "mask_fraction", "pixels", "digest")
"""What makes two rows be of one picture: what it is paired by, and what it looks like. Records of earlier versions have
no digest of the pixels, and are comparable among themselves alone."""


@dataclass(frozen=True)
class Run:
    """A run: its name, unique among those compared, folder, configuration, and names of its detectors in its board."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    names: Mapping[str, str]


def write_leaderboard(folders: Sequence[Path], out: Path) -> Path:
    """Merges benchmarks of run folders: `leaderboard.html`, `.csv`, `.md`, `.tex` in `out`, and for each board, that is
    for runs on the same pictures, a folder `board-<n>` of merged records with all tables recomputed from them.

    A detector whose name occurs in several runs of a board is called "name (run)". Bootstrap settings are those of a
    board's first run.

    Raises:
        UserError: a folder holds no benchmark, or two folders are one.
    """
    groups: dict[str, list[Path]] = {}
    for folder in folders:
        if not (folder / "results" / "records.csv").exists() or not (folder / "config.yaml").exists():
            raise UserError(f"{folder}: no benchmark there (no results/records.csv); run giidnet benchmark first")
        groups.setdefault(_pictures(folder / "results" / "records.csv"), []).append(folder)
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError(f"{', '.join(map(str, folders))}: the same run twice; name each once")
    make_folder(out)
    called = _unique([folder.resolve().name for folder in folders], folders)
    boards, sheets = [], []
    for number, members in enumerate(groups.values(), 1):
        runs = _runs(members, dict(zip(folders, called, strict=True)))
        bench = _merge(runs, out / f"board-{number}")
        table = leading(bench)
        sheets.append((f"board-{number}", table))
        boards.append(_board(bench, runs, f"board-{number}", f"Board {number}" if len(groups) > 1 else "Leaderboard"))
    write_atomic(out / "leaderboard.md", "\n".join(markdown(sheet) for _, sheet in sheets))
    write_atomic(out / "leaderboard.tex", "\n".join(latex(sheet) for _, sheet in sheets))
    _write_csv(out / "leaderboard.csv", sheets)
    path = out / "leaderboard.html"
    write_atomic(path, render("leaderboard.html", {"runs": len(folders), "boards": boards}))
    return path


def _pictures(records: Path) -> str:
    """A digest of the set of pictures that a run's detectors were tested on."""
    frame = pd.read_csv(records, usecols=lambda name: name in CASE, dtype=dict.fromkeys(CASE, "category"),
                        keep_default_na=False, encoding_errors="backslashreplace")
    frame = frame.reindex(columns=list(CASE)).drop_duplicates().astype(object).fillna("")
    lines = sorted("\t".join(map(str, row)) for row in frame.itertuples(index=False))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _unique(names: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Names of the runs, or of those with one name their paths."""
    return [str(folder) if names.count(name) > 1 else name for name, folder in zip(names, folders, strict=True)]


def _runs(folders: Sequence[Path], called: Mapping[Path, str]) -> list[Run]:
    detectors = {folder: list(dict.fromkeys(row["detector"] for row in read_rows(folder / "results" / "summary.csv")))
                 for folder in folders}
    everything = [name for names in detectors.values() for name in names]
    return [Run(called[folder], folder, yaml.safe_load((folder / "config.yaml").read_text()),
                {name: f"{name} ({called[folder]})" if everything.count(name) > 1 else name for name in names})
            for folder, names in detectors.items()]


def _merge(runs: Sequence[Run], place: Path) -> Bench:
    """Writes the runs' records and what belongs to them into `place`, and the tables of all of them."""
    make_folder(place)
    _merge_records(runs, place / "records.csv")
    write_rows(place / "thresholds.csv", VALIDATION, [
        {**row, "detector": run.names[row["detector"]]} for run in runs
        for row in read_rows(run.folder / "results" / "thresholds.csv") if row["detector"] in run.names])
    _merge_curves(runs, place / "curves.safetensors")
    write_json(place / "benchmark.json", _about(runs))
    settings = runs[0].config["benchmark"]
    write_summaries(place, settings["bootstrap"], runs[0].config["seed"], settings.get("smallest", 0.02),
                    settings.get("fractions", (0.01, 0.05, 0.1, 0.25)))
    return read_bench(place)


def _merge_records(runs: Sequence[Run], path: Path) -> None:
    """Row by row: records of many runs may not fit into memory."""
    temporary = path.with_name(f".{path.name}")
    with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, RECORDS, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        for run in runs:
            with (run.folder / "results" / "records.csv").open(newline="", encoding="utf-8",
                                                               errors="surrogateescape") as source:
                writer.writerows({**row, "detector": run.names.get(row["detector"], row["detector"])}
                                 for row in csv.DictReader(source))
    temporary.replace(path)


def _merge_curves(runs: Sequence[Run], path: Path) -> None:
    """Without those of any run there are none of the board."""
    sources = [run.folder / "results" / "curves.safetensors" for run in runs]
    path.unlink(missing_ok=True)
    if all(source.exists() for source in sources):
        save_file({"\t".join((run.names.get(key.split("\t")[0], key.split("\t")[0]), *key.split("\t")[1:])): counts
                   for run, source in zip(runs, sources, strict=True)
                   for key, counts in sorted(load_file(source).items())}, path)


def _about(runs: Sequence[Run]) -> dict[str, Any]:
    """`benchmark.json` of the board."""
    found = [json.loads(path.read_text()) if (path := run.folder / "results" / "benchmark.json").exists() else {}
             for run in runs]
    guards = [{**guard, "detector": _renamed(guard["detector"], run.names)}
              for run, about in zip(runs, found, strict=True) for guard in about.get("guards", ())]
    protocols, poolings = ({about.get(key, "") for about in found} for key in ("protocol", "pooling"))
    if len(poolings) > 1:
        guards.append({"guard": "pooling", "detector": "", "allowed": True, "what": "scores of whole pictures are "
                       f"pooled differently ({', '.join(sorted(poolings))}) and cannot be compared"})
    return {"protocol": protocols.pop() if len(protocols) == 1 else "several",
            "detectors": {run.names.get(name, name): entries for run, about in zip(runs, found, strict=True)
                          for name, entries in about.get("detectors", {}).items()},
            "guards": guards, "complete": all(about.get("complete", True) for about in found),
            "expected": sum(about.get("expected", 0) for about in found), "versions": found[0].get("versions", {}),
            "git_revision": found[0].get("git_revision", ""),
            "pooling": poolings.pop() if len(poolings) == 1 else "several"}


def _renamed(label: str, names: Mapping[str, str]) -> str:
    """The detector's name in the board; `label` may be of one of its seeds, such as "giidnet seed 1"."""
    name, _, seed = label.rpartition(" seed ")
    return f"{names[name]} seed {seed}" if label not in names and name in names else names.get(label, label)


def _board(bench: Bench, runs: Sequence[Run], name: str, title: str) -> dict[str, Any]:
    sheets = {sheet.name: sheet for sheet in (leading(bench), *comparisons(bench), *ranks(bench), *power(bench),
                                              *variance(bench), *failures(bench))}
    frame = bench.records
    return board_context(bench, sheets, auc_by_method(bench) | critical(bench)) | {
        "name": name, "title": title, "runs": [run.name for run in runs],
        "pictures": len(frame[["source", "image"]].drop_duplicates()), "sources": frame["source"].nunique()}


def _write_csv(path: Path, sheets: Sequence[tuple[str, Sheet]]) -> None:
    """The tables one below the other, with the union of their columns and the board."""
    rows = [{"board": board, **row} for board, sheet in sheets
            for row in csv.DictReader(io.StringIO(comma_separated(sheet)))]
    write_rows(path, list(dict.fromkeys(key for row in rows for key in row)), rows)
