"""Plots as inline SVG text, the same bytes for the same figures."""

import io
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.colours import BLUE, SKY, VERMILION, series_colours

MARKERS = "os^Dv*X"

Row = Mapping[str, str]


def search_curve(history: Sequence[Row]) -> str:
    """Training loss and validation AUC over the epochs of the supernet."""
    figure, axes = _figure(2, 3.0)
    epochs = [int(row["epoch"]) for row in history]
    for ax, key, label in zip(axes, ("train_loss", "val_auc"), ("training loss", "validation AUC of sampled paths"),
                              strict=True):
        ax.plot(epochs, [float(row[key]) for row in history], marker="o", color=BLUE)
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure)


def candidate_plot(candidates: Sequence[Row]) -> str:
    """Distribution of the candidates' scores, and score against cost; the best one marked."""
    figure, (left, right) = _figure(2, 3.0)
    scores = [float(row["auc"]) for row in candidates]
    flops = [float(row["flops"]) / 1e6 for row in candidates]
    best = max(range(len(scores)), key=scores.__getitem__)
    left.hist(scores, bins=min(20, max(5, len(scores) // 3)), color=SKY, edgecolor="white")
    left.axvline(scores[best], color=VERMILION)
    left.set(xlabel="validation AUC, inherited weights", ylabel="candidates")
    right.scatter(flops, scores, s=14, color=BLUE, alpha=0.7)
    right.scatter([flops[best]], [scores[best]], s=70, marker="*", color=VERMILION, label="best", zorder=3)
    right.set(xlabel="MFLOP of the extraction block", ylabel="validation AUC")
    right.legend(frameon=False)
    return _svg(figure)


def training_curves(histories: Mapping[str, Sequence[Row]]) -> str:
    """Training loss and validation AUC of each detector over epochs."""
    figure, axes = _figure(2, 3.2)
    colours = series_colours(list(histories))
    for ax, key, label in zip(axes, ("train_loss", "val_auc"), ("training loss", "validation AUC"), strict=True):
        for i, (name, history) in enumerate(histories.items()):
            ax.plot([int(row["epoch"]) for row in history], [float(row[key]) for row in history],
                    marker=MARKERS[i % len(MARKERS)], color=colours[name], label=name)
        ax.set(xlabel="epoch", ylabel=label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(frameon=False)
    return _svg(figure)


def auc_by_method(rows: Sequence[Row], methods: Sequence[str]) -> str:
    """Mean AUC with its interval, a group for each method; hollow where the detector never saw the method."""
    figure, (ax,) = _figure(1, 3.6)
    detectors = list(dict.fromkeys(row["detector"] for row in rows))
    colours, step = series_colours(detectors), 0.7 / max(1, len(detectors))
    for i, name in enumerate(detectors):
        colour, marker = colours[name], MARKERS[i % len(MARKERS)]
        for row in rows:
            if row["detector"] != name or row["method"] not in methods or not row["auc"]:
                continue
            x = methods.index(row["method"]) + (i - (len(detectors) - 1) / 2) * step
            ax.plot([x, x], [float(row["auc_low"]), float(row["auc_high"])], color=colour, linewidth=2)
            ax.plot([x], [float(row["auc"])], marker=marker, markersize=8, color=colour,
                    markerfacecolor=colour if row["seen"] == "seen" else "white")
        ax.plot([], [], marker=marker, color=colour, label=name)
    ax.axhline(0.5, color="#777777", linestyle="--", linewidth=1)
    ax.text(len(methods) - 0.5, 0.505, "chance", ha="right", va="bottom", fontsize=9, color="#777777")
    ax.set(xticks=range(len(methods)), xticklabels=methods, ylabel="mean AUC per picture",
           xlim=(-0.5, len(methods) - 0.5))
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=4)
    return _svg(figure)


def _figure(columns: int, height: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9, height), layout="constrained")
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", alpha=0.25)
    return figure, axes


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "giidnet", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg"):]
