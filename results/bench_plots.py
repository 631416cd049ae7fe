"""The benchmark's figures. Of many detectors the leading ones have colours, the others are grey."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from configs.errors import UserError
from forgeries.perturbations import OPERATIONS, parse
from results.bench_tables import shown_pairs, size_rows
from results.bench_view import AUTHENTIC, Bench, Row
from results.colours import BLUE, SERIES, VERMILION
from results.metrics import Curve
from results.metrics.bins import BINS, RANGE
from results.plots import GREY, MARKERS, PANEL, WHOLE, panel

COLOURS = (*SERIES, "#333333")
FAINT = "#C4C9D0"

POINTS = 200
"""Of a curve, at most."""

NEUTRAL = {"jpeg": 103.0, "webp": 103.0, "resize": 1.0, "scale": 1.0, "crop": 1.0, "blur": 0.0, "noise": 0.0,
           "median": 1.0, "gamma": 1.0, "sharpen": 0.0}
"""Where the unperturbed picture stands on an operation's axis: beyond any quality, at factor 1 or strength 0."""

FALLING = frozenset({"jpeg", "webp", "resize", "crop"})
"""Operations that do more the smaller their value is; their axis is turned round."""

LABEL = 44
"""Letters of a line below a panel."""


@dataclass(frozen=True)
class Style:
    """How a detector is drawn; `shown` ones are in the legend."""

    colour: str
    marker: str
    width: float
    order: int
    shown: bool


def styles(bench: Bench) -> dict[str, Style]:
    """By detector: a colour and a marker of its own for the leading ones."""
    count = len(bench.detectors) if len(bench.detectors) <= len(COLOURS) else len(COLOURS) - 1
    return {name: Style(COLOURS[index], MARKERS[index % len(MARKERS)], 1.8, 3, True) if index < count
            else Style(FAINT, ".", 0.9, 1, False) for index, name in enumerate(bench.detectors)}


def bench_figures(bench: Bench) -> dict[str, Figure]:
    """All figures by name, as far as there are results for them."""
    if not bench.summary:
        return {}
    histograms = bench.histograms(bench.unseen)
    return auc_by_method(bench) | robustness(bench) | sizes(bench) | (
        {"roc": roc(bench, histograms), "precision_recall": precision_recall(bench, histograms),
         "pixel_scores": pixel_scores(histograms)} if histograms else {}) | picture_scores(bench) | critical(bench)


def auc_by_method(bench: Bench) -> dict[str, Figure]:
    """Mean AUC with its interval, a group for each method; hollow where the detector never saw the method."""
    methods, looks = list(bench.methods), styles(bench)
    if not methods:
        return {}
    figure, ax = panel(3.6, max(WHOLE, 0.5 * len(methods)))
    step = 0.72 / max(1, sum(look.shown for look in looks.values()))
    for index, (name, look) in enumerate(looks.items()):
        offset = (index - 0.5) * step - 0.36 + step if look.shown else 0.0
        for x, method in enumerate(methods):
            row = bench.cells.get((bench.perturbations[0], name, method))
            if row is None or not row["auc"]:
                continue
            if look.shown and row["auc_low"]:
                ax.plot([x + offset] * 2, [float(row["auc_low"]), float(row["auc_high"])], color=look.colour, zorder=3)
            ax.plot(x + offset, float(row["auc"]), look.marker, markersize=6, color=look.colour, zorder=look.order,
                    markerfacecolor=look.colour if row["seen"] == "seen" or not look.shown else "white")
    _chance(ax, len(methods) - 0.5)
    ax.set(xticks=range(len(methods)), xticklabels=methods, ylabel="mean AUC per picture",
           xlim=(-0.5, len(methods) - 0.5))
    if len(methods) > 10:
        ax.tick_params(axis="x", labelsize=8)
    _legend(figure, looks)
    return {"auc_by_method": figure}


def robustness(bench: Bench) -> dict[str, Figure]:
    """A panel for each operation, AUC against its value, and rows of points for chains and drawn values."""
    values: dict[str, dict[str, float]] = {}
    chains = []
    for name in bench.perturbations:
        place = _value(name)
        if place is None:
            chains += [name] if name != "none" else []
        else:
            values.setdefault(place[0], {})[name] = place[1]
    figures = {}
    # One scale for all operations, so that panels can be compared.
    drawn = [float(row[end]) for (_, _, method), row in bench.cells.items() for end in ("auc_low", "auc_high")
             if method == bench.main and row[end]]
    for operation, places in values.items():
        if "none" in bench.perturbations:
            places["none"] = NEUTRAL[operation]
        figures[f"robustness_{operation}"] = figure = _operation(bench, operation, places)
        if drawn:
            figure.axes[0].set_ylim(min(drawn) - 0.02, max(drawn) + 0.02)
    if chains:
        figures["robustness_chains"] = _dots(bench, {name: name.replace("+", " + ") for name in chains}, {
            (detector, name): row for (name, detector, method), row in bench.cells.items() if method == bench.main},
                                               bench.trained_after)
    return figures


