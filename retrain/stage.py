"""The retraining stage: a genotype in, `retrain/<detector>/model.safetensors` out."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from configs.engine import Checkpointer, git_revision, versions
from configs.errors import UserError
from configs.schema import RunConfig
from configs.streams import stream, torch_seed
from detectors import create_detector
from detectors.checkpoints import save_detector
from detectors.mantranet import ManTraNet
from forgeries.index import Photo
from forgeries.methods import find_method, method_names
from forgeries.perturbations import expand
from forgeries.photos import PhotoSet
from retrain.pretrain import pretrain
from retrain.trainer import Trained, train
from search_space.genotype import (
    PAPER_SPACE,
    Genotype,
    SpaceShape,
    genotype_dict,
    random_genotype,
    read_genotype,
    released_genotype,
)


def run_retrain(config: RunConfig, folder: Path, photos: PhotoSet) -> None:
    """Trains, or continues to train, every detector of `config.retrain.detectors` at the same budget."""
    space = SpaceShape.of(config.space)
    genotypes = _genotypes(config, folder, space)
    with SummaryWriter(str(folder / "tensorboard" / "retrain")) as board:
        for name in config.retrain.detectors:
            out = folder / "retrain" / name
            if name.startswith("giidnet") and name not in genotypes:
                continue
            if (out / "model.safetensors").exists():
                continue
            options: dict[str, Any] = {"width": config.retrain.widths.get(name, config.retrain.width)}
            if name in genotypes:
                options["genotype"] = genotype_dict(genotypes[name])
            torch.manual_seed(torch_seed(config.seed, "weights", name))
            detector = "giidnet" if name.startswith("giidnet") else name
            module = create_detector(detector, **options)
            pretrained = None
            if config.retrain.pretrain.epochs and isinstance(module, ManTraNet):
                # A finished pre-training is kept as its checkpoint until the detector is trained.
                pretrained = pretrain(name, module.traces, config, photos, out / "pretrain", board)
            trained = train(name, module, config, photos, out, board)
            module.load_state_dict(trained.state)
            save_detector(out, detector, module, options, provenance(config, photos, trained, pretrained))
            for place in (out, out / "pretrain"):
                Checkpointer(place / "checkpoint.pt", 0).remove()


def provenance(config: RunConfig, photos: PhotoSet, trained: Trained, pretrained: Trained | None) -> dict[str, Any]:
    """What a checkpoint was trained on; the benchmark labels its columns by this."""

    def sources(split: Iterable[Photo]) -> list[dict[str, str]]:
        return [{"name": photo.name, "source": photo.source, "digest": photo.digest, "hash": f"{photo.hash:016x}"}
                for photo in split]

    settings = config.retrain
    return {
        "methods": method_names(config.forgeries.methods),
        "method_versions": [find_method(spec).version for spec in config.forgeries.methods],
        "masks": config.forgeries.masks, "perturbations": expand(config.forgeries.perturbations),
        "image_size": config.forgeries.image_size,
        "photos": {"train": sources(photos.train), "val": sources(photos.val)}, "seed": config.seed,
        "epochs": settings.epochs, "steps": settings.steps, "batch_size": settings.batch_size,
        "pictures_seen": settings.epochs * settings.steps * settings.batch_size,
        "best_epoch": trained.epoch, "val_auc": trained.figures["val_auc"],
        "pretrain": settings.pretrain.model_dump() | {"best_epoch": pretrained.epoch, **pretrained.figures}
        if pretrained else None, "versions": versions(),
        "git_revision": git_revision(), "config": config.model_dump(mode="json"),
    }


def _genotypes(config: RunConfig, folder: Path, space: SpaceShape) -> dict[str, Genotype]:
    """Genotype by trainee; the released one only where the space is the paper's."""
    found = {"giidnet-random": random_genotype(space, stream(config.seed, "random genotype"))}
    if space == PAPER_SPACE:
        found["giidnet-released"] = released_genotype()
    if "giidnet" in config.retrain.detectors:
        path = Path(config.retrain.genotype) if config.retrain.genotype else folder / "search" / "genotype.yaml"
        if not path.exists():
            raise UserError(f"{path}: no genotype there; run the search first, or name one with --genotype FILE")
        found["giidnet"] = read_genotype(path, space)
    return found
