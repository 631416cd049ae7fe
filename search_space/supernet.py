"""The supernet: the declared space with shared weights, of which a path or a mixture is evaluated."""

from collections.abc import Mapping
from functools import reduce
from operator import add, mul

from torch import Tensor, nn

from search_space.cells import Cell
from search_space.genotype import Genotype, SpaceShape
from search_space.space import ExtractionSpace, LayerChoice


class Slot(nn.Module):
    """A slot with all candidates; evaluates the chosen one alone, or a weighted sum of all."""

    def __init__(self, candidates: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.candidates = nn.ModuleDict(candidates)
        self.choice = next(iter(candidates))
        self.weights: Tensor | None = None

    @property
    def chosen(self) -> nn.Module:
        """The candidate that is evaluated when one is."""
        return self.candidates[self.choice]

    def forward(self, x: Tensor) -> Tensor:
        """As the candidates: N×C×H×W to N×C×⌈H/stride⌉×⌈W/stride⌉."""
        if self.weights is None:
            return self.chosen(x)
        # Computed, weighed and added in NNI's order, for the same bits forward and backward.
        outputs = [candidate(x) for candidate in self.candidates.values()]
        return reduce(add, map(mul, outputs, self.weights))


class Supernet(nn.Module):
    """The extraction block of all genotypes of `space` at once, with shared weights."""

    def __init__(self, space: SpaceShape, width: float = 1.0) -> None:
        super().__init__()
        self.space, self.width = space, width
        declared = ExtractionSpace(space, width)
        self.cells = declared.cells
        self._slots: dict[str, Slot] = {}
        for cell in self.cells:
            assert isinstance(cell, Cell)
            for index, choice in enumerate(cell.slots):
                assert isinstance(choice, LayerChoice)
                slot = Slot({name: choice[name] for name in choice.names})
                self._slots[choice.label] = slot
                cell.slots[index] = slot

    def forward(self, x: Tensor) -> Tensor:
        """N×C×H×W features to N×C'×H/r×W/r, r the product of the strides."""
        return self.cells(x)

    def set_path(self, genotype: Genotype) -> None:
        """From now on evaluates `genotype` alone."""
        sample = genotype.sample()
        for label in self._slots:
            self.choose(label, sample[label])

    def choose(self, label: str, name: str) -> None:
        """From now on evaluates the operation `name` alone in one slot."""
        self._slots[label].choice = name
        self._slots[label].weights = None

    def set_mixture(self, weights: Mapping[str, Tensor]) -> None:
        """From now on evaluates in each slot the sum of all candidates by `weights[label]` (one per operation)."""
        for label, slot in self._slots.items():
            slot.weights = weights[label]

    def inherited_state(self, genotype: Genotype, prefix: str = "") -> dict[str, Tensor]:
        """State dict of `build_extraction(genotype, width)` with this supernet's weights."""
        chosen = {f"cells.{label_to_path(label)}.candidates.{name}.": f"{label_to_path(label)}."
                  for label, name in genotype.sample().items() if label in self._slots}
        state = {}
        for key, value in self.state_dict().items():
            if ".candidates." not in key:
                state[prefix + key.removeprefix("cells.")] = value
                continue
            for source, target in chosen.items():
                if key.startswith(source):
                    state[prefix + target + key.removeprefix(source)] = value
        return state


def label_to_path(label: str) -> str:
    """Module path of a slot in the row of cells: `cell1_slot2` is `0.slots.1`."""
    cell, slot = label.split("_")
    return f"{int(cell[4:]) - 1}.slots.{int(slot[4:]) - 1}"
