"""One function for each type of declaration: a picture and its mask, fitted to the model, become a painted picture.

Models are loaded when they first paint, once in each process: never in the process that starts the loaders, whose
threads and devices would not survive a fork.
"""

import importlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from configs.errors import UserError
from forgeries.methods.declarations import (
    Command,
    DiffusersPipeline,
    OnnxModel,
    PythonFunction,
    Tensors,
    TorchScriptModel,
)
from forgeries.methods.learned import one_thread
from forgeries.methods.method import Fill

TRIES = 5
"""Pictures asked of a pipeline whose safety checker blanks them."""

ONNX_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64,
              "tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(int64)": np.int64,
              "tensor(bool)": np.bool_}


def encode(image: np.ndarray, mask: np.ndarray, model: Tensors) -> list[np.ndarray]:
    """What each input of the model is given: float32 1×C×H×W, or 1×H×W×C where that is the layout.

    `image` RGB uint8 H×W×3, `mask` bool H×W.
    """
    low, high = model.range
    pixels = low + (high - low) * (image if model.channels == "RGB" else image[..., ::-1]).astype(np.float32) / 255
    if model.blank is not None:
        pixels[mask] = model.blank
    parts = {"image": pixels, "mask": np.where(mask, model.hole, model.known).astype(np.float32)[..., None]}
    contents = model.inputs.values() if isinstance(model.inputs, dict) else model.inputs
    arrays = [np.concatenate([parts[part] for part in content.split("+")], -1)[None] for content in contents]
    return arrays if model.layout == "NHWC" else [np.ascontiguousarray(array.transpose(0, 3, 1, 2)) for array in arrays]


def decode(output: np.ndarray, model: Tensors) -> np.ndarray:
    """The model's output as RGB uint8 H×W×3.

    Raises:
        ValueError: it is no picture, or not finite.
    """
    values = np.asarray(output, np.float32)
    values = values[0] if values.ndim == 4 and len(values) == 1 else values
    values = np.moveaxis(values, 0, -1) if model.layout == "NCHW" and values.ndim == 3 else values
    if values.ndim != 3 or values.shape[2] != 3:
        raise ValueError(f"output {model.output} has shape {'×'.join(map(str, np.shape(output)))}; it must be "
                         f"{model.layout} with 3 channels, see layout and output")
    low, high = model.output_range or model.range
    pixels = to_bytes((values - low) / (high - low))
    return pixels if model.channels == "RGB" else np.ascontiguousarray(pixels[..., ::-1])


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Values of [0, 1] as uint8; what lies beyond is clipped.

    Raises:
        ValueError: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("it gives values that are no numbers (NaN or infinite)")
    return np.rint(255 * values).clip(0, 255).astype(np.uint8)


def run_onnx(model: OnnxModel, folder: Path, image: np.ndarray, mask: np.ndarray,
             generator: np.random.Generator) -> np.ndarray:
    """In ONNX Runtime, on one thread."""
    session = _onnx_session(model.files(folder)[0], model.device, os.getpid())
    taken = {entry.name: entry.type for entry in session.get_inputs()}
    arrays = dict(zip(model.inputs if isinstance(model.inputs, dict) else taken, encode(image, mask, model),
                      strict=False))
    if len(model.inputs) != len(taken) or set(arrays) != set(taken):
        raise ValueError(f"it takes {', '.join(taken)}; inputs must give each of them")
    outputs = [entry.name for entry in session.get_outputs()]
    if model.output not in outputs and not (isinstance(model.output, int) and model.output < len(outputs)):
        raise ValueError(f"output = {model.output!r}: it gives {', '.join(outputs)}")
    name = outputs[model.output] if isinstance(model.output, int) else model.output
    unknown = [kind for kind in taken.values() if kind not in ONNX_TYPES]
    if unknown:
        raise ValueError(f"an input is of type {unknown[0]}, which is not supported")
    feed = {key: _cast(array, np.dtype(ONNX_TYPES[taken[key]])) for key, array in arrays.items()}
    return decode(session.run([name], feed)[0], model)


def run_torchscript(model: TorchScriptModel, folder: Path, image: np.ndarray, mask: np.ndarray,
                    generator: np.random.Generator) -> np.ndarray:
    """In PyTorch, on one thread; what the model draws follows the generator where it is declared random."""
    import torch
    network = _torchscript(model.files(folder)[0], model.device, os.getpid())
    arrays = [_cast(array, np.dtype(model.dtype)) for array in encode(image, mask, model)]
    tensors = [torch.from_numpy(array).to(model.device) for array in arrays]
    # The optimiser rewrites the graph after the first calls, which then gives other bytes.
    with torch.inference_mode(), one_thread(), torch.jit.optimized_execution(False), \
            nullcontext() if model.deterministic else _seeded(_draw_seed(generator), model.device):
        found = network(**dict(zip(model.inputs, tensors, strict=True))) if isinstance(model.inputs, dict) \
            else network(*tensors)
        if not isinstance(found, torch.Tensor):
            outputs = found if isinstance(found, dict) else dict(enumerate(found))
            if model.output not in outputs:
                raise ValueError(f"output = {model.output!r}: it gives {', '.join(map(str, outputs))}")
            found = outputs[model.output]
        return decode(found.float().cpu().numpy(), model)


