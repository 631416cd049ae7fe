"""What a benchmark can take for a detector: checkpoints, ONNX files, functions, folders of maps, registered names."""

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from configs.errors import UserError
from configs.files import digest
from detectors import WEIGHTLESS, create_detector
from detectors.checkpoints import load_detector
from detectors.inference import default_tile, predict_map
from detectors.places import default_weights, known_names, told_weights
from search_space.cost import count_parameters

Predict = Callable[[np.ndarray, str, str], np.ndarray]
"""(RGB uint8 H×W×3, method, name of the picture) to a map float32 H×W in [0, 1]. Only a folder of maps looks at the
method and the name."""

UNKNOWN: Mapping[str, Any] = {"methods": None, "perturbations": None, "photos": {}}
"""Provenance of what does not say what it was trained on."""

UNTRAINED: Mapping[str, Any] = {"methods": [], "perturbations": [], "photos": {}}
"""Provenance of what was trained on nothing."""

NAME = r"[A-Za-z0-9][\w.+-]{0,63}"
"""Of detectors: it becomes the name of files."""
MAP_SUFFIXES = (".npy", ".png", ".tif", ".tiff")
CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt")

TOLERANCE = 1e-6
"""How far a map may lie outside of [0, 1] by rounding; it is clipped."""


@dataclass(frozen=True)
class Source:
    """Something that gives maps of pictures.

    `kind` is "checkpoint", "onnx", "callable", "maps" or "registered", and `detector` the registered name of the
    network, or "". `digest` (SHA-256) is of the weights, or of the function's file: the same digest, the same maps,
    with the same version of this project; None where maps are not to be kept. `seed` is the training's.
    """

    name: str
    kind: str
    detector: str
    predict: Predict
    provenance: Mapping[str, Any]
    digest: str | None
    parameters: int | None = None
    seed: int | None = None


class MapSizeError(ValueError):
    """A map is of another size than its picture."""


def open_source(spec: str, device: str = "cpu") -> Source:
    """The detector that `spec` names, ready to run on `device` (of torch); docs/detectors.md shows all forms.

    Each map that its `predict` gives went through `check_map`; what is wrong with a single picture or map is raised
    there, as ValueError or OSError.

    Raises:
        UserError: nothing of that name, or it cannot be loaded.
    """
    given, spec = split_name(spec)
    path, (place, colon, function) = Path(spec), spec.rpartition(":")
    if spec.startswith("maps:"):
        found = _open_maps(Path(spec.removeprefix("maps:")))
    elif path.suffix.lower() == ".onnx":
        found = _open_onnx(path, device)
    elif path.suffix in CHECKPOINT_SUFFIXES or (path / "model.safetensors").is_file():
        found = _open_checkpoint(path, device)
    elif spec in known_names():
        found = _open_registered(spec, device)
    elif path.is_dir():
        found = _open_maps(path)
    elif colon:
        found = _open_callable(place, function)
    else:
        raise UserError(f"{spec}: no such checkpoint, file or folder, and no detector of this name; known are "
                        f"{', '.join(known_names())}")
    name, predict = given or found.name, found.predict
    return Source(**vars(found) | {"name": name, "predict": lambda image, method, picture: check_map(
        predict(image, method, picture), image)})


def split_name(spec: str) -> tuple[str | None, str]:
    """Name and rest of NAME=SPEC; without a name (None), or where a file is called so, the whole."""
    named = re.fullmatch(rf"({NAME})=(.+)", spec)
    with suppress(OSError):  # a name too long for a file
        if Path(spec).exists():
            return None, spec
    return (named[1], named[2]) if named else (None, spec)


