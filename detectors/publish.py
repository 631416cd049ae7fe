"""A trained checkpoint becomes weights that come with this project: half the bytes, and nothing of the machine."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import skimage
from safetensors.torch import save
from torch import Tensor

from configs.errors import UserError
from configs.files import digest, read_rows, write_atomic
from configs.pictures import read_photo
from detectors import DETECTORS, create_detector
from detectors.checkpoints import load_detector
from detectors.inference import default_tile, predict_map
from detectors.places import read_description

HALF_PRECISION = 2**-10
"""Error, relative to a tensor's largest value, up to which it is kept as float16: twice that of rounding to it."""

MEAN_DIFFERENCE = 0.01
"""Mean difference of the maps of rounded and of unrounded weights from which these are refused."""

NEEDED = ("methods", "perturbations", "photos", "image_size", "config", "git_revision", "versions")
"""What guards, labels and the model card need of a provenance."""

LOCAL = re.compile(r"(?:^|[\s=:,;'\"\[({])(?:~?/|[A-Za-z]:\\)[\w.]")
"""The beginning of an absolute path in a text."""

ELSEWHERE = ("search", "benchmark", "ablate", "stages", "device", "checkpoint_seconds")
"""Of a run's configuration, what did not make the weights: it may hold addresses of storage."""


@dataclass(frozen=True)
class Limit:
    """What weights may take: MB (10⁶ bytes) on disk, and trainable parameters."""

    megabytes: float = 12.0
    parameters: int | None = None


LIMITS = {"giidnet": Limit(12.0), "giidnet-small": Limit(3.0, 1_500_000)}
"""By name of the weights; others have those of `Limit()`."""


@dataclass(frozen=True)
class Published:
    """A file of weights, its size in bytes, and by how much, at most and in the mean, a map differs from that of the
    checkpoint."""

    path: Path
    parameters: int
    size: int
    largest_difference: float
    mean_difference: float


def publish(checkpoint: Path, name: str, out: Path, threshold: float | None = None) -> Published:
    """Writes `<name>.safetensors` of a checkpoint of this project (the file or its folder) to the folder `out`: the
    same format, rounded to float16 where that suffices, its provenance without what is only of the machine.

    `threshold`, in [0, 1], is the probability from which `giidnet detect` flags a pixel.

    Raises:
        UserError: no such checkpoint, or one that does not say what it was trained on; larger than `LIMITS`; rounding
            changes its maps; a name that belongs to another network; absolute paths that could not be removed.
    """
    file = checkpoint / "model.safetensors" if checkpoint.is_dir() else checkpoint
    loaded, description = load_detector(file), read_description(file)
    assert description, "a published checkpoint has no description, and load_detector refuses it"
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or (name in DETECTORS and name != loaded.name):
        raise UserError(f"--name {name}: must be of small letters, digits and '-', and the name of no other network "
                        f"than the checkpoint's, {loaded.name}")
    description["provenance"] = _checked(loaded.provenance, file) \
        | ({} if threshold is None else {"threshold": threshold})
    description = without_places(description)
    if found := next(local_paths(description), None):
        raise UserError(f"{file}: its description names a place on this machine: {found}")
    state = {key: rounded(value, key, file) for key, value in loaded.module.state_dict().items()}
    data = save(state, {"giidnet": json.dumps(description, separators=(",", ":"))})
    limit = LIMITS.get(name, Limit())
    if len(data) > limit.megabytes * 1e6 or description["parameters"] > (limit.parameters or math.inf):
        most = f"{limit.megabytes:g} MB" + (f" and {limit.parameters:,} parameters" if limit.parameters else "")
        raise UserError(f"{file}: {len(data) / 1e6:.1f} MB and {description['parameters']:,} parameters; {name} may "
                        f"have {most}; train a narrower network (retrain.width)")
    again = create_detector(loaded.name, **loaded.options).eval()
    again.load_state_dict(state)
    picture = read_photo(Path(skimage.__file__).parent / "data" / "chelsea.png")[:256, 75:331]
    before, after = (predict_map(module, picture, default_tile(module)) for module in (loaded.module, again))
    difference = np.abs(before - after)
    if not difference.mean() <= MEAN_DIFFERENCE:
        raise UserError(f"{file}: rounded to float16 its maps differ by {difference.mean():.3g} in the mean, more than "
                        f"{MEAN_DIFFERENCE:g}")
    path = out / f"{name}.safetensors"
    write_atomic(path, data)
    return Published(path, description["parameters"], len(data), float(difference.max()), float(difference.mean()))


