"""One-shot search: uniform single-path training (Guo et al. 2020), as in Wu & Zhou (2021)."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from configs.processes import mean_loss
from configs.schema import Racing
from configs.streams import stream
from search.samplers import DRAWS, best_first, crossed, mutated, next_batch, random_samples, with_exact
from search.strategy import Batch, Scored, SearchContext, Strategy, descend, loss_of
from search_space.genotype import Genotype, SpaceShape, random_genotype


class OneShot(Strategy):
    """Each step trains one genotype drawn uniformly, or with fair paths one for each operation in turn; the result is
    the best of `search.candidates`.

    These are random, or with `search.sampler` evolution random at first, and then, in generations of
    `evolution.population`, half crossover and half mutation of the `evolution.sample` best of all so far (Guo et al.
    2020, section 3.4). Subclasses train alike, from the same draws, start from the same random candidates, and have
    ways of their own to get further ones.
    """

    draws: ClassVar[int] = DRAWS
    """Further candidates in a row that are not new, or not allowed, after which random ones are taken."""

    def set_up(self, context: SearchContext) -> None:
        self.context = context
        # One kernel for all weights; Fabric cannot clip what a scaled loss gives to such a one.
        fused = getattr(context.fabric.strategy.precision, "scaler", None) is None
        self.optimizer: Any = context.fabric.setup_optimizers(
            torch.optim.Adam(context.network.parameters(), context.settings.learning_rate, fused=fused))

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
        losses.append(descend(context, self.optimizer, loss_of(context, train), clip=True))
        return sum(losses) / len(losses)

    def propose(self, history: Sequence[Scored]) -> list[Genotype]:
        context = self.context
        first, further = self.batches()
        count = min(further if history else first, context.settings.candidates - len(history))
        if count <= 0:
            return []
        if not history:
            return random_samples(context, stream(context.seed, "candidates"), count)
        generator = stream(context.seed, "candidates", len(history))
        return next_batch(context, history, count, self.sources(history, generator), generator, self.draws)

    def batches(self) -> tuple[int, int]:
        """How many candidates are proposed at first, and how many at a time then."""
        settings = self.context.settings
        return (settings.evolution.population if self._evolves() else settings.candidates,) * 2

    def sources(self, history: Sequence[Scored], generator: np.random.Generator) -> list[Iterator[Genotype]]:
        """Where further candidates come from, each source endless and for an equal share of them."""
        if not self._evolves():
            return []
        settings = self.context.settings.evolution
        parents = [scored.genotype for scored in best_first(history)[:settings.sample]]
        return [crossed(parents, generator), mutated(parents, settings.mutation, generator)]

    def racing(self, racing: Racing) -> Racing:
        return with_exact(racing, self.context.settings.evolution.sample) if self._evolves() else racing

    def _evolves(self) -> bool:
        return self.context.settings.sampler == "evolution"

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
