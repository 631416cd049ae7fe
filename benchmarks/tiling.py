"""What cutting pictures into tiles changes: the same forged pictures whole and in tiles.

    python benchmarks/tiling.py CHECKPOINT PHOTOGRAPHS… [--method TE] [--tile N] [--shrink 0.5]

Each photograph is shrunk, forged once (blob mask, 4 to 25 % of it) and mapped whole and in tiles.
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from configs.pictures import read_photo
from configs.streams import stream
from detectors.checkpoints import load_detector
from detectors.inference import default_tile, predict_map
from forgeries.masks import draw_mask
from forgeries.methods import inpaint
from forgeries.photos import scan
from results.metrics import auc


def main() -> None:
    """Prints a line a photograph, then means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("photographs", nargs="+")
    parser.add_argument("--method", default="TE")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--shrink", type=float, default=0.5)
    given = parser.parse_args()
    module = load_detector(given.checkpoint).module
    tile = given.tile or default_tile(module)
    figures = []
    for index, photo in enumerate(scan(given.photographs, tile).photos):
        generator = stream(0, "tiling", index)
        image = cv2.resize(read_photo(photo.path), None, fx=given.shrink, fy=given.shrink, interpolation=cv2.INTER_AREA)
        mask = draw_mask("blob", image, (0.04, 0.25), generator)
        image = inpaint(image, mask, given.method, generator)
        whole, tiled = predict_map(module, image), predict_map(module, image, tile)
        figures.append((auc(whole, mask), auc(tiled, mask), np.abs(whole - tiled).mean(), np.abs(whole - tiled).max()))
        print(f"{photo.name:24} {image.shape[1]}×{image.shape[0]}  AUC whole {figures[-1][0]:.3f}, tiles of {tile} "
              f"{figures[-1][1]:.3f}; mean difference {figures[-1][2]:.4f}, largest {figures[-1][3]:.3f}", flush=True)
    table = np.array(figures)
    change = table[:, 1] - table[:, 0]
    error = 1.96 * change.std(ddof=1) / len(change) ** 0.5 if len(change) > 1 else float("nan")
    print(f"{len(table)} pictures: AUC whole {table[:, 0].mean():.4f}, tiles {table[:, 1].mean():.4f}, change "
          f"{change.mean():+.4f} ± {error:.4f}; mean difference of maps {table[:, 2].mean():.4f}")


if __name__ == "__main__":
    main()
