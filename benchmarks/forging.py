"""Speed of forging on one core: methods, masks, the loader against a bare loop, the cache, and memory of large sets.

    python benchmarks/forging.py [methods] [masks] [loader] [cache] [memory] [index] [--photos DIR…] [--repeat N]

Without names, everything. `loader` counts pictures that `ForgeryDataset` makes in one process with one thread, as each
worker of a loader does, and those of a bare loop that decodes the same files, cuts a square and makes a tensor of it;
both in turns, in one run. Without --photos, the photographs inside scikit-image, cut to JPEG files of 480×320.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from configs.pictures import read_photo
from configs.schema import Photos
from configs.streams import stream
from forgeries import dataset as dataset_module
from forgeries import list_masks
from forgeries.cache import PaintCache
from forgeries.dataset import ForgeryDataset, Recipe, make_loader, to_tensor
from forgeries.index import Photo, PhotoList
from forgeries.masks import draw_mask
from forgeries.methods import find_method, list_methods
from forgeries.photos import find_photos, scan

SIZES = (128, 256)
FRACTION = (0.04, 0.25)
MASKS = ("rectangle", "stroke", "blob")
CLASSES = {"fast": 100, "medium": 10, "slow": 0}
PARTS = ("methods", "masks", "loader", "cache", "memory", "index")
LARGE = 100_000


def photographs(places: list[str], folder: Path) -> PhotoList:
    """Those at the places, or 64 JPEG files of 480×320 that are cut from scikit-image's."""
    if places:
        return scan(places, max(SIZES)).photos
    found = find_photos(Photos(), max(SIZES)).train
    for number in range(64):
        image = read_photo(found[number % len(found)].path)
        generator, height, width = stream(0, "cut", number), *image.shape[:2]
        top, left = int(generator.integers(height - 319)), int(generator.integers(width - 479))
        cv2.imwrite(str(folder / f"{number:03d}.jpg"), image[top:top + 320, left:left + 480, ::-1],
                    [cv2.IMWRITE_JPEG_QUALITY, 95])
    return scan([folder], max(SIZES)).photos


def median_rate(work: Callable[..., object], *arguments: Sequence[object]) -> float:
    """Calls per second by the median time of a call, over `arguments` in parallel; the first one is not counted."""
    times = []
    for values in zip(*arguments, strict=True):
        start = time.perf_counter()
        work(*values)
        times.append(time.perf_counter() - start)
    return 1 / float(np.median(times[1:]))


def squares(photos: PhotoList, size: int, count: int) -> list[np.ndarray]:
    """Squares of the photographs."""
    return [dataset_module.draw_square(photos[i % len(photos)], size, None, stream(0, "square", i))
            for i in range(count)]


