"""High-pass fully convolutional network (Li & Huang, *Localization of Deep Inpainting Using High-Pass Fully
Convolutional Network*, ICCV 2019)."""

import torch
from torch import Tensor, nn

from detectors.blocks import pad_to_multiple, prefilter_kernels
from search_space.cells import scaled

BOTTLENECKS = (32, 64, 128, 256)
"""Channels inside the units of each block (section 3.3); a block gives four times as many at half the resolution."""

REDUCTION = 2 ** len(BOTTLENECKS)


class HPFCN(nn.Module):
    """High-pass residuals, four blocks of two pre-activated bottleneck units, two up-samplings by four.

    The nine residuals are the differences to the lower, right and lower right neighbour of each colour, by kernels that
    are trained from there on (section 3.2). `width` scales the channels of the blocks and the up-sampling.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.residuals = nn.Conv2d(3, 9, 3, padding=1, groups=3, bias=False)
        units, channels = [], 9
        for bottleneck in BOTTLENECKS:
            middle = scaled(bottleneck, width)
            for stride in (1, 2):
                units.append(Unit(channels, middle, stride))
                channels = 4 * middle
        self.units = nn.Sequential(*units)
        between = scaled(64, width)
        self.upsampling = nn.Sequential(Quadruple(channels, between), Quadruple(between, 4),
                                        nn.BatchNorm2d(4), nn.ReLU())
        self.end = nn.Conv2d(4, 1, 5, padding=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():
            self.residuals.weight.copy_(prefilter_kernels()[:, :1])

    def logits(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to logits N×1×H×W."""
        height, width = images.shape[-2:]
        x = self.units(self.residuals(pad_to_multiple(images, REDUCTION)))
        return self.end(self.upsampling(x))[..., :height, :width]

    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to the probability N×1×H×W that each pixel was inpainted."""
        return self.logits(images).sigmoid()


class Unit(nn.Module):
    """BN → ReLU → 1×1 → BN → ReLU → 3×3 with the stride → BN → ReLU → 1×1, added to a skip (He et al., *Identity
    Mappings in Deep Residual Networks*, ECCV 2016): the input, every `stride`-th pixel of it, or where channels change
    1×1 of the first ReLU."""

    def __init__(self, inputs: int, middle: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * middle
        self.activated = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.skip = nn.Conv2d(inputs, outputs, 1, stride) if inputs != outputs else None
        self.stride = stride
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU(),
            nn.Conv2d(middle, middle, 3, stride, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU(),
            nn.Conv2d(middle, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×h×w to N×4·middle×⌈h/stride⌉×⌈w/stride⌉."""
        activated = self.activated(x)
        skip = self.skip(activated) if self.skip else x[..., ::self.stride, ::self.stride]
        return skip + self.residual(activated)


class Quadruple(nn.ConvTranspose2d):
    """Transposed convolution to four times the sides, at first bilinear interpolation of a random mixture of channels.

    Published code repeats the bilinear kernel for each pair of channels, by which all outputs are equal at first and
    stay so: their gradients are equal.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 8, 4, padding=2, bias=False)
        ramp = 1 - (torch.arange(8) - 3.5).abs() / 4
        with torch.no_grad():
            self.weight.copy_(torch.randn(inputs, outputs, 1, 1) * inputs**-0.5 * torch.outer(ramp, ramp))