def sizes(bench: Bench) -> dict[str, Figure]:
    """AUC by the share of the picture that is masked, and by the kind of mask."""
    rows = size_rows(bench)
    figures = {}
    for factor in dict.fromkeys(row["factor"] for row in rows):
        levels = list(dict.fromkeys(row["level"] for row in rows if row["factor"] == factor))
        cells = {(row["detector"], row["level"]): row for row in rows if row["factor"] == factor}
        if factor != "mask fraction":
            figures[factor.replace(" ", "_")] = _dots(bench, {level: level for level in levels}, cells)
            continue
        figure, ax = panel(3.2)
        _lines(ax, bench, {level: float(index) for index, level in enumerate(levels)}, cells)
        ax.set(xticks=range(len(levels)), xticklabels=levels, xlabel="share of the picture that was inpainted",
               ylabel="mean AUC per picture")
        _legend(figure, styles(bench))
        figures["mask_fraction"] = figure
    return figures


def roc(bench: Bench, histograms: Mapping[str, np.ndarray]) -> Figure:
    """Receiver operating characteristic of all pixels together."""
    figure, ax = panel(4.0)
    ax.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="chance")
    for name, look in styles(bench).items():
        if name in histograms:
            counts = Curve(histograms[name]).counts
            false, true = (np.append(shares, 0.0)[::-1] for shares in (counts.false_alarm, counts.recall))
            keep = _thin(false, true)
            ax.plot(false[keep], true[keep], color=look.colour, linewidth=look.width, zorder=look.order)
            _sparse_marks(ax, false[keep], true[keep], look)
    ax.set(xlabel="share of pristine pixels flagged", ylabel="share of inpainted pixels found", xlim=(-0.01, 1.01),
           ylim=(-0.01, 1.01))
    _legend(figure, styles(bench))
    return figure


def precision_recall(bench: Bench, histograms: Mapping[str, np.ndarray]) -> Figure:
    """Precision against recall of all pixels together, with the share of inpainted pixels, which chance reaches."""
    figure, ax = panel(4.0)
    for name, look in styles(bench).items():
        if name in histograms:
            counts = Curve(histograms[name]).counts
            some = counts.true + counts.false > 0
            recall, precision = (shares[some][::-1] for shares in (counts.recall, counts.precision))
            keep = _thin(recall, precision)
            ax.plot(recall[keep], precision[keep], color=look.colour, linewidth=look.width, zorder=look.order)
            _sparse_marks(ax, recall[keep], precision[keep], look)
    pixels = sum(histograms.values()).sum(1)  # type: ignore[union-attr]
    ax.axhline(pixels[1] / pixels.sum(), color=GREY, linestyle="--", linewidth=1, label="chance")
    ax.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    _legend(figure, styles(bench))
    return figure


