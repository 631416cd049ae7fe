"""The operations as modules (Wu & Zhou 2021, section III-B): C channels in, C out, any stride."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_space.registry import OPERATIONS


def conv_norm(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """norm(conv(x)); in evaluation without gradient as the one convolution that it then is."""
    if norm.training or torch.is_grad_enabled() or norm.running_mean is None or norm.running_var is None:
        return norm(conv(x))
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale if conv.bias is None else (conv.bias - norm.running_mean) * scale
    shift = shift if norm.bias is None else shift + norm.bias
    return F.conv2d(x, conv.weight * scale.view(-1, 1, 1, 1), shift, conv.stride, conv.padding, conv.dilation,
                    conv.groups)


class Separable(nn.Module):
    """Depthwise convolution, batch norm, pointwise convolution; "same" padding, no bias."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, kernel, stride, dilation * (kernel // 2), dilation,
                                   groups=inputs, bias=False)
        self.norm = nn.BatchNorm2d(inputs)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W to N×outputs×⌈H/stride⌉×⌈W/stride⌉."""
        return self.pointwise(conv_norm(x, self.depthwise, self.norm))


class ReluSeparable(nn.Module):
    """ReLU, depthwise and pointwise convolution, batch norm without affine parameters; never dilated."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C×⌈H/stride⌉×⌈W/stride⌉."""
        return conv_norm(self.depthwise(x.relu()), self.pointwise, self.norm)


class Identity(nn.Module):
    """Identity. With a stride, every stride-th position: what a convolution whose kernel is one centred 1 gives.

    The published cell cannot run identity in its strided slot; this meaning has no parameter, keeps the noise
    statistics that the network lives on (a mean would smooth them away), and fits the positions of the other
    operations.
    """

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C×⌈H/stride⌉×⌈W/stride⌉."""
        return x if self.stride == 1 else x[..., ::self.stride, ::self.stride]


def build_operation(name: str, channels: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    """The operation `name` (a key of `OPERATIONS`) for `channels` channels."""
    operation = OPERATIONS[name]
    if operation.kind == "separable":
        return Separable(channels, channels, operation.kernel, stride, dilation)
    if operation.kind == "relu_separable":
        return ReluSeparable(channels, operation.kernel, stride)
    return Identity(stride)
