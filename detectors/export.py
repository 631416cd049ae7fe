"""Networks as ONNX files for other programs."""

import io
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from configs.errors import UserError
from configs.files import write_atomic
from detectors.baselines import Baseline

SIZES = ((64, 64), (96, 160), (75, 101))
"""Height and width of the pictures on which an exported network is compared; one no multiple of 8."""

TOLERANCE = 1e-4
OPSET = 17


def export_onnx(module: nn.Module, path: Path) -> Iterator[tuple[int, int, float]]:
    """Writes `module` (in eval mode, on the CPU) to `path`, and yields (height, width, largest difference) of maps.

    The graph takes "images", RGB float32 1×3×H×W in [0, 1], and gives "map", 1×1×H×W in [0, 1]; H and W are free.
    The file is written when all maps agree to `TOLERANCE`.

    Raises:
        UserError: a baseline without weights, onnx or onnxruntime is not installed, or a map differs by more.
    """
    if isinstance(module, Baseline):
        raise UserError(f"{path}: not written: a baseline without weights is no network; export a trained detector")
    try:
        import onnx  # noqa: F401 - torch's exporter needs it
        import onnxruntime
    except ImportError as error:
        raise UserError(f'{error.name} is not installed; pip install -e ".[onnx]"') from None
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Of the tracer, on sizes that it takes as constants: the comparison below is on other sizes.
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.rand(1, 3, 72, 88),), buffer,  # type: ignore[arg-type]
                          dynamo=False, opset_version=OPSET,
                          input_names=["images"], output_names=["map"],
                          dynamic_axes={"images": {2: "height", 3: "width"}, "map": {2: "height", 3: "width"}})
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for height, width in SIZES:
        coarse, noise = (torch.rand(1, 3, *size, generator=generator) for size in ((4, 4), (height, width)))
        # Alike enough that attention finds similar positions.
        images = 0.8 * F.interpolate(coarse, (height, width), mode="bilinear") + 0.2 * noise
        with torch.inference_mode():
            expected = module(images).numpy()
        (found,) = session.run(None, {"images": images.numpy()})
        difference = float(np.abs(found - expected).max()) if found.shape == expected.shape else float("inf")
        if not difference <= TOLERANCE:
            raise UserError(f"{path}: not written: at {height}×{width} the exported map differs by {difference:.1e}, "
                            f"more than {TOLERANCE:.0e}")
        yield height, width, difference
    write_atomic(path, buffer.getvalue())
