"""ManTraNet (Wu, AbdAlmageed & Natarajan, CVPR 2019), with the ConvLSTM of its released weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_space.cells import scaled

TRACE_CHANNELS = (32, 64, 64, 128, 128, 128, 256, 256, 256, 256, 256, 256)
WINDOWS = (7, 15, 31)
ADAPTED, HIDDEN = 64, 8


class ManTraNet(nn.Module):
    """Trace extractor, then local anomaly detector; any size.

    `width` scales all channels but the first block's. As published, the adapted features are normalised with
    the statistics of the current batch, in eval mode too: an image's map depends on its batch neighbours, and
    detection is done one image at a time. At width 1 it has the published 3,805,625 weights, of which 675 are
    the fixed SRM kernels, a buffer.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.traces = TraceExtractor(width)
        self.anomalies = AnomalyDetector(scaled(TRACE_CHANNELS[-1], width), width)

    def logits(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to logits N×1×H×W."""
        return self.anomalies(self.traces(images * 2 - 1))

    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to the probability N×1×H×W that each pixel was manipulated."""
        return self.logits(images).sigmoid()


class TraceExtractor(nn.Module):
    """Plain, SRM and Bayar 5×5 convolutions, then twelve of 3×3, to features of length 1 (section 3)."""

    srm: Tensor

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 4, 5, bias=False)
        self.register_buffer("srm", srm_kernels())
        # Positive, so that no kernel's sum starts near the zero that the constraint divides by.
        self.bayar = nn.Parameter(torch.rand(3, 3, 5, 5))
        layers: list[nn.Module] = []
        inputs = 16
        for channels in TRACE_CHANNELS:
            outputs = scaled(channels, width)
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="replicate"), nn.ReLU()]
            inputs = outputs
        self.convs = nn.Sequential(*layers[:-1])

    def constrained(self) -> Tensor:
        """The applied Bayar kernels, 3×3×5×5: centre −1, the others summing to 1."""
        around = torch.ones_like(self.bayar)
        around[..., 2, 2] = 0
        free = self.bayar * around
        return free / free.sum((-2, -1), keepdim=True) - (1 - around)

    def forward(self, x: Tensor) -> Tensor:
        """N×3×H×W in [−1, 1] to N×C×H×W, of length 1 over channels."""
        kernels = torch.cat([self.plain.weight, self.srm, self.constrained()])
        # Channels last, which all layers keep: takes a quarter off a training step at width 1/8 on a CPU.
        x = pad_symmetric(x, 2).contiguous(memory_format=torch.channels_last)
        x = F.conv2d(x, kernels).relu()
        return F.normalize(self.convs(x), dim=1)


class AnomalyDetector(nn.Module):
    """How far each position's features are from the means around it and of the whole picture (section 4)."""

    def __init__(self, inputs: int, width: float = 1.0) -> None:
        super().__init__()
        channels, self.hidden = scaled(ADAPTED, width), scaled(HIDDEN, width)
        self.adaptation = nn.Conv2d(inputs, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels, eps=1e-3, affine=False, track_running_stats=False)
        self.least_deviation = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gates = nn.Conv2d(channels + self.hidden, 4 * self.hidden, 7, padding=3)
        self.end = nn.Conv2d(self.hidden, 1, 7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        """N×C×H×W to logits N×1×H×W."""
        # Means and deviations are float32 under mixed precision too: their differences are small.
        return self.end(self.remember(self.deviations(self.norm(self.adaptation(features).float()))))

    def deviations(self, x: Tensor) -> Tensor:
        """z-scores N×C×H×W against the means of windows 7, 15, 31 and the whole picture: 4×N×C×H×W."""
        x = x - x.mean((2, 3), keepdim=True)
        variance = x.square().mean((2, 3), keepdim=True)
        # The gradient of a root at 0, where a channel is constant, is not finite.
        x = x / torch.maximum(variance.clamp(min=1e-12).sqrt(), self.least_deviation + 1e-6)
        return torch.stack([*(window_mean(x, window) - x for window in WINDOWS), x]).abs()

    def remember(self, steps: Tensor) -> Tensor:
        """Last hidden state N×hidden×H×W of the ConvLSTM over T×N×C×H×W."""
        inputs, weight = steps.shape[2], self.gates.weight
        # The convolution of the concatenation is a sum, whose input part needs no recurrence.
        driven = F.conv2d(steps.flatten(0, 1), weight[:, :inputs], self.gates.bias, padding=3).unflatten(
            0, steps.shape[:2])
        hidden = cell = torch.zeros(())
        for number, gates in enumerate(driven):
            if number:
                gates = gates + F.conv2d(hidden, weight[:, inputs:], padding=3)
            into, forget, candidate, out = gates.chunk(4, 1)
            kept = hard_sigmoid(forget) * cell if number else 0
            cell = kept + hard_sigmoid(into) * candidate.tanh()
            hidden = hard_sigmoid(out) * cell.tanh()
        return hidden


def hard_sigmoid(x: Tensor) -> Tensor:
    """clip(0.2 x + 0.5, 0, 1), as in the original's framework."""
    return (0.2 * x + 0.5).clamp(0, 1)


def window_mean(x: Tensor, window: int) -> Tensor:
    """Mean over the window×window square around each position, of what lies inside the picture."""
    half = window // 2
    x = F.avg_pool2d(x, (window, 1), 1, (half, 0), count_include_pad=False)
    return F.avg_pool2d(x, (1, window), 1, (0, half), count_include_pad=False)


def pad_symmetric(x: Tensor, pad: int) -> Tensor:
    """Mirrors `pad` rows and columns, the border included: b a | a b c … ."""
    for dim in (2, 3):
        length = x.shape[dim]
        x = torch.cat([x.narrow(dim, 0, pad).flip(dim), x, x.narrow(dim, length - pad, pad).flip(dim)], dim)
    return x


def srm_kernels() -> Tensor:
    """Three high-pass kernels of the steganalysis rich model (Fridrich & Kodovský 2012): 9×3×5×5.

    As arranged by Zhou et al. (CVPR 2018): filter 3k + c is kernel k on colour c alone.
    """
    kernels = torch.zeros(3, 5, 5)
    kernels[0, 1:4, 1:4] = torch.tensor([[-1., 2, -1], [2, -4, 2], [-1, 2, -1]]) / 4
    kernels[1] = torch.tensor([[-1., 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2],
                               [-1, 2, -2, 2, -1]]) / 12
    kernels[2, 2, 1:4] = torch.tensor([1., -2, 1]) / 2
    full = torch.zeros(9, 3, 5, 5)
    for colour in range(3):
        full[colour::3, colour] = kernels
    return full


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict, with or without the prefix `module.`, under this module's names."""
    names = {
        "IMTFE.init_conv.weight": "traces.plain.weight",
        "IMTFE.BayarConv2D.weight": "traces.bayar",
        "IMTFE.SRMConv2D.weight": "traces.srm",
        "AnomalyDetector.sigma_F": "anomalies.least_deviation",
        "AnomalyDetector.conv_lstm.cell_list.0.conv.weight": "anomalies.gates.weight",
        "AnomalyDetector.conv_lstm.cell_list.0.conv.bias": "anomalies.gates.bias",
    }
    renamed = {}
    for key, value in state.items():
        key = key.removeprefix("module.")
        name = names.get(key) or key.replace("IMTFE.middle_and_last_block", "traces.convs").replace(
            "AnomalyDetector.end.0", "anomalies.end").replace("AnomalyDetector.", "anomalies.")
        renamed[name] = value
    return renamed
