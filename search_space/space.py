"""The search space declared with NNI. The only module of this package that imports NNI."""

import warnings

from torch import Tensor, nn

from search_space.cells import build_cells
from search_space.genotype import CHOICES, SpaceShape
from search_space.operations import build_operation

with warnings.catch_warnings():
    warnings.simplefilter("ignore", RuntimeWarning)
    from nni.nas.nn.pytorch import LayerChoice, ModelSpace


class ExtractionSpace(ModelSpace):
    """The extraction block with a `LayerChoice` of all operations in each slot, labelled `cell1_slot1`, …, and, where
    the space has them to choose, "streams" and "attention" of the blocks around it.

    `simplify()` gives the choices by label, `freeze(sample)` the network of one genotype.
    """

    def __init__(self, space: SpaceShape, width: float = 1.0) -> None:
        super().__init__()
        self.shape = space
        self.cells = build_cells(space, width, lambda label, channels, stride, dilation: LayerChoice(
            {name: build_operation(name, channels, stride, dilation) for name in space.operations}, label=label))
        # What these choose is in the blocks around the cells: here they are declared, and change nothing.
        self.choices = nn.ModuleList(LayerChoice({option: nn.Identity() for option in getattr(space, key)}, label=key)
                                     for key in CHOICES if getattr(space, key))

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W features to N×C'×H/r×W/r, r the product of the strides."""
        return self.cells(x)
