"""From a map to one score of its picture."""

import re

import numpy as np

POOLINGS = "max, mean, top-SHARE, share-THRESHOLD or p-norm-P, such as top-0.01, share-0.5 and p-norm-8"


def pool(scores: np.ndarray, how: str) -> float:
    """The score of a picture from its map, float H×W in [0, 1]; in [0, 1] too.

    `how` is "max"; "mean"; "top-0.01", the mean of that share of the pixels with the highest scores, one at least (the
    score of `giidnet detect`); "share-0.5", the share of the pixels that score at least so much; or "p-norm-8",
    (mean of score⁸)^⅛, between mean and maximum.

    Raises:
        ValueError: there is no such pooling, or a score is NaN or infinite.
    """
    name, value = _parse(how)
    flat = scores.ravel()
    if not np.isfinite(flat).all():
        raise ValueError("the map has NaN or infinite values")
    if name == "max":
        return float(flat.max())
    if name == "mean":
        return float(flat.mean(dtype=np.float64))
    if name == "top":
        count = max(1, round(value * flat.size))
        return float(np.partition(flat, flat.size - count)[-count:].mean(dtype=np.float64))
    if name == "share":
        return float(np.mean(flat >= np.float64(value)))
    return float(np.mean(flat.astype(np.float64) ** value) ** (1 / value))


def check_pooling(how: str) -> None:
    """Raises ValueError where `how` is no pooling."""
    _parse(how)


def _parse(how: str) -> tuple[str, float]:
    if how in ("max", "mean"):
        return how, 0.0
    found = re.fullmatch(r"(top|share|p-norm)-(\d+(?:\.\d+)?)", how)
    if found:
        name, value = found[1], float(found[2])
        if (value >= 1) if name == "p-norm" else (0 < value <= 1):
            return name, value
    raise ValueError(f"must be {POOLINGS}")
