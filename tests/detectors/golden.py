"""The deterministic weights under which the published networks gave the golden vectors of tests/data."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from detectors import create_detector
from detectors.published import translate

DATA = Path(__file__).parent.parent / "data"


def published_network(name: str) -> tuple[nn.Module, Mapping[str, np.ndarray]]:
    """Network `name` in eval mode with the golden weights, and its golden vectors."""
    file, network = name.replace("-", "_"), create_detector(name).eval()
    state = golden_state(json.loads((DATA / f"{file}_state_dict.json").read_text()))
    network.load_state_dict(translate(name, network, state, "golden"))
    return network, np.load(DATA / f"{file}.npz")


def golden_state(table: Mapping[str, list]) -> dict[str, torch.Tensor]:
    """Weights for a table key → [shape, dtype], drawn by the position of the sorted key."""
    state = {}
    for i, key in enumerate(sorted(table)):
        shape, dtype = table[key]
        generator = torch.Generator().manual_seed(1000 + i)
        if "float" not in dtype:
            value = torch.zeros(shape, dtype=torch.int64)
        elif key.endswith("running_var"):
            value = torch.rand(shape, generator=generator) + 0.5
        elif len(shape) == 4 and not key.endswith("sigma_F"):
            value = torch.randn(shape, generator=generator)
            value = value / value[0].numel() ** 0.5
        elif len(shape) == 1 and key.endswith("weight"):
            value = torch.rand(shape, generator=generator) + 0.5
        else:
            value = 0.1 * torch.randn(shape, generator=generator)
        state[key] = value.abs() * 1e-4 if key == "bayar_conv.weight" else value
    return state
