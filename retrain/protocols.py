"""Trainings of a benchmark's protocol: `retrain/<trainee>-on-<group>/` or `-without-<group>/`, one for each seed."""

import sys
from pathlib import Path

from configs.schema import RunConfig
from configs.streams import stream
from forgeries.photos import PhotoSet
from results.protocols import Training, plan
from retrain.stage import is_trained, open_board, train_detector, trainees


def run_trainings(config: RunConfig, folder: Path, photos: PhotoSet) -> None:
    """Trains, or continues to train, all of `results.protocols.plan` at the same budget; finished ones are kept.

    The photographs of a split are the same for all, and the weights that a trainee starts from, the crops and the holes
    are those of the seed, whatever the methods. Only the training's own methods paint validation pictures, by which the
    best epoch is chosen: what is left out has no say.

    Raises:
        UserError: as `plan`; a missing genotype, or a loss that is not finite.
    """
    genotypes = trainees(config, folder)
    trainings = [training for training in plan(config) if training.trainee in genotypes]
    with open_board(folder) as board:
        for number, training in enumerate(trainings, 1):
            out = folder / "retrain" / training.folder
            if is_trained(out):
                continue
            print(f"training {number} of {len(trainings)}: {training.folder} ({', '.join(training.methods)})",
                  file=sys.stderr, flush=True)
            purpose = {"name": config.benchmark.protocol, "group": training.group, "trainee": training.trainee,
                       "training_seed": training.seed}
            train_detector(training.trainee, genotypes[training.trainee], training_config(config, training), photos,
                           out, board, training.folder, purpose)


def training_config(config: RunConfig, training: Training) -> RunConfig:
    """`config` with the methods of one training, and the seed of its weights and pictures: 0 is the configured one.

    Methods that `forgeries.methods` weighs keep their weights, others have 1.
    """
    seed = int(stream(config.seed, "training seed", training.seed).integers(2**32)) if training.seed else config.seed
    weights, methods = config.forgeries.methods, list(training.methods)
    return config.model_copy(update={"seed": seed, "forgeries": config.forgeries.model_copy(update={
        "methods": {spec: weights.get(spec, 1.0) for spec in methods} if isinstance(weights, dict) else methods})})
