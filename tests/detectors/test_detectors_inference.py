"""Maps of pictures of any size, whole and in tiles."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from detectors import create_detector
from detectors.inference import (
    ALIGNMENT,
    MARGIN,
    _ramp,
    findings,
    overlap_of,
    overlay,
    predict_map,
    tile_edges,
    to_grey,
)
from search_space.genotype import Genotype, SpaceShape


class Brightness(nn.Module):
    """A map that depends on each pixel alone, so that tiles must give the whole's."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.largest = 0

    def forward(self, images):
        self.largest = max(self.largest, *images.shape[-2:])
        return self.scale * images.mean(1, keepdim=True)


@pytest.mark.parametrize("size", [(16, 16), (100, 101), (297, 333), (260, 128), (129, 1000)])
def test_tiles_give_the_map_of_the_whole(size):
    image, module = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8), Brightness()
    found = predict_map(module, image, 160)
    assert module.largest <= 160 or size[0] * size[1] <= 160**2
    assert found.dtype == np.float32 and found.shape == size
    assert np.allclose(found, image.mean(2) / 255, atol=1e-6)
    assert np.allclose(found, predict_map(module, image), atol=1e-6)


@given(st.integers(1, 9000), st.integers(128, 1200))
def test_tiles_cover_overlap_and_are_aligned(length, tile):
    edges = tile_edges(length, tile)
    assert edges[0][0] == 0 and edges[-1][1] == length
    assert all(0 < stop - start <= tile and start % ALIGNMENT == 0 for start, stop in edges)
    assert all(before[1] - after[0] >= min(overlap_of(tile), ALIGNMENT + 1) and before[0] < after[0]
               for before, after in pairwise(edges))
    weights = np.zeros(length)
    for start, stop in edges:
        ramp = _ramp(start, stop, length, overlap_of(tile))
        assert (not start or not ramp[:MARGIN].any()) and (stop == length or not ramp[-MARGIN:].any())
        weights[start:stop] += ramp
    assert weights.min() > 0


def test_tiles_without_attention_are_the_whole_inside():
    """The network sees 32 pixels around each; further from a cut, it cannot know of it."""
    space = SpaceShape(("sep3", "identity"), 1, (32,), (2,), (1,))
    network = small_network(Genotype((("sep3",),), space), global_attention=False)
    image = np.random.default_rng(0).integers(0, 256, (150, 224, 3), np.uint8)
    whole, left = predict_map(network, image), predict_map(network, image[:, :160])
    right = predict_map(network, image[:, 64:])
    assert np.abs(whole[:, :120] - left[:, :120]).max() < 1e-5
    assert np.abs(whole[:, 104:] - right[:, 40:]).max() < 1e-5
    assert np.abs(whole - predict_map(network, image, 160)).max() < 0.05 * np.ptp(whole)


def test_what_tiling_changes_is_attention():
    """With global attention a tile has other positions to choose its neighbours from, and the map differs."""
    space = SpaceShape(("sep3", "identity"), 1, (32,), (2,), (1,))
    network = small_network(Genotype((("sep3",),), space))
    image = np.random.default_rng(0).integers(0, 256, (150, 224, 3), np.uint8)
    change = np.abs(predict_map(network, image)[:, :120] - predict_map(network, image[:, :160])[:, :120])
    assert 1e-4 < change.max() < 0.2


def small_network(genotype, **options):
    torch.manual_seed(0)
    network = create_detector("giidnet", genotype=genotype, width=0.25, **options)
    with torch.no_grad():
        for _ in range(20):
            network(torch.rand(2, 3, 48, 48))
    return network.eval()


def test_findings():
    probability = np.zeros((40, 50), np.float32)
    probability[5:9, 10:20] = 0.7
    probability[30:32, 1:4] = 0.9
    found = findings(probability, 0.6)
    assert found.largest_region == 40 and found.box == (10, 5, 10, 4)
    assert found.flagged_fraction == pytest.approx(46 / 2000)
    assert found.score == pytest.approx((6 * 0.9 + 14 * 0.7) / 20)
    nothing = findings(probability, 0.95)
    assert nothing.largest_region == 0 and nothing.box == (0, 0, 0, 0) and nothing.flagged_fraction == 0


def test_pictures_for_people():
    probability = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    assert to_grey(probability)[0, 0] == 0 and to_grey(probability)[-1, -1] == 255
    shown = overlay(np.full((32, 32, 3), 128, np.uint8), probability)
    assert shown.shape == (32, 32, 3) and shown.dtype == np.uint8
    assert shown[-1].mean() > shown[0].mean()
