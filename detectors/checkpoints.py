"""Trained detectors on disk: `model.safetensors` with name, options and provenance in its header, and in
`model.json` beside it for people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import nn

from configs.errors import UserError
from configs.files import digest, write_atomic, write_json
from detectors import PUBLISHED, create_detector
from detectors.places import read_description
from detectors.published import check_keys, read_state, translate
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
    """Reads what `save_detector` wrote, or where `expected` names its network, a published checkpoint.

    `path` is the file or its folder.

    Raises:
        UserError: no such file, damaged, not a checkpoint, or of another network than `expected` (with those options).
    """
    path = Path(path)
    path = path / "model.safetensors" if path.is_dir() else path
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    description = read_description(path)
    if description is None:
        if expected not in PUBLISHED:
            raise UserError(f"{path}: not a checkpoint of this project; a published one is read with "
                            f"'giidnet weights import FILE --detector NAME', NAME one of {', '.join(PUBLISHED)}")
        return import_published(path, expected, device)
    name, options = description["detector"], description["options"]
    if expected is not None and name != expected:
        raise UserError(f"{path}: a checkpoint of {name}, not of {expected}")
    for key, value in (expected_options or {}).items():
        if options.get(key, value) != value:
            raise UserError(f"{path}: trained with {key} = {options[key]}, not {value}")
    module, state = create_detector(name, **options), load_file(path)
    check_keys(state, {key: tuple(value.shape) for key, value in module.state_dict().items()}, str(path), name)
    module.load_state_dict(state)
    return LoadedDetector(name, module.to(device).eval(), options, description["provenance"])


def import_published(path: Path, name: str, device: str | torch.device = "cpu",
                     methods: Sequence[str] | None = None) -> LoadedDetector:
    """A published checkpoint of the network `name`; its training data are unknown but for `methods`, where given.

    Raises:
        UserError: as `read_state` and `translate`.
    """
    module = create_detector(name)
    module.load_state_dict(translate(name, module, read_state(path), str(path)))
    provenance = {"imported": {"file": path.name, "sha256": digest(path)}, "photos": {},
                  "methods": list(methods) if methods else None, "perturbations": None}
    return LoadedDetector(name, module.to(device).eval(), {}, provenance)
