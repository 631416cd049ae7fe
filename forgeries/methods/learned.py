"""Methods whose networks `giidnet train-inpainter` trains: those that ship with this project, and the user's own."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import TypeAdapter

from configs.errors import UserError
from configs.files import digest, write_atomic
from forgeries.methods.method import NAME, Fill, Method
from forgeries.methods.region import around

if TYPE_CHECKING:
    from forgeries.methods.networks import Coder, GatedInpainter

Up = Literal["transposed", "pixel-shuffle", "nearest", "bilinear"]
Activation = Literal["relu", "leaky", "elu", "gelu", "silu"]
Loss = Literal["l1", "l2", "laplacian", "fourier"]

WEIGHTS = Path(__file__).parent / "weights"
"""Shipped weights: `<name>.safetensors`, float16; its metadata says what it is (`describe`)."""

MARGIN = 32
"""Pixels around the hole that a coder sees."""

CONTEXT = 128
"""Pixels around the hole that an inpainter sees, where the picture is larger."""

LARGEST_HEADER = 100_000_000
"""That of the format: a header names every photograph of the training."""

TITLES = {"coder": "encoder–decoder", "gated": "gated convolutions"}
SOURCES = {"coder": "this project", "gated": "after Yu et al. 2019"}


@dataclass(frozen=True)
class Spec:
    """Shape and training of a learned method's network.

    A `coder` sees the picture as it is and gives it back through `latent` channels at 1 / 2^`depth` of its size; a
    `gated` network sees the picture with the hole blanked, and the mask. `width`: channels at full size, doubled at
    each halving. `adversarial` weighs a critic's loss beside `loss`.
    """

    network: Literal["coder", "gated"] = "coder"
    up: Up = "nearest"
    depth: int = 2
    width: int = 16
    latent: int = 12
    kernel: int = 3
    activation: Activation = "relu"
    loss: Loss = "l1"
    adversarial: float = 0.0

    @property
    def multiple(self) -> int:
        """What sides of pictures must be multiples of."""
        return 2 ** self.depth

    def to_dict(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return asdict(self)


SPECS = {
    "RS-T2": Spec(up="transposed", depth=2, latent=12, activation="relu", loss="l1"),
    "RS-T3": Spec(up="transposed", depth=3, width=12, latent=32, activation="leaky", loss="laplacian"),
    "RS-P2": Spec(up="pixel-shuffle", depth=2, latent=12, activation="gelu", loss="l2"),
    "RS-P3": Spec(up="pixel-shuffle", depth=3, width=10, latent=32, activation="silu", loss="fourier"),
    "RS-N2": Spec(up="nearest", depth=2, latent=12, activation="elu", loss="fourier"),
    "RS-N3": Spec(up="nearest", depth=3, latent=32, activation="relu", loss="l1"),
    "RS-B2": Spec(up="bilinear", depth=2, latent=12, activation="leaky", loss="laplacian"),
    "RS-B3": Spec(up="bilinear", depth=3, latent=32, activation="gelu", loss="l2"),
    "GC-S": Spec("gated", up="nearest", depth=2, latent=0, activation="elu", loss="l1", adversarial=0.01),
}
"""The learned methods that ship with this project."""


def shipped() -> dict[str, Path]:
    """Weight files of the methods that come with this project, by method."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def describe(path: Path) -> dict[str, Any]:
    """What a file of weights holds: `name`, `spec` (see `Spec`) and `trained` (data, steps, quality).

    Raises:
        UserError: no such file, or not one of `giidnet train-inpainter`.
    """
    # The header of a safetensors file: its length, little-endian in 8 bytes, then JSON.
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(min(int.from_bytes(file.read(8), "little"), LARGEST_HEADER)))
        found = json.loads(header["__metadata__"]["inpainter"])
        TypeAdapter(Spec).validate_python(Spec(**found["spec"]).to_dict())
        if not re.fullmatch(NAME, found["name"]):
            raise ValueError(found["name"])
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not the weights of an inpainter; giidnet train-inpainter writes such") from None
    return found


def learned_method(path: Path) -> Method:
    """The method of a file of weights.

    Raises:
        UserError: see `describe`.
    """
    found = describe(path)
    spec, coder = found["spec"], found["spec"]["network"] == "coder"
    title = f"{TITLES[spec['network']]}, {spec['up']} ×{2 ** spec['depth']}, {spec['activation']}, {spec['loss']}"
    source = SOURCES[spec["network"]] if path.parent == WEIGHTS else "trained by the user"
    return Method(found["name"], "re-synthesis" if coder else "learned", title, source,
                  _fill(path, MARGIN if coder else CONTEXT), "medium", blind=not coder, parameters=spec,
                  version=_digest(path))


@cache
def _digest(path: Path) -> str:
    return digest(path)[:16]


def save_network(path: Path, name: str, spec: Spec, network: "Coder | GatedInpainter",
                 trained: dict[str, Any]) -> None:
    """Writes a network as float16 safetensors."""
    from safetensors.torch import save
    state = {key: value.detach().half().cpu().contiguous() for key, value in network.state_dict().items()}
    write_atomic(path, save(state, {"inpainter": json.dumps({"name": name, "spec": spec.to_dict(),
                                                             "trained": trained}, sort_keys=True)}))


@cache
def load_network(path: Path) -> "tuple[Spec, Coder | GatedInpainter]":
    """A network in float32, in evaluation mode; loaded once in each process.

    Raises:
        UserError: see `describe`; or the weights do not fit their description.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from forgeries.methods.networks import build
    try:
        spec = Spec(**describe(path)["spec"])
        network = build(spec)
        network.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    except (SafetensorError, RuntimeError, TypeError) as error:
        raise UserError(f"{path}: damaged ({str(error).splitlines()[0]})") from None
    return spec, network.eval().requires_grad_(False)


def _fill(path: Path, margin: int) -> Fill:
    def fill(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        import torch
        spec, network = load_network(path)
        place = around(mask, margin)
        part, hole = image[place], mask[place]
        height, width = hole.shape
        pads = ((0, -height % spec.multiple), (0, -width % spec.multiple))
        pixels = np.pad(part, (*pads, (0, 0)), "symmetric")
        blank = np.pad(hole, pads, "symmetric")
        with torch.inference_mode(), one_thread():
            painted = network(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255,
                              torch.from_numpy(blank)[None, None].float())
        result = image.copy()
        result[place] = (painted[0, :, :height, :width].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
        return result
    return fill


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of floats depend on how they are shared among threads; a method gives the same bytes anywhere."""
    import torch
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
