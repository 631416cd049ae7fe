"""The report: one HTML file with everything inside, made from the files of a run folder alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib import colormaps
from matplotlib.figure import Figure

from configs.files import read_rows, write_atomic
from detectors.places import read_description
from forgeries.methods import METHODS
from results.bench_plots import bench_figures
from results.bench_tables import after, all_sheets, failed_of, figures_of, ranked_columns, words
from results.bench_view import LOWER, TITLES, Bench, Row, read_bench
from results.claims import headline, methods_section
from results.export import Sheet, write_tables
from results.gallery import MAPS, list_pictures, read_gallery
from results.plots import curves, svg
from results.searches import COSTS, SearchFiles, cost_rows, read_search, search_figures, study_rows
from results.tables import not_detected

MARKS = ("seen-methods", "seen-perturbations")
"""Guards that note what the tables show anyway."""


LISTED = 8
"""Methods that a detector does not detect are named up to so many."""


@dataclass(frozen=True)
class RunFiles:
    """What a report is made of: the configuration, the benchmark, trained detectors and the search.

    `models` describe the detectors that the run trained, `histories` are of their training.
    """

    config: Mapping[str, Any]
    config_text: str
    bench: Bench
    models: Mapping[str, Any]
    histories: Mapping[str, Sequence[Row]]
    search: SearchFiles


def read_run(folder: Path) -> RunFiles:
    """The files of a run folder, as far as they are there."""
    config_text = (folder / "config.yaml").read_text()
    config = yaml.safe_load(config_text)
    models = {str(path.parent.relative_to(folder / "retrain")): read_description(path) for path in
              sorted((folder / "retrain").glob("**/model.safetensors"))}
    return RunFiles(config, config_text, read_bench(folder / "results"), models,
                    {name: read_rows(folder / "retrain" / name / "history.csv") for name in models},
                    read_search(folder, config))


def run_figures(run: RunFiles) -> dict[str, Figure]:
    """All figures of the report by name: of the benchmark, the search and the training of detectors."""
    figures = bench_figures(run.bench) | search_figures(run.search)
    if run.histories:
        figures |= {f"training_{key}": curves(first_seeds(run.histories), key, label) for key, label in
                    (("train_loss", "training loss"), ("val_auc", "validation AUC"))}
    return figures


def write_report(folder: Path) -> Path:
    """Writes `results/report.html` of the run folder, and its tables in `results/tables`; the same files give the same
    bytes."""
    run = read_run(folder)
    sheets = all_sheets(run.bench)
    write_tables(folder / "results" / "tables", sheets.values())
    path = folder / "results" / "report.html"
    write_atomic(path, render("report.html", _context(run, sheets)))
    return path


def render(template: str, context: Mapping[str, Any]) -> str:
    """The page that `template` makes of `context`."""
    return _environment().get_template(template).render(context)


def first_seeds(histories: Mapping[str, Sequence[Row]]) -> dict[str, Sequence[Row]]:
    """Of detectors with several trainings the first, by the detector's name; of others the only one."""
    found: dict[str, Sequence[Row]] = {}
    for name, history in histories.items():
        detector, _, seed = name.partition("/seed-")
        if seed in ("", "0"):
            found[detector] = history
    return found


def board_context(bench: Bench, sheets: Mapping[str, Sheet], figures: Mapping[str, Figure]) -> dict[str, Any]:
    """What the templates of scores and of their significance need."""
    names = [name for name in bench.methods if name in METHODS]
    return {
        "sheets": sheets, "figures": {name: svg(figure) for name, figure in figures.items()},
        "metrics": bench.metrics, "titles": TITLES, "perturbations": bench.perturbations,
        "detectors": bench.detectors, "methods": list(bench.methods), "power_text": power_text(sheets.get("power")),
        "scores": {"detectors": bench.detectors, "lower": sorted(LOWER), "values": figures_of(bench),
                   "ranked": ranked_columns(bench), "failed": failed_of(bench)},
        "shown_names": "; ".join(f"{name}: {METHODS[name].title} ({METHODS[name].source})" for name in names)
                       + "." * bool(names),
        "headline": headline(bench.folder), "alarms": alarms(bench)}


def alarms(bench: Bench) -> list[str]:
    """What a reader has to know before the numbers: guards that were overridden, and what is missing."""
    texts = [f"{guard['detector']}: {guard['what']}".removeprefix(": ") for guard in bench.about.get("guards", ())
             if guard["guard"] not in MARKS]
    if bench.about.get("complete") is False:
        texts.append("the benchmark has not finished; of some detectors, methods or pictures there is no row yet "
                     f"({bench.about.get('expected', 'unknown')} rows are expected)")
    return texts


def power_text(sheet: Sheet | None) -> str:
    """What the power table says in one sentence."""
    if sheet is None:
        return ""
    needed = [row[5].value for row in sheet.rows if row[5].value is not None]
    have = [row[3].value for row in sheet.rows if row[3].value is not None]
    if not needed or not have:
        return "How many photographs a difference needs cannot be said from these records."
    wanted = sheet.title.rpartition(" of ")[2].removesuffix(" needs")
    return (f"A difference of {wanted} in AUC between two detectors would be found with 80 % probability, corrected "
            f"for all pairs, on {np.median(needed):,.0f} photographs (median over pairs; {min(needed):,.0f} to "
            f"{max(needed):,.0f}). Here there are {max(have):,.0f}.")


