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
    """ReLU, depthwise and pointwise convolution, batch norm without affine parameters.

    The published ones are never dilated, whatever their cell's dilation.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, stride, dilation * (kernel // 2), dilation,
                                   groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C×⌈H/stride⌉×⌈W/stride⌉."""
        return conv_norm(self.depthwise(x.relu()), self.pointwise, self.norm)


class Grouped(nn.Module):
    """ReLU, 3×3 convolution in groups of 8 channels (one group where they do not divide), batch norm without affine
    parameters (Xie et al. 2017, ResNeXt)."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        groups = channels // 8 if channels % 8 == 0 else 1
        self.conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C×⌈H/stride⌉×⌈W/stride⌉."""
        return conv_norm(x.relu(), self.conv, self.norm)


class SqueezeExcited(nn.Module):
    """`ReluSeparable`, its channels weighted by a gate of their means over the picture (Hu et al. 2018)."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.separable = ReluSeparable(channels, kernel, stride)
        self.squeeze = nn.Conv2d(channels, max(1, channels // 4), 1)
        self.excite = nn.Conv2d(max(1, channels // 4), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C×⌈H/stride⌉×⌈W/stride⌉."""
        x = self.separable(x)
        return x * self.excite(self.squeeze(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class HighPass(nn.Module):
    """Depthwise convolution whose kernels sum to 0, pointwise convolution, batch norm without affine parameters.

    What is flat gives 0: the residual that noise-based forensics reads. The kernels are the stored weights less their
    mean, at each forward.
    """

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W to N×C×⌈H/stride⌉×⌈W/stride⌉."""
        weight, pad = self.depthwise.weight, self.depthwise.kernel_size[0] // 2
        # Replicated borders: zeros there would be an edge of their own.
        x = F.conv2d(F.pad(x, (pad,) * 4, mode="replicate"), weight - weight.mean((2, 3), keepdim=True),
                     stride=self.depthwise.stride, groups=self.depthwise.groups)
        return conv_norm(x, self.pointwise, self.norm)


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
    kernel, dilation = operation.kernel, operation.dilation * dilation
    match operation.kind:
        case "separable":
            return Separable(channels, channels, kernel, stride, dilation)
        case "relu_separable":
            return ReluSeparable(channels, kernel, stride)
        case "dilated_separable":
            return ReluSeparable(channels, kernel, stride, dilation)
        case "grouped":
            return Grouped(channels, kernel, stride)
        case "squeeze_excited":
            return SqueezeExcited(channels, kernel, stride)
        case "high_pass":
            return HighPass(channels, kernel, stride)
        case _:
            return Identity(stride)
