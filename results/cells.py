"""Drawings of genotypes."""

from collections.abc import Sequence
from html import escape

from results.colours import operation_colours

BOX, GAP, HEIGHT, TOP = 104, 22, 30, 38


def draw_genotype(cells: Sequence[Sequence[str]], strides: Sequence[int], dilations: Sequence[int]) -> str:
    """SVG text: a row for each cell, from its input over the convolution and the slots to the sum with the skip."""
    slots = len(cells[0])
    width = 150 + (slots + 1) * (BOX + GAP) + 60
    row = HEIGHT + TOP + 14
    colours = operation_colours([name for cell in cells for name in cell])
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {row * len(cells) + 6}" '
             f'style="max-width:{width}px;width:100%" role="img" font-family="sans-serif" font-size="13">']
    for index, (cell, stride, dilation) in enumerate(zip(cells, strides, dilations, strict=True)):
        y = row * index + TOP
        middle = y + HEIGHT / 2
        detail = f"stride {stride}, dilation {dilation}"
        parts.append(f'<text x="4" y="{middle - 3}" font-weight="600" fill="currentColor">cell {index + 1}</text>'
                     f'<text x="4" y="{middle + 13}" font-size="11" fill="currentColor" opacity=".65">{detail}</text>')
        start, x = 128, 150
        end = x + (slots + 1) * (BOX + GAP) + 8
        parts.append(f'<line x1="{start}" y1="{middle}" x2="{end - 9}" y2="{middle}" stroke="currentColor"/>'
                     f'<path d="M{start},{middle} C{start},{y - 26} {end},{y - 26} {end},{middle - 8}" fill="none" '
                     f'stroke="currentColor" stroke-dasharray="4 3" opacity=".7"/>'
                     f'<circle cx="{start}" cy="{middle}" r="4" fill="currentColor"/>')
        for label, colour in (("conv 3×3", "#FFFFFF"), *((name, colours[name]) for name in cell)):
            parts.append(f'<rect x="{x}" y="{y}" width="{BOX}" height="{HEIGHT}" rx="6" fill="{colour}" stroke="#444"/>'
                         f'<text x="{x + BOX / 2}" y="{middle + 5}" text-anchor="middle" fill="#111" '
                         f'font-weight="600">{escape(label)}</text>')
            x += BOX + GAP
        parts.append(f'<circle cx="{end}" cy="{middle}" r="9" fill="none" stroke="currentColor"/>'
                     f'<text x="{end}" y="{middle + 5}" text-anchor="middle" fill="currentColor">+</text>'
                     f'<line x1="{end + 9}" y1="{middle}" x2="{end + 26}" y2="{middle}" stroke="currentColor"/>')
    return "".join([*parts, "</svg>"])

