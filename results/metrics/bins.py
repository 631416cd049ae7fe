"""The bins of histograms of scores: uniform in the logit z = ln(p / (1 − p)), so that they are as fine near 0 and 1,
where maps have most of their pixels, as anywhere."""

import numpy as np

BINS = 1024
RANGE = 16.0
"""The bins divide [−16, 16] of the logit; scores beyond it are in the first and the last one."""


def _probability(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


EDGES: np.ndarray = np.append(0.0, _probability(np.arange(1, BINS) * (2 * RANGE / BINS) - RANGE))
"""Where each bin begins, float64; 0.5 is among them, and a score equal to an edge is in the bin that it begins."""

CENTRES: np.ndarray = _probability((np.arange(BINS) + 0.5) * (2 * RANGE / BINS) - RANGE)
"""The score in the middle of each bin, float64."""
