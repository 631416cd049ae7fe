"""The enhancement and decision blocks of GIID-Net (Wu & Zhou 2021, sections III-A and III-C), corrected.

Channel counts are given at width 1 and scaled as the cells' are.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from search_space.cells import STEM_CHANNELS, scaled
from search_space.operations import conv_norm

NEIGHBOURS = 15
"""Most similar positions that global attention looks at (section III-C)."""

SIMILAR = 0.5
"""Cosine similarity from which a neighbour takes part."""

SIMILARITIES = {"cpu": 2**24, "cuda": 2**28}
"""Similarities held at a time: bounds the memory of global attention."""

LOCAL_KERNEL = (
    (.03598, .03735, .03997, .03713, .03579),
    (.03682, .03954, .04446, .03933, .03673),
    (.03864, .04242, .07146, .04239, .03859),
    (.03679, .03936, .04443, .03950, .03679),
    (.03590, .03720, .04003, .03738, .03601),
)
"""The fixed kernel of local attention, as released."""


Weights = Sequence[float | Tensor]
"""How much each stream, or each attention, takes part, in their order."""


class BayarConv(nn.Conv2d):
    """Convolution 3→3, 5×5, whose kernels have centre −1 and other weights that sum to 1 (Bayar & Stamm 2018).

    All nine kernels are constrained, at each forward, as a function of the stored weights: the published code
    constrains the first output channel only and writes the result back. The others' sum is brought to 1 by adding
    the same to each, the nearest kernel that satisfies the constraint: a division by their sum, as published,
    has a pole that training can cross.
    """

    def __init__(self) -> None:
        super().__init__(3, 3, 5, padding=2, bias=False)

    def constrained(self) -> Tensor:
        """The kernels that are applied, 3×3×5×5."""
        around = torch.ones_like(self.weight)
        around[..., 2, 2] = 0
        free = self.weight * around
        missing = (1 - free.sum((-2, -1), keepdim=True)) / around[0, 0].sum()
        return free + missing * around - (1 - around)

    def forward(self, x: Tensor) -> Tensor:
        """N×3×H×W to N×3×H×W."""
        return F.conv2d(x, self.constrained(), padding=2)


class Residual(nn.Conv2d):
    """Convolution 3→6, 5×5, whose kernels sum to 0, and asinh of the result in grey levels.

    Traces are a few grey levels high and edges a hundred: asinh, about linear below one level and logarithmic above,
    brings both to the same size. The kernels are the stored weights less their mean, at each forward.
    """

    def __init__(self) -> None:
        super().__init__(3, 6, 5, padding=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """N×3×H×W in [−1, 1] to N×6×H×W."""
        # Replicated borders: zeros there would be an edge of their own.
        kernels = self.weight - self.weight.mean((2, 3), keepdim=True)
        levels = F.conv2d(F.pad(127.5 * x, (2, 2, 2, 2), mode="replicate"), kernels)
        if torch.onnx.is_in_onnx_export():  # which knows no asinh
            return levels.sign() * (levels.abs() + (levels.square() + 1).sqrt()).log()
        return levels.asinh()


RING = ((-.25, .5, -.25), (.5, -1., .5), (-.25, .5, -.25))
"""A second difference: what a pixel's neighbours do not tell of it."""


class Fixed(nn.Module, ABC):
    """A stream in which nothing is learned: its `kernels` are no part of the weights."""

    kernels: Tensor

    def __init__(self, out_channels: int, kernels: Tensor) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.register_buffer("kernels", kernels, persistent=False)

    @abstractmethod
    def logarithms(self, x: Tensor) -> Tensor:
        """RGB N×3×H×W in grey levels, −127.5 to 127.5, to N×C×H×W."""

    def forward(self, x: Tensor) -> Tensor:
        """N×3×H×W in [−1, 1] to N×C×H×W: `logarithms`, less their mean over the picture."""
        # float32 under mixed precision too: squares of grey levels are large, and differences of logarithms small.
        with torch.autocast(x.device.type, enabled=False):
            found = self.logarithms(127.5 * x.float())
            return found - found.mean((2, 3), keepdim=True)


