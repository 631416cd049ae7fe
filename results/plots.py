"""Plots as figures, and figures as SVG text, the same bytes for the same numbers."""

import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator

from results.colours import BLUE, GREEN, ORANGE, SKY, VERMILION, series_colours
from search_space.cost import pareto

MARKERS = "os^Dv*X"
GREY = "#8A8A8A"

PANEL, WHOLE = 4.4, 9.0
"""Inches: a panel fills a telephone's width and half a page; what is wider is scrolled on a telephone."""

FEW = 300
"""Points that are drawn one by one; more are one picture, for the size of the file."""

Row = Mapping[str, str]


def curves(histories: Mapping[str, Sequence[Row]], key: str, label: str) -> Figure:
    """A line of column `key` over the epochs for each history; only one has no legend, many have it above."""
    many = len(histories) > len(MARKERS)
    figure, ax = panel(3.0 + 0.09 * len(histories) * many)
    colours = series_colours(list(histories))
    for i, (name, history) in enumerate(histories.items()):
        rows = [row for row in history if row.get(key)]
        ax.plot([int(row["epoch"]) for row in rows], [float(row[key]) for row in rows],
                marker=MARKERS[i % len(MARKERS)], markersize=_mark(len(rows)), color=colours[name], label=name)
    _epochs(ax, label)
    if many:
        _legend_above(ax, 2)
    elif len(histories) > 1:
        ax.legend(frameon=False, fontsize=8)
    return figure


