"""Training by several processes, each on its share of every batch, as one process would train on the whole.

Gradients are averaged after the backward pass rather than by a wrapper around the network, whose buckets would have to
be filled by every step: each step has a path of its own.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from configs.errors import UserError

Found = TypeVar("Found")


class _Sum(torch.autograd.Function):
    """Sum over processes; so is its gradient, for each process's loss depends on what each has put in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        distributed.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.apply(gradient)


class _Joint(_BatchNorm):
    """In training, normalises by mean and variance of the batches of all processes, which are of one size.

    Torch's own (`SyncBatchNorm`) runs on CUDA alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        """N×C×… to the same."""
        if not self.training:
            return super().forward(input)
        x, world = input.to(torch.promote_types(input.dtype, torch.float32)), distributed.get_world_size()
        others = (0, *range(2, x.ndim))
        variance, mean = torch.var_mean(x, others, correction=0)
        # Each process fills its row and adds up all: one message, and no difference of large numbers.
        row = torch.arange(world, device=x.device) == distributed.get_rank()
        rows = _Sum.apply(torch.stack([mean, variance]) * row[:, None, None])
        mean, variance = rows[:, 0].mean(0), rows[:, 1].mean(0) + rows[:, 0].var(0, correction=0)
        if self.track_running_stats:
            assert self.running_mean is not None and self.running_var is not None
            assert self.num_batches_tracked is not None
            with torch.no_grad():
                self.num_batches_tracked += 1
                factor = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                count = world * x.numel() / x.shape[1]
                self.running_mean.lerp_(mean, factor)
                self.running_var.lerp_(variance * count / (count - 1), factor)
        scale = (variance + self.eps).rsqrt() if self.weight is None else (variance + self.eps).rsqrt() * self.weight
        shape = (-1, *(1 for _ in others[1:]))
        x = (x - mean.view(shape)) * scale.view(shape)
        return (x if self.bias is None else x + self.bias.view(shape)).to(input.dtype)


class JointBatchNorm1d(_Joint, nn.BatchNorm1d):
    """`BatchNorm1d` of all processes together."""


class JointBatchNorm2d(_Joint, nn.BatchNorm2d):
    """`BatchNorm2d` of all processes together."""


JOINT: dict[type, type] = {nn.BatchNorm1d: JointBatchNorm1d, nn.BatchNorm2d: JointBatchNorm2d}


def join_norms(network: nn.Module) -> None:
    """From now on batch norms are those of all processes together. Their state dict stays as it is."""
    _turn(network, JOINT)


@contextmanager
def apart(network: nn.Module) -> Iterator[None]:
    """While it lasts, batch norms are those of this process alone."""
    joint = any(isinstance(module, _Joint) for module in network.modules())
    _turn(network, {new: old for old, new in JOINT.items()})
    try:
        yield
    finally:
        if joint:
            join_norms(network)


def _turn(network: nn.Module, classes: dict[type, type]) -> None:
    # The class, not the module: others hold references to it.
    for module in network.modules():
        module.__class__ = classes.get(type(module), type(module))


def by_first(fabric: Fabric, work: Callable[[], Found]) -> Found:
    """What `work` gives in the first process, which alone does it, in all of them; so is a mistake of the user's."""
    if fabric.world_size == 1:
        return work()
    told: list[Any] = [None]
    if fabric.is_global_zero:
        try:
            told = [work()]
        except UserError as error:
            told = [error]
    distributed.broadcast_object_list(told)
    if isinstance(told[0], UserError):
        raise told[0]
    return told[0]


def average_gradients(fabric: Fabric, parameters: Iterable[nn.Parameter]) -> None:
    """Gradients, where there are any, become those of the mean loss of all processes; they have to be of the same
    parameters everywhere."""
    average(fabric, [parameter.grad for parameter in parameters if parameter.grad is not None])


def average(fabric: Fabric, tensors: Sequence[Tensor]) -> None:
    """Tensors become their means over the processes, in place; in a single process they are."""
    if fabric.world_size == 1 or not tensors:
        return
    flat = fabric.all_reduce(torch.cat([tensor.flatten() for tensor in tensors]), reduce_op="mean")
    assert isinstance(flat, Tensor)
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def mean_loss(fabric: Fabric, loss: Tensor) -> float:
    """Mean of the processes' losses: the same number in all of them, so that they stop together."""
    mean = loss.detach().clone()
    average(fabric, [mean])
    return mean.item()
