"""Cells, and the extraction block as a row of them (Wu & Zhou 2021, section III-B)."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from search_space.genotype import Genotype, SpaceShape
from search_space.operations import Separable, build_operation, conv_norm

STEM_CHANNELS = 64
"""Channels at width 1 that the enhancement block gives to the first cell."""

SlotFactory = Callable[[str, int, int, int], nn.Module]
"""(label, channels, stride, dilation) to the module of that slot."""


def scaled(channels: int, width: float) -> int:
    """Channels at `width`: at least 4."""
    return max(4, round(channels * width))


class Cell(nn.Module):
    """Convolution, then slots, beside a skip: x → [ReLU] → separable 3×3 → BN → (ReLU → slot → BN)… + skip(x).

    The stride is in the last slot, which is not dilated. The skip is the identity, or a strided 1×1 convolution
    with BN where the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int, first: bool,
                 slots: Sequence[Callable[[int, int, int], nn.Module]]) -> None:
        super().__init__()
        self.first, self.stride = first, stride
        self.conv = Separable(inputs, outputs, dilation=dilation)
        self.norm = nn.BatchNorm2d(outputs)
        last = len(slots) - 1
        self.slots = nn.ModuleList(
            make(outputs, stride if i == last else 1, 1 if i == last else dilation) for i, make in enumerate(slots))
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in slots)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.skip = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def begin(self, x: Tensor) -> Tensor:
        """What comes before the slots: N×inputs×H×W to N×outputs×H×W."""
        return self.norm(self.conv(x if self.first else x.relu()))

    def slot(self, index: int, y: Tensor) -> Tensor:
        """Slot `index` on what came before it, `y`, which may be changed to its ReLU."""
        return self.norms[index](self.slots[index](y.relu_()))

    def end(self, y: Tensor, x: Tensor) -> Tensor:
        """The sum of the slots' result and the skip from the cell's input `x`."""
        if not isinstance(self.skip, nn.Sequential):
            return y + x
        # In place of a stride: the gradient of a strided 1×1 convolution of few channels, channels last, writes beyond
        # its memory on a CPU (torch 2.13).
        return y + conv_norm(x[..., ::self.stride, ::self.stride], *self.skip)

    def forward(self, x: Tensor) -> Tensor:
        """N×inputs×H×W to N×outputs×⌈H/stride⌉×⌈W/stride⌉."""
        y = self.begin(x)
        for index in range(len(self.slots)):
            y = self.slot(index, y)
        return self.end(y, x)


def build_cells(space: SpaceShape, width: float, make_slot: SlotFactory) -> nn.Sequential:
    """The cells of `space` at `width`; input `scaled(STEM_CHANNELS, width)` channels."""
    cells, inputs = [], scaled(STEM_CHANNELS, width)
    for number, (channels, stride, dilation) in enumerate(
            zip(space.channels, space.strides, space.dilations, strict=True), 1):
        slots = [lambda c, s, d, label=f"cell{number}_slot{slot}": make_slot(label, c, s, d)
                 for slot in range(1, space.slots + 1)]
        outputs = scaled(channels, width)
        cells.append(Cell(inputs, outputs, stride, dilation, number == 1, slots))
        inputs = outputs
    return nn.Sequential(*cells)


def build_extraction(genotype: Genotype, width: float = 1.0) -> nn.Sequential:
    """The extraction block of `genotype`: the network that its search scored, with the chosen operations alone."""
    names = genotype.sample()
    return build_cells(genotype.space, width,
                       lambda label, channels, stride, dilation:
                       build_operation(names[label], channels, stride, dilation))
