"""The benchmark's tables, each as a `Sheet`, in the order of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from results.ablation import FULL, ablation_rows, groups_of
from results.bench_view import AUTHENTIC, LOWER, PREFERRED, TITLES, Bench, Row
from results.export import Cell, Column, Sheet, estimate, mark_best, number

POOLED = {"auc": "AUC", "auc_error": "error of AUC at most", "ap": "AP", "f1": "F1", "iou": "IoU", "mcc": "MCC",
          "best_f1": "best F1", "best_iou": "best IoU", "best_threshold": "best threshold",
          "calibration_error": "calibration error"}
PICTURES = {"auc": "AUC", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "f1": "F1",
            "threshold": "threshold"}
REFERENCE = "all"
"""The training group that those of a leave-one-out protocol are compared with."""


def all_sheets(bench: Bench) -> dict[str, Sheet]:
    """Every table that there are results for, by name; those of a metric are called `scores-<metric>`."""
    if not bench.summary:
        return {}
    sheets = [*(scores(bench, metric) for metric in bench.metrics if bench.methods), *pooled(bench), *variants(bench),
              *pictures(bench), *false_alarms(bench), *matrix(bench), *left_out(bench), *ablation(bench),
              *robustness(bench),
              *sizes(bench), *comparisons(bench), *ranks(bench), *power(bench), *variance(bench), *detectors(bench),
              *failures(bench)]
    return {sheet.name: sheet for sheet in sheets}


def score_columns(bench: Bench) -> list[Column]:
    """Methods by kind, then the means; the detector's name first."""
    return [Column("detector", text=True), *(Column(name, kind) for name, kind in bench.methods.items()),
            *(Column(name.removeprefix("mean "), "mean over methods") for name in bench.means)]


def scores(bench: Bench, metric: str, perturbation: str | None = None) -> Sheet:
    """Detectors × methods: mean of a metric over pictures with its interval, at the first perturbation by default."""
    perturbation = perturbation or bench.perturbations[0]
    keys = [*bench.methods, *bench.means]
    columns = score_columns(bench)
    best = mark_best([[Cell(name), *(_score(bench, perturbation, name, key, metric) for key in keys)]
                      for name in bench.detectors],
                     [index for index, fair in enumerate(ranked_columns(bench), 1) if fair], metric in LOWER)
    return Sheet(f"scores-{metric.replace('_', '-')}", f"{TITLES[metric]}{after(perturbation)}: mean over pictures, "
                 "95 % interval", columns, best, _apart(bench, *bench.means),
                 order=len(bench.methods) + 1 if bench.means and metric not in LOWER else None)


def leading(bench: Bench) -> Sheet:
    """The table that a benchmark is known by: AUC, or the false alarms where nothing was painted into any picture."""
    return next(iter([] if bench.methods else false_alarms(bench)), scores(bench, "auc"))


def ranked_columns(bench: Bench) -> list[bool]:
    """Whether detectors can be ranked by each of the columns of `scores`."""
    return [True] * len(bench.methods) + [name in bench.ranked for name in bench.means]


def after(perturbation: str) -> str:
    """The perturbation in words that follow others."""
    return "" if perturbation == "none" else f" after {perturbation}"


def pooled(bench: Bench) -> list[Sheet]:
    """A table of all pixels together for each mean's methods."""
    found = []
    for name in bench.means:
        group = name.replace("mean", "all")
        rows = {row["detector"]: row for row in bench.first(bench.pooled) if row["method"] == group}
        if rows:
            # Errors that the binning allows are far below a thousandth.
            cells = [[Cell(detector), *(number(rows[detector].get(key), 6 if key == "auc_error" else 3)
                                        for key in POOLED)] for detector in bench.detectors if detector in rows]
            best = [index for index, key in enumerate(POOLED, 1) if name in bench.ranked and key not in (
                "auc_error", "best_threshold", "calibration_error")]
            found.append(Sheet(name.replace("mean ", "pooled-"), f"All pixels pooled, {words(name)}",
                               [Column("detector", text=True), *map(Column, POOLED.values())],
                               mark_best(mark_best(cells, best), [len(POOLED)] if best else [], lower=True),
                               _apart(bench, name), order=1))
    return found


