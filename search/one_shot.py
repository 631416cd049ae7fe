"""One-shot search: uniform single-path training (Guo et al. 2020), as in Wu & Zhou (2021)."""

from collections.abc import Sequence
from typing import Any

import torch

from configs.streams import stream
from search.processes import mean_loss
from search.samplers import random_samples
from search.strategy import Batch, Scored, SearchContext, Strategy, descend, loss_of
from search_space.genotype import Genotype, SpaceShape, random_genotype


class OneShot(Strategy):
    """Each step trains one genotype drawn uniformly, or with fair paths one for each operation in turn; the result is
    the best of N drawn candidates."""

    def set_up(self, context: SearchContext) -> None:
        self.context = context
        self.optimizer: Any = context.fabric.setup_optimizers(
            torch.optim.Adam(context.network.parameters(), context.settings.learning_rate))

    def step(self, number: int, train: Batch, validation: Batch | None) -> float:
        context = self.context
        generator = stream(context.seed, "path", number)
        paths = fair_paths(context.space, generator) if context.settings.paths == "fair" \
            else [random_genotype(context.space, generator)]
        self.optimizer.zero_grad()
        losses = []
        for path in paths[:-1]:
            context.network.set_path(path)
            loss = loss_of(context, train)
            context.fabric.backward(loss)
            losses.append(mean_loss(context.fabric, loss))
        context.network.set_path(paths[-1])
        losses.append(descend(context, self.optimizer, loss_of(context, train), context.network.parameters()))
        return sum(losses) / len(losses)

    def propose(self, history: Sequence[Scored]) -> list[Genotype]:
        context = self.context
        if history:
            return []
        return random_samples(context.space, context.seed, context.settings.candidates, context.allowed)

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])


def fair_paths(space: SpaceShape, generator: Any) -> list[Genotype]:
    """As many genotypes as the longest choice has options, in which every option of every choice stands once, or as
    evenly as can be (Chu et al. 2021, FairNAS, section 3.2: strict fairness)."""
    options = space.options()
    count = max(map(len, options.values()))
    columns = {}
    for label, names in options.items():
        rows = [generator.permutation(names) for _ in range(-(-count // len(names)))]
        columns[label] = [str(name) for row in rows for name in row][:count]
    return [Genotype.from_sample({label: column[index] for label, column in columns.items()}, space)
            for index in range(count)]
