"""The retraining stage: a genotype in, `retrain/<detector>/model.safetensors` out."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from configs.engine import Checkpointer, check_shares, git_revision, is_first, versions
from configs.errors import UserError
from configs.files import read_rows
from configs.schema import RunConfig
from configs.streams import stream, torch_seed
from detectors import DEFECTS, create_detector
from detectors.checkpoints import save_detector
from detectors.mantranet import ManTraNet
from forgeries.index import Photo
from forgeries.methods import find_method, method_names
from forgeries.perturbations import expand
from forgeries.photos import PhotoSet
from retrain.pretrain import pretrain
from retrain.start import add_start, start_from, start_genotype
from retrain.trainer import OnEpoch, Trained, pictures_per_epoch, train
from search_space.genotype import (
    PAPER_SPACE,
    Genotype,
    SpaceShape,
    genotype_dict,
    random_genotype,
    read_genotype,
    released_genotype,
    selection_methods,
)


def run_retrain(config: RunConfig, folder: Path, photos: PhotoSet) -> None:
    """Trains, or continues to train, every detector of `config.retrain.detectors` at the same budget."""
    genotypes = trainees(config, folder)
    with open_board(folder) as board:
        for name, genotype in genotypes.items():
            out = folder / "retrain" / name
            if not is_trained(out):
                train_detector(name, genotype, config, photos, out, board, name)


def open_board(folder: Path) -> AbstractContextManager[SummaryWriter | None]:
    """TensorBoard's log of the stage; only the first of several processes has one."""
    return SummaryWriter(str(folder / "tensorboard" / "retrain")) if is_first() else nullcontext()


def is_trained(out: Path) -> bool:
    """Whether a detector's training has finished."""
    return (out / "model.safetensors").exists()


def train_detector(trainee: str, genotype: Genotype | None, config: RunConfig, photos: PhotoSet, out: Path,
                   board: SummaryWriter | None, title: str, protocol: Mapping[str, Any] | None = None,
                   switches: Mapping[str, Any] | None = None, validation: RunConfig | None = None,
                   on_epoch: OnEpoch | None = None) -> None:
    """Trains, or continues to train, one detector, whose files go to `out`; `title` names it in progress and logs,
    `protocol` tells in its provenance what it was trained for. `switches` are further options of its network;
    `validation` and `on_epoch` as in `train`.

    Of several processes (torchrun) all take part, and the first writes.

    Raises:
        UserError: the processes do not divide a batch; the loss is not finite.
    """
    if config.retrain.pretrain.epochs:
        check_shares("retrain.pretrain", config.retrain.pretrain.batch_size)
    options: dict[str, Any] = {"width": config.retrain.widths.get(trainee, config.retrain.width), **(switches or {})}
    if genotype:
        options["genotype"] = genotype_dict(genotype)
        if config.retrain.streams:
            options.setdefault("streams", config.retrain.streams)
        if config.retrain.anomaly:
            options.setdefault("anomaly", True)
        if defects := [name for name in config.retrain.defects if name in DEFECTS]:
            options["defects"] = defects
    torch.manual_seed(torch_seed(config.seed, "weights", trainee))
    detector = "giidnet" if genotype else trainee
    module = create_detector(detector, **options)
    pretrained, start = None, config.retrain.start
    started = start_from(module, title, start) if start else None
    if config.retrain.pretrain.epochs and isinstance(module, ManTraNet):
        # A finished pre-training is kept as its checkpoint until the detector is trained.
        pretrained = pretrain(title, module.traces, config, photos, out / "pretrain", board)
    trained = train(title, module, config, photos, out, board, validation, on_epoch)
    if not is_first():
        return
    module.load_state_dict(trained.state)
    told = provenance(config, photos, trained, pretrained, protocol)
    if genotype:
        elsewhere = config.retrain.genotype if trainee == "giidnet" else None
        told = add_selection(told, genotype, Path(elsewhere) if elsewhere else None)
    if start and started:
        told = add_start(told, start, started, genotype)
    save_detector(out, detector, module, options, told)
    for place in (out, out / "pretrain"):
        Checkpointer(place / "checkpoint.pt", 0).remove()


def provenance(config: RunConfig, photos: PhotoSet, trained: Trained, pretrained: Trained | None,
               protocol: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a checkpoint was trained on; the benchmark labels its columns by this. `protocol` is what it was trained
    for, where that was a benchmark's."""

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
        "epochs": trained.epochs, "steps": settings.steps, "batch_size": settings.batch_size,
        "pictures_seen": trained.epochs * pictures_per_epoch(settings),
        "best_epoch": trained.epoch, "val_auc": trained.figures["val_auc"],
        "pretrain": settings.pretrain.model_dump() | {"best_epoch": pretrained.epoch, **pretrained.figures}
        if pretrained else None, "versions": versions(),
        "git_revision": git_revision(), "config": config.model_dump(mode="json"),
    } | ({"validation_methods": method_names(settings.validation_methods)} if settings.validation_methods else {}) \
        | ({"protocol": dict(protocol)} if protocol else {})


def add_selection(provenance: Mapping[str, Any], genotype: Genotype, file: Path | None) -> dict[str, Any]:
    """`provenance` with what the genotype's search looked at, which a detector has seen as well.

    `selected_on` has the `methods` of the search and whether its photographs are known, each None or False where nobody
    says. Of a genotype `file` of another run, the photographs are those of the run's `photos.csv`, split "search".
    """
    methods = selection_methods(genotype)
    place = file.resolve().parent if file else None
    rows = read_rows(place.parent / "photos.csv") if place and place.name == "search" else []
    known = {photo["digest"] for entries in provenance["photos"].values() for photo in entries}
    others = [{key: row[key] for key in ("name", "source", "digest", "hash") if row.get(key)} for row in rows
              if row["split"] in ("train", "val") and row["digest"] not in known]
    return {**provenance, "photos": {**provenance["photos"], **({"search": others} if others else {})},
            "selected_on": {"methods": methods, "photos": bool(rows) if file else methods is not None}}


def trainees(config: RunConfig, folder: Path) -> dict[str, Genotype | None]:
    """Genotype by detector of `config.retrain.detectors`, None for a network without one; the released genotype's only
    where the space is the paper's. All trainings of a run share them.

    Raises:
        UserError: the search's genotype is missing, or one is of another space.
    """
    space = SpaceShape.of(config.space)
    found = {"giidnet-random": random_genotype(space, stream(config.seed, "random genotype"))}
    if space == PAPER_SPACE:
        found["giidnet-released"] = released_genotype()
    if "giidnet" in config.retrain.detectors:
        path = Path(config.retrain.genotype) if config.retrain.genotype else folder / "search" / "genotype.yaml"
        if not path.exists() and config.retrain.start and not config.retrain.genotype:
            found["giidnet"] = start_genotype(config.retrain.start)
        elif not path.exists():
            raise UserError(f"{path}: no genotype there; run the search first, or name one with --genotype FILE")
        else:
            found["giidnet"] = read_genotype(path, space)
    return {name: found.get(name) for name in config.retrain.detectors
            if name in found or not name.startswith("giidnet")}
