"""Networks of three layers, for tests of how networks are trained."""

import torch
from torch import nn


class Plain(nn.Module):
    """Without batch norm, so that a batch is the sum of its pieces. A larger part than `limit` is too much."""

    def __init__(self, limit=99, error=None):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 1))
        self.limit, self.error = limit, error or torch.OutOfMemoryError("CUDA out of memory.")

    def logits(self, images):
        if self.training and len(images) > self.limit:
            raise self.error
        return self.layers(images)


class Normed(Plain):
    """With running statistics and a count."""

    def __init__(self):
        super().__init__()
        self.layers.insert(1, nn.BatchNorm2d(4))
