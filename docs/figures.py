"""Draws the pictures of the documentation that show what the code does.

    python docs/figures.py
"""

import sys
from pathlib import Path

import cv2
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from configs.streams import stream
from detectors import load_shipped
from detectors.inference import predict_map
from forgeries.masks import MASKS, draw_mask
from forgeries.methods import inpaint
from results.metrics import auc

COLOUR = (230, 30, 140)
DRAWN = 3
"""Masks of each kind."""


def mask_sheet(photo: np.ndarray, path: Path) -> None:
    """Each kind of mask on `photo` (RGB uint8 H×W×3), `DRAWN` times, 4 to 25 % of it; two kinds a row."""
    figure = plt.figure(figsize=(9.6, 7), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0)
    places = figure.subfigures(-(-len(MASKS) // 2), 2, wspace=0.04).flat
    for kind, place in zip(MASKS, places, strict=False):
        place.suptitle(kind, fontsize=11)
        for draw, axis in enumerate(place.subplots(1, DRAWN)):
            axis.imshow(_shown(photo, draw_mask(kind, photo, (0.04, 0.25), stream(0, "docs", kind, draw))))
            axis.axis("off")
    figure.canvas.draw()
    # 128 colours are enough for grey and one hue, at a third of the size.
    Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3]).quantize(128).save(path, optimize=True)
    plt.close(figure)


def example(photo: np.ndarray, method: str, name: str, path: Path) -> None:
    """`photo` (RGB uint8 H×W×3) with a region painted by `method` and outlined, beside the map of the package's
    weights `name`; prints the map's AUC."""
    generator = stream(0, "docs", "example")
    mask = draw_mask("blob", photo, (0.06, 0.12), generator)
    forged = inpaint(photo, mask, method, generator)
    found = predict_map(load_shipped(name), forged)
    print(f"{path.name}: AUC {auc(found, mask):.3f}")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 9.6 / 2 * photo.shape[0] / photo.shape[1]),
                                         layout="constrained")
    left.imshow(forged)
    left.contour(mask, [0.5], colors="deepskyblue", linewidths=1.5)
    right.imshow(found, cmap="inferno", vmin=0, vmax=1)
    for axis in (left, right):
        axis.axis("off")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _shown(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The photograph in grey, the mask in colour over it."""
    grey = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)[..., None].repeat(3, 2)
    return np.where(mask[..., None], (0.25 * grey + 0.75 * np.array(COLOUR)).astype(np.uint8), grey)


if __name__ == "__main__":
    from skimage import data
    matplotlib.use("agg")
    mask_sheet(cv2.resize(data.astronaut()[:400, 20:420], (256, 256), interpolation=cv2.INTER_AREA),
               Path(__file__).parent / "masks.png")
    example(data.chelsea(), "RS-P2", "giidnet", Path(__file__).parent / "example.png")
