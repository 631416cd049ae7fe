"""One-shot search: uniform single-path training (Guo et al. 2020), as in Wu & Zhou (2021)."""

from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from configs.streams import stream
from search.strategy import Batch, SearchContext, Strategy
from search_space.genotype import Genotype, random_genotype


class OneShot(Strategy):
    """Each step trains one genotype drawn uniformly; the result is the best of N drawn candidates."""

    def set_up(self, context: SearchContext) -> None:
        self.context = context
        self.optimizer: Any = context.fabric.setup_optimizers(
            torch.optim.Adam(context.network.parameters(), context.settings.learning_rate))

    def step(self, number: int, train: Batch, validation: Batch | None) -> float:
        context = self.context
        context.network.supernet.set_path(random_genotype(context.space, stream(context.seed, "path", number)))
        images, masks = train
        with context.fabric.autocast():
            loss = binary_cross_entropy_with_logits(context.network(images), masks)
        self.optimizer.zero_grad()
        context.fabric.backward(loss)
        self.optimizer.step()
        return loss.item()

    def propose(self, count: int) -> list[Genotype]:
        generator = stream(self.context.seed, "candidates")
        found: dict[str, Genotype] = {}
        while len(found) < min(count, self.context.space.size):
            genotype = random_genotype(self.context.space, generator)
            found.setdefault(str(genotype), genotype)
        return list(found.values())

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
