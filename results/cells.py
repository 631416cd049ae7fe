"""Drawings of genotypes. All lengths are in points."""

from collections.abc import Sequence
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Rectangle
from matplotlib.path import Path

from results.colours import SHORT, operation_colours
from results.plots import PANEL
from search_space.genotype import Genotype, split_parts
from search_space.registry import OPERATIONS

POINTS = 72
WIDTH = PANEL * POINTS
HEAD, END = 62, 26
"""Room for a cell's name, and for the sum at its end."""
BOX, ROW, LINE = 19, 42, 12
"""Heights of a box, of a cell, and of a line of the legend."""
SQUARE, TITLE = 14, 150
"""Side of a slot of a small drawing, and least width of such a drawing."""
INK, SOFT = "#1C2430", "#5B6675"


def draw_genotype(genotype: Genotype) -> Figure:
    """A row for each cell, from its input over the convolution and the slots to the sum with the skip; before and
    after them the streams and the attention where these were chosen; below what the operations are."""
    space = genotype.space
    used = dict.fromkeys(name for cell in genotype.cells for name in cell)
    colours = operation_colours(list(used))
    legend = [(name, line, number == 0) for name in used for number, line in
              enumerate(wrap(OPERATIONS[name].title if name in OPERATIONS else name, 46))]
    beside = sum(bool(part) for part in (genotype.streams, genotype.attention))
    ax = _sheet(WIDTH, ROW * len(genotype.cells) + (BOX + 14) * beside + LINE * len(legend) + 16)
    y = 4.0
    if genotype.streams:
        _parts(ax, y, "streams", genotype.streams)
        y += BOX + 14
    step = (WIDTH - HEAD - END) / (space.slots + 1)
    for number, (cell, stride, dilation) in enumerate(zip(genotype.cells, space.strides, space.dilations, strict=True),
                                                      1):
        middle = y + 16 + BOX / 2
        detail = [f"stride {stride}"] * (stride > 1) + [f"dilation {dilation}"] * (dilation > 1)
        ax.text(2, middle - (4 if detail else 0), f"cell {number}", fontsize=9, weight="bold", color=INK, va="center")
        ax.text(2, middle + 7, ", ".join(detail), fontsize=6, color=SOFT, va="center")
        _cell(ax, middle, step, [("conv 3×3", "#FFFFFF"), *((name, colours[name]) for name in cell)])
        y += ROW
    if genotype.attention:
        _parts(ax, y + 8, "attention", genotype.attention)
        y += BOX + 14
    y += 12
    for name, line, first in legend:
        if first:
            ax.add_patch(Rectangle((2, y), 10, 8, facecolor=colours[name], edgecolor="#444444", linewidth=0.6))
            ax.text(17, y + 4.5, name, fontsize=7.5, weight="bold", color=INK, va="center")
        ax.text(84, y + 4.5, line, fontsize=7.5, color=SOFT, va="center")
        y += LINE
    return ax.figure  # type: ignore[return-value]