def check_map(probability: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The map as float32 H×W in [0, 1]; values outside by at most `TOLERANCE` are clipped. `image` is H×W×3.

    Raises:
        MapSizeError: it has not the picture's height and width. Maps are never resized.
        ValueError: no numbers, NaN, infinite, or outside of [0, 1].
    """
    found = np.asarray(probability)
    if found.shape != image.shape[:2]:
        raise MapSizeError(f"map {_size(found.shape)} for a picture of {_size(image.shape[:2])}")
    if found.dtype.kind not in "biuf":
        raise ValueError(f"{found.dtype} in the map, not numbers")
    if not np.isfinite(found).all():
        raise ValueError("NaN or infinite values in the map")
    low, high = float(found.min()), float(found.max())
    if low < -TOLERANCE or high > 1 + TOLERANCE:
        raise ValueError(f"values from {low:.6g} to {high:.6g} in the map; must be probabilities in [0, 1]")
    return np.clip(found.astype(np.float32), 0, 1)


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "of one number"


def _open_checkpoint(path: Path, device: str) -> Source:
    loaded = load_detector(path, device)
    file = path / "model.safetensors" if path.is_dir() else path
    name = file.resolve().parent.name if file.name == "model.safetensors" else file.stem
    provenance = {**UNKNOWN, **loaded.provenance}
    return Source(name, "checkpoint", loaded.name, _of_module(loaded.module), provenance, digest(file),
                  count_parameters(loaded.module), provenance.get("seed"))


def _open_registered(name: str, device: str) -> Source:
    if name not in WEIGHTLESS:
        place = default_weights(name)
        print(told_weights(name, place), file=sys.stderr, flush=True)
        loaded = _open_checkpoint(place, device)
        return Source(**vars(loaded) | {"name": name, "kind": "registered"})
    module = create_detector(name).eval()
    file = inspect.getsourcefile(type(module))
    assert file
    return Source(name, "registered", name, _of_module(module), UNTRAINED, _joined(name, digest(Path(file))), 0)


def _of_module(module: nn.Module) -> Predict:
    """Whole, or in the tiles in which `giidnet detect` looks at large pictures."""
    return lambda image, method, name: predict_map(module, image, default_tile(module))


def _open_onnx(path: Path, device: str) -> Source:
    """A network from pictures, RGB float in [0, 1], N×3×H×W or N×H×W×3, to its output "map", or the first one."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f'{path}: onnxruntime is not installed; pip install -e ".[onnx]"') from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    card = {"device_id": torch.device(device).index or 0}
    wanted = [("CUDAExecutionProvider", card)] * device.startswith("cuda") + [("CPUExecutionProvider", {})]
    providers = [(name, more) for name, more in wanted if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # of the runtime's own many types
        raise UserError(f"{path}: cannot be read as ONNX ({_line(error)})") from None
    taken, *more = session.get_inputs()
    shape = taken.shape or [None]
    channel = next((axis for axis in (1, 3) if len(shape) == 4 and shape[axis] == 3), None)
    many = bool(more) or (isinstance(shape[0], int) and shape[0] != 1)
    if many or channel is None or taken.type != "tensor(float)":
        raise UserError(f"{path}: must take one picture, float N×3×H×W or N×H×W×3, not "
                        f"{', '.join(f'{one.type} {one.shape}' for one in (taken, *more))}")
    fixed = [side if isinstance(side, int) else None for axis, side in enumerate(shape) if axis not in (0, channel)]
    outputs = [output.name for output in session.get_outputs()]
    output = "map" if "map" in outputs else outputs[0]

    def predict(image: np.ndarray, method: str, name: str) -> np.ndarray:
        if any(side not in (None, given) for side, given in zip(fixed, image.shape, strict=False)):
            raise MapSizeError(f"takes pictures of {_size(tuple(side or 0 for side in fixed))} only, not of "
                               f"{_size(image.shape[:2])}; export it with free height and width")
        batch = image[None].astype(np.float32) / 255
        batch = batch if channel == 3 else np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
        return np.squeeze(session.run([output], {taken.name: batch})[0])

    # Weights of large networks lie in files beside it, which are called alike.
    files = sorted(path.parent.glob(f"{path.name}*"))
    return Source(path.stem, "onnx", "", predict, UNKNOWN, _joined(*map(digest, files)))


def _open_callable(place: str, function: str) -> Source:
    """A function of the user's: RGB uint8 H×W×3 to H×W in [0, 1]."""
    spec, path = f"{place}:{function}", Path(place)
    if path.suffix == ".py" and not path.is_file():
        raise UserError(f"{place}: no such file")
    # The module may import its neighbours, now and when it is called.
    folder = str((path.parent if path.suffix == ".py" else Path()).absolute())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        module = _load_file(path) if path.suffix == ".py" else importlib.import_module(place)
    except Exception as error:  # whatever a module of the user's raises
        raise UserError(f"{spec}: cannot be imported ({_line(error)}); give module:function or FILE.py:function") \
            from None
    found = getattr(module, function, None)
    if not callable(found):
        raise UserError(f"{spec}: no function of that name in {module.__file__ or place}")
    file = getattr(module, "__file__", None)
    own = _joined(digest(Path(file)), function) if file else None
    return Source(f"{path.stem if path.suffix == '.py' else place.rpartition('.')[2]}.{function}", "callable", "",
                  lambda image, method, name: np.squeeze(np.asarray(found(image.copy()))), UNKNOWN, own)


def _load_file(path: Path) -> Any:
    """The module in a file, whatever others are called."""
    spec = importlib.util.spec_from_file_location(f"{path.stem}_{_joined(str(path.absolute()))[:8]}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _open_maps(folder: Path) -> Source:
    """Maps computed elsewhere: FOLDER/<method>/<name>.npy or .png or .tif, or without methods FOLDER/<name>….

    Of perturbed pictures they lie in FOLDER/<perturbation>/<method>/."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of maps")
    if not any(path.suffix.lower() in MAP_SUFFIXES for path in folder.rglob("*")):
        raise UserError(f"{folder}: neither a checkpoint (model.safetensors) there nor maps "
                        f"({', '.join(MAP_SUFFIXES)})")
    return Source(folder.resolve().name, "maps", "", partial(_stored_map, folder), UNKNOWN, None)


def _stored_map(folder: Path, image: np.ndarray, method: str, name: str) -> np.ndarray:
    # A folder of methods has none for a picture that is missing in its own; and maps of pictures as they were forged
    # are none of what a perturbation left of them.
    place = folder / method if "/" in method or (method and (folder / method).is_dir()) else folder
    for stem in (name, f"{name}_map"):
        for suffix in MAP_SUFFIXES:
            if (path := place / f"{stem}{suffix}").is_file():
                return read_map(path)
    raise FileNotFoundError(f"{place}: no map {name}.npy, .png or .tif of the {method or 'unnamed'} picture {name}")


def read_map(path: Path) -> np.ndarray:
    """A stored map: floats as they are, 8 and 16 bits divided by their largest value.

    Raises:
        ValueError: it cannot be read, is coloured, or holds other numbers.
    """
    try:
        found = np.load(path, allow_pickle=False) if path.suffix == ".npy" else \
            cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    except (ValueError, EOFError, cv2.error) as error:
        raise ValueError(f"{path}: cannot be read as a map ({_line(error)})") from None
    if found is None:
        raise ValueError(f"{path}: cannot be read as a map (no picture that can be decoded)")
    if path.suffix != ".npy" and found.ndim == 3:
        if (found[..., :3] != found[..., :1]).any():
            raise ValueError(f"{path}: a coloured picture, not a map")
        found = found[..., 0]
    found = np.squeeze(found)
    if found.dtype in (np.uint8, np.uint16):
        return (found / np.iinfo(found.dtype).max).astype(np.float32)
    if found.dtype.kind not in "bf":
        raise ValueError(f"{path}: holds {found.dtype}; a map is float, or integer of 8 or 16 bits without sign")
    return found


def _joined(*parts: str) -> str:
    """One digest of several parts."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
