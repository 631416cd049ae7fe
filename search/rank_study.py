"""The rank study: do inherited scores rank architectures as training each alone does?"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from configs.engine import make_fabric
from configs.errors import UserError
from configs.files import write_json, write_rows
from configs.schema import RunConfig
from configs.streams import stream
from forgeries.photos import PhotoSet
from results.ranking import Study, study_ranks
from search.alone import train_all
from search.costs import costs_of_run
from search.network import SearchNetwork
from search.samplers import random_samples
from search.scoring import Unit, score_unit
from search.stage import make_strategy, scored_methods, scoring_data, validation_batches
from search.strategy import SearchContext
from search_space.genotype import Genotype, SpaceShape

LEAST = 4
"""Architectures below which nothing can be said about a ranking."""


def check_study(config: RunConfig) -> None:
    """That there is something to study.

    Raises:
        UserError: the strategy trains no shared weights.
    """
    if not make_strategy(config.search.strategy).shares_weights:
        raise UserError(f"search.strategy={config.search.strategy}: trains each architecture alone, so that no scores "
                        "are inherited; a rank study needs a strategy with a supernet, such as one-shot")


def run_rank_study(config: RunConfig, folder: Path, photos: PhotoSet) -> Study:
    """Studies, or goes on to study, the trained supernet of the run folder `folder`.

    `search.rank_study.architectures` are drawn as random candidates are, scored with inherited weights as the
    search scores its candidates, and trained alone over `search.rank_study.seeds` seeds; both scores are means of the
    objective's metric over pictures, but those of training alone are over other forgeries. Writes
    `search/rank_study_alone.csv` row by row, then `rank_study.csv` and `rank_study.json`.

    Raises:
        UserError: as `check_study`; the folder holds no trained supernet, or one of another configuration; too few
            architectures keep the limits.
    """
    out, settings = folder / "search", config.search.rank_study
    check_study(config)
    fabric, metric = make_fabric(config), config.search.objective.metric
    network = _supernet(config, out / "supernet.safetensors", fabric.device)
    data, memory = scoring_data(config, photos, fabric.device), config.search.prefix_megabytes * 2**20

    def evaluate(genotypes: Sequence[Genotype]) -> np.ndarray:
        unit = Unit(tuple(map(str, genotypes)), 0, len(data.validation), len(data.recalibration))
        return score_unit(network, unit, data, memory)

    costs = costs_of_run(config, out / "costs.json", fabric.device)
    context = SearchContext(fabric, network, network.space, config.search, config.seed, costs,
                            lambda genotype: evaluate([genotype])[0])
    # A larger study's first architectures are a smaller one's.
    genotypes = random_samples(context, stream(config.seed, "rank-study"), settings.architectures)
    if len(genotypes) < LEAST:
        raise UserError(f"rank-study: {len(genotypes)} architectures of the space keep search.limits; it needs at "
                        f"least {LEAST}")
    inherited = np.nanmean(evaluate(genotypes)[..., int(metric == "f1")], 1)
    rows = train_all(config, settings, [("study", genotype) for genotype in genotypes], settings.seeds, photos, fabric,
                     validation_batches(config, photos, fabric.device, "alone-score"), out / "rank_study_alone.csv",
                     "train alone")
    alone = np.array([float(row[metric]) for row in rows]).reshape(settings.seeds, len(genotypes)).T
    seeds = [f"seed_{seed}" for seed in range(settings.seeds)]
    write_rows(out / "rank_study.csv", ("genotype", "inherited", "alone", "sd", *seeds), [
        {"genotype": str(genotype), "inherited": _text(score), "alone": _text(values.mean()),
         "sd": _text(values.std(ddof=1)), **dict(zip(seeds, map(_text, values), strict=True))}
        for genotype, score, values in zip(genotypes, inherited, alone, strict=True)])
    study = study_ranks(inherited, alone, settings.bootstrap, stream(config.seed, "rank-study-bootstrap"))
    write_json(out / "rank_study.json", _finite(asdict(study)) | {
        "text": study.text, "metric": metric, "pictures": data.pictures, "methods_scored": scored_methods(config),
        "strategy": config.search.strategy, "seed": config.seed, "settings": settings.model_dump(),
        "pictures_trained": len(rows) * settings.steps * settings.batch_size})
    return study


def _supernet(config: RunConfig, path: Path, device: torch.device) -> SearchNetwork:
    if not path.exists():
        raise UserError(f"{path}: no trained supernet there; run 'giidnet search' first, with --resume where it was "
                        "interrupted")
    network = SearchNetwork(SpaceShape.of(config.space), config.space.width, config.search.streams)
    try:
        network.load_state_dict(load_file(path))
    except RuntimeError:
        raise UserError(f"{path}: of another space, width or streams than this config's; use the config that it was "
                        "trained with") from None
    return network.to(device)


def _finite(value: Any) -> Any:
    """With null for NaN, which JSON has not."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _text(value: float) -> str:
    return f"{value:.9g}"