def rounded(tensor: Tensor, key: str = "", origin: Path | str = "") -> Tensor:
    """A tensor of a state as it is stored: float16, or as it is where that has not its range and precision
    (`HALF_PRECISION`), and where it is small: one-dimensional ones are biases and statistics, whose values differ by
    orders of magnitude and each of which counts.

    Raises:
        UserError: some values are not finite.
    """
    if not tensor.isfinite().all():
        raise UserError(f"{origin}: {key} has values that are not finite; train it again")
    if not tensor.is_floating_point() or tensor.ndim < 2 or not tensor.numel():
        return tensor.contiguous()
    half = tensor.half()
    close = (half.to(tensor.dtype) - tensor).abs().max() <= HALF_PRECISION * tensor.abs().max()
    return (half if close else tensor).contiguous()


def chosen_threshold(table: Path, checkpoint: Path) -> float:
    """The pixel threshold that a benchmark chose for a checkpoint, found by its digest: `quiet_threshold` of its
    `thresholds.csv`, beside which `benchmark.json` lies.

    Raises:
        UserError: no such table, the benchmark is not of this checkpoint, or it has no such threshold.
    """
    file = checkpoint / "model.safetensors" if checkpoint.is_dir() else checkpoint
    about = table.parent / "benchmark.json"
    for place in (table, about, file):
        if not place.is_file():
            raise UserError(f"{place}: no such file; give the results/thresholds.csv of a benchmark of this checkpoint")
    own = digest(file)
    entries = [(name, entry["seed"]) for name, found in json.loads(about.read_text())["detectors"].items()
               for entry in found if entry["digest"] == own]
    if not entries:
        raise UserError(f"{table}: its benchmark did not test {file}; benchmark this checkpoint")
    keys = [(name, "" if seed is None else str(seed)) for name, seed in entries]
    row = next((row for row in read_rows(table) if (row["detector"], row["seed"]) in keys), {})
    if not row.get("quiet_threshold"):
        raise UserError(f"{table}: has no quiet_threshold of {entries[0][0]}; benchmark it with more of "
                        "benchmark.validation, or give --threshold")
    return float(row["quiet_threshold"])


def _checked(provenance: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """`provenance` without what did not make the weights.

    Raises:
        UserError: it does not say what a benchmark's guards need.
    """
    missing = [key for key in NEEDED if not provenance.get(key)]
    photos = [photo for split in (provenance.get("photos") or {}).values() for photo in split]
    missing += [f"photos' {key}" for key in ("digest", "hash") if not all(photo.get(key) for photo in photos)]
    if missing:
        raise UserError(f"{file}: does not say all that it was trained on ({', '.join(missing)}); publish a checkpoint "
                        "of 'giidnet retrain'")
    config = {key: value for key, value in provenance["config"].items() if key not in ELSEWHERE}
    # A text with a slash is a path there, which means nothing elsewhere even where it is relative.
    return {**provenance, "config": without_places(config, re.compile("[^/]*/"))}


def without_places(value: Any, path: re.Pattern[str] = LOCAL) -> Any:
    """The same JSON value with the last part alone of each text that begins as `path`, by default an absolute one."""
    if isinstance(value, Mapping):
        return {key: without_places(entry, path) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(entry, path) for entry in value]
    return Path(value).name if isinstance(value, str) and path.match(value) else value


def local_paths(value: Any) -> Iterator[str]:
    """Texts of a JSON value, keys among them, that have an absolute path in them."""
    if isinstance(value, Mapping):
        for key, entry in value.items():
            yield from local_paths(key)
            yield from local_paths(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from local_paths(entry)
    elif isinstance(value, str) and LOCAL.search(value):
        yield value
