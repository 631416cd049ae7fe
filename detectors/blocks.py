"""The enhancement and decision blocks of GIID-Net (Wu & Zhou 2021, sections III-A and III-C), corrected.

Channel counts are given at width 1 and scaled as the cells' are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from search_space.cells import STEM_CHANNELS, scaled

NEIGHBOURS = 15
"""Most similar positions that global attention looks at (section III-C)."""

SIMILAR = 0.5
"""Cosine similarity from which a neighbour takes part."""

QUERIES = 2048
"""Positions compared with all others at a time: bounds the memory of global attention."""

LOCAL_KERNEL = (
    (.03598, .03735, .03997, .03713, .03579),
    (.03682, .03954, .04446, .03933, .03673),
    (.03864, .04242, .07146, .04239, .03859),
    (.03679, .03936, .04443, .03950, .03679),
    (.03590, .03720, .04003, .03738, .03601),
)
"""The fixed kernel of local attention, as released."""


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


def prefilter_kernels() -> Tensor:
    """First-order differences down, right and down-right for each input channel, three times: 9×3×3×3."""
    kernels = torch.zeros(3, 3, 3)
    kernels[:, 1, 1] = -1
    kernels[0, 2, 1] = kernels[1, 1, 2] = kernels[2, 2, 2] = 1
    return kernels[:, None].repeat(3, 3, 1, 1)


def build_stream(name: str) -> nn.Conv2d:
    """The stream "plain" (3 channels), "bayar" (3) or "prefilter" (9, trainable from `prefilter_kernels`)."""
    if name == "bayar":
        return BayarConv()
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
        channels = sum(conv.out_channels for conv in convs.values())
        middle, outputs = scaled(STEM_CHANNELS // 2, width), scaled(STEM_CHANNELS, width)
        self.convs = nn.Sequential(
            nn.Conv2d(channels, middle, 3, 2, 1, bias=False), nn.BatchNorm2d(middle), nn.ReLU(),
            nn.Conv2d(middle, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())

    def enhanced(self, x: Tensor) -> Tensor:
        """The streams alone: N×3×H×W in [−1, 1] to N×(3 to 15)×H×W."""
        return torch.cat([stream(x) for stream in self.streams.values()], 1)

    def forward(self, x: Tensor) -> Tensor:
        """N×3×H×W in [−1, 1] to N×C×⌈H/2⌉×⌈W/2⌉."""
        # Carries through all layers that follow: their convolutions on a CPU need no reordering.
        return self.convs(self.enhanced(x.contiguous(memory_format=torch.channels_last)))


class GlobalAttention(nn.Module):
    """Mean of each position's features and those of its T − 1 most similar others, by cosine similarity.

    T = max(2, the largest t in 0…14 whose t-th similarity, averaged over the image, is at least 0.5), counted per
    image: the published T is averaged over the batch, so that an image's map depends on its neighbours there.
    """

    def forward(self, x: Tensor) -> Tensor:
        """N×C×h×w to N×C×h×w. Memory grows with h·w, not with its square."""
        n, channels, height, width = x.shape
        positions = height * width
        features = x.flatten(2).transpose(1, 2)
        with torch.no_grad():
            units = F.normalize(features.detach(), dim=2, eps=1e-6)
            found = [(units[:, start:start + QUERIES] @ units.transpose(1, 2)).topk(min(NEIGHBOURS, positions), 2)
                     for start in range(0, positions, QUERIES)]
            similarity = torch.cat([f.values for f in found], 1).mean(1)
            order = torch.arange(similarity.shape[1], device=x.device)
            last = torch.where(similarity >= SIMILAR, order, 0).amax(1)
            count = last.clamp(min=2).view(n, 1, 1)
            nearest = torch.cat([f.indices for f in found], 1)[..., 1:]
            takes_part = (order[1:] < count).to(x.dtype)
            rows = nearest + positions * torch.arange(n, device=x.device).view(n, 1, 1)
        # An embedding look-up, because its gradient sums in a fixed order; that of indexing does not on a CPU.
        table = features.reshape(n * positions, channels)
        total = features
        for k in range(rows.shape[2]):
            total = total + takes_part[..., k:k + 1] * F.embedding(rows[..., k], table)
        return (total / count).transpose(1, 2).view_as(x)


class LocalAttention(nn.Module):
    """One fixed, bell-shaped 5×5 kernel on every channel."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor(LOCAL_KERNEL)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        """N×C×h×w to N×C×h×w."""
        return F.conv2d(x, self.kernel.expand(x.shape[1], 1, 5, 5), padding=2, groups=x.shape[1])


class Decision(nn.Module):
    """Features, with those of global and local attention beside them, decoded to a map at the input's resolution.

    `reduction` (a power of two) is how much smaller the features are. Each attention can be left out.
    """

    def __init__(self, channels: int, reduction: int, width: float = 1.0, global_attention: bool = True,
                 local_attention: bool = True) -> None:
        super().__init__()
        self.attention = nn.ModuleList()
        if global_attention:
            self.attention.append(GlobalAttention())
        if local_attention:
            self.attention.append(LocalAttention())
        inputs, middle = channels * (1 + len(self.attention)), scaled(256, width)
        layers: list[nn.Module] = []
        for _ in range(reduction.bit_length() - 2):
            layers.append(Double())
            for _ in range(2):
                layers += [nn.Conv2d(inputs, middle, 3, padding=1), nn.BatchNorm2d(middle), nn.ReLU()]
                inputs = middle
        self.decoder = nn.Sequential(*layers, Double(), nn.Conv2d(inputs, 1, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """N×C×h×w to logits N×1×(reduction·h)×(reduction·w)."""
        return self.decoder(torch.cat([x, *(attention(x) for attention in self.attention)], 1))


class Double(nn.Module):
    """Bilinear up-sampling by two, corners aligned."""

    def forward(self, x: Tensor) -> Tensor:
        """N×C×h×w to N×C×2h×2w."""
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def median3(x: Tensor) -> Tensor:
    """3×3 median with replicated borders: N×1×H×W to N×1×H×W."""
    n, _, height, width = x.shape
    windows = F.unfold(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3)
    return windows.median(1).values.view(n, 1, height, width)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Replicates the last row and column until both sides are multiples of `multiple`."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
