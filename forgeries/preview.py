"""One picture that shows what every method does to the same hole."""

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from configs.errors import UserError
from configs.pictures import read_photo
from configs.streams import stream
from forgeries.masks import draw_mask
from forgeries.methods import find_method

ACROSS = 3
"""Methods in a row."""

SPAN = 64
"""Grey levels of difference that are shown as the brightest."""

LETTERS = 68
"""Room for the text over two pictures."""

COLOURS = "inferno"

CELL = 1.75
"""Inches of a picture."""


def preview_case(photo: Path | None, kind: str, side: int = 192) -> tuple[np.ndarray, np.ndarray]:
    """A square of the photograph (default scikit-image's cat), RGB uint8 side×side×3, and a hole, bool side×side.

    Raises:
        UserError: no photograph there.
    """
    import cv2
    if photo is None:
        import skimage
        pixels = read_photo(Path(skimage.__file__).parent / "data" / "chelsea.png")[:, 75:375]
    else:
        pixels = read_photo(photo)
    least = min(pixels.shape[:2])
    top, left = ((length - least) // 2 for length in pixels.shape[:2])
    image = cv2.resize(pixels[top:top + least, left:left + least], (side, side), interpolation=cv2.INTER_AREA)
    return image, draw_mask(kind, image, (0.12, 0.16), stream(0, "preview"))


def draw_preview(image: np.ndarray, mask: np.ndarray, methods: Sequence[str], seed: int = 0) -> bytes:
    """PNG of `image` (RGB uint8 H×W×3) as each method paints `mask` (bool H×W), with the differences to the original:
    mean over the channels, in grey levels from 0 to `SPAN`. A method that cannot paint it says so."""
    rows = -(-(len(methods) + 1) // ACROSS)
    figure = Figure(figsize=(2 * ACROSS * CELL, rows * (CELL + 0.45) + 0.75))
    top = 1 - 0.35 / figure.get_figheight()
    grid = figure.subplots(rows, 2 * ACROSS, squeeze=False, gridspec_kw={
        "left": 0.01, "right": 0.99, "top": top, "bottom": 0.75 / figure.get_figheight(), "wspace": 0.03,
        "hspace": 0.45 / CELL})
    for axes in grid.ravel():
        axes.set_axis_off()
    pairs = iter(grid.reshape(-1, 2))
    outlined = np.where(mask[..., None], (0.35 * image + 0.65 * np.array([230, 40, 40])).astype(np.uint8), image)
    _pair(next(pairs), "Original", "and the hole in red", image, outlined)
    for axes, name in zip(pairs, methods, strict=False):
        method = find_method(name)
        try:
            painted = method.paint(image, mask, np.random.default_rng(seed))
        except UserError as error:
            _pair(axes, method.name, str(error), image, np.zeros(mask.shape))
            continue
        difference = np.abs(painted.astype(np.int16) - image).mean(2)
        _pair(axes, method.name, f"{method.title} – {method.source}", painted, difference)
    scale = figure.add_axes((0.35, 0.5 / figure.get_figheight(), 0.3, 0.1 / figure.get_figheight()))
    colours = figure.colorbar(ScalarMappable(Normalize(0, SPAN), COLOURS), scale, orientation="horizontal")
    colours.set_label("difference to the original, grey levels", fontsize=8)
    colours.ax.tick_params(labelsize=8)
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=110, metadata={"Software": None})
    return data.getvalue()


def _pair(places: np.ndarray, name: str, text: str, left: np.ndarray, right: np.ndarray) -> None:
    """Two pictures under a heading."""
    places[0].imshow(left, interpolation="nearest")
    places[1].imshow(right, interpolation="nearest", cmap=COLOURS, vmin=0, vmax=SPAN)
    short = textwrap.shorten(text, LETTERS, placeholder=" …")
    places[0].text(0, 1.11, name, transform=places[0].transAxes, fontsize=10, fontweight="bold")
    places[0].text(0, 1.03, short, transform=places[0].transAxes, fontsize=7, color="#555555")
