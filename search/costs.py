"""Costs of a search's genotypes; latencies are measured once, and then belong to the run."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from configs.files import write_json
from configs.schema import RunConfig
from search.network import search_costs
from search_space.cost import Cost, CostTable
from search_space.genotype import SpaceShape


def costs_of_run(config: RunConfig, path: Path, device: torch.device) -> CostTable:
    """`search_costs` of the configuration. With `search.latency` as `path` holds them, which is written where it is
    not there: a resumed search must not measure other ones."""
    space, settings = SpaceShape.of(config.space), config.search
    if settings.latency and path.exists():
        found = json.loads(path.read_text())
        return CostTable(Cost(**found["base"]), {label: {name: Cost(**cost) for name, cost in costs.items()}
                                                 for label, costs in found["options"].items()})
    table = search_costs(space, config.space.width, settings.streams, config.forgeries.image_size, settings.latency,
                         device)
    if settings.latency:
        write_json(path, {"device": str(device), **asdict(table)})
    return table