def pictures(bench: Bench) -> list[Sheet]:
    """Whole pictures: forged ones against authentic ones, by the picture's score."""
    rows = {row["detector"]: row for row in bench.first(bench.images) if row["method"] == bench.main}
    cells = [[Cell(name), estimate(rows[name], "auc"), *(number(rows[name].get(key)) for key in list(PICTURES)[1:]),
              number(rows[name].get("forged"), 0), number(rows[name].get("authentic"), 0)]
             for name in bench.detectors if name in rows]
    return [Sheet("pictures", f"Whole pictures, forged against authentic, {words(bench.main)}",
                  [Column("detector", text=True), *map(Column, [*PICTURES.values(), "forged", "authentic"])],
                  mark_best(cells, (1, 2, 3, 4) if bench.main in bench.ranked else ()),
                  " ".join(filter(None, ["The threshold is chosen on validation photographs.",
                                         _apart(bench, bench.main)])),
                  order=1)] if cells else []


def false_alarms(bench: Bench) -> list[Sheet]:
    """Share of the pixels of authentic pictures that is flagged."""
    perturbation = bench.perturbations[0]
    rows = {name: bench.cells[perturbation, name, AUTHENTIC] for name in bench.detectors
            if (perturbation, name, AUTHENTIC) in bench.cells}
    keys = [key for key in ("false_alarm", "val_false_alarm") if any(row.get(key) for row in rows.values())]
    cells = [[Cell(name), *(estimate(row, key) for key in keys), number(row.get("count"), 0)]
             for name, row in rows.items()]
    return [Sheet("authentic", "Authentic pictures: mean share of the pixels that is flagged",
                  [Column("detector", text=True), *(Column(TITLES[key].removeprefix("False-alarm area "))
                                                    for key in keys), Column("pictures")],
                  mark_best(cells, range(1, len(keys) + 1), lower=True))] if keys else []


def matrix(bench: Bench) -> list[Sheet]:
    """For each trainee, what it was trained on × what it is tested on; only of the protocol that trains so."""
    if bench.about.get("protocol") != "matrix":
        return []
    found = []
    for trainee, groups in _trainees(bench).items():
        rows = [[Cell(group), *(_score(bench, bench.perturbations[0], name, method, "auc") for method in
                                [*bench.methods, *bench.means])] for group, name in groups.items()]
        found.append(Sheet(f"matrix-{trainee}", f"{trainee}: AUC by training methods (rows) and test methods",
                           [Column("trained on", text=True), *score_columns(bench)[1:]], rows, heat=True))
    return found


def left_out(bench: Bench) -> list[Sheet]:
    """AUC on methods that were held out of training, against the same network trained on all."""
    if not bench.about.get("protocol", "").startswith("leave-one"):
        return []
    rows = []
    for trainee, groups in _trainees(bench).items():
        whole = groups.get(REFERENCE)
        for name in groups.values():
            if whole is None or name == whole:
                continue
            trained, everything = (bench.trainings[key].get("methods") or () for key in (name, whole))
            for method in everything:
                if method in trained or method not in bench.methods:
                    continue
                held, reference = (_score(bench, bench.perturbations[0], key, method, "auc") for key in (name, whole))
                rows.append([Cell(trainee), Cell(method), Cell(bench.methods[method]), held, reference, number(
                    None if held.value is None or reference.value is None else held.value - reference.value)])
    return [Sheet("left-out", "AUC on a method that was left out of training, and when trained on all",
                  [Column("network", text=True), Column("left out", text=True), Column("kind", text=True),
                   Column("left out of training"), Column("trained on all"), Column("difference")],
                  rows)] if rows else []


