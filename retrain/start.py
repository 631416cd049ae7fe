"""Fine-tuning: trained weights that a training starts from, and parts of a network that stay as they are."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from configs.engine import is_first
from configs.errors import UserError
from configs.files import digest
from detectors.checkpoints import LoadedDetector, load_detector
from detectors.giidnet import GIIDNet
from detectors.places import default_weights
from results.guards import methods_known, perturbations_known, photos_known
from search_space.genotype import Genotype, genotype_from_dict

FIRST = "enhancement.convs.0.weight"
"""The convolution that reads the streams."""


def find_start(spec: str) -> Path:
    """File of the weights that `spec` stands for: a `model.safetensors`, its folder, or a detector's name.

    Raises:
        UserError: there are none.
    """
    path = Path(spec) if Path(spec).exists() else default_weights(spec)
    return path / "model.safetensors" if path.is_dir() else path


def start_genotype(spec: str) -> Genotype:
    """The genotype of the network that was trained.

    Raises:
        UserError: as `find_start` and `load_detector`; or the network has none.
    """
    loaded = load_detector(find_start(spec))
    if "genotype" not in loaded.options:
        raise UserError(f"retrain.start = {spec}: weights of {loaded.name}, which has no genotype; name one with "
                        "--genotype FILE")
    return genotype_from_dict(loaded.options["genotype"], spec)


def start_from(module: nn.Module, title: str, spec: str) -> LoadedDetector:
    """Gives `module` the weights of `spec` that have a name of its own and its shape, or one that `widened` brings to
    it, and says on stderr how many.

    Raises:
        UserError: as `find_start` and `load_detector`; or no parameter fits.
    """
    path = find_start(spec)
    loaded = load_detector(path)
    there, own = loaded.module.state_dict(), module.state_dict()
    if isinstance(module, GIIDNet) and isinstance(loaded.module, GIIDNet):
        if set(loaded.module.enhancement.sizes) & set(module.enhancement.sizes):
            there[FIRST] = of_streams(there[FIRST], loaded.module, module)
        else:  # all zero it would not train
            del there[FIRST]
        reader = attention_reader(module)
        if reader == attention_reader(loaded.module):
            there[reader] = of_attention(there[reader], loaded.module, module)
    fitting = {key: made for key, value in there.items()
               if key in own and (made := widened(value, own[key].shape)) is not None}
    names = [name for name, _ in module.named_parameters()]
    left = [name for name in names if name not in fitting]
    if len(left) == len(names):
        raise UserError(f"retrain.start = {spec}: weights of {loaded.name} that have nothing in common with {title}; "
                        "name weights of the same network, with its retrain.width and genotype")
    module.load_state_dict(fitting, strict=False)
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    if is_first():
        print(f"retrain {title}: starts from {path}, {len(names) - len(left)} of {len(names)} tensors of weights"
              + (f"; not there, or of another shape: {', '.join(left[:3])}{more}" if left else ""),
              file=sys.stderr, flush=True)
    return loaded


def of_streams(value: Tensor, there: GIIDNet, own: GIIDNet) -> Tensor:
    """The weights `value` of the first convolution of `there` for the streams of `own`; those of streams that `there`
    has not start at zero."""
    sizes = there.enhancement.sizes
    columns = dict(zip(sizes, value.split(list(sizes.values()), 1), strict=True))
    return torch.cat([columns[name] if name in columns else value.new_zeros(len(value), size, *value.shape[2:])
                      for name, size in own.enhancement.sizes.items()], 1)


def attention_reader(network: GIIDNet) -> str:
    """The weights of the convolution that reads the features and what attention made of them."""
    return next(f"decision.decoder.{name}.weight" for name, layer in network.decision.decoder.named_children()
                if isinstance(layer, nn.Conv2d))


def of_attention(value: Tensor, there: GIIDNet, own: GIIDNet) -> Tensor:
    """The weights `value` that read the attention of `there` for the attention of `own`; those of an attention that
    `there` has not start at zero."""
    names = ["features", *(type(each).__name__ for each in there.decision.attention)]
    parts = dict(zip(names, value.chunk(len(names), 1), strict=True))
    wanted = ["features", *(type(each).__name__ for each in own.decision.attention)]
    return torch.cat([parts.get(name, torch.zeros_like(parts["features"])) for name in wanted], 1)


def widened(value: Tensor, shape: Sequence[int]) -> Tensor | None:
    """`value` of a network's state as that of one whose layers are whole times as wide and compute the same (Chen et
    al. 2016, Net2Net, section 3.2); None if `shape` is not such.

    Each channel stands there several times, side by side, and what reads it shares its weight among the copies, by
    chance, so that they become different in training. Convolutions in groups of several channels do not compute the
    same; depthwise ones do.
    """
    if value.ndim != len(shape) or value.shape[2:] != tuple(shape)[2:] \
            or any(new % old for new, old in zip(shape, value.shape, strict=True)):
        return None
    if value.ndim > 1 and value.shape[1] == 1 < shape[1]:  # depthwise there, dense here
        return None
    times = [new // old for new, old in zip(shape, value.shape, strict=True)]
    for axis, factor in enumerate(times):
        value = value.repeat_interleave(factor, axis)
    if value.ndim < 2 or times[1] == 1:
        return value
    shares = torch.rand(*shape[:1], shape[1] // times[1], times[1]) + 0.5
    shares /= shares.sum(2, keepdim=True)
    return value * shares.flatten(1).view(*shape[:2], *[1] * (value.ndim - 2))


def add_start(provenance: dict[str, Any], spec: str, start: LoadedDetector, genotype: Genotype | None = None) \
        -> dict[str, Any]:
    """`provenance` of a training with what the weights that it started from had seen, which it has seen as well.

    `start` has the digest of their file, whose header is their own provenance; their `methods` and `perturbations`,
    each None where they do not say; and whether all their photographs are known. These stand among `photos`. Where the
    search that found `genotype` found theirs, its photographs are known if they are.
    """
    path, before = find_start(spec), start.provenance
    search = (start.options.get("genotype") or {}).get("search")
    if genotype and search and search == dict(genotype.provenance) and photos_known(before):
        provenance = {**provenance, "selected_on": {**provenance["selected_on"], "photos": True}}
    known = {photo["digest"] for entries in provenance["photos"].values() for photo in entries}
    others = {photo["digest"]: photo for entries in before["photos"].values() for photo in entries
              if photo["digest"] not in known}
    return {**provenance, "photos": {**provenance["photos"], **({"start": list(others.values())} if others else {})},
            "start": {"name": Path(spec).name, "sha256": digest(path), "detector": start.name,
                      "methods": methods_known(before), "perturbations": perturbations_known(before),
                      "pictures_seen": pictures_before(before), "config": before.get("config"),
                      "photos": photos_known(before)}}


def pictures_before(provenance: Mapping[str, Any]) -> int | None:
    """Training pictures of weights, those of the weights that they started from included; None where these are not
    told."""
    own, start = provenance.get("pictures_seen"), provenance.get("start") or {"pictures_seen": 0}
    return None if own is None or start.get("pictures_seen") is None else own + start["pictures_seen"]


def freeze(module: nn.Module, parts: Sequence[str]) -> None:
    """Takes `parts`, names of modules such as `extraction` or `extraction.0`, out of the training: no gradients, and
    their batch norms use and keep their running statistics. To be called whenever `module` was put into training mode.

    Raises:
        UserError: no part of that name, or nothing is left to train.
    """
    names = dict(module.named_modules())
    for part in parts:
        if not part or part not in names:
            raise UserError(f"retrain.freeze = {part}: no such part of this network; there are "
                            f"{', '.join(_near(part, names))}")
        names[part].eval().requires_grad_(False)
    if parts and not any(parameter.requires_grad for parameter in module.parameters()):
        raise UserError(f"retrain.freeze = [{', '.join(parts)}]: nothing is left to train; freeze less")


def _near(part: str, names: Mapping[str, nn.Module]) -> list[str]:
    """What there is instead: the parts of the nearest place above that has some."""
    place = part.rpartition(".")[0]
    while place not in names or not any(names[place].children()):
        place = place.rpartition(".")[0]
    return [".".join(filter(None, (place, name))) for name, _ in names[place].named_children()]
