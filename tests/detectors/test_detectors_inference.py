"""Maps of pictures of any size, whole and in tiles."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from detectors.inference import OVERLAP, overlay, predict_map, tile_edges, to_grey


class Brightness(nn.Module):
    """A map that depends on each pixel alone, so that tiles must give the whole's."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.largest = 0

    def forward(self, images):
        self.largest = max(self.largest, *images.shape[-2:])
        return self.scale * images.mean(1, keepdim=True)


@pytest.mark.parametrize("size", [(16, 16), (100, 101), (97, 333), (260, 128)])
def test_tiles_give_the_map_of_the_whole(size):
    image, module = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8), Brightness()
    found = predict_map(module, image, 100)
    assert module.largest <= 100
    assert found.dtype == np.float32 and found.shape == size
    assert np.allclose(found, image.mean(2) / 255, atol=1e-6)
    assert np.allclose(found, predict_map(module, image), atol=1e-6)


@given(st.integers(1, 5000), st.integers(OVERLAP + 1, 600))
def test_tiles_cover_and_overlap(length, tile):
    edges = tile_edges(length, tile)
    assert edges[0][0] == 0 and edges[-1][1] == length
    assert all(0 < stop - start <= tile for start, stop in edges)
    assert all(before[1] - after[0] >= OVERLAP and before[0] < after[0]
               for before, after in pairwise(edges))


def test_pictures_for_people():
    probability = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    assert to_grey(probability)[0, 0] == 0 and to_grey(probability)[-1, -1] == 255
    shown = overlay(np.full((32, 32, 3), 128, np.uint8), probability)
    assert shown.shape == (32, 32, 3) and shown.dtype == np.uint8
    assert shown[-1].mean() > shown[0].mean()