def candidate_scores(exact: Sequence[float], raced: Sequence[float], chosen: float | None, label: str) -> Figure:
    """Distribution of the candidates' scores, those over all pictures and those over some told apart."""
    figure, ax = panel()
    count = len(exact) + len(raced)
    bins = np.histogram_bin_edges([*exact, *raced], min(24, max(5, count // 3)))
    parts = [(values, colour, f"{title} ({len(values)})") for values, colour, title in
             ((exact, BLUE, "on all pictures"), (raced, "#D9D9D9", "raced out")) if values]
    values, colours, titles = zip(*parts, strict=True)
    ax.hist(values, bins=list(bins), stacked=True, color=colours, edgecolor="white", label=titles)
    if chosen is not None:
        ax.axvline(chosen, color=VERMILION, label="chosen")
    ax.set(xlabel=label, ylabel="candidates")
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_above(ax, 3)
    return figure


def score_against_cost(exact: Sequence[tuple[float, float]], raced: Sequence[tuple[float, float]],
                       chosen: tuple[float, float] | None, cost: str, label: str) -> Figure:
    """Candidates by (cost, score), with the front of those that no cheaper one reaches."""
    figure, ax = panel()
    rasterized = len(exact) + len(raced) > FEW
    if raced:
        ax.scatter(*_columns(raced), s=12, facecolor="none", edgecolor="#BBBBBB", linewidth=0.8,
                   label="raced out", rasterized=rasterized)
    if exact:
        ax.scatter(*_columns(exact), s=14, color=SKY, label="on all pictures", rasterized=rasterized)
        front = sorted(exact[index] for index in pareto(exact))
        ax.step(*_columns([*front, (max(cost for cost, _ in exact), front[-1][1])]), where="post", color=BLUE,
                label="Pareto front", linewidth=1.4)
        ax.plot(*_columns(front), "o", markersize=5, color=BLUE)
    if chosen is not None:
        ax.plot(*chosen, "*", markersize=13, color=VERMILION, markeredgecolor="white", label="chosen", zorder=4)
    ax.set(xlabel=cost, ylabel=label)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    _legend_above(ax, 4)
    return figure


def architecture_maps(rows: Sequence[Row], columns: int = 6) -> Figure:
    """Heat maps, one a choice, of its options' weights over the epochs; a dot at the strongest option at the end.

    All choices have the same options, which are named once a row.
    """
    labels, options = (list(dict.fromkeys(row[key] for row in rows)) for key in ("label", "option"))
    epochs = sorted({int(row["epoch"]) for row in rows})
    values = np.full((len(labels), len(options), len(epochs)), np.nan)
    for row in rows:
        values[labels.index(row["label"]), options.index(row["option"]), epochs.index(int(row["epoch"]))] = \
            float(row["weight"])
    columns = min(columns, len(labels))
    lines = -(-len(labels) // columns)
    # A single map has room for letters of the usual size.
    height, small, size = (0.3 + 0.115 * len(options), 6.5, 8) if columns > 1 else (0.8 + 0.25 * len(options), 8, 9)
    figure = Figure(figsize=(WHOLE if columns > 1 else PANEL, 0.4 + height * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for index, (label, strengths, ax) in enumerate(zip(labels, values, axes, strict=False)):
        image = ax.imshow(strengths, cmap="cividis", vmin=0, vmax=float(np.nanmax(values)), aspect="auto",
                          interpolation="none", extent=(epochs[0] - 0.5, epochs[-1] + 0.5, len(options) - 0.5, -0.5))
        ax.plot(epochs[-1], int(np.nanargmax(strengths[:, -1])), "o", markersize=4, color=VERMILION,
                markeredgecolor="white", markeredgewidth=0.6, clip_on=False, zorder=3)
        ax.set_title(label.replace("_slot", ", slot ").replace("cell", "cell "), fontsize=size, pad=2)
        ax.tick_params(labelsize=small, length=2, pad=1)
        first, lowest = index % columns == 0, index + columns >= len(labels)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1) if lowest else NullLocator())
        ax.set_yticks(range(len(options)) if first else [], options if first else [])
    for ax in axes[len(labels):]:
        ax.set_axis_off()
    figure.supxlabel("epoch", fontsize=size)
    bar = figure.colorbar(image, ax=list(axes), aspect=14, pad=0.01, shrink=min(1.0, 1.6 / (height * lines)))
    bar.set_label("weight", fontsize=small)
    bar.ax.tick_params(labelsize=small, length=2)
    return figure


def ranks_over_epochs(rows: Sequence[Row]) -> Figure:
    """Rank of each probe after each epoch; the three that end best in colour."""
    epochs = sorted({int(row["epoch"]) for row in rows})
    scores = {(row["genotype"], int(row["epoch"])): float(row["auc"]) for row in rows}
    names = list(dict.fromkeys(row["genotype"] for row in rows))
    ranks: dict[str, list[int]] = {name: [] for name in names}
    for epoch in epochs:
        for rank, name in enumerate(sorted(names, key=lambda name: -scores[name, epoch]), 1):
            ranks[name].append(rank)
    figure, ax = panel()
    best = sorted(names, key=lambda name: ranks[name][-1])
    colours = dict(zip(best, (BLUE, ORANGE, GREEN), strict=False))
    for name in reversed(best):
        ax.plot(epochs, ranks[name], marker="o", markersize=_mark(len(epochs)),
                linewidth=2.2 if name in colours else 1.2, color=colours.get(name, "#C4C4C4"))
    _epochs(ax, "rank of a probe, 1 is best")
    ax.set_yticks(range(1, len(names) + 1))
    ax.invert_yaxis()
    ax.grid(False)
    return figure


def agreement_over_epochs(epochs: Sequence[int], to_last: Sequence[float], to_previous: Sequence[float]) -> Figure:
    """Kendall's τ of the probes' ranking with that after the last epoch, and with that after the epoch before."""
    figure, ax = panel()
    for values, colour, marker, label in ((to_last, BLUE, "o", "with the last epoch's"),
                                          (to_previous, VERMILION, "s", "with the epoch before's")):
        ax.plot(epochs, values, marker=marker, markersize=_mark(len(epochs)), color=colour, label=label)
    ax.axhline(0, color=GREY, linestyle="--", linewidth=1)
    _epochs(ax, "Kendall τ of the probes' ranking")
    ax.set_ylim(-1.05, 1.05)
    _legend_above(ax, 2)
    return figure


def against_random_plot(scores: Mapping[str, Sequence[float]], random: float, low: float, high: float, label: str,
                        ) -> Figure:
    """A row of dots, one a seed, for each genotype, the first being the chosen one, with its mean.

    `low` and `high` are the interval of the difference between the chosen one and `random`, the mean of the others; it
    is drawn from that mean on, so that an interval over the dashed line holds 0.
    """
    names = list(scores)
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    figure, ax = panel(1.3 + 0.24 * len(names))
    for y, name in enumerate(names):
        colour = VERMILION if y == 0 else BLUE
        ax.plot(scores[name], [y] * len(scores[name]), "o", markersize=5, color=colour, alpha=0.6,
                markeredgewidth=0, label="a seed" if y == 1 else None)
        ax.plot([means[name]] * 2, [y - 0.3, y + 0.3], color=colour, linewidth=2.2)
    if np.isfinite([low, high]).all():
        ax.plot([random + low, random + high], [-0.55, -0.55], color="#222222", linewidth=1.6, marker="|",
                markersize=7, label="95 % interval of the difference")
    ax.axvline(random, color=GREY, linestyle="--", linewidth=1, label="mean of random ones")
    ax.set(yticks=range(len(names)), yticklabels=names, xlabel=label, ylim=(len(names) - 0.4, -1))
    ax.grid(axis="y", visible=False)
    _legend_above(ax, 3)
    return figure


def inherited_against_alone(inherited: Sequence[float], alone: Sequence[float], spread: Sequence[float],
                            label: str) -> Figure:
    """Architectures by inherited and by stand-alone score, with the standard deviation over seeds; the one that
    inherited weights call best is marked."""
    figure, ax = panel(3.4)
    best = int(np.argmax(inherited))
    ax.errorbar(inherited, alone, spread, fmt="o", markersize=5, color=BLUE, ecolor=SKY, elinewidth=1.4,
                label="mean ± sd over seeds")
    ax.plot(inherited[best], alone[best], "*", markersize=14, color=VERMILION, markeredgecolor="white", zorder=4,
            label="best by inherited weights")
    ax.set(xlabel=f"{label}, inherited weights", ylabel=f"{label}, trained alone")
    _legend_above(ax, 2)
    return figure


def svg(figure: Figure) -> str:
    """The figure as an `<svg>` element, whose text is text."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "giidnet", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None}, dpi=180)
    found = text.getvalue()
    return found[found.index("<svg"):]


def panel(height: float = 3.0, width: float = PANEL) -> tuple[Figure, Axes]:
    """A figure of one plot, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    ax = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", alpha=0.25)
    ax.set_axisbelow(True)
    return figure, ax


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _epochs(ax: Axes, label: str) -> None:
    ax.set(xlabel="epoch", ylabel=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _mark(count: int) -> float:
    """Size of the marks on a line of `count` points, so that they do not run together."""
    return min(5.0, 80 / count)


def _legend_above(ax: Axes, columns: int) -> None:
    """Outside of the axes, where it covers nothing."""
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside upper left", frameon=False, fontsize=8,
                     ncols=columns, columnspacing=1.0, handlelength=1.4, handletextpad=0.5)
