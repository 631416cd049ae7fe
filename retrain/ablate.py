"""Trainings of an ablation: `retrain/<variant>/seed-<n>/`."""

import sys
from itertools import product
from pathlib import Path

from configs.schema import RunConfig
from forgeries.photos import PhotoSet
from results.protocols import Training
from retrain.protocols import training_config
from retrain.stage import is_trained, open_board, train_detector, trainees
from retrain.variants import Variant, variants
from search_space.genotype import Genotype

TRAINEE = "giidnet"


def run_ablation(config: RunConfig, folder: Path, photos: PhotoSet) -> None:
    """Trains, or continues to train, all variants with `config.ablate.seeds` seeds each, at the budget of the section
    `retrain`; finished ones are kept. First come all variants of the first seed.

    Trainings of one seed have the same photographs, crops and holes in the same order. The best epoch is chosen on
    validation forgeries by the variant's own methods.

    Raises:
        UserError: as `variants`; a genotype that is missing or of another space, or a loss that is not finite.
    """
    genotypes = find_genotypes(config, folder)
    chosen = variants(config, genotypes)
    print(f"ablation of the network with the {next(iter(genotypes))} genotype", file=sys.stderr, flush=True)
    total = len(chosen) * config.ablate.seeds
    with open_board(folder) as board:
        for number, (seed, variant) in enumerate(product(range(config.ablate.seeds), chosen), 1):
            title = f"{variant.name}/seed-{seed}"
            out = folder / "retrain" / title
            if is_trained(out):
                continue
            print(f"training {number} of {total}: {title}", file=sys.stderr, flush=True)
            purpose = {"name": "ablate", "group": variant.name, "trainee": TRAINEE, "training_seed": seed}
            train_detector(TRAINEE, variant.genotype, variant_config(config, variant, seed), photos, out, board, title,
                           purpose, variant.switches)


def find_genotypes(config: RunConfig, folder: Path) -> dict[str, Genotype]:
    """By name and in this order, those that there are: `discovered` by this run's search, or that of
    `retrain.genotype`; `released`, where the space is the paper's; `random`.

    Raises:
        UserError: `retrain.genotype` is missing, or a genotype is of another space.
    """
    names = {"giidnet": "discovered", "giidnet-released": "released", "giidnet-random": "random"}
    if not (config.retrain.genotype or (folder / "search" / "genotype.yaml").exists()):
        del names["giidnet"]
    retrain = config.retrain.model_copy(update={"detectors": list(names)})
    found = trainees(config.model_copy(update={"retrain": retrain}), folder)
    return {names[name]: genotype for name, genotype in found.items() if genotype}


def variant_config(config: RunConfig, variant: Variant, seed: int) -> RunConfig:
    """`config` with what the variant changes of a training, and with the seed of its weights and pictures: 0 is the
    configured one. A genotype that no search found is not said to be of the configured file."""
    config = training_config(config, Training(variant.name, variant.methods, variant.name, TRAINEE, seed))
    return config.model_copy(update={"retrain": config.retrain.model_copy(update={
        **{f"{term}_weight": weight for term, weight in variant.loss.items()},
        "genotype": config.retrain.genotype if variant.searched else None})})
