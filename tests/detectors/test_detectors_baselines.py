"""Baselines without weights against plain computations, and where what they look for is present."""

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.ndimage import generic_filter
from sklearn.metrics import roc_auc_score

from configs.errors import UserError
from detectors import WEIGHTLESS, create_detector
from detectors.baselines import QUANTIZATION, ErrorLevel, NoiseVariance, Random
from detectors.inference import predict_map
from giidnet import _checkpoints, cli, main


def noisy(sigma, size=(64, 80), seed=0):
    """A smooth ramp with Gaussian noise of `sigma` (of 255), equal in all colours: RGB uint8."""
    ramp = 60 + np.add.outer(np.arange(size[0]), np.arange(size[1]))
    grey = np.round(ramp + np.random.default_rng(seed).normal(0, 1, size) * sigma).clip(0, 255)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, 2)


def batch(*images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def plain_sigma(grey, window):
    """Immerkær's formula, pixel by pixel, means of what lies inside."""
    padded = np.pad(grey, 1, "edge")
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    response = np.array([[abs((padded[i:i + 3, j:j + 3] * kernel).sum()) for j in range(grey.shape[1])]
                         for i in range(grey.shape[0])])
    mean = generic_filter(response, np.nanmean, window, mode="constant", cval=np.nan)
    return np.sqrt(np.pi / 2) / 6 * mean


def test_noise_variance_is_the_plain_formula():
    image = noisy(6, (20, 24))
    sigma = np.maximum(plain_sigma(image[..., 0] / 255, 5), QUANTIZATION)
    median = np.sort(sigma.ravel())[(sigma.size - 1) // 2]
    expected = 1 - np.minimum(sigma, median) / np.maximum(sigma, median)
    assert np.allclose(NoiseVariance(5)(batch(image))[0, 0], expected, atol=2e-4)


@pytest.mark.parametrize("inside", [1, 16])
def test_noise_variance_finds_less_noise_and_more(inside):
    image, mask = noisy(4), np.zeros((64, 80), bool)
    mask[16:48, 20:60] = True
    image[mask] = noisy(inside, seed=1)[mask]
    found = predict_map(create_detector("noise-variance"), image)
    assert roc_auc_score(mask.ravel(), found.ravel()) > 0.9


def test_noise_variance_of_equal_noise_is_low_and_of_none_is_zero():
    assert predict_map(NoiseVariance(), noisy(4)).mean() < 0.2
    assert not predict_map(NoiseVariance(), np.full((20, 20, 3), 90, np.uint8)).any()


def test_error_level_is_the_smoothed_change_by_jpeg():
    image = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8)
    packed = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    change = np.abs(cv2.imdecode(packed, cv2.IMREAD_COLOR)[..., ::-1] - image.astype(float)).mean(2)
    level = generic_filter(change, np.nanmean, 5, mode="constant", cval=np.nan)
    assert np.allclose(ErrorLevel(80, 5)(batch(image))[0, 0], level / level.max(), atol=1e-5)


def test_error_level_finds_what_was_never_compressed_in_a_jpeg_picture():
    generator = np.random.default_rng(0)
    packed = cv2.imencode(".jpg", generator.integers(0, 256, (64, 80, 3), np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    image, mask = cv2.imdecode(packed, cv2.IMREAD_COLOR), np.zeros((64, 80), bool)
    mask[16:48, 24:56] = True
    image[mask] = generator.integers(0, 256, (mask.sum(), 3), np.uint8)
    found = predict_map(create_detector("ela"), np.ascontiguousarray(image[..., ::-1]))
    assert roc_auc_score(mask.ravel(), found.ravel()) > 0.9


def test_error_level_of_a_flat_picture_is_finite():
    assert np.isfinite(predict_map(ErrorLevel(), np.full((20, 20, 3), 128, np.uint8))).all()


def test_constant_is_one_half():
    assert (predict_map(create_detector("constant"), noisy(5)) == 0.5).all()


def test_random_depends_on_the_picture_alone_and_is_uniform():
    image, other = noisy(5), noisy(5)
    other[0, 0, 0] ^= 1
    first = predict_map(Random(), image)
    assert np.array_equal(first, predict_map(create_detector("random"), image))
    together = Random()(batch(other, image))
    assert np.array_equal(together[1, 0], first) and not np.array_equal(together[0, 0], first)
    assert np.abs(np.histogram(first, 4, (0, 1))[0] / first.size - 0.25).max() < 0.03


def test_detect_runs_baselines_without_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("photo.png", noisy(5))
    main(["detect", "photo.png", "--detector", "noise-variance", "--detector", "ela", "--raw"])
    found = np.load(tmp_path / "detections" / "photo_noise-variance_map.npy")
    assert np.array_equal(found, predict_map(NoiseVariance(), noisy(5)))
    assert (tmp_path / "detections" / "photo_ela_map.png").exists()


def test_baselines_take_no_weights_and_are_not_exported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.safetensors").touch()
    with pytest.raises(UserError, match="--detector ela: takes no --weights"):
        _checkpoints(("ela",), (tmp_path / "x.safetensors",))
    found = CliRunner().invoke(cli, ["export", "--detector", "random"])
    assert isinstance(found.exception, UserError) and "a baseline without weights" in str(found.exception)


def test_the_list_says_what_needs_no_weights(capsys):
    main(["list", "detectors"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {name for name, line in lines.items() if "needs no weights" in line} == set(WEIGHTLESS)
