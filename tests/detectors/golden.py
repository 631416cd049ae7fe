"""The deterministic weights under which the published networks gave the golden vectors of tests/data."""

from collections.abc import Mapping

import torch


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
