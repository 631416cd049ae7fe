"""What search and retraining share: the device, checkpoints of running work, and what a result came from."""

import ctypes
import io
import math
import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from configs.errors import UserError
from configs.files import write_atomic
from configs.schema import RunConfig

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of glibc's `mallopt`, see malloc.h."""


class _Together(DDPStrategy):
    """Processes without a wrapper around networks: gradients are averaged by `configs.processes`."""

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        """The module itself."""
        return module


def make_fabric(config: RunConfig) -> Fabric:
    """Lightning Fabric on the configured device and precision; with torchrun or `fabric run`, one of their processes.

    Raises:
        UserError: a GPU is asked for and there is none, or fewer than processes.
    """
    accelerator = pick_device(config.device)
    world, local = count_processes(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if world == 1:
        return Fabric(accelerator=accelerator, devices=1, precision=config.precision)
    if accelerator == "cuda" and torch.cuda.device_count() < local:
        raise UserError(f"{local} processes for {torch.cuda.device_count()} CUDA devices; start torchrun with "
                        "--nproc-per-node of at most that, or set device=cpu")
    fabric = Fabric(accelerator=accelerator, devices=local, num_nodes=world // local, strategy=_Together(),
                    precision=config.precision)
    if "LT_CLI_USED" not in os.environ:  # else `fabric run` has connected them
        fabric.launch()
    return fabric


def count_processes() -> int:
    """Processes that torchrun or `fabric run` started together; 1 without them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one of those that torchrun started together that writes files."""
    return os.environ.get("RANK", "0") == "0"


def check_shares(section: str, batch_size: int) -> None:
    """The processes have equal shares of a batch. To be asked before they connect: one that leaves then is a broken
    connection to the others.

    Raises:
        UserError: they have not.
    """
    if batch_size % count_processes():
        raise UserError(f"{section}.batch_size = {batch_size}: must be a multiple of the {count_processes()} processes")


def pick_device(name: str) -> str:
    """"cuda" or "cpu" for "auto", "cuda" or "cpu".

    Raises:
        UserError: a GPU is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda: no CUDA device here; use cpu or auto")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def keep_freed_memory() -> None:
    """Memory that tensors leave stays with this process, for those that follow.

    By default glibc gives large blocks back at once, and a training step on a CPU spends a quarter of its time on fresh
    pages. With another C library nothing changes.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@dataclass
class Checkpointer:
    """Saves the state of running work every `seconds`, whole or not at all."""

    path: Path
    seconds: float
    last: float = field(default_factory=time.monotonic)

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self.last >= self.seconds

    def save(self, state: Mapping[str, Any]) -> None:
        """Writes `state`: tensors, numbers, strings, lists and dictionaries of them."""
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)
        write_atomic(self.path, buffer.getvalue())
        self.last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The last saved state, on the CPU; None if there is none.

        Raises:
            UserError: the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise UserError(f"{self.path}: damaged ({error}); delete it to start this stage anew") from None

    def remove(self) -> None:
        """Deletes the file of finished work."""
        self.path.unlink(missing_ok=True)


def check_finite(loss: float, step: int, key: str) -> float:
    """Returns `loss`.

    Raises:
        UserError: it is not finite; `key` is the learning rate to lower.
    """
    if not math.isfinite(loss):
        raise UserError(_diverged(f"the loss became {loss} at step {step}", key))
    return loss


def check_weights(state: Mapping[str, torch.Tensor], step: int, key: str) -> None:
    """A finite loss can leave weights that are not, by its gradient: those must not replace a good checkpoint.

    Raises:
        UserError: some of `state` is not finite; `key` is the learning rate to lower.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in state.values()):
        raise UserError(_diverged(f"weights are not finite after step {step}", key))


def _diverged(what: str, key: str) -> str:
    return (f"{what}; lower {key} and name another --out (the last good checkpoint is kept, but a resumed run repeats "
            "what led here)")


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on; of OpenCV, which several packages bring, its own."""
    names = ("giidnet", "torch", "nni", "numpy", "scikit-image", "patchmatch-cython")
    return {name: version(name) for name in names} | {"opencv": cv2.__version__}


def git_revision() -> str:
    """Revision of this code, with "+changes" where files differ from it; "unknown" outside a git checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True,
                              check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
