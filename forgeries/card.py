"""The data card of a forged dataset: what is in it, how it was made, and what it can be used for."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from forgeries.dataset import Recipe
from forgeries.methods import find_method

Row = Mapping[str, Any]


def data_card(recipe: Recipe, rows: Sequence[Row], seed: int) -> str:
    """Markdown text that describes the dataset whose manifest has `rows`."""
    methods = {find_method(spec).name: find_method(spec) for spec in recipe.methods}
    by_method = Counter(row["method"] for row in rows)
    fractions = np.array([float(row["mask_fraction"]) for row in rows])
    sizes = Counter(f"{row['width']} × {row['height']}" for row in rows)
    kinds = Counter(row["mask_kind"] for row in rows)
    photos, scenes = ({row[key] for row in rows} for key in ("digest", "source_id"))
    low, middle, high = np.quantile(fractions, (0, 0.5, 1))
    lines = [
        "# Forged pictures with exact masks", "",
        f"{len(rows):,} pictures, forged by {_count(len(methods), 'inpainting method')} from "
        f"{_count(len(photos), 'photograph')} of {_count(len(scenes), 'scene')}. Made by giidnet "
        f"{version('giidnet')} with seed {seed}; the same arguments (`recipe.json`) give the same bytes.", "",
        "## Methods", "",
        *_table(("method", "pictures", "kind", "what", "source", "pixels outside of the mask"),
                ((name, f"{by_method[name]:,}", method.kind, method.title, method.source,
                  "as in the original" if method.composite else "made anew too") for name, method in methods.items())),
        "", "All methods painted the same holes of the same pictures, so they can be compared case by case.", "",
        "## Masks", "",
        f"Share of a picture that was painted: median {middle:.3f}, from {low:.3f} to {high:.3f}.", "",
        *_table(("kind", "pictures"), ((kind, f"{number:,}") for kind, number in sorted(kinds.items()))), "",
        "## Pictures", "",
        *_table(("width × height", "pictures"), ((size, f"{number:,}") for size, number in sizes.most_common(10))), "",
        f"Scaled down from squares of the photographs by a factor drawn from {recipe.shrink[0]} to {recipe.shrink[1]}, "
        "as far as these are large enough, which removes the traces of their own compression." if recipe.shrink else
        "Cut from the photographs at their own scale: where these were compressed, the painted region lacks the traces "
        "of it, and a detector can learn that instead.", "",
        f"After forging: {', '.join(recipe.perturbations)}"
        f"{' (one drawn for each picture)' if len(recipe.perturbations) > 1 else ''}. "
        "`manifest.csv` tells what was applied to each.", "",
        "## Files", "",
        "```", "<METHOD>/images/<name>.png      the forged picture", "<METHOD>/masks/<name>.png       255 = inpainted",
        "<METHOD>/originals/<name>.png   the same square before forging, and before what came after it",
        "manifest.csv                    a row for each picture", "recipe.json                     what it was made of",
        "```", "",
        "## Use", "",
        "For training and testing detectors of inpainting. Pictures with the same `source_id` show the same scene and "
        "are not independent: keep them in one split, and resample by scene in confidence intervals. The regions were "
        "chosen at random, not as a forger chooses them. The photographs' own terms hold for what was made of them; "
        "`digest` is the SHA-256 of the photograph's file.", "",
    ]
    return "\n".join(lines)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows)]
