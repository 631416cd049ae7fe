import doctest
import math

import numpy as np
import pytest
import torch
from torch import multiprocessing

from configs.streams import stream
from results.metrics import METRICS, Curve, at_threshold, auc, histogram, pool, score_map, streaming, tensors
from results.metrics.streaming import Authentic, PictureLevel, PictureMean, PooledCurve


def batch(number, pictures=4, dtype=np.float32):
    """Maps N×1×H×W with ties, and masks, some of one class."""
    draw = stream(0, "streaming", number)
    masks = draw.random((pictures, 1, 8, 11)) < draw.choice([0, 0.2, 1], (pictures, 1, 1, 1), p=[0.3, 0.6, 0.1])
    maps = draw.integers(40, size=masks.shape) / 40
    return torch.from_numpy(maps.astype(dtype)), torch.from_numpy(masks)


def pictures(numbers):
    for number in numbers:
        yield from ((one.numpy(), mask.numpy()) for one, mask in zip(*map(torch.squeeze, batch(number)), strict=True))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_tensors_and_arrays_give_the_same_numbers_to_the_last_bit(dtype):
    for number in range(20):
        maps, masks = batch(number, dtype=dtype)
        pairs = [(one.numpy(), mask.numpy()) for one, mask in zip(maps[:, 0], masks[:, 0], strict=True)]
        np.testing.assert_array_equal(tensors.auc(maps, masks), [auc(*pair) for pair in pairs])
        np.testing.assert_array_equal(tensors.histogram(maps, masks), sum(histogram(*pair) for pair in pairs))
        found = tensors.flagged_counts(maps, masks.float(), 0.3)
        for name in ("f1", "iou", "mcc", "precision", "recall", "balanced_accuracy", "false_alarm"):
            np.testing.assert_array_equal(getattr(found, name),
                                          [getattr(at_threshold(*pair, 0.3), name) for pair in pairs])


def test_near_ties_and_signs_are_ranked_alike():
    levels = [-1, -1e-45, -0.0, 0.0, 1e-45, 0.5, 1, 1 + 2**-23]
    scores = stream(0, "near").choice(np.array(levels, np.float32), (1, 30, 30))
    mask = stream(0, "mask").random((1, 30, 30)) < 0.3
    assert tensors.auc(torch.from_numpy(scores), torch.from_numpy(mask)).item() == auc(scores[0], mask[0])


@pytest.mark.parametrize("names", [METRICS, ("auc", "val_f1", "false_alarm")])
@pytest.mark.parametrize("val_threshold", [math.nan, 0.7])
def test_means_are_over_the_pictures_where_a_metric_is_defined(names, val_threshold):
    mean = PictureMean(names, val_threshold)
    for number in range(6):
        maps, masks = batch(number)
        mean.update(maps if number % 2 else maps[:, 0], masks.float() if number % 2 else masks[:, 0])
    found, rows = mean.compute(), [score_map(*pair, val_threshold) for pair in pictures(range(6))]
    assert found["pictures"] == len(rows) == 24
    for name in names:
        values = np.array([row[name] for row in rows])
        defined = values[~np.isnan(values)]
        assert found[name].item() == pytest.approx(defined.mean() if defined.size else math.nan, nan_ok=True)
        assert found[f"{name}_undefined"] == np.isnan(values).sum()


def test_pooled_picture_level_and_authentic_metrics_are_those_of_all_pictures():
    pooled, level, authentic = PooledCurve(), PictureLevel("mean", 0.49), Authentic(0.3)
    for number in range(6):
        for metric in (pooled, level, authentic):
            metric.update(*batch(number))
    pairs = list(pictures(range(6)))
    expected = Curve(sum(histogram(*pair) for pair in pairs)).numbers()
    assert {name: value.item() for name, value in pooled.compute().items()} == expected
    scores, forged = np.array([pool(scores, "mean") for scores, _ in pairs]), np.array([m.any() for _, m in pairs])
    found = level.compute()
    wins = np.sign(scores[forged][:, None] - scores[~forged])
    assert found["auc"].item() == pytest.approx((1 + wins.mean()) / 2)
    assert found["accuracy"].item() == pytest.approx(np.mean((scores >= 0.49) == forged))
    shares = [(scores >= np.float64(0.3)).mean() for scores, mask in pairs if not mask.any()]
    alarms = authentic.compute()
    assert alarms["false_alarm"].item() == pytest.approx(np.mean(shares)) and alarms["pictures"] == len(shares) > 0


