"""Detectors: networks that turn a picture into a map of the probability that each pixel was inpainted."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import UserError

if TYPE_CHECKING:
    from torch import nn

DETECTORS = {
    "giidnet": ("detectors.giidnet:GIIDNet", "this project's network: enhancement, searched extraction, attention"),
    "iid-net": ("detectors.iid_net:IIDNet", "IID-Net as published (Wu & Zhou 2021), for its released weights"),
    "mantranet": ("detectors.mantranet:ManTraNet", "ManTraNet with ConvLSTM (Wu et al. 2019)"),
    "mantranet-gru": ("detectors.mantranet:ManTraNetGRU", "ManTraNet with ConvGRU"),
    "hpfcn": ("detectors.hpfcn:HPFCN", "high-pass fully convolutional network (Li & Huang 2019)"),
    "noise-variance": ("detectors.baselines:NoiseVariance", "baseline: noise unlike the picture's median"),
    "ela": ("detectors.baselines:ErrorLevel", "baseline: error-level analysis, change by JPEG compression"),
    "constant": ("detectors.baselines:Constant", "baseline: 0.5 everywhere"),
    "random": ("detectors.baselines:Random", "baseline: noise, the same for the same picture"),
}
"""Where each detector's class is, and what it is. Named here as text: a list of names must not import torch."""

PUBLISHED = ("iid-net", "mantranet", "mantranet-gru")
"""Networks whose published checkpoints can be read."""

WEIGHTLESS = ("noise-variance", "ela", "constant", "random")
"""Baselines that have nothing to train and need no weights."""

STREAMS = ("plain", "bayar", "prefilter")
FURTHER_STREAMS = ("residual", "spectrum", "periods", "bands")
"""Streams that the enhancement block can have."""

ATTENTION = ("global", "local")
"""Attention that the decision block can have."""

DEFECTS = ("bayar-first-channel", "bayar-write-back", "batch-attention", "align-corners", "stretched-map")
"""Defects of the published network that `giidnet` can be given, see docs/differences.md."""


def list_detectors() -> list[str]:
    """Names that `create_detector` takes."""
    return list(DETECTORS)


def load_shipped(name: str) -> "nn.Module":
    """The detector `name` with the weights that come with this project, in eval mode, float32, on the CPU; `giidnet
    list detectors` names those that there are.

    Raises:
        UserError: none of that name.
    """
    from detectors.places import shipped
    found = shipped()
    if name not in found:
        raise UserError(f"detector '{name}': comes with no weights; those that do are {', '.join(found) or 'none'}")
    from detectors.checkpoints import load_detector
    return load_detector(found[name]).module


def create_detector(name: str, checkpoint_path: str | Path | None = None, **options: Any) -> "nn.Module":
    """A detector by name; with `checkpoint_path` with trained weights: a `model.safetensors` or its
    folder, or a published checkpoint of that network (`.pth`, `.pt`, `.safetensors`).

    Its `forward` maps images, RGB float32 N×3×H×W in [0, 1] with H, W ≥ 16, to probabilities N×1×H×W.
    `options` are the constructor's; a checkpoint brings its own, and those given must agree with them.

    Raises:
        UserError: unknown name or option, or a checkpoint of another network.
    """
    if name not in DETECTORS:
        raise UserError(f"detector '{name}': unknown; known are {', '.join(DETECTORS)}")
    if checkpoint_path is not None:
        from detectors.checkpoints import load_detector
        return load_detector(checkpoint_path, expected=name, expected_options=options).module
    module, cls = DETECTORS[name][0].split(":")
    try:
        return getattr(importlib.import_module(module), cls)(**options)
    except TypeError as error:
        raise UserError(f"detector '{name}': {error}") from None