def pixel_scores(histograms: Mapping[str, np.ndarray]) -> Figure:
    """For each detector the distribution of pixels' scores, pristine and inpainted ones apart, over the logit."""
    edges = np.linspace(-RANGE, RANGE, BINS // 16 + 1)

    def draw(ax: Axes, name: str) -> None:
        for counts, colour, label in zip(histograms[name], (BLUE, VERMILION), ("pristine", "inpainted"), strict=True):
            shares = counts.reshape(-1, 16).sum(1) / max(1, counts.sum())
            ax.stairs(shares, edges, fill=True, color=colour, alpha=0.35, label=label)
            ax.stairs(shares, edges, color=colour, linewidth=1.2, linestyle="-" if label == "pristine" else "--")
        ax.set_xticks([-9.21, -4.6, 0, 4.6, 9.21], ["10⁻⁴", ".01", ".5", ".99", "1−10⁻⁴"], fontsize=6)

    return _multiples(list(histograms), draw, "score of a pixel (logarithmic to both ends)")


def picture_scores(bench: Bench) -> dict[str, Figure]:
    """For each detector the distribution of pictures' scores, forged and authentic ones apart."""
    frame = bench.records
    frame = frame[frame["score"].notna() & (frame["perturbation"] == bench.perturbations[0])]
    if not (frame["method"] == AUTHENTIC).any():
        return {}
    scores = {str(name): part for name, part in frame.groupby("detector", observed=True)}

    def draw(ax: Axes, name: str) -> None:
        part = scores[name]
        edges = np.histogram_bin_edges(part["score"].to_numpy(float), 30)
        for authentic, colour, label in ((True, BLUE, "authentic"), (False, VERMILION, "forged")):
            values = part["score"][(part["method"] == AUTHENTIC) == authentic].to_numpy(float)
            shares = np.histogram(values, edges)[0] / max(1, len(values))
            ax.stairs(shares, edges, fill=True, color=colour, alpha=0.35, label=label)
            ax.stairs(shares, edges, color=colour, linewidth=1.2, linestyle="-" if authentic else "--")

    return {"picture_scores": _multiples([name for name in bench.detectors if name in scores], draw,
                                         "score of a picture")}


def critical(bench: Bench) -> dict[str, Figure]:
    """Average ranks, best on the left; a bar joins those that differ by less than the critical difference (Demšar,
    Statistical Comparisons of Classifiers over Multiple Data Sets, 2006, figure 1)."""
    rows = sorted((row for row in shown_pairs(bench, bench.ranks) if row["rank"]), key=lambda row: float(row["rank"]))
    if len(rows) < 2:
        return {}
    ranks = [float(row["rank"]) for row in rows]
    width = float(rows[0]["critical_difference"] or "nan")
    bars = _joined(ranks, width)
    half = (len(rows) + 1) // 2
    figure = Figure(figsize=(WHOLE, 1.1 + 0.24 * half + 0.13 * len(bars)), layout="constrained")
    ax = figure.subplots()
    low, high = int(np.floor(min(ranks))), int(np.ceil(max(ranks)))
    # The axis is at height 0; the bars and then the names hang below it.
    pad, depth = 0.42 * max(1, high - low), 0.5 * len(bars) + 0.6
    ax.plot([low, high], [0, 0], color="black", linewidth=1.2)
    for tick in range(low, high + 1, max(1, (high - low) // 10)):
        ax.plot([tick, tick], [0, 0.25], color="black", linewidth=1)
        ax.text(tick, 0.4, str(tick), ha="center", va="bottom", fontsize=9)
    if np.isfinite(width):
        ax.plot([low, low + width], [1.7, 1.7], color="black", linewidth=1.2, marker="|", markersize=7)
        ax.text(low + width / 2, 1.9, f"critical difference {width:.2f}", ha="center", va="bottom", fontsize=8)
    for index, (row, rank) in enumerate(zip(rows, ranks, strict=True)):
        left = index < half
        y = -depth - (index if left else len(rows) - 1 - index)
        end = low - 0.02 * pad if left else high + 0.02 * pad
        ax.plot([rank, rank, end], [0, y, y], color="#555555", linewidth=0.9)
        label = f"{row['detector']}  {rank:.2f}" if left else f"{rank:.2f}  {row['detector']}"
        ax.text(end, y, f" {label} ", ha="right" if left else "left", va="center", fontsize=9)
    for index, (start, end) in enumerate(bars):
        ax.plot([ranks[start] - 0.04, ranks[end] + 0.04], [-0.5 * (index + 1)] * 2, color=VERMILION, linewidth=4,
                solid_capstyle="round")
    ax.set(xlim=(low - pad, high + pad), ylim=(-depth - half + 0.3, 3.2))
    ax.set_axis_off()
    return {"critical_difference": figure}


def _joined(ranks: Sequence[float], width: float) -> list[tuple[int, int]]:
    """First and last of each largest run of sorted `ranks` that lie within `width`, of two or more."""
    ends = [max(index for index, rank in enumerate(ranks) if rank - start <= width or rank == start)
            for start in ranks]
    return [(start, end) for start, end in enumerate(ends) if end > start and (start == 0 or ends[start - 1] < end)]


def _value(name: str) -> tuple[str, float] | None:
    """Operation and value of a perturbation that is one operation of one value."""
    try:
        steps = parse(name)
    except UserError:
        return None
    return (steps[0].operation, steps[0].low) if len(steps) == 1 and steps[0].low == steps[0].high else None


def _operation(bench: Bench, operation: str, places: Mapping[str, float]) -> Figure:
    figure, ax = panel(3.0, PANEL)
    cells = {(detector, name): row for (name, detector, method), row in bench.cells.items()
             if method == bench.main and name in places}
    _lines(ax, bench, dict(sorted(places.items(), key=lambda item: item[1])), cells, bench.trained_after)
    ticks = {place: "none" if name == "none" else f"{place:g}" for name, place in places.items()}
    ax.set_xticks(list(ticks), list(ticks.values()), fontsize=8)
    if operation in FALLING:
        ax.invert_xaxis()
    ax.set(xlabel=fill(f"{operation}: {OPERATIONS[operation].meaning.split(';')[0]}", LABEL),
           ylabel="mean AUC per picture")
    _legend(figure, styles(bench))
    return figure


def _lines(ax: Axes, bench: Bench, places: Mapping[str, float], cells: Mapping[tuple[str, str], Row],
           trained: Collection[tuple[str, str]] | None = None) -> None:
    """A line with its band for each detector; `cells` are rows by detector and place. Points are hollow where the
    detector was not `trained` on that, if that is asked."""
    for name, look in styles(bench).items():
        rows = [(x, cells[name, place], trained is None or (name, place) in trained) for place, x in places.items()
                if (name, place) in cells and cells[name, place]["auc"]]
        if not rows:
            continue
        x = [x for x, *_ in rows]
        middle, low, high = ([float(row[key] or nan) for _, row, _ in rows] for key in ("auc", "auc_low", "auc_high"))
        ax.plot(x, middle, color=look.colour, linewidth=look.width, zorder=look.order)
        for at, y, (*_, filled) in zip(x, middle, rows, strict=True):
            ax.plot(at, y, look.marker, markersize=5, color=look.colour, zorder=look.order,
                    markerfacecolor=look.colour if filled or not look.shown else "white")
        if look.shown:
            ax.fill_between(x, low, high, color=look.colour, alpha=0.13, linewidth=0)


def _dots(bench: Bench, names: Mapping[str, str], cells: Mapping[tuple[str, str], Row],
          trained: Collection[tuple[str, str]] | None = None) -> Figure:
    """A row for each of `names` (title by key), a point with its interval for each detector, hollow as in `_lines`."""
    looks = styles(bench)
    shown = sum(look.shown for look in looks.values())
    figure, ax = panel(0.9 + len(names) * (0.2 + 0.09 * shown), WHOLE if max(map(len, names)) > 16 else PANEL)
    for index, (name, look) in enumerate(looks.items()):
        for y, key in enumerate(names):
            row = cells.get((name, key))
            if row is None or not row["auc"]:
                continue
            place = y + (0.7 * ((index + 0.5) / shown - 0.5) if look.shown else 0)
            if look.shown and row["auc_low"]:
                ax.plot([float(row["auc_low"]), float(row["auc_high"])], [place] * 2, color=look.colour, zorder=3)
            filled = trained is None or (name, key) in trained or not look.shown
            ax.plot(float(row["auc"]), place, look.marker, markersize=5, color=look.colour, zorder=look.order,
                    markerfacecolor=look.colour if filled else "white")
    ax.set(yticks=range(len(names)), yticklabels=list(names.values()), ylim=(len(names) - 0.5, -0.5),
           xlabel="mean AUC per picture")
    ax.grid(axis="y", visible=False)
    ax.grid(axis="x", alpha=0.25)
    ax.tick_params(axis="y", labelsize=8)
    _legend(figure, looks)
    return figure


def _thin(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of at most `POINTS` points, evenly along the curve, ends included."""
    length = np.append(0, np.cumsum(np.hypot(np.diff(x), np.diff(y))))
    return np.unique(np.searchsorted(length, np.linspace(0, length[-1], POINTS)).clip(0, len(x) - 1))


def _sparse_marks(ax: Axes, x: np.ndarray, y: np.ndarray, look: Style) -> None:
    """A few markers on a line: colours alone do not tell all apart."""
    if look.shown:
        at = np.linspace(0, len(x) - 1, 8).astype(int)[1:-1]
        ax.plot(x[at], y[at], look.marker, markersize=4.5, color=look.colour, zorder=look.order)


def _multiples(names: Sequence[str], draw: Callable[[Axes, str], None], label: str) -> Figure:
    """A small panel for each detector with the same axes, drawn by `draw(ax, name)`."""
    columns = min(4, len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(WHOLE if columns > 2 else PANEL, 0.9 + 1.45 * lines), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False, sharex=True).flat)
    for name, ax in zip(names, axes, strict=False):
        draw(ax, name)
        ax.set_title(name, fontsize=9, pad=2)
        ax.set_yticks([])
        ax.tick_params(axis="x", labelsize=6.5)
        ax.spines[["top", "right", "left"]].set_visible(False)
    for ax in axes[len(names):]:
        ax.set_axis_off()
    figure.supxlabel(label, fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", frameon=False, fontsize=8, ncols=2)
    return figure


def _chance(ax: Axes, right: float) -> None:
    ax.axhline(0.5, color="#777777", linestyle="--", linewidth=1)
    ax.text(right, 0.505, "chance", ha="right", va="bottom", fontsize=8, color="#666666")


def _legend(figure: Figure, looks: Mapping[str, Style]) -> None:
    """The detectors that have colours, above, and that the others are grey."""
    ax = figure.axes[0]
    for name, look in looks.items():
        if look.shown:
            ax.plot([], [], marker=look.marker, color=look.colour, label=name)
    if not all(look.shown for look in looks.values()):
        ax.plot([], [], marker=".", color=FAINT, label=f"{sum(not look.shown for look in looks.values())} others")
    columns = 2 if figure.get_figwidth() <= PANEL else 4
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper left", frameon=False, fontsize=8, ncols=columns,
                  columnspacing=1.0, handlelength=1.6, handletextpad=0.5)