def test_a_call_gives_the_value_of_its_batch_and_adds_it():
    pooled = PooledCurve()
    first, second = pooled(*batch(1)), pooled(*batch(2))
    assert first["pixels"] == second["pixels"] == 4 * 88 and pooled.compute()["pixels"] == 8 * 88
    pooled.reset()
    pooled.update(*batch(3))
    assert pooled.compute()["pixels"] == 4 * 88


def test_empty_batches_add_nothing():
    for metric in (PictureMean(), PooledCurve(), PictureLevel(), Authentic()):
        metric.update(torch.zeros(0, 1, 4, 4), torch.zeros(0, 1, 4, 4))
        found = metric.compute()
        assert math.isnan(found.get("auc", found.get("false_alarm")).item())


def state_bytes(metric):
    states = [getattr(metric, name) for name in metric._defaults]
    return sum(part.nbytes for state in states for part in (state if isinstance(state, list) else [state]))


def test_memory_of_ten_thousand_pictures_is_that_of_one():
    maps, masks = torch.rand(500, 2, 2), torch.rand(500, 2, 2) < 0.5
    level = PictureLevel("max")
    for metric in (PictureMean(["auc", "mcc"]), PooledCurve(), Authentic(), level):
        metric.update(maps[:1], masks[:1])
        before = state_bytes(metric)
        for _ in range(20):
            metric.update(maps, masks)
        assert state_bytes(metric) == (10_001 * 9 if metric is level else before)


@pytest.mark.parametrize(("maps", "masks", "what"), [
    (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), "N×1×H×W"), (torch.zeros(4, 4), torch.zeros(4, 4), "N×1×H×W"),
    (torch.zeros(2, 4, 4), torch.zeros(2, 1, 4, 4), "N×1×H×W"), (torch.zeros(2, 0, 4), torch.zeros(2, 0, 4), "N×1×H×W"),
    (torch.full((1, 2, 2), math.nan), torch.zeros(1, 2, 2), "NaN"),
    (torch.full((1, 2, 2), math.inf), torch.zeros(1, 2, 2), "NaN")])
def test_what_is_no_batch_of_maps_is_refused(maps, masks, what):
    for metric in (PictureMean(["auc"]), PictureMean(), PooledCurve(), PictureLevel(), Authentic()):
        with pytest.raises(ValueError, match=what):
            metric.update(maps, masks)


def test_wrong_names_and_ranges_are_refused():
    with pytest.raises(ValueError, match="roc: metrics must be of auc, ap"):
        PictureMean(["roc"])
    with pytest.raises(ValueError, match="max, mean"):
        PictureLevel("middle")
    with pytest.raises(ValueError, match="within 0 to 1"):
        PooledCurve().update(torch.full((1, 2, 2), 1.5), torch.zeros(1, 2, 2))


def test_metrics_move_to_another_device_with_their_state():
    metric = PictureMean(["auc"]).to("meta")
    assert metric.total.device.type == "meta"
    if torch.cuda.is_available():
        on_gpu = PooledCurve().to("cuda")
        on_gpu.update(*(part.cuda() for part in batch(1)))
        expected = PooledCurve()
        expected.update(*batch(1))
        assert torch.equal(on_gpu.histogram.cpu(), expected.histogram)


@pytest.mark.parametrize("module", [streaming, tensors])
def test_examples_of_docstrings_run(module):
    assert doctest.testmod(module).failed == 0 < doctest.testmod(module).attempted


def made():
    return {"mean": PictureMean(["auc", "f1"]), "pooled": PooledCurve(), "level": PictureLevel("max"),
            "authentic": Authentic()}


def process(rank, address, folder):
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    metrics = made()
    # Five batches for one process and one for the other: states of different lengths.
    for number in (range(5) if rank else range(5, 6)):
        for metric in metrics.values():
            metric.update(*batch(number))
    torch.save({name: metric.compute() for name, metric in metrics.items()}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    multiprocessing.spawn(process, (f"file://{tmp_path}/meet", tmp_path), nprocs=2)
    expected = made()
    for number in range(6):
        for metric in expected.values():
            metric.update(*batch(number))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for name, metric in expected.items():
            for key, value in metric.compute().items():
                assert found[name][key].item() == pytest.approx(value.item(), rel=1e-12, nan_ok=True), (name, key)
