"""Trained detectors on disk: `model.safetensors` with name, options and provenance in its header, and in
`model.json` beside it for people."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from configs.errors import UserError
from configs.files import write_atomic, write_json
from detectors import create_detector
from search_space.cost import count_parameters

FORMAT = "giidnet-detector/1"


@dataclass(frozen=True)
class LoadedDetector:
    """A detector in eval mode, the name and options that made it, and what it was trained on."""

    name: str
    module: nn.Module
    options: Mapping[str, Any]
    provenance: Mapping[str, Any]


def save_detector(folder: Path, name: str, module: nn.Module, options: Mapping[str, Any],
                  provenance: Mapping[str, Any]) -> None:
    """Writes `model.json` and then `model.safetensors`: where the latter is, both are whole."""
    description = {"format": FORMAT, "detector": name, "options": dict(options),
                   "parameters": count_parameters(module), "provenance": dict(provenance)}
    state = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    write_json(folder / "model.json", description)
    write_atomic(folder / "model.safetensors", save(state, {"giidnet": json.dumps(description)}))


def load_detector(path: str | Path, device: str | torch.device = "cpu", expected: str | None = None,
                  expected_options: Mapping[str, Any] | None = None) -> LoadedDetector:
    """Reads what `save_detector` wrote; `path` is the file or its folder.

    Raises:
        UserError: no such file, not ours, damaged, or of another network than `expected` (with those options).
    """
    path = Path(path)
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get("giidnet")
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a safetensors checkpoint ({error})") from None
    if header is None:
        raise UserError(f"{path}: not a checkpoint of this project (no description in its header)")
    description = json.loads(header)
    name, options = description["detector"], description["options"]
    if expected is not None and name != expected:
        raise UserError(f"{path}: a checkpoint of {name}, not of {expected}")
    for key, value in (expected_options or {}).items():
        if options.get(key, value) != value:
            raise UserError(f"{path}: trained with {key} = {options[key]}, not {value}")
    module = create_detector(name, **options)
    load_state(module, state, str(path))
    return LoadedDetector(name, module.to(device).eval(), options, description["provenance"])


def read_description(path: Path) -> dict[str, Any]:
    """Name, options, parameters and provenance, from the header of a `model.safetensors` that `save_detector` wrote."""
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["giidnet"])


def load_state(module: nn.Module, state: Mapping[str, torch.Tensor], origin: str) -> None:
    """Loads `state` strictly.

    Raises:
        UserError: names the first missing, superfluous or wrongly shaped key.
    """
    own = module.state_dict()
    for key, value in own.items():
        if key not in state:
            raise UserError(f"{origin}: key {key} is missing: a checkpoint of another network")
        if state[key].shape != value.shape:
            raise UserError(f"{origin}: key {key} has shape {tuple(state[key].shape)}, the network "
                            f"{tuple(value.shape)}: a checkpoint of another network")
    for key in state:
        if key not in own:
            raise UserError(f"{origin}: key {key} is superfluous: a checkpoint of another network")
    module.load_state_dict(dict(state))
