"""ManTraNet (Wu, AbdAlmageed & Natarajan, CVPR 2019), with the recurrent cells of its released weights."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectors.blocks import window_mean
from search_space.cells import scaled

TRACE_CHANNELS = (32, 64, 64, 128, 128, 128, 256, 256, 256, 256, 256, 256)
WINDOWS = (7, 15, 31)
ADAPTED, HIDDEN = 64, 8
STRIP_PIXELS = {"cpu": 2**13, "cuda": 2**22}
"""Pixels of the strips in which traces are extracted: the layers of one fit into a CPU's cache."""

LAG = 4 + len(TRACE_CHANNELS)
"""Rows by which a strip of traces is shorter than the pixels that it came from: they need the next ones."""

LEAST_ROWS = LAG + 8
"""Rows of the lowest strip."""

NORM_EPS = 1e-3
"""Of the batch normalisation of adapted features."""


class ManTraNet(nn.Module):
    """Trace extractor, then local anomaly detector; any size.

    `width` scales all channels but the first block's. As published, the adapted features are normalised with
    the statistics of the current batch, in eval mode too: an image's map depends on its batch neighbours, and
    detection is done one image at a time. At width 1 it has the published 3,805,625 weights, of which 675 are
    the fixed SRM kernels, a buffer.
    """

    cell: ClassVar[str] = "lstm"

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        self.traces = TraceExtractor(width)
        self.anomalies = AnomalyDetector(scaled(TRACE_CHANNELS[-1], width), width, self.cell)

    def logits(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to logits N×1×H×W."""
        x = images * 2 - 1
        if torch.is_grad_enabled() or torch.onnx.is_in_onnx_export():
            return self.anomalies(self.traces(x))
        return self.anomalies.compare(self.anomalies.adapt(self.traces.strips(x), images.shape))

    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to the probability N×1×H×W that each pixel was manipulated."""
        return self.logits(images).sigmoid()


class ManTraNetGRU(ManTraNet):
    """ManTraNet with the ConvGRU of its second release."""

    cell = "gru"


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
        for layer in self.convs:
            # Variance kept through twelve layers: with the framework's default the picture all but vanishes in them.
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.constant_(layer.get_parameter("bias"), 0)

    def constrained(self) -> Tensor:
        """The applied Bayar kernels, 3×3×5×5: centre −1, the others summing to 1."""
        around = torch.ones_like(self.bayar)
        around[..., 2, 2] = 0
        free = self.bayar * around
        return free / free.sum((-2, -1), keepdim=True) - (1 - around)

    def kernels(self) -> Tensor:
        """Those of the first block, 16×3×5×5."""
        return torch.cat([self.plain.weight, self.srm, self.constrained()])

    def forward(self, x: Tensor) -> Tensor:
        """N×3×H×W in [−1, 1] to N×C×H×W, of length 1 over channels."""
        if not (torch.is_grad_enabled() or torch.onnx.is_in_onnx_export()):
            return torch.cat(list(self.strips(x)), 2)
        x = pad_symmetric(x, 2)
        if self.training:
            # All layers keep it: takes a quarter off a training step at width 1/8 on a CPU. Its sums are less exact,
            # by an error that the anomaly detector amplifies.
            x = x.contiguous(memory_format=torch.channels_last)
        return F.normalize(self.convs(F.conv2d(x, self.kernels()).relu()), dim=1)

    def strips(self, x: Tensor) -> Iterator[Tensor]:
        """`forward` in strips of rows, top to bottom: each layer keeps the rows that its next strip begins with.

        Nothing is computed twice, and the memory is that of one strip in each layer.
        """
        x = pad_symmetric(x, 2)
        n, _, height, width = x.shape
        least = max(LEAST_ROWS, STRIP_PIXELS.get(x.device.type, 2**22) // (n * width))
        count = max(1, height // least)
        # The last layer lags LAG rows behind the first, and makes up for it at the end.
        edges = [0, *(height * number // count + LAG // 2 for number in range(1, count)), height]
        layers = [(self.kernels(), None, 0), *((layer.weight, layer.bias, 1) for layer in self.convs
                                               if isinstance(layer, nn.Conv2d))]
        # Made before all else and kept, so that what comes and goes leaves no holes between them.
        above = [x.new_empty(n, weight.shape[1], weight.shape[2] - 1, width - 4 * pad) for weight, _, pad in layers]
        for start, stop in pairwise(edges):
            strip = x[:, :, start:stop]
            for number, (weight, bias, pad) in enumerate(layers):
                if start:
                    strip = torch.cat([above[number], strip], 2)
                above[number].copy_(strip[:, :, strip.shape[2] - weight.shape[2] + 1:])
                strip = F.pad(strip, (pad, pad, 0 if start else pad, pad if stop == height else 0), mode="replicate")
                strip = F.conv2d(strip, weight, bias)
                strip = strip.relu_() if number < len(layers) - 1 else strip
            yield F.normalize(strip, dim=1)


class AnomalyDetector(nn.Module):
    """How far each position's features are from the means around it and of the whole picture (section 4)."""

    def __init__(self, inputs: int, width: float = 1.0, cell: str = "lstm") -> None:
        super().__init__()
        channels, hidden = scaled(ADAPTED, width), scaled(HIDDEN, width)
        self.adaptation = nn.Conv2d(inputs, channels, 1, bias=False)
        self.least_deviation = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.cell = ConvLSTM(channels, hidden) if cell == "lstm" else ConvGRU(channels, hidden)
        self.end = nn.Conv2d(hidden, 1, 7, padding=3)

    def forward(self, features: Tensor) -> Tensor:
        """N×C×H×W to logits N×1×H×W."""
        return self.compare(self.adaptation(features))

    def adapt(self, strips: Iterable[Tensor], shape: Sequence[int]) -> Tensor:
        """Adapted features N×C×H×W of a picture of `shape` N×3×H×W, whose features come in strips of rows.

        Of the features themselves, one strip at a time exists. Without gradient.
        """
        adapted: Tensor | None = None
        row = 0
        for features in strips:
            part = self.adaptation(features)
            if adapted is None:
                # Channels last: windows are averaged and convolved faster so on a CPU.
                adapted = torch.empty(len(part), part.shape[1], *shape[2:], dtype=part.dtype, device=part.device,
                                      memory_format=torch.channels_last)
            adapted[:, :, row:row + part.shape[2]] = part
            row += part.shape[2]
        assert adapted is not None
        return adapted

    def compare(self, adapted: Tensor) -> Tensor:
        """Adapted features N×C×H×W to logits N×1×H×W."""
        # Means and deviations are float32 under mixed precision too: their differences are small.
        steps = self.deviations(adapted.float())
        del adapted  # the largest thing here, which nothing needs once the deviations are under way
        return self.end(self.cell(steps))

    def deviations(self, x: Tensor) -> Iterator[Tensor]:
        """z-scores N×C×H×W against the means of windows 7, 15, 31 and the whole picture.

        Of the features normalised by the statistics of the batch, which with the picture's deviation make one
        factor a channel. Without gradient, a step is valid until the next is asked for.
        """
        mean = x.mean((2, 3), keepdim=True)
        x = x - mean
        strips = (x,) if torch.onnx.is_in_onnx_export() else x.split(_rows(x), 2)
        squares = [strip.square().sum((2, 3), keepdim=True) for strip in strips]
        variance = torch.stack(squares).sum(0) / (x.shape[2] * x.shape[3])
        of_batch = (variance + (mean - mean.mean(0)).square()).mean(0)
        scale = (of_batch + NORM_EPS).rsqrt()
        # The gradient of a root at 0, where a channel is constant, is not finite.
        deviation = (variance * scale.square()).clamp(min=1e-12).sqrt()
        factor = scale / torch.maximum(deviation, self.least_deviation + 1e-6)
        if torch.is_grad_enabled() or torch.onnx.is_in_onnx_export():
            x = x * factor
            yield from ((window_mean(x, window) - x).abs() for window in WINDOWS)
            yield x.abs()
            return
        # Half of the time of these steps would go into fresh memory.
        x *= factor
        found = torch.empty_like(x)
        for window in WINDOWS:
            yield distance(x, window, found)
        yield x.abs_()


def _rows(x: Tensor) -> int:
    """Rows of a strip of adapted features N×C×H×W that fits into a CPU's cache."""
    return max(2 * WINDOWS[-1], STRIP_PIXELS.get(x.device.type, 2**22) * 4 // (len(x) * x.shape[3]))


def distance(x: Tensor, window: int, out: Tensor) -> Tensor:
    """|window_mean(x) − x|, N×C×H×W, written to `out`, a strip of rows at a time."""
    half, rows = window // 2, _rows(x)
    for start in range(0, x.shape[2], rows):
        stop, top = min(start + rows, x.shape[2]), max(0, start - half)
        mean = window_mean(x[:, :, top:stop + half], window, slice(start - top, stop - top))
        torch.sub(mean, x[:, :, start:stop], out=out[:, :, start:stop]).abs_()
    return out


class ConvLSTM(nn.Module):
    """Convolutional LSTM with gates i, f, candidate, o and hard sigmoids; state 0 at first.

    The convolution of input and hidden state, concatenated, is a sum, of which the first step has one part only.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(channels + hidden, 4 * hidden, 7, padding=3)

    def forward(self, steps: Iterable[Tensor]) -> Tensor:
        """Steps N×channels×H×W to the last hidden state, N×hidden×H×W."""
        state: tuple[Tensor, Tensor] | None = None
        for x in steps:
            of_input, of_hidden = self.gates.weight.split((x.shape[1], self.gates.in_channels - x.shape[1]), 1)
            gates = F.conv2d(x, of_input, self.gates.bias, padding=3)
            if state is not None:
                gates += F.conv2d(state[0], of_hidden, padding=3)
            into, forget, candidate, out = gates.chunk(4, 1)
            cell = hard_sigmoid(into) * candidate.tanh()
            if state is not None:
                cell = cell + hard_sigmoid(forget) * state[1]
            state = hard_sigmoid(out) * cell.tanh(), cell
        assert state is not None
        return state[0]


class ConvGRU(nn.Module):
    """Convolutional GRU: (r, u) = hard sigmoid of conv1[h, x], c = tanh of conv2[x, r·h], h ← (1 − u)·h + u·c.

    h is 0 at first.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.conv1 = nn.Conv2d(hidden + channels, 2 * hidden, 7, padding=3)
        self.conv2 = nn.Conv2d(channels + hidden, hidden, 7, padding=3)

    def forward(self, steps: Iterable[Tensor]) -> Tensor:
        """Steps N×channels×H×W to the last hidden state, N×hidden×H×W."""
        first, second, size = self.conv1.weight, self.conv2.weight, self.hidden
        of_input = torch.cat([first[:, size:], second[:, :-size]])
        bias = torch.cat([self.conv1.get_parameter("bias"), self.conv2.get_parameter("bias")])
        hidden: Tensor | None = None
        for x in steps:
            gates, candidate = F.conv2d(x, of_input, bias, padding=3).split((2 * size, size), 1)
            if hidden is not None:
                gates = gates + F.conv2d(hidden, first[:, :size], padding=3)
            reset, update = hard_sigmoid(gates).chunk(2, 1)
            if hidden is None:
                hidden = update * candidate.tanh()
                continue
            candidate = candidate + F.conv2d(reset * hidden, second[:, -size:], padding=3)
            hidden = (1 - update) * hidden + update * candidate.tanh()
        assert hidden is not None
        return hidden


def hard_sigmoid(x: Tensor) -> Tensor:
    """clip(0.2 x + 0.5, 0, 1), as in the original's framework."""
    return (0.2 * x + 0.5).clamp(0, 1)


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
