"""The gradient of a step: of several batches, by several processes, and in less memory where it runs out."""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from configs.errors import UserError
from configs.processes import average_gradients, mean_loss

Batches = Sequence[tuple[Tensor, Tensor]]


@dataclass
class Gradients:
    """Gradients of the mean `loss` of batches, each computed in so many `pieces`.

    `pieces` grows where the memory runs out: the step is then repeated with every batch in twice as many, and so are
    those that follow. Gradients stay the same but for layers that look at the whole batch, above all batch norm.
    `section` of the configuration says how large a batch is.
    """

    fabric: Fabric
    network: Any
    optimizer: Any
    loss: Callable[[Any, Tensor], Tensor]
    section: str
    pieces: int = 1

    def __call__(self, batches: Batches) -> float:
        """Leaves the gradient in the network's parameters, of several processes that of the mean over all; returns the
        mean loss.

        Raises:
            UserError: the memory does not do for one picture, or of several processes for a share of a batch.
        """
        while True:
            try:
                mean = self._compute(batches)
                break
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
            # After the clause, for the error holds what was computed until then.
            self._split(max(len(images) for images, _ in batches))
        average_gradients(self.fabric, self.network.parameters())
        return mean_loss(self.fabric, torch.tensor(mean, dtype=torch.float64, device=self.fabric.device))

    def _compute(self, batches: Batches) -> float:
        mean, fresh = 0.0, True
        for images, targets in batches:
            for part, wanted in zip(images.split(-(-len(images) // self.pieces)),
                                    targets.split(-(-len(images) // self.pieces)), strict=True):
                logits = self.network.logits(part.to(self.fabric.device))
                share = len(batches) * (len(images) / len(part))
                loss = self.loss(logits, wanted.to(self.fabric.device)) / share
                if fresh:
                    self.optimizer.zero_grad()
                    fresh = False
                self.fabric.backward(loss)
                mean += loss.item()
        return mean

    def _split(self, pictures: int) -> None:
        if self.fabric.world_size > 1:
            raise UserError(f"{self.section}: out of memory; lower {self.section}.batch_size, and raise accumulate to "
                            "keep the step, or start more processes")
        if self.pieces >= pictures:
            raise UserError(f"{self.section}: out of memory with one picture at a time; lower forgeries.image_size or "
                            "the network's width, or set device=cpu")
        self.pieces = min(2 * self.pieces, pictures)
        self.optimizer.zero_grad()
        torch.cuda.empty_cache()
        print(f"{self.section}: out of memory; batches of {pictures} are computed in {self.pieces} pieces from now on",
              file=sys.stderr, flush=True)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether this is what torch raises where there is no memory left, on a GPU or on a CPU."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error) \
        or "ALLOC_FAILED" in str(error)


def compile_logits(module: nn.Module, device: torch.device) -> None:
    """From now on `module.logits` is compiled; its state dict, its other methods and its copies so far are as before.

    Raises:
        UserError: there is no compiler that torch would call on a CPU.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and not shutil.which(compiler):
        raise UserError(f"retrain.compile: on a CPU torch needs the C++ compiler {compiler}, which is not here; "
                        "install it or set retrain.compile=false")
    vars(module)["logits"] = torch.compile(module.logits)  # type: ignore[arg-type]