def run_diffusers(model: DiffusersPipeline, folder: Path, image: np.ndarray, mask: np.ndarray,
                  generator: np.random.Generator) -> np.ndarray:
    """In `diffusers`, seeded from the generator; drawn again where the pipeline's safety checker blanks the picture."""
    import torch
    from PIL import Image
    pipeline = _pipeline(model.place(folder), model.download, model.revision, model.variant, model.dtype, model.device,
                         os.getpid())
    height, width = mask.shape
    pixels, hidden = Image.fromarray(image), Image.fromarray(255 * mask.astype(np.uint8))
    options = {"negative_prompt": model.negative_prompt, "num_inference_steps": model.steps,
               "guidance_scale": model.guidance, "strength": model.strength}
    given = {key: value for key, value in options.items() if value is not None}
    for _ in range(TRIES):
        # A generator of the CPU draws the same on every device.
        result = pipeline(prompt=model.prompt, image=pixels, mask_image=hidden, height=height, width=width,
                          generator=torch.Generator().manual_seed(_draw_seed(generator)), output_type="np", **given)
        if not any(getattr(result, "nsfw_content_detected", None) or ()):
            return to_bytes(np.asarray(result.images[0], np.float32))
    raise ValueError(f"its safety checker blanked {TRIES} pictures in a row; change prompt or photographs")


def run_callable(model: PythonFunction, folder: Path, image: np.ndarray, mask: np.ndarray,
                 generator: np.random.Generator) -> np.ndarray:
    """In this process."""
    painted = _function(model.callable, model.place(folder), tuple(model.files(folder)))(image, mask, generator)
    if not isinstance(painted, np.ndarray) or painted.dtype != np.uint8 or painted.ndim != 3 or painted.shape[2] != 3:
        given = f"{painted.dtype} {painted.shape}" if isinstance(painted, np.ndarray) else type(painted).__name__
        raise ValueError(f"{model.callable} must return RGB uint8 H×W×3, not {given}")
    return painted


def run_command(model: Command, folder: Path, image: np.ndarray, mask: np.ndarray,
                generator: np.random.Generator) -> np.ndarray:
    """In a process of its own, started in the folder of the declaration, through PNG files."""
    import cv2

    from configs.pictures import read_photo
    with tempfile.TemporaryDirectory(prefix="giidnet-") as name:
        places = {key: Path(name) / f"{key}.png" for key in ("image", "mask", "output")}
        hidden = np.where(mask, model.hole, model.known).astype(np.uint8)
        for key, pixels in (("image", image[..., ::-1]), ("mask", hidden)):
            places[key].write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        values: dict[str, Any] = places if model.deterministic else {**places, "seed": _draw_seed(generator) % 2**31}
        words = list(model.command)
        for key, value in values.items():
            words = [word.replace(f"{{{key}}}", str(value)) for word in words]
        _execute(words, folder, model.timeout)
        if not places["output"].exists():
            raise ValueError(f"{model.command[0]} ended well but did not write {{output}}")
        try:
            return read_photo(places["output"])
        except UserError as error:
            raise ValueError(str(error).replace(str(places["output"]), "{output}")) from None


def _execute(words: list[str], folder: Path, timeout: float) -> None:
    """Runs a command to its end; it and all that it started end with `timeout`, or when this process is interrupted."""
    with subprocess.Popen(words, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True, errors="replace", start_new_session=True) as process:
        try:
            said = process.communicate(timeout=timeout)[1]
        except subprocess.TimeoutExpired:
            raise ValueError(f"{words[0]} took longer than timeout = {timeout:g} seconds") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        last = said.strip().splitlines()[-1:] or ["it said nothing"]
        raise ValueError(f"{words[0]} ended with exit code {process.returncode}: {last[0].strip()}")


# The process is part of each key: a forked loader does not use what its parent loaded.

@cache
def _onnx_session(path: Path, device: str, process: int) -> Any:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device]
    if provider not in onnxruntime.get_available_providers():
        raise ValueError("device = 'cuda': this ONNX Runtime has no CUDA; install onnxruntime-gpu, or use cpu")
    return onnxruntime.InferenceSession(str(path), options, providers=[provider])


@cache
def _torchscript(path: Path, device: str, process: int) -> Any:
    import torch
    return torch.jit.load(str(path), map_location=device).eval()


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """PyTorch's own generators draw from `seed`, and go on afterwards as if nothing had been drawn."""
    import torch
    with torch.random.fork_rng([torch.cuda.current_device()] if device == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device == "cuda":
            torch.cuda.manual_seed(seed)
        yield


@cache
def _pipeline(model: str, download: bool, revision: str | None, variant: str | None, dtype: str, device: str,
              process: int) -> Any:
    import torch
    from diffusers import AutoPipelineForInpainting
    given = {key: value for key, value in (("revision", revision), ("variant", variant)) if value}
    try:
        pipeline = AutoPipelineForInpainting.from_pretrained(model, torch_dtype=getattr(torch, dtype),
                                                             local_files_only=not download, **given)
    except OSError as error:
        if download:
            raise
        raise ValueError(f"model = '{model}': neither a folder nor downloaded before; download: true allows it to be "
                         f"({type(error).__name__})") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


@cache
def _function(name: str, folder: Path, files: tuple[Path, ...]) -> Fill:
    module, attribute = name.split(":")
    # Left there: the module may import its neighbours when it is called.
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    loaded = importlib.import_module(module)
    if files and Path(loaded.__file__ or "").resolve() not in [path.resolve() for path in files]:
        raise ValueError(f"{module} is {loaded.__file__ or 'built in'} here, not {files[0]}; rename the latter")
    function = getattr(loaded, attribute)
    if not callable(function):
        raise ValueError(f"{name} is no function")
    return function


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """To the nearest value of the type."""
    return (np.rint(array) if dtype.kind in "iub" else array).astype(dtype)


def _draw_seed(generator: np.random.Generator) -> int:
    return int(generator.integers(2**63))


RUNNERS: Mapping[str, Callable[..., np.ndarray]] = {
    "onnx": run_onnx, "torchscript": run_torchscript, "diffusers": run_diffusers, "callable": run_callable,
    "command": run_command}