def ablation(bench: Bench) -> list[Sheet]:
    """Variants of a network against the full one, of an ablation: a table for each kind of means."""
    groups = groups_of(bench.about)
    sizes = {group: bench.about["detectors"][name][0].get("parameters") for name, group in groups.items()}
    found = [row for row in bench.first(list(ablation_rows(bench.comparisons, groups))) if row["metric"] == "auc"]
    sheets = []
    for mean in PREFERRED:
        rows = [row for row in found if row["methods"] == mean]
        cells = [[Cell(row["variant"]), number(row["variant_mean"]), number(row["full_mean"]), _change(row),
                  number(row["p_corrected"]), number(sizes.get(row["variant"]), 0), number(row["count"], 0)]
                 for row in rows]
        sheets += [Sheet(f"ablation-{mean.removeprefix('mean ')}", "AUC of each variant less that of the full network, "
                         f"{words(mean)}", [Column("variant", text=True), *map(Column, (
                             "AUC", "full network", "difference", "corrected p", "parameters", "pictures"))], cells,
                         f"The full network has {number(sizes.get(FULL), 0).text} parameters. Intervals cover pictures "
                         "and training seeds; p is corrected for the comparisons with the full network. Bold, with ▲ "
                         "or ▼: a claim, which needs p < 0.05 and an interval without 0.")] if cells else []
    return sheets


def _change(row: Row) -> Cell:
    """A difference with its interval, marked where it is a claim."""
    cell = number(row["difference"])
    if cell.value is None or not row["low"]:
        return cell
    low, high = float(row["low"]), float(row["high"])
    mark = ("▲ " if low > 0 else "▼ ") if row["claim"] else ""
    text, note = (part.replace("-", "−") for part in (f"{mark}{cell.value:+.3f}", f"{low:+.3f} to {high:+.3f}"))
    return replace(cell, text=text, low=low, high=high, note=note, best=bool(row["claim"]))


def robustness(bench: Bench) -> list[Sheet]:
    """AUC by perturbation, of the mean over methods that most of the report shows."""
    names = bench.perturbations
    rows = [[Cell(name), *(replace(_score(bench, perturbation, name, bench.main, "auc"),
                                   seen="seen" if (name, perturbation) in bench.trained_after else "")
                           for perturbation in names)] for name in bench.detectors]
    return [Sheet("robustness", f"AUC after a perturbation, {words(bench.main)}",
                  [Column("detector", text=True), *map(Column, names)],
                  mark_best(rows, range(1, len(names) + 1) if bench.main in bench.ranked else ()),
                  _apart(bench, bench.main), heat=True)] if len(names) > 1 and bench.main else []


def variants(bench: Bench) -> list[Sheet]:
    """Numbers as published evaluation code computes them, a table a protocol."""
    rows = [row for row in bench.first(bench.variants) if row["method"] == "all"]
    found = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == variant]
        numbers = list(dict.fromkeys(row["number"] for row in own))
        # Of several seeds, the first.
        cells = {(row["detector"], row["number"]): row for row in reversed(own)}
        found.append(Sheet(f"variant-{variant}", f"As {variant} scores: all pictures, authentic ones among them",
                           [Column("detector", text=True), *(Column(name.replace("_", " ")) for name in numbers)],
                           [[Cell(name), *(number(cells[name, key].get("value")) for key in numbers)]
                            for name in bench.detectors if (name, numbers[0]) in cells]))
    return found


def sizes(bench: Bench) -> list[Sheet]:
    """AUC by size and by kind of the mask."""
    rows = size_rows(bench)
    found = []
    for factor in dict.fromkeys(row["factor"] for row in rows):
        levels = list(dict.fromkeys(row["level"] for row in rows if row["factor"] == factor))
        cells = {(row["detector"], row["level"]): estimate(row, "auc") for row in rows if row["factor"] == factor}
        found.append(Sheet(factor.replace(" ", "-"), f"AUC by {factor}, {words(bench.main)}",
                           [Column("detector", text=True), *map(Column, levels)], mark_best(
                               [[Cell(name), *(cells.get((name, level), Cell("–")) for level in levels)]
                                for name in bench.detectors],
                               range(1, len(levels) + 1) if bench.main in bench.ranked else ()),
                           _apart(bench, bench.main)))
    return found


