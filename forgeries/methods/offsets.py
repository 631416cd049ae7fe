"""Patch-offset statistics: the hole is put together from a few shifted copies of the picture, cut where they agree."""

from dataclasses import dataclass

import numpy as np

from forgeries.methods.method import Method
from forgeries.methods.poisson import poisson_fill
from forgeries.methods.region import blanked, whole_patches

SIDES = (8, 6, 4, 3)
"""Sides of the patches that are matched, in pixels: the first of which the picture has a whole one; 8 in the paper."""
LABELS = 60
"""Dominant offsets (paper, section 4.2)."""
FREQUENCIES = (*((0, down, across) for down in range(4) for across in range(4 - down)), (1, 0, 0), (2, 0, 0))
"""Colour plane, vertical and horizontal frequency of the numbers that patches are compared by."""
QUERIES, NEIGHBOURS = 2000, 24
"""Patches, spread evenly, that are matched, and how many of the most similar to each are looked at."""
NODES = 2500
"""The graph that is cut has at most about so many nodes; of a larger hole, squares of pixels share a label."""
SWEEPS = 2
"""Times that each offset is offered to all pixels."""
INVALID = 100_000
"""Cost of a pixel whose source is unknown; above any sum of differences at a pixel."""


def _offset_statistics(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """He & Sun 2014 (sections 3–4; 2012 at ECCV).

    Differences from the paper: the seam cost is the norm of colour differences, not its square, so that it is a metric
    and each cut optimal (Boykov et al. 2001); pixels that no dominant offset serves get the offsets that serve most of
    them; large holes are labelled by squares of pixels instead of at a reduced size, so that offsets stay exact.

    Raises:
        UserError: the mask leaves no patch of the smallest side whole.
    """
    known = np.where(mask[..., None], np.uint8(0), image)
    offsets = _cover(_dominant_offsets(blanked(image, mask), mask), mask)
    pixels = np.argwhere(mask)
    labels = _label(known, mask, pixels, offsets)
    return _blend(known, mask, pixels, offsets[labels])


def _dominant_offsets(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Up to `LABELS` offsets (row, column), int K×2, between similar patches that are not near each other, most
    frequent first."""
    import cv2
    from scipy.spatial import KDTree
    side, whole = whole_patches(mask, SIDES, "OS")
    places = np.argwhere(whole)
    query = np.linspace(0, len(places) - 1, min(QUERIES, len(places))).astype(int)
    keys = _descriptors(image, places, side)
    found = KDTree(keys).query(keys[query], k=np.arange(1, min(NEIGHBOURS, len(places)) + 1))[1]
    # Neighbouring patches look alike wherever the picture is smooth: they say nothing of its structure (section 3.1).
    moves = places[found] - places[query][:, None]
    far = np.hypot(*np.moveaxis(moves, -1, 0)) >= max(mask.shape) / 15
    chosen = moves[np.arange(len(query)), far.argmax(1)][far.any(1)]
    height, width = mask.shape
    counts = np.zeros((2 * height - 1, 2 * width - 1), np.float32)
    for sign in (-1, 1):  # similarity is mutual
        np.add.at(counts, (height - 1 + sign * chosen[:, 0], width - 1 + sign * chosen[:, 1]), 1)
    smooth = cv2.GaussianBlur(counts, (0, 0), 2**0.5, borderType=cv2.BORDER_CONSTANT)
    peaks = np.argwhere((smooth == cv2.dilate(smooth, np.ones((9, 9)))) & (counts > 0))
    order = np.argsort(-smooth[*peaks.T], kind="stable")[:LABELS]
    return peaks[order] - (height - 1, width - 1)


def _descriptors(image: np.ndarray, places: np.ndarray, side: int) -> np.ndarray:
    """What the patches at `places` look like, float32 N×12: `FREQUENCIES` of the cosine transform of their luma and the
    means of their chroma, in scales that make Euclidean distances those of the patches, were nothing left out."""
    import cv2
    planes = cv2.split(cv2.cvtColor(image.astype(np.float32), cv2.COLOR_RGB2YCrCb))
    waves = np.cos(np.pi / side * np.outer(np.arange(4), np.arange(side) + 0.5)) * np.sqrt(2 / side)
    waves[0] /= np.sqrt(2)
    return np.stack([cv2.sepFilter2D(planes[plane], -1, waves[across], waves[down])[*places.T]
                     for plane, down, across in FREQUENCIES], 1)


def _cover(offsets: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`offsets` and, for pixels of the hole that none of them leads to a known pixel, those that serve most of them."""
    from scipy.signal import fftconvolve
    left = mask & ~np.logical_or.reduce([_moved(~mask, offset) for offset in offsets], initial=False)
    while left.any():
        served = fftconvolve((~mask).astype(float), left[::-1, ::-1].astype(float))
        best = np.array(np.unravel_index(served.round().argmax(), served.shape)) - np.array(mask.shape) + 1
        offsets = np.concatenate([offsets, best[None]])
        left &= ~_moved(~mask, best)
    return offsets


def _moved(values: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """bool H×W: whether `values` is true at each pixel plus `offset`; false beyond the border."""
    result = np.zeros_like(values)
    here, there = ([slice(max(0, sign * -step), side - max(0, sign * step)) for step, side
                    in zip(offset, values.shape, strict=True)] for sign in (1, -1))
    result[*here] = values[*there]
    return result


@dataclass(frozen=True)
class _Graph:
    """What each offset costs each node, and each pair of neighbouring pixels of different nodes."""

    node: np.ndarray
    """Of each pixel of the hole, int P."""
    unary: np.ndarray
    """Offset × node."""
    colours: np.ndarray
    """Offset × pixel × 3: what the offset would paint."""
    first: np.ndarray
    second: np.ndarray
    """Pixels of each pair."""


def _label(known: np.ndarray, mask: np.ndarray, pixels: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Index into `offsets` of each pixel of the hole, int P: few and little visible seams (equation 3)."""
    colours, valid = _sources(known, mask, pixels, offsets)
    square = int(np.ceil(np.sqrt(len(pixels) / NODES)))
    node = np.unique(pixels[:, 0] // square * mask.shape[1] + pixels[:, 1] // square, return_inverse=True)[1]
    number = np.pad(np.full(mask.shape, -1), 1, constant_values=-2)
    number[1:-1, 1:-1][mask] = np.arange(len(pixels))
    nodes = int(node.max()) + 1
    unary = np.stack([np.bincount(node, row, nodes) for row in np.where(valid, 0, INVALID)])
    pairs = []
    for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        there = number[pixels[:, 0] + 1 + step[0], pixels[:, 1] + 1 + step[1]]
        # At the outline the known neighbour shows what a copy should look like there.
        rim = there == -1
        outer = pixels[rim] + step
        shown, seen = _sources(known, mask, outer, offsets)
        differences = np.where(seen, 2 * np.linalg.norm(shown - known[*outer.T], axis=-1), 2 * 255)
        unary += np.stack([np.bincount(node[rim], row, nodes) for row in differences])
        if min(step) == 0:
            inner = np.flatnonzero(there >= 0)
            inner = inner[node[inner] != node[there[inner]]]
            pairs.append((inner, there[inner]))
    first, second = (np.concatenate(side) for side in zip(*pairs, strict=True))
    labels = _expand(_Graph(node, unary, colours, first, second))[node]
    return np.where(valid[labels, np.arange(len(pixels))], labels, valid.argmax(0))


def _sources(known: np.ndarray, mask: np.ndarray, pixels: np.ndarray,
             offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours (float32 K×P×3) at each pixel plus each offset, and whether it is a known pixel (bool K×P)."""
    rows, columns = np.moveaxis(pixels + offsets[:, None], -1, 0)
    valid = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    rows, columns = np.where(valid, rows, 0), np.where(valid, columns, 0)
    return known[rows, columns].astype(np.float32), valid & ~mask[rows, columns]


def _expand(graph: _Graph) -> np.ndarray:
    """Label of each node, int N, by alpha-expansion: each offset in turn takes the nodes that make the sum of all costs
    least, which a minimum cut finds (Boykov, Veksler & Zabih 2001, section 5; Kolmogorov & Zabih 2004, table 1)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow
    nodes = graph.unary.shape[1]
    first, second, own = graph.node[graph.first], graph.node[graph.second], np.arange(nodes)
    edges, edge = np.unique(first * nodes + second, return_inverse=True)
    source, sink = nodes, nodes + 1
    rows = np.concatenate([edges // nodes, np.full(nodes, source), own])
    columns = np.concatenate([edges % nodes, own, np.full(nodes, sink)])
    pixels = np.stack([graph.first, graph.second])
    labels = graph.unary.argmin(0)

    def seams(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Cost of each edge, whose pairs are painted as `one` (2×pairs×3) up to the seam and as `other` after it."""
        difference = one - other
        return np.bincount(edge, np.sqrt(np.einsum("ijk,ijk->ij", difference, difference)).sum(0), edges.size)

    for _ in range(SWEEPS):
        before = labels
        for label, colours in enumerate(graph.colours):
            before_seam, after_seam = (graph.colours[labels[side], pixels] for side in (first, second))
            keep, new = seams(before_seam, after_seam), colours[pixels]
            first_new, second_new = seams(new, after_seam), seams(before_seam, new)
            gain = graph.unary[label] - graph.unary[labels, own]
            gain += np.bincount(edges // nodes, first_new - keep, nodes) - np.bincount(edges % nodes, first_new, nodes)
            if (gain >= 0).all():
                continue
            capacities = np.concatenate([first_new + second_new - keep, gain, -gain]).round().astype(np.int32)
            some = capacities > 0
            network = csr_array((capacities[some], (rows[some], columns[some])), (nodes + 2,) * 2)
            residual = network - maximum_flow(network, source, sink).flow
            residual.data = np.maximum(residual.data, 0)
            residual.eliminate_zeros()
            taken = breadth_first_order(residual.T.tocsr(), sink, return_predecessors=False)
            labels = labels.copy()
            labels[taken[taken < nodes]] = label
        if (labels == before).all():
            break
    return labels


def _blend(known: np.ndarray, mask: np.ndarray, pixels: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The copies, with Poisson's equation hiding their seams (section 4.3): the differences of neighbours are those of
    their sources, and where these are of two copies the mean of both."""
    origin = np.moveaxis(np.indices(mask.shape), 0, -1) + 1
    origin[*pixels.T] += offsets
    colours, hidden = np.pad(known.astype(float), ((1, 1), (1, 1), (0, 0))), np.pad(mask, 1, constant_values=True)

    def wanted(step: tuple[int, int]) -> np.ndarray:
        here, there = (origin[:mask.shape[0] - step[0], :mask.shape[1] - step[1]], origin[step[0]:, step[1]:])
        total, count = np.zeros((*here.shape[:2], 3)), np.zeros((*here.shape[:2], 1))
        for one, other in ((here, here + step), (there - step, there)):
            start, end = tuple(np.moveaxis(one, -1, 0)), tuple(np.moveaxis(other, -1, 0))
            seen = ~(hidden[start] | hidden[end])[..., None]
            total += np.where(seen, colours[end] - colours[start], 0)
            count += seen
        mean = total / np.maximum(count, 1)
        return np.pad(mean, ((0, step[0]), (0, step[1]), (0, 0)))

    return poisson_fill(known, mask, wanted((1, 0)), wanted((0, 1)))


OFFSETS = (
    Method("OS", "patch", "patch-offset statistics", "He & Sun 2014", _offset_statistics, "slow",
           parameters={"patch": SIDES[0], "offsets": LABELS}),
)
