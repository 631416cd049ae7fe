"""The search space as tables for the terminal."""

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from configs.schema import RunConfig
from detectors.blocks import Decision, Enhancement
from search.network import search_costs
from search_space.cells import scaled
from search_space.cost import Cost, count_cost, extraction_costs
from search_space.genotype import SpaceShape
from search_space.registry import OPERATIONS

WIDE = 1000
"""Columns of a console that breaks no line."""


def show_space(config: RunConfig) -> None:
    """Prints what the space of `config` lets choose, how many genotypes it has, and what these cost."""
    space = SpaceShape.of(config.space)
    # Piped, a row is a line.
    console = Console(width=None if sys.stdout.isatty() else WIDE, markup=False, highlight=False, emoji=False)
    operations = _table(("operation", "what"))
    for name in space.operations:
        operations.add_row(name, OPERATIONS[name].title)
    console.print(operations)
    cells = _table(("cell", "slots", "channels", "stride", "dilation"), right=True)
    for number, (channels, stride, dilation) in enumerate(
            zip(space.channels, space.strides, space.dilations, strict=True), 1):
        cells.add_row(str(number), str(space.slots), str(scaled(channels, config.space.width)), str(stride),
                      str(dilation))
    console.print(cells)
    console.print(f"streams: {_choice(space.streams, config.search.streams)}")
    console.print(f"attention: {_choice(space.attention, ())}")
    console.print(f"map decoded at: 1/{space.decoder} of the picture's sides" if space.decoder > 1 else
                  "map decoded at: the picture's sides")
    console.print(f"genotypes: {_counted(space.size)} = {_product(space)}")
    side, latency = config.forgeries.image_size, config.search.latency
    console.print(f"\nOne picture of {side}×{side}, width {config.space.width:g}, least … largest of all genotypes:")
    costs = _table(("of", "parameters", "FLOPs", *(["milliseconds, as sums of parts"] if latency else [])), right=True)
    for title, (least, largest) in cost_ranges(config).items():
        costs.add_row(title, *(f"{show(getattr(least, key))} … {show(getattr(largest, key))}" for key, show in (
            ("params", "{:,}".format), ("flops", _short), ("latency_ms", "{:.2f}".format)) if
            latency or key != "latency_ms"))
    console.print(costs)


def cost_ranges(config: RunConfig) -> dict[str, tuple[Cost, Cost]]:
    """The least and the largest cost over all genotypes, of the extraction block, of what `search.limits` counts where
    that is more, and of the whole network that is searched, for one training picture."""
    space, width, streams = SpaceShape.of(config.space), config.space.width, config.search.streams
    side, latency = config.forgeries.image_size, config.search.latency
    ranges = {"extraction block": extraction_costs(space, width, side // 2, latency).range()}
    limited = search_costs(space, width, streams, side, latency).range()
    if space.streams or space.attention:
        ranges["what search.limits counts"] = limited
    channels, length = scaled(space.channels[-1], width), -(-side // (2 * space.reduction))
    fixed = Cost()
    if not space.streams:
        fixed += count_cost(Enhancement(streams, width), (1, 3, side, side), latency)
    if not space.attention:
        fixed += count_cost(Decision(channels, 2 * space.reduction, width, resolution=space.decoder),
                            (1, channels, length, length), latency)
    return ranges | {"whole search network": (limited[0] + fixed, limited[1] + fixed)}


def _table(columns: Sequence[str], right: bool = False) -> Table:
    table = Table(box=box.SIMPLE)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if right and index else "left")
    return table


def _choice(options: Sequence[str], fixed: Sequence[str]) -> str:
    return f"{' or '.join(options)}, a choice" if options else f"{'+'.join(fixed) or 'none'}, no choice"


def _product(space: SpaceShape) -> str:
    slots = f"{len(space.operations)}^{space.cells * space.slots}"
    return " × ".join([slots, *(f"{len(options)} {key}" for key, options in (
        ("choices of streams", space.streams), ("of attention", space.attention)) if options)])


def _counted(count: int) -> str:
    return f"{count:,}" if count < 10**15 else f"{count:.2e}"


def _short(count: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return str(count)
