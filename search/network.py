"""The network that is trained during a search: enhancement, supernet, decision; as a row of stages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from detectors.blocks import Decision, Enhancement, GlobalAttention, LocalAttention, Weights, pad_to_multiple
from detectors.giidnet import GIIDNet
from search_space.cells import Cell, scaled
from search_space.cost import CostTable, count_cost, extraction_costs
from search_space.genotype import Genotype, SpaceShape, split_parts
from search_space.supernet import Supernet

Features = tuple[Tensor, ...]
"""What one stage hands to the next: what came before a slot, and its cell's input, which waits for the skip."""


@dataclass(frozen=True)
class Stage:
    """A part of the network that depends on one choice: `run` computes it for the option that was chosen last.

    `label` is that of the choice, also where it is none ("streams" and "attention" of a space that fixes them).
    `norms` are the batch norms that a run for the present option uses.
    """

    label: str
    run: Callable[[Features], Features]
    norms: Callable[[], list[nn.BatchNorm2d]]


class SearchNetwork(nn.Module):
    """As GIID-Net, with a supernet for its extraction block and, unless it is a choice, no attention.

    Its options are those of `space.options()`.
    """

    def __init__(self, space: SpaceShape, width: float, streams: Sequence[str]) -> None:
        super().__init__()
        self.space, self.reduction = space, 2 * space.reduction
        self.streams = _union(space.streams) or list(streams)
        self.attention = _union(space.attention)
        self.enhancement = Enhancement(self.streams, width)
        self.supernet = Supernet(space, width)
        channels = scaled(space.channels[-1], width)
        self.decision = Decision(channels, self.reduction, width, [_attention(name, channels) for name in
                                                                   self.attention], resolution=space.decoder)
        self.stream_weights: Weights | None = None
        self.attention_weights: Weights | None = None
        self.choose_all({label: options[0] for label, options in space.options().items()})

    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1] to logits N×1×H×W, by the present path or mixture."""
        features: Features = (images,)
        for stage in self.stages():
            features = stage.run(features)
        return features[0][..., :images.shape[-2], :images.shape[-1]]

    def stages(self) -> list[Stage]:
        """The stages in a row, from images (N×3×H×W in [0, 1],) to logits on the padded picture (N×1×H'×W',).

        One for the streams, one for each slot, one for the attention: the order of `space.options()`.
        """
        cells = cast(list[Cell], list(self.supernet.cells))
        stages = [Stage("streams", self._enhance, lambda: norms_in(self.enhancement, cells[0].conv, cells[0].norm))]
        for number, cell in enumerate(cells):
            after = cells[number + 1] if number + 1 < len(cells) else None
            for index in range(len(cell.slots)):
                last = index + 1 == len(cell.slots)
                stages.append(Stage(f"cell{number + 1}_slot{index + 1}",
                                    partial(_run_slot, cell, index, last, after),
                                    partial(_slot_norms, cell, index, last, after)))
        stages.append(Stage("attention", lambda features: (self.decision(features[0], self.attention_weights),),
                            lambda: norms_in(self.decision)))
        return stages

    def choose(self, label: str, option: str) -> None:
        """From now on evaluates one option of one choice."""
        if label == "streams":
            self.stream_weights = self._parts(self.streams, {option: 1.0})
        elif label == "attention":
            self.attention_weights = self._parts(self.attention, {option: 1.0})
        else:
            self.supernet.choose(label, option)

    def choose_all(self, sample: Mapping[str, str]) -> None:
        """From now on evaluates one path, given by its options by label."""
        for label, option in sample.items():
            self.choose(label, option)

    def set_path(self, genotype: Genotype) -> None:
        """From now on evaluates `genotype` alone."""
        self.choose_all(genotype.sample())

    def set_mixture(self, weights: Mapping[str, Tensor]) -> None:
        """From now on evaluates under each label the sum of all options by `weights[label]`, one per option.

        Streams and attention enter a convolution, which is linear: the mixture of its results is its result for the
        mixture of what enters.
        """
        self.supernet.set_mixture(weights)
        if self.space.streams:
            self.stream_weights = self._parts(self.streams, dict(zip(self.space.streams, weights["streams"],
                                                                     strict=True)))
        if self.space.attention:
            self.attention_weights = self._parts(self.attention, dict(zip(
                self.space.attention, weights["attention"], strict=True)))

    def _parts(self, names: Sequence[str], weights: Mapping[str, float | Tensor]) -> Weights:
        """How much each part takes part, when options of several parts do by `weights`."""
        return [sum(weight for option, weight in weights.items() if name in split_parts(option)) for name in names]

    def _enhance(self, features: Features) -> Features:
        x = pad_to_multiple(features[0] * 2 - 1, self.reduction)
        x = self.enhancement(x, self.stream_weights)
        return cast(Cell, self.supernet.cells[0]).begin(x), x


def alone_network(genotype: Genotype, width: float, streams: Sequence[str]) -> GIIDNet:
    """The network of one genotype; its `logits` are those that the search network computes with the same weights."""
    chosen = bool(genotype.attention)
    return GIIDNet(genotype, width, None if genotype.streams else streams, chosen, chosen, median=False)


def norms_in(*modules: nn.Module) -> list[nn.BatchNorm2d]:
    """All batch norms of the modules, in their order."""
    return [norm for module in modules for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]


def _run_slot(cell: Cell, index: int, last: bool, after: Cell | None, features: Features) -> Features:
    """A slot; after a cell's last one its end and the beginning of the next cell, which depend on no other choice."""
    y, x = features
    y = cell.slot(index, y)
    if not last:
        return y, x
    x = cell.end(y, x)
    return (after.begin(x), x) if after else (x,)


def _slot_norms(cell: Cell, index: int, last: bool, after: Cell | None) -> list[nn.BatchNorm2d]:
    modules: list[nn.Module] = [cell.slots[index].chosen, cell.norms[index]]  # type: ignore[list-item]
    if last:
        modules += [cell.skip, *((after.conv, after.norm) if after else ())]
    return norms_in(*modules)


def _attention(name: str, channels: int) -> nn.Module:
    return GlobalAttention() if name == "global" else LocalAttention(channels)


def _union(options: Sequence[str]) -> list[str]:
    """All parts of the options, each once."""
    return list(dict.fromkeys(part for option in options for part in split_parts(option)))


def search_costs(space: SpaceShape, width: float, streams: Sequence[str], side: int, latency: bool = False,
                 device: torch.device | str = "cpu") -> CostTable:
    """Costs of the extraction block for a picture of `side`², and of the streams and the attention where a space has
    them to choose: their block's with that option alone."""
    table = extraction_costs(space, width, side // 2, latency, device)
    options = dict(table.options)
    if space.streams:
        options["streams"] = {option: count_cost(Enhancement(split_parts(option), width), (1, 3, side, side), latency,
                                                 device) for option in space.streams}
    if space.attention:
        channels, length = scaled(space.channels[-1], width), -(-side // (2 * space.reduction))

        def decision(option: str) -> nn.Module:
            return Decision(channels, 2 * space.reduction, width, [_attention(name, channels) for name in
                                                                   split_parts(option)], resolution=space.decoder)

        options["attention"] = {option: count_cost(decision(option), (1, channels, length, length), latency, device)
                                for option in space.attention}
    return CostTable(table.base, {label: options[label] for label in space.options()})
