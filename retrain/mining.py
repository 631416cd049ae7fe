"""Hard-example sampling: forgeries of high loss come again in the next epoch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from forgeries.dataset import ForgeryDataset


class HardExamples:
    """Which forgeries an epoch repeats: of the epoch before, those whose loss was highest when they were trained on.

    `loss` of (logits, masks), N×1×H×W, is a mean of pictures. A `share` of the pictures of each epoch, rounded down and
    spread evenly over it, is repeated ones, in the order in which they came; the first epoch has none. A repeated
    forgery can be repeated again. What is repeated depends on the losses alone, not on processes or workers.
    """

    def __init__(self, dataset: ForgeryDataset, loss: Callable[[Tensor, Tensor], Tensor], share: float) -> None:
        self.dataset, self.mean_loss, self.share = dataset, loss, share
        self.epoch, self.repeated, self.losses = 0, list[int](), list[float]()
        self.pending: list[Tensor] = []

    def loss(self, logits: Tensor, masks: Tensor) -> Tensor:
        """The loss of a batch, a scalar; those of its pictures are noted."""
        with torch.no_grad():
            self.pending += [self.mean_loss(logits[i:i + 1], masks[i:i + 1]) for i in range(len(logits))]
        return self.mean_loss(logits, masks)

    def end_step(self, fabric: Fabric, pictures: int) -> None:
        """Takes the losses of the step's last `pictures`, of this process; earlier ones are of an attempt that failed.
        Called in all processes."""
        found = fabric.all_gather(torch.stack(self.pending[-pictures:]))
        self.pending.clear()
        assert isinstance(found, Tensor)
        # Processes hold every world-th picture of the joint batches.
        self.losses += found.reshape(fabric.world_size, -1).t().flatten().tolist()
        if len(self.losses) == self.dataset.length:
            items = [self._replaced().get(i, i) for i in self._items()]
            hardest = torch.tensor(self.losses).argsort(descending=True, stable=True)[:int(self.share * len(items))]
            self.repeated = sorted(items[i] for i in hardest.tolist())
            self.epoch, self.losses = self.epoch + 1, []

    def items(self) -> ForgeryDataset:
        """The dataset to the end of this epoch, with this epoch's repetitions."""
        return self.dataset.repeating(self._replaced(), self.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs."""
        return {"epoch": self.epoch, "repeated": self.repeated, "losses": self.losses}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        self.epoch, self.repeated, self.losses = state["epoch"], list(state["repeated"]), list(state["losses"])

    def _items(self) -> range:
        return range(self.epoch * self.dataset.length, (self.epoch + 1) * self.dataset.length)

    def _replaced(self) -> dict[int, int]:
        """Item that stands in the place of another of this epoch."""
        items, count = self._items(), len(self.repeated)
        return {items[(2 * k + 1) * len(items) // (2 * count)]: item for k, item in enumerate(self.repeated)}