class Spectrum(Fixed):
    """Spectrum around each pixel, against the picture's.

    Log of the mean square over 12×12 of seventeen residuals in grey levels, less its mean over the picture. Fifteen of
    the residuals are those of the 4×4 discrete cosine transform of the grey picture but its mean, two are second
    differences of colours. Noise levels, blur, sharpening, enlarging and compression each have a spectrum.
    """

    def __init__(self) -> None:
        super().__init__(17, spectrum_kernels())

    def logarithms(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        residuals = F.conv2d(F.pad(x, (1, 3, 1, 3), mode="replicate"), self.kernels, stride=2)
        found = window_mean(residuals.square(), 5).add(0.05).log()
        return F.interpolate(found, scale_factor=2.0, mode="bilinear")[..., :height, :width]


def spectrum_kernels() -> Tensor:
    """Kernels of `Spectrum`, 17×3×4×4: `cosine_kernels` of the mean of colours, one of red less green and of blue less
    green."""
    kernels = torch.zeros(17, 3, 4, 4)
    kernels[:15] = cosine_kernels(4)[:, None] / 3
    kernels[15:, 1, :3, :3] = -torch.tensor(RING)
    kernels[15, 0], kernels[16, 2] = -kernels[15, 1], -kernels[16, 1]
    return kernels


def cosine_kernels(side: int) -> Tensor:
    """The orthonormal discrete cosine transform of side×side but the mean: (side² − 1)×side×side, rows of frequencies
    along columns first."""
    position = torch.arange(float(side))
    waves = torch.cos(torch.pi / side * (position + 0.5) * position[:, None]) * (2 / side) ** 0.5
    waves[0] /= 2 ** 0.5
    return (waves[:, None, :, None] * waves[None, :, None, :]).flatten(0, 1)[1:]


class Bands(Fixed):
    """`Spectrum` in finer bands over a wider window: log of the mean square, over 24×24, of each of the 63 residuals of
    the 8×8 discrete cosine transform of the grey picture, less its mean over the picture."""

    def __init__(self) -> None:
        super().__init__(63, cosine_kernels(8)[:, None])

    def logarithms(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        grey = F.pad(x.mean(1, keepdim=True), (2, 5, 2, 5), mode="replicate")
        found = window_mean(F.conv2d(grey, self.kernels, stride=4).square(), 5).add(0.05).log()
        return F.interpolate(found, scale_factor=4.0, mode="bilinear")[..., :height, :width]


PERIODS = {2: 9, 4: 7, 8: 5}
"""Pixels after which traces of enlarging decoders and of JPEG blocks come again, and how many times they are sought,
along each side."""


class Periods(Fixed):
    """How much the picture repeats itself after `PERIODS` around each pixel.

    Of log(1 + the residual in grey levels), means over pixels that are whole periods apart are compared: log of their
    variance over phases to their squared mean, less its mean over the picture. Where interpolation or block coding left
    traces, pixels of one phase have larger residuals than those of another (Popescu & Farid, IEEE Transactions on
    Signal Processing 2005).
    """

    def __init__(self) -> None:
        super().__init__(len(PERIODS), torch.tensor(RING).repeat(1, 3, 1, 1) / 3)

    def logarithms(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        residual = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), self.kernels).abs().log1p()
        residual = pad_to_multiple(residual, max(PERIODS))
        found = []
        for period, times in PERIODS.items():
            phases = F.pixel_unshuffle(residual, period)
            # Means of fewer pixels vary more, by chance: at borders, where a part of the window is outside.
            inside = F.avg_pool2d(torch.ones_like(phases[:, :1]), times, 1, times // 2)
            phases = window_mean(phases, times)
            mean = phases.mean(1, keepdim=True)
            ratio = inside * (phases - mean).square().mean(1, keepdim=True) / mean.square().add(1e-3)
            found.append(F.interpolate(ratio, scale_factor=float(period), mode="bilinear"))
        return torch.cat(found, 1)[..., :height, :width].add(1e-4).log()


def prefilter_kernels() -> Tensor:
    """First-order differences down, right and down-right for each input channel, three times: 9×3×3×3."""
    kernels = torch.zeros(3, 3, 3)
    kernels[:, 1, 1] = -1
    kernels[0, 2, 1] = kernels[1, 1, 2] = kernels[2, 2, 2] = 1
    return kernels[:, None].repeat(3, 3, 1, 1)


FURTHER: Mapping[str, Callable[[], nn.Conv2d | Fixed]] = {
    "residual": Residual, "spectrum": Spectrum, "periods": Periods, "bands": Bands}
"""Streams of this project."""


def build_stream(name: str) -> nn.Conv2d | Fixed:
    """The stream "plain" (3 channels), "bayar" (3), "prefilter" (9, trainable from `prefilter_kernels`), or one of
    `FURTHER`: "residual" (6), "spectrum" (17), "periods" (3), "bands" (63)."""
    if name == "bayar":
        return BayarConv()
    if name in FURTHER:
        return FURTHER[name]()
    if name == "plain":
        return nn.Conv2d(3, 3, 5, padding=2, bias=False)
    conv = nn.Conv2d(3, 9, 3, padding=1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(prefilter_kernels())
    return conv


class Enhancement(nn.Module):
    """Streams that bring out traces, concatenated, then two convolutions at half the resolution.

    `streams` are names that `build_stream` knows.
    """

    def __init__(self, streams: Sequence[str] = ("plain", "bayar", "prefilter"), width: float = 1.0) -> None:
        super().__init__()
        convs = {name: build_stream(name) for name in streams}
        self.streams = nn.ModuleDict(convs)
        self.sizes = {name: conv.out_channels for name, conv in convs.items()}
        channels = sum(self.sizes.values())
        middle, outputs = scaled(STEM_CHANNELS // 2, width), scaled(STEM_CHANNELS, width)
        self.convs = nn.Sequential(
            nn.Conv2d(channels, middle, 3, 2, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU(),
            nn.Conv2d(middle, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    def enhanced(self, x: Tensor, weights: Weights | None = None) -> Tensor:
        """The streams alone: N×3×H×W in [−1, 1] to N×(3 to 104)×H×W."""
        return torch.cat(weighted(self.streams.values(), x, weights), 1)

    def forward(self, x: Tensor, weights: Weights | None = None) -> Tensor:
        """N×3×H×W in [−1, 1] to N×C×⌈H/2⌉×⌈W/2⌉. With `weights`, one for each stream, 0 is a
        block without that one."""
        # Carries through all layers that follow: their convolutions on a CPU need no reordering.
        return in_row(self.convs, self.enhanced(x.contiguous(memory_format=torch.channels_last), weights))


def weighted(modules: Iterable[nn.Module], x: Tensor, weights: Weights | None) -> list[Tensor]:
    """What each module gives for `x`, times its weight; zeros, and no computation, where that is the number 0.

    A module gives as many channels as its `out_channels` say, or else as `x` has.
    """
    if weights is None:
        return [module(x) for module in modules]
    return [module(x) * weight if isinstance(weight, Tensor) or weight else
            x.new_zeros(1, 1, 1, 1).expand(len(x), getattr(module, "out_channels", x.shape[1]), *x.shape[2:])
            for module, weight in zip(modules, weights, strict=True)]


class GlobalAttention(nn.Module):
    """Mean of each position's features and those of its T − 1 most similar others, by cosine similarity.

    T = max(2, the largest t in 0…14 whose t-th similarity, averaged over the image, is at least 0.5). It is counted
    per image; with `batch_mean`, as published, from similarities averaged over the batch, so that an image's map
    depends on its neighbours there.
    """

    def __init__(self, batch_mean: bool = False) -> None:
        super().__init__()
        self.batch_mean = batch_mean

    def forward(self, x: Tensor) -> Tensor:
        """N×C×h×w to N×C×h×w. Memory grows with h·w, not with its square."""
        n, channels, height, width = x.shape
        positions = height * width
        features = x.flatten(2).transpose(1, 2).contiguous()
        with torch.no_grad():
            similarity, nearest = most_similar(F.normalize(features.detach(), dim=2, eps=1e-6), NEIGHBOURS)
            similarity = similarity.mean((0, 1) if self.batch_mean else 1, keepdim=True)[:, 0]
            order = torch.arange(NEIGHBOURS, device=x.device)
            last = torch.where(similarity >= SIMILAR, order, 0).amax(1)
            count = last.clamp(min=2).expand(n).view(n, 1, 1)
            takes_part = (order[1:] < count).to(x.dtype).expand(n, positions, NEIGHBOURS - 1)
            rows = nearest[..., 1:] + positions * torch.arange(n, device=x.device).view(n, 1, 1)
        total = features + weighted_sum(features.reshape(n * positions, channels), rows, takes_part)
        return (total / count).view(n, height, width, channels).permute(0, 3, 1, 2)


def most_similar(units: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Cosine similarities, falling, and indices of the `count` positions most similar to each: both N×P×count.

    `units` are features of length 1, N×P×C. Where P < `count`, the similarities that are missing are −1 and their
    indices 0.
    """
    n, positions, _ = units.shape
    if torch.onnx.is_in_onnx_export():  # One block, whose size may vary, and a constant count.
        found = F.pad(units @ units.transpose(1, 2), (0, count), value=-1.).topk(count, 2)
        return found.values, torch.where(found.indices < positions, found.indices, 0)
    block = max(1, SIMILARITIES.get(units.device.type, 2**24) // (n * positions))
    parts = [(units[:, start:start + block] @ units.transpose(1, 2)).topk(min(count, positions), 2)
             for start in range(0, positions, block)]
    missing = (0, max(0, count - positions))
    return (F.pad(torch.cat([part.values for part in parts], 1), missing, value=-1.),
            F.pad(torch.cat([part.indices for part in parts], 1), missing))


def weighted_sum(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Σ_k weights[n, p, k] · table[rows[n, p, k]]: table R×C, rows and weights N×P×K, result N×P×C."""
    if torch.is_grad_enabled() or torch.onnx.is_in_onnx_export():
        # Look-ups, because their gradient sums in a fixed order; that of indexing does not on a CPU.
        total = weights[..., :1] * F.embedding(rows[..., 0], table)
        for k in range(1, rows.shape[2]):
            total = total + weights[..., k:k + 1] * F.embedding(rows[..., k], table)
        return total
    bags = F.embedding_bag(rows.flatten(0, 1), table, mode="sum", per_sample_weights=weights.flatten(0, 1))
    return bags.view(*rows.shape[:2], -1)


class LocalAttention(nn.Module):
    """One fixed, bell-shaped 5×5 kernel on every channel."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("kernel", torch.tensor(LOCAL_KERNEL)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        """N×C×h×w to N×C×h×w."""
        return F.conv2d(x, self.kernel.expand(self.channels, 1, 5, 5), padding=2, groups=self.channels)


class Anomaly(nn.Module):
    """Adds to features a 1×1 convolution of how unusual they are for the picture: of their z-scores over all positions,
    and the scores' magnitudes.

    After ManTraNet's anomaly detector (Wu, AbdAlmageed & Natarajan, CVPR 2019, section 4). A trace is not foreign by
    itself but beside the rest: noise betrays a fill where there is no other, and lack of it where there is. The
    convolution starts at zero, so that a trained network stays what it was.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, channels, 1, bias=False)
        nn.init.zeros_(self.conv.weight)

    def forward(self, x: Tensor) -> Tensor:
        """N×C×h×w to N×C×h×w."""
        # float32 under mixed precision too: deviations are small.
        variance, mean = torch.var_mean(x.float(), (2, 3), correction=0, keepdim=True)
        scores = (x.float() - mean) * (variance + 1e-4).rsqrt()
        return x + self.conv(torch.cat([scores, scores.abs()], 1))


class Decision(nn.Module):
    """Features, with those of global and local attention beside them, decoded to a map at the input's resolution.

    `reduction` (a power of two) is how much smaller the features are. Each attention can be left out, or given as a
    module of the caller's. `align_corners` is that of the bilinear up-sampling. The map is decoded at 1/`resolution`
    of the input's sides (a power of two, at most half of `reduction`) and then enlarged.
    """

    def __init__(self, channels: int, reduction: int, width: float = 1.0, attention: Sequence[nn.Module] = (),
                 align_corners: bool = False, resolution: int = 1) -> None:
        super().__init__()
        self.attention = nn.ModuleList(attention)
        self.resolution, self.align_corners = resolution, align_corners
        inputs, middle = channels * (1 + len(self.attention)), scaled(256, width)
        layers: list[nn.Module] = []
        for _ in range((reduction // resolution).bit_length() - 2):
            layers.append(Double(align_corners))
            for _ in range(2):
                layers += [nn.Conv2d(inputs, middle, 3, padding=1), nn.BatchNorm2d(middle), nn.ReLU()]
                inputs = middle
        self.decoder = nn.Sequential(*layers, Double(align_corners), nn.Conv2d(inputs, 1, 3, padding=1))

    def forward(self, x: Tensor, weights: Weights | None = None) -> Tensor:
        """N×C×h×w to logits N×1×(reduction·h)×(reduction·w). With `weights`, one for each attention, 0 is a block
        without that one."""
        x = torch.cat([x, *weighted(self.attention, x, weights)], 1)
        *layers, double, last = self.decoder
        assert isinstance(last, nn.Conv2d)
        x = conv_of_doubled(in_row(layers, x), double, last)
        if self.resolution == 1:
            return x
        return F.interpolate(x, scale_factor=self.resolution, mode="bilinear", align_corners=self.align_corners)


def in_row(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """The layers in a row; a convolution and the norm after it as `conv_norm`, ReLU in place."""
    conv: nn.Conv2d | None = None
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            conv = layer
        elif isinstance(layer, nn.BatchNorm2d) and conv is not None:
            x = conv_norm(x, conv, layer)
        else:
            x = x.relu_() if isinstance(layer, nn.ReLU) else layer(x)
    return x


def conv_of_doubled(x: Tensor, double: nn.Module, conv: nn.Conv2d) -> Tensor:
    """conv(double(x)) for a convolution 3×3 to one channel: nine products of the channels at the lower resolution,
    doubled, shifted and added. The doubled channels never exist."""
    taps = F.conv2d(x, conv.weight[0].flatten(1).t()[..., None, None])
    shifted = F.pad(double(taps), (1, 1, 1, 1))
    height, width = shifted.shape[2] - 2, shifted.shape[3] - 2
    assert conv.bias is not None
    total = conv.bias.view(1, 1, 1)
    # Taken apart at once: the gradient of a slice is as large as what it was cut from.
    for tap, products in enumerate(shifted.unbind(1)):
        row, column = divmod(tap, 3)
        total = total + products[:, row:row + height, column:column + width]
    return total[:, None]


class Double(nn.Module):
    """Bilinear up-sampling by two."""

    def __init__(self, align_corners: bool = False) -> None:
        super().__init__()
        self.align_corners = align_corners

    def forward(self, x: Tensor) -> Tensor:
        """N×C×h×w to N×C×2h×2w."""
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=self.align_corners)


def median3(x: Tensor) -> Tensor:
    """3×3 median without padding: N×C×H×W to N×C×(H−2)×(W−2).

    Its gradient goes in equal shares to those of the nine that equal the median.
    """
    return _Median3.apply(x) if torch.is_grad_enabled() and x.requires_grad else _median3(x)


class _Median3(torch.autograd.Function):
    """A tenth of the time that the gradient of each minimum and maximum takes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        median = _median3(x)
        ctx.save_for_backward(x, median)
        return median

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        x, median = ctx.saved_tensors
        height, width = median.shape[-2:]
        windows = [(..., slice(row, row + height), slice(column, column + width))
                   for row in range(3) for column in range(3)]
        chosen = [(x[window] == median).to(x.dtype) for window in windows]
        share, total = gradient / sum(chosen), torch.zeros_like(x)
        for window, mine in zip(windows, chosen, strict=True):
            total[window] += share * mine
        return total


def _median3(x: Tensor) -> Tensor:
    """Sorts the three of each column, which neighbouring windows share; the median of nine is the median of the largest
    lowest, the middle middle and the lowest largest of three columns (Paeth, Graphics Gems 1990)."""
    low, middle, high = _sort3(x[..., :-2, :], x[..., 1:-1, :], x[..., 2:, :])
    columns = [(v[..., :-2], v[..., 1:-1], v[..., 2:]) for v in (low, middle, high)]
    return _sort3(_sort3(*columns[0])[2], _sort3(*columns[1])[1], _sort3(*columns[2])[0])[1]


def _sort3(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    b, c = torch.minimum(b, c), torch.maximum(b, c)
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    return a, b, c


def window_mean(x: Tensor, window: int, rows: slice = slice(None)) -> Tensor:
    """Mean over the window×window square around each position, of what lies inside the picture; of `rows` alone."""
    half = window // 2
    x = F.avg_pool2d(x, (window, 1), 1, (half, 0), count_include_pad=False)[:, :, rows]
    return F.avg_pool2d(x, (1, window), 1, (0, half), count_include_pad=False)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Replicates the last row and column until both sides are multiples of `multiple`."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
