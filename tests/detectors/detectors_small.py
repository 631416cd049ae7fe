"""Each detector, narrow where its width can be chosen, with random weights."""

import numpy as np
import torch
from torch import nn

from detectors import WEIGHTLESS, create_detector
from search_space.genotype import SpaceShape, random_genotype

SHAPE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 2, (128, 256, 256), (2, 1, 1), (1, 1, 2))


def small_options(name: str) -> dict:
    """Options of a narrow network."""
    if name == "iid-net" or name in WEIGHTLESS:
        return {}
    if name == "giidnet":
        return {"genotype": random_genotype(SHAPE, np.random.default_rng(0)), "width": 0.125}
    return {"width": 0.125}


def small_detector(name: str, **options) -> nn.Module:
    """In eval mode, with batch statistics of some noise, so that maps are not flat."""
    torch.manual_seed(0)
    module = create_detector(name, **small_options(name), **options)
    with torch.no_grad():
        for _ in range(3):
            module(torch.rand(4, 3, 32, 32))
    return module.eval()