def size_rows(bench: Bench) -> list[Row]:
    """Those of the first perturbation and of the mean that most of the report shows."""
    return [row for row in bench.first(bench.sizes) if f"mean {row['seen']}" == bench.main]


def comparisons(bench: Bench) -> list[Sheet]:
    """Pairs of detectors: the difference in AUC with its corrected p, by row and column."""
    rows = shown_pairs(bench, bench.comparisons)
    found = {(row["first"], row["second"]): (row, 1) for row in rows} | {
        (row["second"], row["first"]): (row, -1) for row in rows}
    names = [name for name in bench.detectors if any(name in pair for pair in found)]
    if not names:
        return []
    return [Sheet("comparisons", f"By how much the row's AUC exceeds the column's, {words(rows[0]['methods'])}; "
                  "p corrected for all pairs", [Column("detector", text=True), *map(Column, names)],
                  [[Cell(first), *(_difference(found.get((first, second))) for second in names)] for first in names],
                  f"Bold, with ▲ or ▼: a claim, which needs p < 0.05 and an interval without 0. "
                  f"Pictures and photographs: {rows[0]['count']} and {rows[0]['sources']}.")]


def shown_pairs(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """Rows of the first perturbation, for AUC and the first kind of means that there are rows of."""
    rows = [row for row in bench.first(rows) if row["metric"] == "auc"]
    kinds = [row["methods"] for row in rows]
    kind = next((name for name in PREFERRED if name in kinds), None)
    return [row for row in rows if row["methods"] == kind]


def ranks(bench: Bench) -> list[Sheet]:
    """Average ranks with the critical difference."""
    rows = sorted(shown_pairs(bench, bench.ranks), key=lambda row: float(row["rank"] or "inf"))
    return [Sheet("ranks", f"Average rank by AUC over {rows[0]['blocks']} photographs, {words(rows[0]['methods'])}",
                  [Column("detector", text=True), Column("rank")],
                  [[Cell(row["detector"]), number(row["rank"], 2)] for row in rows],
                  f"Critical difference {number(rows[0]['critical_difference'], 2).text}, Friedman test "
                  f"p = {number(rows[0]['p'], 4).text}.")] if rows else []


def power(bench: Bench) -> list[Sheet]:
    """What differences the photographs suffice for, by pair of detectors."""
    rows = shown_pairs(bench, bench.power)
    return [Sheet("power", "Power: the smallest difference in AUC found with 80 % probability after correction for all "
                  f"pairs, and what one of {number(rows[0]['wanted'], 3).text} needs",
                  [*(Column(name, text=True) for name in ("first", "second")), *map(Column, (
                      "sd over photographs", "photographs", "smallest difference", "photographs needed",
                      "pictures needed"))],
                  [[Cell(row["first"]), Cell(row["second"]), number(row["sd"]), number(row["sources"], 0),
                    number(row["smallest"]), number(row["sources_needed"], 0), number(row["pictures_needed"], 0)]
                   for row in rows])] if rows else []


def variance(bench: Bench) -> list[Sheet]:
    """Standard deviations over seeds, photographs and pictures, of detectors with several seeds."""
    rows = [row for row in shown_pairs(bench, bench.variance) if int(row["seeds"] or 0) > 1]
    return [Sheet("variance", f"Where AUC varies, {words(rows[0]['methods'])}: standard deviations",
                  [Column("detector", text=True), *map(Column, ("seeds", "between seeds", "between photographs",
                                                                "between pictures"))],
                  [[Cell(row["detector"]), number(row["seeds"], 0), *(number(row[key], 4) for key in (
                      "seed_sd", "source_sd", "picture_sd"))] for row in rows])] if rows else []


def detectors(bench: Bench) -> list[Sheet]:
    """Each detector and seed: where it comes from and what it was trained on."""
    rows = []
    for name, entries in bench.about.get("detectors", {}).items():
        for entry in entries:
            trained = entry.get("trained_on") or {}
            rows.append([
                Cell(name), number(entry.get("seed"), 0),
                *(Cell(entry.get(key) or "–") for key in ("kind", "spec")), Cell((entry.get("digest") or "–")[:12]),
                number(entry.get("parameters"), 0),
                *(Cell("unknown" if trained.get(key) is None else ", ".join(trained[key]) or "nothing")
                  for key in ("methods", "perturbations")),
                *(number(trained.get(key), 0) for key in ("photographs", "pictures_seen"))])
    heads = ("detector", "seed", "kind", "from", "SHA-256", "parameters", "methods", "perturbations", "photographs",
             "pictures seen")
    return [Sheet("detectors", "Detectors, and what they were trained on", [
        Column(name, text=name not in ("seed", "parameters", "photographs", "pictures seen")) for name in heads],
        rows)] if rows else []


def failures(bench: Bench) -> list[Sheet]:
    """Pictures that a detector has no map of, counted by its message."""
    failed = bench.records[bench.records["error"] != ""]
    counts = failed.groupby(["detector", "error"], observed=True).size()
    rows = [[Cell(str(name)), Cell(str(error)), number(int(count), 0)] for (name, error), count in counts.items()]
    return [Sheet("failures", "Maps that could not be made", [
        Column("detector", text=True), Column("message", text=True), Column("maps")], rows)] if rows else []


def figures_of(bench: Bench) -> dict[str, Mapping[str, list[list[list[int] | int | None]]]]:
    """All scores for the script that switches tables: perturbation → metric → row of detector → column →
    [mean, low, high] in thousandths, 0 where undefined, None where there is no row. Order as in `scores`."""
    keys = [*bench.methods, *bench.means]
    return {perturbation: {metric: [[_ends(bench.cells.get((perturbation, name, key)), metric)
                                     for key in keys] for name in bench.detectors] for metric in bench.metrics}
            for perturbation in bench.perturbations}


def failed_of(bench: Bench) -> dict[str, list[list[bool]]]:
    """Where maps are missing, in the same places."""
    keys = [*bench.methods, *bench.means]
    return {perturbation: [[_score(bench, perturbation, name, key, "auc").failed for key in keys]
                           for name in bench.detectors] for perturbation in bench.perturbations}


def _ends(row: Row | None, metric: str) -> list[int] | int | None:
    if row is None:
        return None
    parts = [row.get(f"{metric}{part}") for part in ("", "_low", "_high")]
    return [round(1000 * float(part)) for part in parts if part] if parts[0] else 0


def _score(bench: Bench, perturbation: str, detector: str, method: str, metric: str) -> Cell:
    row = bench.cells.get((perturbation, detector, method))
    if row is None:
        return Cell("–")
    seen = row["seen"]
    if not row.get(metric):
        return Cell("undefined", seen=seen)
    return estimate(row, metric, "" if method in bench.means else seen)


def _apart(bench: Bench, *means: str) -> str:
    """A note where detectors have these means over methods of their own."""
    return "" if all(name in bench.ranked for name in means if name in bench.means) else \
        "Detectors differ in what they were trained on: means over different methods are not compared."


def _trainees(bench: Bench) -> dict[str, dict[str, str]]:
    """Detectors by trainee and training group, in the benchmark's order."""
    found: dict[str, dict[str, str]] = {}
    for name, trained in bench.trainings.items():
        if trained.get("trainee") and trained.get("group") and name in bench.detectors:
            found.setdefault(trained["trainee"], {})[trained["group"]] = name
    return found


def _difference(pair: tuple[Row, int] | None) -> Cell:
    if pair is None or not pair[0]["difference"]:
        return Cell("–")
    row, sign = pair
    value = sign * float(row["difference"])
    p = f"{float(row['p_corrected']):.3f}" if row["p_corrected"] else "undefined"
    mark = ("▲ " if value > 0 else "▼ ") if row["claim"] else ""
    return Cell(f"{mark}{value:+.3f}".replace("-", "−"), value, best=bool(row["claim"]), note=f"p {p}")


def words(mean: str) -> str:
    """What a mean is over."""
    return {"mean unseen": "methods never seen in training", "mean seen": "methods seen in training",
            "mean unknown": "methods that may have been seen in training"}.get(mean, "all methods")