def draw_genotypes(genotypes: Sequence[tuple[str, Genotype]]) -> Figure:
    """A small drawing of each (title, genotype): a column of squares for each cell, its slots from above, and a legend
    of their letters."""
    space = genotypes[0][1].space
    names = dict.fromkeys(name for _, genotype in genotypes for cell in genotype.cells for name in cell)
    colours = operation_colours(list(names))
    columns = max(1, int(WIDTH // max(TITLE, space.cells * SQUARE + 14)))
    height = SQUARE * space.slots + 32
    lines = -(-len(genotypes) // columns)
    across = max(1, min(len(names), int(WIDTH // 76)))
    ax = _sheet(WIDTH, height * lines + LINE * -(-len(names) // across) + 10)
    for index, (title, genotype) in enumerate(genotypes):
        x, y = WIDTH / columns * (index % columns) + 2, height * (index // columns) + 16
        ax.text(x, y - 8, title, fontsize=7.5, weight="bold", color=INK, va="center")
        for i, cell in enumerate(genotype.cells):
            for j, name in enumerate(cell):
                _square(ax, x + i * SQUARE, y + j * SQUARE, name, colours[name])
        chosen = [f"{key} {value}" for key, value in (("streams", genotype.streams),
                                                      ("attention", genotype.attention)) if value]
        ax.text(x, y + SQUARE * space.slots + 7, ", ".join(chosen), fontsize=6, color=SOFT, va="center")
    for index, name in enumerate(names):
        x, y = WIDTH / across * (index % across) + 2, height * lines + 4 + LINE * (index // across)
        _square(ax, x, y, name, colours[name], LINE - 2)
        ax.text(x + LINE + 2, y + LINE / 2 - 1, name, fontsize=7, color=SOFT, va="center")
    return ax.figure  # type: ignore[return-value]


def _sheet(width: float, height: float) -> Axes:
    """Axes over a whole new figure, in points from its upper left corner."""
    ax = Figure(figsize=(width / POINTS, height / POINTS)).add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(height, 0))
    ax.set_axis_off()
    return ax


def _cell(ax: Axes, middle: float, step: float, boxes: Sequence[tuple[str, str]]) -> None:
    start, end = HEAD + 2, WIDTH - END + 8
    ax.plot([start, end - 5], [middle, middle], color=INK, linewidth=1, zorder=1)
    above = middle - BOX / 2 - 12
    ax.add_patch(PathPatch(Path([(start, middle), (start, above), (end, above), (end, middle - 5)],
                                [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]),
                           fill=False, edgecolor=SOFT, linestyle=(0, (4, 3)), linewidth=0.9))
    ax.add_patch(Circle((start, middle), 2.5, color=INK))
    for index, (label, colour) in enumerate(boxes):
        _box(ax, HEAD + 8 + index * step, middle - BOX / 2, step - 7, label, colour)
    ax.add_patch(Circle((end, middle), 5, facecolor="white", edgecolor=INK, linewidth=1, zorder=2))
    ax.plot([end - 3, end + 3], [middle, middle], color=INK, linewidth=1, zorder=3)
    ax.plot([end, end], [middle - 3, middle + 3], color=INK, linewidth=1, zorder=3)
    ax.annotate("", (WIDTH - 1, middle), (end + 4, middle),
                arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 1, "shrinkA": 0, "shrinkB": 0})


def _parts(ax: Axes, y: float, label: str, option: str) -> None:
    """A row that names what was chosen, a box for each part."""
    ax.text(2, y + BOX / 2, label, fontsize=9, weight="bold", color=INK, va="center")
    parts = split_parts(option) or ("none",)
    step = (WIDTH - HEAD - END) / max(4, len(parts))
    for index, part in enumerate(parts):
        _box(ax, HEAD + 8 + index * step, y, step - 7, part, "#FFFFFF")


def _box(ax: Axes, x: float, y: float, width: float, label: str, colour: str) -> None:
    ax.add_patch(FancyBboxPatch((x, y), width, BOX, boxstyle="round,pad=0,rounding_size=4", facecolor=colour,
                                edgecolor="#444444", linewidth=0.9, zorder=2))
    # The widest letters take two thirds of their height.
    size = min(8.5, 1.5 * width / max(1, len(label)))
    ax.text(x + width / 2, y + BOX / 2 + 0.5, label, fontsize=size, weight="bold", color="#111111", ha="center",
            va="center", zorder=3)


def _square(ax: Axes, x: float, y: float, name: str, colour: str, side: float = SQUARE) -> None:
    ax.add_patch(Rectangle((x, y), side, side, facecolor=colour, edgecolor="white", linewidth=0.8))
    ax.text(x + side / 2, y + side / 2 + 0.5, SHORT.get(name, name[:2]), fontsize=side * 0.47, color="#111111",
            ha="center", va="center")