def time_methods(photos: PhotoList, repeat: int) -> None:
    """Pictures per second and core of each method, and whether its declared class is that of 128²."""
    print(f"{'method':8} {'declared':9}" + "".join(f"{f'{size}² /s':>10}" for size in SIZES))
    for name in list_methods():
        method, rates = find_method(name), []
        for size in SIZES:
            count = max(4, repeat // (1 if method.speed == "fast" else 5))
            images = squares(photos, size, count)
            masks = [draw_mask("blob", image, FRACTION, stream(0, "mask", i)) for i, image in enumerate(images)]
            rates.append(median_rate(method.paint, images, masks, [stream(0, i) for i in range(count)]))
        found = next(label for label, least in CLASSES.items() if rates[0] >= least)
        print(f"{name:8} {method.speed:9}" + "".join(f"{rate:10.1f}" for rate in rates)
              + ("" if found == method.speed else f"   measured: {found}"), flush=True)


def time_masks(photos: PhotoList, repeat: int) -> None:
    """Masks per second and core."""
    print(f"{'mask':10}" + "".join(f"{f'{size}² /s':>10}" for size in SIZES))
    for kind in list_masks():
        rates = []
        for size in SIZES:
            images = squares(photos, size, repeat)
            rates.append(median_rate(draw_mask, [kind] * repeat, images, [FRACTION] * repeat,
                                     [stream(0, kind, i) for i in range(repeat)]))
        print(f"{kind:10}" + "".join(f"{rate:10.1f}" for rate in rates), flush=True)


def bare(photos: PhotoList, size: int, i: int) -> torch.Tensor:
    """Decode, cut, tensor."""
    pixels = read_photo(photos[i % len(photos)].path)
    generator = stream(0, "bare", i)
    top, left = (int(generator.integers(side - size + 1)) for side in pixels.shape[:2])
    return to_tensor(np.ascontiguousarray(pixels[top:top + size, left:left + size]))


def anew(forgeries: ForgeryDataset, i: int) -> object:
    """Item `i`, with its photograph decoded for it."""
    dataset_module._decoded.cache.clear()
    return forgeries[i]


def rate(work: Callable[[int], object], items: range) -> float:
    """Items per second."""
    start = time.perf_counter()
    for i in items:
        work(i)
    return len(items) / (time.perf_counter() - start)


def time_loader(photos: PhotoList, repeat: int) -> None:
    """Fast methods, against the bare loop: the first pass over a training set, further ones, and further ones over a
    set that is too large to keep its photographs decoded."""
    print(f"{'method':8} {'size':>5} {'bare /s':>9}" + "".join(f" {word:>9} {'ratio':>6}"
                                                              for word in ("first", "further", "decoding")))
    for size in SIZES:
        for name in (name for name in list_methods() if find_method(name).speed == "fast"):
            rounds = []
            for _ in range(5):
                with tempfile.TemporaryDirectory() as folder:
                    recipe = Recipe((name,), MASKS, FRACTION, size, cache=PaintCache(Path(folder), 2 ** 30))
                    forgeries = ForgeryDataset(photos, recipe, 0, "speed", repeat)
                    works = [partial(bare, photos, size), forgeries.__getitem__, forgeries.__getitem__,
                             partial(anew, forgeries)]
                    rounds.append([rate(work, range(repeat)) for work in works])
            base, *rates = np.median(rounds, 0)
            print(f"{name:8} {size:4}² {base:9.0f}" + "".join(f" {found:9.0f} {found / base:6.2f}" for found in rates),
                  flush=True)


def time_cache(photos: PhotoList, repeat: int) -> None:
    """Slow methods: the first pass over a training set, and the second."""
    print(f"{'method':8} {'size':>5} {'first /s':>9} {'second /s':>10} {'faster':>7}")
    for size in SIZES:
        for name in (name for name in list_methods() if find_method(name).speed != "fast"):
            count = max(4, repeat // 5)
            with tempfile.TemporaryDirectory() as folder:
                recipe = Recipe((name,), MASKS, FRACTION, size, cache=PaintCache(Path(folder), 2 ** 30))
                forgeries = ForgeryDataset(photos, recipe, 0, "speed", count)
                find_method(name).paint(np.zeros((32, 32, 3), np.uint8), np.eye(32, dtype=bool), stream(0))
                first, second = (rate(forgeries.__getitem__, range(count)) for _ in range(2))
            print(f"{name:8} {size:4}² {first:9.1f} {second:10.1f} {second / first:6.1f}×", flush=True)


def proportional(pid: int) -> float:
    """Memory of a process in MB, in which a page that n processes share counts as 1/n."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1]) / 1024


def large_set(photos: PhotoList) -> Iterator[Photo]:
    """A hundred thousand entries that lead to the same few files."""
    for i in range(LARGE):
        photo = photos[i % len(photos)]
        yield Photo(photo.path, f"{photo.name}-{i:06d}", f"{photo.source}-{i:06d}", f"{i:064x}")


def measure_memory(photos: PhotoList, repeat: int) -> None:
    """Memory of two loader workers over a set of 100,000 photographs, after the first batch and after many."""
    small, large = ForgeryDataset(photos, RECIPE, 0, "memory", LARGE), \
        ForgeryDataset(PhotoList(large_set(photos)), RECIPE, 0, "memory", LARGE)
    print(f"{'photographs':>12} {'batches':>8} {'worker MB':>20}")
    for forgeries in (small, large):
        iterator = iter(make_loader(forgeries, 8, 2))
        for batch in range(1, 10 * repeat + 1):
            next(iterator)
            # By then every photograph that is kept decoded was seen.
            if batch in (3 * repeat, 10 * repeat):
                workers = "".join(f"{proportional(worker.pid):10.1f}" for worker in iterator._workers)
                print(f"{len(forgeries.photos):12,} {batch:8} {workers}", flush=True)
    print(f"largest of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def time_index(photos: PhotoList, repeat: int) -> None:
    """First and second look at a folder of 100,000 small files, and what this process then holds."""
    with tempfile.TemporaryDirectory() as name:
        folder, generator = Path(name), np.random.default_rng(0)
        for i in range(LARGE):
            pixels = cv2.resize(generator.integers(0, 256, (32, 32, 3), np.uint8), (64, 64))
            (folder / f"{i:06d}.jpg").write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
        print(f"{'look':8} {'seconds':>8} {'photographs':>12} {'MB':>8}")
        for look in ("first", "second"):
            start = time.perf_counter()
            found = scan([folder], 32).photos
            print(f"{look:8} {time.perf_counter() - start:8.1f} {len(found):12,} {proportional(os.getpid()):8.0f}",
                  flush=True)


RECIPE = Recipe(("TE",), MASKS, FRACTION, 64)


def main() -> None:
    """Prints a table for each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--photos", nargs="+", default=[])
    parser.add_argument("--repeat", type=int, default=60)
    given = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    works = {"methods": time_methods, "masks": time_masks, "loader": time_loader, "cache": time_cache,
             "memory": measure_memory, "index": time_index}
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("GIIDNET_CACHE", folder)
        (Path(folder) / "photos").mkdir()
        photos = photographs(given.photos, Path(folder) / "photos")
        print(f"{len(photos)} photographs, masks of {FRACTION[0]:.0%} to {FRACTION[1]:.0%}, one core, OpenCV "
              f"{cv2.__version__}, torch {torch.__version__}")
        for part in given.parts or PARTS:
            print(f"\n{part}")
            works[part](photos, given.repeat)


if __name__ == "__main__":
    main()
