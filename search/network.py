"""The network that is trained during a search: enhancement, supernet, decoder without attention."""

from collections.abc import Sequence

from torch import Tensor, nn

from detectors.blocks import Decision, Enhancement, pad_to_multiple
from search_space.cells import scaled
from search_space.genotype import SpaceShape
from search_space.supernet import Supernet


class SearchNetwork(nn.Module):
    """As GIID-Net, with a supernet for its extraction block and, as in the paper, no attention."""

    def __init__(self, space: SpaceShape, width: float, streams: Sequence[str]) -> None:
        super().__init__()
        self.reduction = 2 * space.reduction
        self.enhancement = Enhancement(streams, width)
        self.supernet = Supernet(space, width)
        self.decision = Decision(scaled(space.channels[-1], width), self.reduction, width)

    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1] to logits N×1×H×W, by the supernet's present path or mixture."""
        height, width = images.shape[-2:]
        x = pad_to_multiple(images * 2 - 1, self.reduction)
        return self.decision(self.supernet(self.enhancement(x)))[..., :height, :width]
