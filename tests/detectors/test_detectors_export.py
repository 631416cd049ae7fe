"""Exported networks, which the export itself compares with the original on three sizes."""

import numpy as np
import onnxruntime
import pytest
import torch
from detectors_small import small_detector

from configs.errors import UserError
from detectors import FURTHER_STREAMS, WEIGHTLESS, create_detector, list_detectors
from detectors.export import SIZES, TOLERANCE, export_onnx


@pytest.mark.parametrize("name", [name for name in list_detectors() if name not in WEIGHTLESS])
def test_every_network_is_exported_for_any_size(name, tmp_path):
    module = small_detector(name)
    found = list(export_onnx(module, tmp_path / "network.onnx"))
    assert [(height, width) for height, width, _ in found] == list(SIZES)
    assert any(side % 8 for height, width, _ in found for side in (height, width))
    assert all(difference <= TOLERANCE for *_, difference in found)
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    for height, width in ((37, 50), (16, 16)):
        images = torch.rand(1, 3, height, width)
        (written,) = session.run(["map"], {"images": images.numpy()})
        with torch.no_grad():
            assert np.abs(written - module(images).numpy()).max() <= TOLERANCE


def test_streams_and_anomaly_of_this_project_are_exported(tmp_path):
    module = small_detector("giidnet", streams=["plain", *FURTHER_STREAMS], anomaly=True)
    torch.nn.init.normal_(module.anomaly.conv.weight, std=0.1)
    assert len(list(export_onnx(module, tmp_path / "network.onnx"))) == len(SIZES)


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_a_baseline_is_refused(name, tmp_path):
    with pytest.raises(UserError, match="a baseline without weights is no network"):
        list(export_onnx(create_detector(name), tmp_path / "network.onnx"))
    assert not list(tmp_path.iterdir())


class Drawn(torch.nn.Module):
    """Takes a constant of the picture that it is traced with."""

    def forward(self, images):
        return images.mean(1, keepdim=True) * float(images.sum())


@pytest.mark.filterwarnings("ignore")
def test_a_network_that_differs_is_not_written(tmp_path):
    with pytest.raises(UserError, match="not written: at 64×64 the exported map differs"):
        list(export_onnx(Drawn(), tmp_path / "network.onnx"))
    assert not list(tmp_path.iterdir())
