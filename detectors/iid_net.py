"""IID-Net as published (Wu & Zhou 2021): what its released code computes with its released weights."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectors.blocks import LOCAL_KERNEL, BayarConv, Decision, Enhancement, GlobalAttention, median3
from search_space.cells import build_extraction
from search_space.genotype import released_genotype


class IIDNet(nn.Module):
    """The published network, defects included; `detectors.giidnet.GIIDNet` is the corrected one.

    Its options are none: the genotype is the released one, the width 1. See docs/differences.md.
    """

    def __init__(self) -> None:
        super().__init__()
        genotype = released_genotype()
        channels = genotype.space.channels[-1]
        self.enhancement = Enhancement()
        self.enhancement.streams["bayar"] = PublishedBayarConv()
        self.extraction = build_extraction(genotype)
        attention = [GlobalAttention(batch_mean=True), StoredLocalAttention(channels)]
        self.decision = Decision(channels, 2 * genotype.space.reduction, attention=attention, align_corners=True)

    def logits(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to logits N×1×H×W."""
        x = self.decision(self.extraction(self.enhancement(images.flip(1) * 2 - 1)))
        return F.interpolate(median3(x), images.shape[-2:], mode="nearest")

    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to the probability N×1×H×W that each pixel was inpainted."""
        return self.logits(images).sigmoid()


class PublishedBayarConv(BayarConv):
    """The published constraint: of output channel 0 alone; the others lose their centre and grow by 10⁴.

    Published code writes the result back; under data parallelism, with which the released weights were trained,
    that write is lost. Here it is a function of the stored weights, unless `write_back`: then each forward in training
    replaces them, as published on one device.
    """

    def __init__(self, write_back: bool = False) -> None:
        super().__init__()
        self.write_back = write_back

    def forward(self, x: Tensor) -> Tensor:
        """N×3×H×W to N×3×H×W."""
        if not (self.write_back and self.training):
            return super().forward(x)
        with torch.no_grad():
            self.weight.copy_(self.constrained())
        return F.conv2d(x, self.weight, padding=2)

    def constrained(self) -> Tensor:
        """The kernels that are applied, 3×3×5×5."""
        free = self.weight.clone()
        free[:, :, 2, 2] = 0
        free = free * 1e4
        first = free[:1] / free[:1].sum((-2, -1), keepdim=True)
        first[:, :, 2, 2] = -1
        return torch.cat([first, free[1:]])


class StoredLocalAttention(nn.Module):
    """One kernel 5×5 a channel, as the published checkpoint stores them; fixed."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor(LOCAL_KERNEL).expand(channels, 1, 5, 5).clone())

    def forward(self, x: Tensor) -> Tensor:
        """N×C×h×w to N×C×h×w."""
        return F.conv2d(x, self.kernel, padding=2, groups=len(self.kernel))
