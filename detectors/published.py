"""Checkpoints of the published networks: files of others, with keys and formats of their own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from configs.errors import UserError
from search_space.genotype import released_genotype
from search_space.registry import OPERATIONS

UNUSED = {"iid-net": {"median.weight": (1, 1, 5, 5)}}
"""Keys with their shapes that a published checkpoint has and its network never reads."""

WRAPPINGS = ("state_dict", "model_state_dict", "model", "net", "netG")
"""Keys under which training scripts store a state dict beside other things."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict in a `.safetensors` file or in one that `torch.save` wrote; without the prefix `module.`.

    Nothing but tensors and plain containers is unpickled.

    Raises:
        UserError: unreadable, holds code, or holds no state dict.
    """
    try:
        value: Any = load_file(path) if path.suffix == ".safetensors" \
            else torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read as a checkpoint ({error})") from None
    except Exception as error:  # torch tells damage in many ways
        if "GLOBAL" in str(error):
            raise UserError(f"{path}: refused: this pickle holds code or objects beside weights, which could do "
                            "anything when loaded; ask its author for a plain state dict") from None
        raise UserError(f"{path}: no checkpoint of torch, or a damaged one ({type(error).__name__})") from None
    while isinstance(value, Mapping) and (inner := [key for key in WRAPPINGS if isinstance(value.get(key), Mapping)]):
        value = value[inner[0]]
    if not isinstance(value, Mapping) or not value or not all(isinstance(entry, Tensor) for entry in value.values()):
        raise UserError(f"{path}: holds no state dict (a dictionary of tensors)")
    return {str(key).removeprefix("module."): entry for key, entry in value.items()}


def translate(name: str, module: nn.Module, state: Mapping[str, Tensor], origin: str) -> dict[str, Tensor]:
    """A published state dict of the network `name` under the keys of our `module`.

    Raises:
        UserError: names the first key of the file that is missing, wrongly shaped or superfluous.
    """
    keys = published_keys(name, module)
    expected = {keys[ours]: tuple(value.shape) for ours, value in module.state_dict().items()} | UNUSED.get(name, {})
    check_keys(state, expected, origin, name)
    return {ours: state[theirs] for ours, theirs in keys.items()}


def check_keys(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], origin: str, name: str) -> None:
    """Whether `state` has exactly the keys and shapes `expected`.

    Raises:
        UserError: names the first that it has not.
    """
    for key, shape in expected.items():
        if key not in state:
            raise UserError(f"{origin}: key {key} is missing: not a checkpoint of this {name}")
        if tuple(state[key].shape) != shape:
            raise UserError(f"{origin}: key {key} has shape {tuple(state[key].shape)}, the network {shape}: not a "
                            f"checkpoint of this {name}")
    for key in state:
        if key not in expected:
            raise UserError(f"{origin}: key {key} is superfluous: not a checkpoint of this {name}")


def published_keys(name: str, module: nn.Module) -> dict[str, str]:
    """Published key of each key of our `module`, by the tables of the released checkpoints."""
    rename = _iid_net_key if name == "iid-net" else _mantranet_key
    return {key: rename(key) for key in module.state_dict()}


def _mantranet_key(key: str) -> str:
    parts = {
        "traces.plain.": "IMTFE.init_conv.", "traces.srm": "IMTFE.SRMConv2D.weight",
        "traces.bayar": "IMTFE.BayarConv2D.weight", "traces.convs.": "IMTFE.middle_and_last_block.",
        "anomalies.least_deviation": "AnomalyDetector.sigma_F",
        "anomalies.cell.gates.": "AnomalyDetector.conv_lstm.cell_list.0.conv.",
        "anomalies.cell.conv": "AnomalyDetector.conv_gru.cell_list.0.conv",
        "anomalies.end.": "AnomalyDetector.end.0.", "anomalies.": "AnomalyDetector.",
    }
    ours = next(start for start in parts if key.startswith(start))
    return parts[ours] + key.removeprefix(ours)


def _iid_net_key(key: str) -> str:
    """The layers of a published cell are numbered: [ReLU,] convolution, norm, then (ReLU, operation, norm) a slot."""
    whole = {"enhancement.streams.plain": "normal_conv", "enhancement.streams.bayar": "bayar_conv",
             "enhancement.streams.prefilter": "pf_conv", "enhancement.convs.0": "conv1", "enhancement.convs.1": "bn1",
             "enhancement.convs.3": "conv2", "enhancement.convs.4": "bn2"}
    module, leaf = key.rsplit(".", 1)
    if module in whole:
        return f"{whole[module]}.{leaf}"
    if module.startswith("decision.attention"):
        return "att.local_att.weight"
    if module.startswith("decision.decoder"):
        return key.replace("decision.decoder", "decision")
    _, index, part, *rest = module.split(".")
    at, cell = int(index != "0"), f"cell{int(index) + 1}"
    separable = {"depthwise": "conv1", "norm": "bn", "pointwise": "pointwise"}
    if part == "skip":
        return f"{cell}.{('skip', 'skipbn')[int(rest[0])]}.{leaf}"
    if part == "conv":
        return f"{cell}.rep.{at}.{separable[rest[0]]}.{leaf}"
    if part == "norm":
        return f"{cell}.rep.{at + 1}.{leaf}"
    slot = int(rest[0])
    if part == "norms":
        return f"{cell}.rep.{at + 4 + 3 * slot}.{leaf}"
    operation = OPERATIONS[released_genotype().cells[int(index)][slot]]
    inner = separable if operation.kind == "separable" else {"depthwise": "op.1", "pointwise": "op.2", "norm": "op.3"}
    return f"{cell}.rep.{at + 3 + 3 * slot}.{inner[rest[1]]}.{leaf}"
