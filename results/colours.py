"""Colours that people with any colour vision tell apart (Okabe & Ito 2008), and what stands for an operation."""

from collections.abc import Sequence

BLUE, ORANGE, GREEN, PINK, SKY, VERMILION = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00"

SERIES = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY)
"""For lines and points."""

_FILLS = {"sep3": SKY, "relu_sep3": ORANGE, "relu_sep5": "#2FB58C", "identity": "#E4E4E4", "relu_sep7": "#F0E442",
          "dil_sep3": PINK, "group3": "#B9A3E3", "se_sep3": "#E88A5A", "highpass5": "#9CC7C0"}
_MORE = ("#8FB8A8", "#C9A27E", "#B8B0E0", "#E8A090")

SHORT = {"sep3": "s3", "relu_sep3": "r3", "relu_sep5": "r5", "identity": "id", "relu_sep7": "r7", "dil_sep3": "d3",
         "group3": "g3", "se_sep3": "se", "highpass5": "hp"}
"""Two letters for small drawings: colours alone are too many to tell apart."""


def operation_colours(names: Sequence[str]) -> dict[str, str]:
    """Fill, bright enough for black text, of each operation; the known ones keep theirs in every report."""
    spare = iter(_MORE * (1 + len(names) // len(_MORE)))
    return {name: _FILLS.get(name) or next(spare) for name in dict.fromkeys(names)}


def series_colours(names: Sequence[str]) -> dict[str, str]:
    """Colour of each line or set of points, in the given order."""
    return {name: SERIES[index % len(SERIES)] for index, name in enumerate(names)}
