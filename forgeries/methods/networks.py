"""The networks of learned methods: encoder–decoders for re-synthesis, and a gated-convolution inpainter."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from forgeries.methods.learned import Activation, Spec, Up

_ACTIVATIONS = {"relu": F.relu, "leaky": lambda x: F.leaky_relu(x, 0.2), "elu": F.elu, "gelu": F.gelu, "silu": F.silu}


def build(spec: Spec) -> "Coder | GatedInpainter":
    """The network with random weights; it maps (pictures N×3×H×W in [0, 1], masks N×1×H×W of 0 and 1) to pictures
    N×3×H×W, for H and W that are multiples of `spec.multiple`."""
    return Coder(spec) if spec.network == "coder" else GatedInpainter(spec)


class UpSample(nn.Module):
    """Doubles height and width and changes the channels, one way of four."""

    def __init__(self, up: Up, inside: int, outside: int, kernel: int) -> None:
        super().__init__()
        self.up = up
        if up == "transposed":
            self.conv: nn.Module = nn.ConvTranspose2d(inside, outside, 4, 2, 1)
        else:
            self.conv = nn.Conv2d(inside, outside * 4 if up == "pixel-shuffle" else outside, kernel, 1, kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.up == "pixel-shuffle":
            return F.pixel_shuffle(self.conv(x), 2)
        if self.up == "nearest":
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        elif self.up == "bilinear":
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.conv(x)


class Coder(nn.Module):
    """A convolutional encoder–decoder without skips: what it gives back has passed through its decoder alone."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        widths = [spec.width * 2 ** level for level in range(spec.depth + 1)]
        pad = spec.kernel // 2
        self.activation = _ACTIVATIONS[spec.activation]
        self.stem = nn.Conv2d(3, widths[0], spec.kernel, 1, pad)
        self.down = nn.ModuleList(nn.Conv2d(a, b, spec.kernel, 2, pad)
                                  for a, b in pairwise(widths))
        self.squeeze = nn.Conv2d(widths[-1], spec.latent, 1)
        self.expand = nn.Conv2d(spec.latent, widths[-1], 1)
        self.up = nn.ModuleList(UpSample(spec.up, b, a, spec.kernel)
                                for a, b in reversed(list(pairwise(widths))))
        self.head = nn.Conv2d(widths[0], 3, spec.kernel, 1, pad)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        x = self.activation(self.stem(2 * images - 1))
        for layer in self.down:
            x = self.activation(layer(x))
        x = self.activation(self.expand(self.squeeze(x)))
        for layer in self.up:
            x = self.activation(layer(x))
        return (self.head(x) + 1) / 2


class GatedConv(nn.Module):
    """A convolution whose output is weighed, position by position, by a second one (Yu et al. 2019, section 3.1)."""

    def __init__(self, inside: int, outside: int, kernel: int = 3, stride: int = 1, dilation: int = 1,
                 activation: Activation = "elu") -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, 2 * outside, kernel, stride, dilation * (kernel // 2), dilation)
        self.activation = _ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        feature, gate = self.conv(x).chunk(2, 1)
        return self.activation(feature) * gate.sigmoid()


def smooth_fill(images: Tensor, masks: Tensor) -> Tensor:
    """`images` (N×3×H×W) with the holes of `masks` (N×1×H×W of 0 and 1) filled from coarser levels of a pyramid, whose
    pixels are means of the known ones (pull–push; Gortler et al. 1996, section 3.4.2)."""
    weights = 1 - masks
    values = torch.where(masks > 0, 0, images)
    sides = [min(2, side) for side in masks.shape[2:]]
    if max(sides) == 1 or bool((masks == 0).all()):
        return values
    pooled = F.avg_pool2d(weights, sides, ceil_mode=True)
    means = F.avg_pool2d(values, sides, ceil_mode=True) / pooled.clamp(min=1e-6)
    coarse = smooth_fill(means, (pooled == 0).float())
    filled = F.interpolate(coarse, size=masks.shape[2:], mode="bilinear", align_corners=False)
    return torch.where(masks > 0, filled, images)


class GatedInpainter(nn.Module):
    """Gated convolutions with a dilated middle, in one stage: a small form of Yu et al. 2019 (section 3.2), whose
    second stage and contextual attention are left out. In place of its first, coarse stage, the hole is filled
    smoothly; the network adds what that lacks."""

    DILATIONS = (1, 2, 4, 8)

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        widths = [spec.width * 2 ** level for level in range(spec.depth + 1)]
        act, kernel = spec.activation, spec.kernel
        down = [GatedConv(4, widths[0], 5, activation=act)]
        for a, b in pairwise(widths):
            down.append(GatedConv(a, b, kernel, 2, activation=act))
        middle = [GatedConv(widths[-1], widths[-1], kernel, dilation=d, activation=act) for d in self.DILATIONS]
        self.inner = nn.Sequential(*down, *middle)
        self.up = nn.ModuleList(nn.Sequential(UpSample(spec.up, b, a, kernel), GatedConv(a, a, kernel, activation=act))
                                for a, b in reversed(list(pairwise(widths))))
        self.head = nn.Conv2d(widths[0], 3, kernel, 1, kernel // 2)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        base = smooth_fill(images, masks)
        x = self.inner(torch.cat([2 * base - 1, masks], 1))
        for layer in self.up:
            x = layer(x)
        return base + self.head(x) / 2
