"""Contact sheets: many pictures and their overlays on a page, the most suspicious first."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

SIDE = 320
"""Longest side of a thumbnail in pixels."""

PAGE = 24
"""Pictures on a page."""

COLUMNS = 6
"""Thumbnails in a row of a page, at most, unless one picture needs more."""


@dataclass(frozen=True)
class Thumbnail:
    """A picture and its overlays, small and packed (JPEG), with the score of each detector."""

    name: str
    packed: tuple[bytes, ...]
    scores: tuple[float, ...]

    @classmethod
    def of(cls, name: str, image: np.ndarray, overlays: Sequence[np.ndarray], scores: Sequence[float]) -> "Thumbnail":
        """From RGB uint8 H×W×3 pictures."""
        return cls(name, tuple(map(_pack, (image, *overlays))), tuple(scores))


def contact_sheets(thumbnails: Sequence[Thumbnail], detectors: Sequence[str]) -> Iterator[bytes]:
    """PNG pages of `PAGE` pictures, each beside the overlays of `detectors`, by falling score of the first of these."""
    ranked = sorted(thumbnails, key=lambda thumbnail: -thumbnail.scores[0])
    for start in range(0, len(ranked), PAGE):
        yield _page(ranked[start:start + PAGE], detectors)


def _page(thumbnails: Sequence[Thumbnail], detectors: Sequence[str]) -> bytes:
    wide = 1 + len(detectors)
    groups = max(1, min(COLUMNS // wide, len(thumbnails)))
    rows = -(-len(thumbnails) // groups)
    layout = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.05, wspace=0.02, hspace=0.02)
    figure = Figure(figsize=(2.1 * groups * wide, 2.35 * rows), dpi=110, layout=layout)
    axes = figure.subplots(rows, groups * wide, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for index, thumbnail in enumerate(thumbnails):
        row, group = divmod(index, groups)
        titles = [_short(thumbnail.name), *(f"{name if len(detectors) > 1 else 'score'} {score:.2f}" for name, score in
                                            zip(detectors, thumbnail.scores, strict=True))]
        for column, (data, title) in enumerate(zip(thumbnail.packed, titles, strict=True)):
            ax = axes[row, group * wide + column]
            ax.imshow(_unpack(data))
            ax.set_title(title, fontsize=8, pad=3, fontweight="normal" if column else "bold")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _short(name: str, longest: int = 26) -> str:
    """A file name that fits above its thumbnail, and is no formula to the plotter."""
    name = name if len(name) <= longest else f"{name[:longest // 2 - 1]}…{name[-longest // 2:]}"
    return name.replace("$", r"\$")


def _pack(image: np.ndarray) -> bytes:
    scale = min(1.0, SIDE / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _unpack(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1]
