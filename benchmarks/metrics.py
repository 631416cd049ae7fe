"""Metrics of maps against scikit-learn: time per picture on one core, in turns in one process, and memory over many.

    python benchmarks/metrics.py [--side 256] [--turns 40] [--pictures 10000]

Maps are float32: of a detector that mostly finds the region, before (`logits`) and after the sigmoid, the same pushed
into saturation, the same in 8 bits, and random numbers. The AUC of both must agree to 10⁻¹².
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn import metrics as sklearn

sys.path.insert(0, str(Path(__file__).parent.parent))

from configs.streams import stream
from results.metrics import auc, rank, score_map
from results.metrics.streaming import Authentic, PictureMean, PooledCurve


def maps(side: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Maps float32 side×side by kind, and the mask bool of a seventh of their pixels."""
    draw = stream(0, "benchmark", "metrics", side)
    mask = np.zeros((side, side), bool)
    mask[side // 3:2 * side // 3, side // 4:2 * side // 3] = True
    coarse, fine = (cv2.GaussianBlur(draw.standard_normal((side, side)), (0, 0), sigma) * sigma for sigma in (8, 1))
    logits = (6 * coarse + 3 * cv2.GaussianBlur(mask.astype(np.float64), (0, 0), 3) - 2 + fine / 2).astype(np.float32)
    found = {"sigmoid": 1 / (1 + np.exp(-logits)), "saturated": 1 / (1 + np.exp(-6 * logits)),
             "8 bits": np.round(255 / (1 + np.exp(-logits))) / 255, "random": draw.random((side, side)),
             "logits": logits}
    return {kind: scores.astype(np.float32) for kind, scores in found.items()}, mask


def in_turns(works: Sequence[Callable[[], object]], turns: int) -> list[float]:
    """Median seconds of the processor of each of the works, which take turns."""
    taken = np.empty((turns, len(works)))
    for turn in range(turns):
        for number, work in enumerate(works):
            start = time.process_time()
            work()
            taken[turn, number] = time.process_time() - start
    return np.median(taken, 0).tolist()


def sklearn_numbers(scores: np.ndarray, mask: np.ndarray) -> list[float]:
    """What of `score_map` scikit-learn has, a call each; the best F1 from its precision–recall curve."""
    truth, flat = mask.ravel(), scores.ravel()
    found = [sklearn.roc_auc_score(truth, flat), sklearn.average_precision_score(truth, flat)]
    for threshold in (0.5, 0.3):
        found += [function(truth, flat >= threshold) for function in
                  (sklearn.f1_score, sklearn.jaccard_score, sklearn.matthews_corrcoef)]
    found += [function(truth, flat >= 0.5) for function in
              (sklearn.precision_score, sklearn.recall_score, sklearn.balanced_accuracy_score)]
    precision, recall, _ = sklearn.precision_recall_curve(truth, flat)
    return [*found, float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12)))]


def speed(side: int, turns: int) -> Iterator[str]:
    """Rows of a table: AUC alone, all metrics, and the histogram from the same ranking."""
    found, mask = maps(side)
    for kind, scores in found.items():
        if abs(auc(scores, mask) - sklearn.roc_auc_score(mask.ravel(), scores.ravel())) > 1e-12:
            raise AssertionError(f"{kind}: the AUC differs from that of scikit-learn")
        theirs, ours, all_theirs, all_ours = in_turns([
            lambda scores=scores: sklearn.roc_auc_score(mask.ravel(), scores.ravel()),
            lambda scores=scores: auc(scores, mask), lambda scores=scores: sklearn_numbers(scores, mask),
            lambda scores=scores: score_map(scores, mask, 0.3)], turns)
        ranked = rank(scores, mask)
        histogram = "–" if kind == "logits" else f"{1e3 * in_turns([ranked.histogram], turns)[0]:.2f} ms"
        yield (f"| {kind} | {auc(scores, mask):.3f} | {1e3 * theirs:.2f} ms | {1e3 * ours:.2f} ms | "
               f"{theirs / ours:.1f}× | {1e3 * all_theirs:.1f} ms | {1e3 * all_ours:.2f} ms | "
               f"{all_theirs / all_ours:.1f}× | {histogram} |")


def memory(side: int, pictures: int) -> str:
    """Peak memory of this process after a tenth of the pictures and after all, all streaming metrics at once."""
    found, mask = maps(side)
    batch = torch.from_numpy(np.stack([found["sigmoid"], found["saturated"], found["8 bits"], found["random"]]))
    masks = torch.from_numpy(np.stack([mask] * 4))
    streams = PictureMean(), PooledCurve(), Authentic()
    peaks = []
    for step in range(1, pictures // 4 + 1):
        for metric in streams:
            metric.update(batch, masks)
        if step in (pictures // 40, pictures // 4):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return f"peak memory after {pictures // 10} pictures {peaks[0]:.1f} MB, after {pictures} {peaks[-1]:.1f} MB"


def main() -> None:
    """Prints a table, and a line on memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--pictures", type=int, default=10_000)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    print("| map | AUC | scikit-learn | here | faster | its calls together | score_map | faster | histogram |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in speed(given.side, given.turns):
        print(row, flush=True)
    if given.pictures:
        print(memory(given.side, given.pictures))


if __name__ == "__main__":
    main()