def _context(run: RunFiles, sheets: Mapping[str, Sheet]) -> dict[str, Any]:
    search, bench = run.search, run.bench
    figures = run_figures(run)
    listing = list_pictures(bench)
    provenance: Mapping[str, Any] = next((model["provenance"] for model in run.models.values()), {})
    sections = _sections(sheets, figures)
    # A run that only benchmarks has neither; in others it is said that they are missing.
    stages = () if run.config.get("benchmark", {}).get("detectors") else run.config.get("stages", ())
    if search.candidates or "search" in stages:
        sections.add("search")
    if run.models or "retrain" in stages:
        sections.add("training")
    first = bench.first(bench.summary) if bench.summary else []
    return board_context(bench, sheets, figures) | {
        "config": run.config, "config_text": run.config_text, "protocol": bench.about.get("protocol", ""),
        "weak": "; ".join(f"{name}: {', '.join(found) if len(found) <= LISTED else f'{len(found)} methods'}"
                          for name, found in not_detected(first).items()),
        "sections": sections, "navigation": _navigation(sections, bool(listing.rows)),
        "matrices": [name for name in sheets if name.startswith("matrix-")],
        "ablations": [name for name in sheets if name.startswith("ablation-")],
        "published": [name for name in sheets if name.startswith("variant-")],
        "robustness": [name for name in figures if name.startswith("robustness_") and name != "robustness_chains"],
        "curve_methods": bench.unseen, "main_words": words(bench.main),
        "after": after(bench.perturbations[0]) if bench.summary else "",
        "gallery": read_gallery(bench), "most_maps": MAPS, "listing": listing,
        "listing_data": {"detectors": listing.detectors, "rows": listing.rows},
        "prose": methods_section(run.config, bench.about, bench.folder) if bench.about else "", "notes": [
            f"{guard['detector']}: {guard['what']}".removeprefix(": ") for guard in bench.about.get("guards", ())
            if guard["guard"] in MARKS],
        "versions": bench.about.get("versions") or provenance.get("versions", {}),
        "revision": bench.about.get("git_revision") or provenance.get("git_revision", "unknown"),
        "genotype": search.genotype, "comparison": search.comparison, "chosen": search.chosen, "study": search.study,
        "study_rows": study_rows(search.study),
        "cost_weight": search.cost_weight, "costs": cost_rows(search.cost), "cost": search.cost,
        "price": COSTS[search.price],
        "top": sorted(search.candidates, key=lambda row: (row["exact"] != "1", -float(row["score"])))[:10],
        "candidate_count": len(search.candidates),
        "raced": sum(row["exact"] != "1" for row in search.candidates),
        "models": run.models, "seeded": any("/seed-" in name for name in run.models),
    }


def _sections(sheets: Mapping[str, Sheet], figures: Mapping[str, Figure]) -> set[str]:
    """Those parts of the benchmark that there is anything to show of."""
    parts = {"curves": ["roc"], "pictures": ["pictures", "authentic"], "matrix": ["matrix-", "left-out"],
             "ablation": ["ablation-"], "robustness": ["robustness"], "size": ["mask-"],
             "significance": ["comparisons", "ranks"]}
    return {name for name, found in parts.items()
            if any(key.startswith(prefix) for key in [*sheets, *figures] for prefix in found)}


def _navigation(sections: set[str], listed: bool) -> list[tuple[str, str]]:
    """(anchor, title) of the sections that are there, in their order."""
    places = [("scores", "Scores", True), ("curves", "Curves", "curves" in sections),
              ("whole", "Whole pictures", "pictures" in sections), ("matrix", "Matrix", "matrix" in sections),
              ("ablation", "Ablation", "ablation" in sections),
              ("robustness", "Robustness", "robustness" in sections), ("size", "Size", "size" in sections),
              ("significance", "Significance", "significance" in sections), ("gallery", "Gallery", True),
              ("pictures", "Pictures", listed), ("cells", "Cells", "search" in sections),
              ("search", "Search", "search" in sections), ("training", "Training", "training" in sections),
              ("methods", "Methods", True), ("detectors", "Detectors", True),
              ("config", "Configuration", True)]
    return [(anchor, title) for anchor, title, there in places if there]


@cache
def _environment() -> Environment:
    environment = Environment(loader=PackageLoader("results"), autoescape=select_autoescape(),
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["heat"] = heat
    return environment


def heat(value: float) -> str:
    """CSS colours of an AUC: cividis from 0.5 or less on, whose lightness grows with the number, and text to read."""
    share = float(np.clip(2 * value - 1, 0, 1))
    red, green, blue = (round(255 * part) for part in colormaps["cividis"](share)[:3])
    return f"background:#{red:02x}{green:02x}{blue:02x};color:{'#000' if share > 0.5 else '#fff'}"
