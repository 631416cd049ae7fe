"""How a step's gradient is computed: in pieces where memory runs out, compiled, in float16, and schedule-free."""

from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from schedulefree import AdamWScheduleFree
from small import Normed, Plain
from torch.utils.tensorboard import SummaryWriter

from configs.engine import make_fabric
from configs.errors import UserError
from configs.files import read_rows
from configs.schema import Photos, RunConfig
from forgeries.dataset import ForgeryDataset, Recipe
from forgeries.photos import find_photos
from retrain import trainer
from retrain.gradients import Gradients, out_of_memory
from retrain.losses import training_loss

PHOTOS = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)
FREE = {"optimizer": "schedule-free", "schedule": "constant"}


def configure(**retrain):
    return RunConfig.model_validate({
        "device": "cpu", "checkpoint_seconds": 0.0,
        "forgeries": {"methods": ["TE"], "image_size": 32, "workers": 0},
        "retrain": {"epochs": 2, "steps": 2, "batch_size": 6, "validation_images": 4, "learning_rate": 1e-2} | retrain})


def train(folder, module, **retrain):
    with SummaryWriter(str(folder / "board")) as board:
        return trainer.train("net", module, configure(**retrain), PHOTOS, folder, board)


def broken(folder, monkeypatch, name, call, module, **retrain):
    """A training that is interrupted, and continued with another module; returns what that one gives."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        whole, calls = getattr(trainer, name), count(1)

        def interrupting(*arguments):
            if next(calls) == call:
                raise KeyboardInterrupt
            return whole(*arguments)

        patch.setattr(trainer, name, interrupting)
        train(folder, module(), **retrain)
    return train(folder, module(), **retrain)


def column(folder, name):
    return [float(row[name]) for row in read_rows(folder / "history.csv")]


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt")


ERRORS = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
          RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                       "tried to allocate 8 bytes. Error code 12 (Cannot allocate memory)")]


@pytest.mark.parametrize("error", ERRORS)
def test_what_is_too_large_is_computed_in_pieces(error, tmp_path, capsys):
    whole = train(tmp_path / "whole", Plain(), accumulate=2)
    assert "memory" not in capsys.readouterr().err and checkpoint(tmp_path / "whole")["pieces"] == 1
    pieces = train(tmp_path / "pieces", Plain(2, error), accumulate=2)
    told = [line for line in capsys.readouterr().err.splitlines() if "memory" in line]
    assert told == [f"retrain: out of memory; batches of 6 are computed in {number} pieces from now on"
                    for number in (2, 4)]
    assert checkpoint(tmp_path / "pieces")["pieces"] == 4
    torch.testing.assert_close(pieces.state, whole.state, rtol=1e-4, atol=1e-6)
    for name in ("train_loss", "gradient_norm", "val_auc"):
        assert column(tmp_path / "pieces", name) == pytest.approx(column(tmp_path / "whole", name), rel=1e-4)


def test_the_number_of_pieces_is_kept_over_an_interruption(tmp_path, monkeypatch, capsys):
    whole = train(tmp_path / "whole", Plain(3))
    capsys.readouterr()
    found = broken(tmp_path / "broken", monkeypatch, "learning_rate", 3, partial(Plain, 3))
    assert capsys.readouterr().err.count("out of memory") == 1 and equal(found.state, whole.state)


def test_a_picture_that_is_too_large_is_told_in_one_line(tmp_path):
    with pytest.raises(UserError, match="retrain: out of memory with one picture at a time; lower") as error:
        train(tmp_path, Plain(0))
    assert "\n" not in str(error.value)
    with pytest.raises(RuntimeError, match="another"):
        train(tmp_path, Plain(0, RuntimeError("another")))


def test_what_a_cpu_says_is_known():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**46)
    assert out_of_memory(error.value) and not out_of_memory(RuntimeError("mat1 and mat2 must have the same dtype"))


@pytest.mark.parametrize("size", [1, 5, 6])
def test_any_number_of_pieces_gives_the_gradient_of_the_batch(size):
    fabric = make_fabric(RunConfig(device="cpu").model_copy(update={"precision": "64-true"}))
    module = Plain().double()
    network, optimizer = fabric.setup(module, torch.optim.SGD(module.parameters(), 0.1))
    network.mark_forward_method("logits")
    batches = [(torch.rand(size, 3, 8, 8).double(), (torch.rand(size, 1, 8, 8) < 0.3).double()) for _ in range(2)]
    loss = sum(training_loss(module.logits(images), masks) for images, masks in batches) / 2
    expected = torch.autograd.grad(loss, list(module.parameters()))
    for pieces in range(1, size + 1):
        found = Gradients(fabric, network, optimizer, training_loss, "retrain", pieces)(batches)
        assert found == pytest.approx(loss.item(), rel=1e-12)
        torch.testing.assert_close([each.grad for each in module.parameters()], list(expected))


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_compiled_training_is_the_same_and_leaves_no_trace(ema, tmp_path, monkeypatch):
    plain, compiled, calls = Normed(), Normed(), []

    def backend(graph, _):
        # Evaluation runs as it is.
        assert torch.is_grad_enabled()
        return lambda *arguments: calls.append(1) or graph(*arguments)

    expected = train(tmp_path / "plain", plain, ema=ema)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    found = train(tmp_path / "compiled", compiled, ema=ema, compile=True)
    assert len(calls) == 4 and equal(found.state, expected.state)
    first, second = checkpoint(tmp_path / "plain"), checkpoint(tmp_path / "compiled")
    assert first.keys() == second.keys() and equal(first["module"], second["module"])
    assert "logits" not in vars(compiled) and equal(compiled.state_dict(), plain.state_dict())


def test_what_compiling_needs_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"retrain\.compile: .* no-such-compiler, which is not here"):
        train(tmp_path, Plain(), compile=True)


@pytest.mark.slow
def test_torchs_own_compiler_gives_the_same_training(tmp_path):
    expected, found = train(tmp_path / "plain", Plain()), train(tmp_path / "compiled", Plain(), compile=True)
    torch.testing.assert_close(found.state, expected.state, rtol=1e-3, atol=1e-5)


def in_float16(_):
    # Fabric takes bfloat16 instead on a CPU unless the plugin is given; the scale changes in a short training.
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=3)
    return Fabric(accelerator="cpu", devices=1, plugins=MixedPrecision("16-mixed", "cpu", scaler))


def test_float16_keeps_its_scale_over_an_interruption_and_clips_unscaled_gradients(tmp_path, monkeypatch):
    single = train(tmp_path / "single", Plain())
    monkeypatch.setattr(trainer, "make_fabric", in_float16)
    whole = train(tmp_path / "whole", Plain())
    assert checkpoint(tmp_path / "whole")["precision"]["scale"] == 512 and "precision" not in checkpoint(
        tmp_path / "single")
    # Of a gradient that is shorter than the limit nothing is cut; its length is not 256 times that.
    assert column(tmp_path / "whole", "gradient_norm") == pytest.approx(column(tmp_path / "single", "gradient_norm"),
                                                                        rel=0.02)
    torch.testing.assert_close(whole.state, single.state, rtol=0.1, atol=5e-3)
    found = broken(tmp_path / "broken", monkeypatch, "learning_rate", 4, Plain)
    assert equal(found.state, whole.state)
    assert checkpoint(tmp_path / "broken")["precision"] == checkpoint(tmp_path / "whole")["precision"]


def test_schedule_free_keeps_the_average_of_algorithm_1(tmp_path, monkeypatch):
    """Defazio et al. 2024: z goes the steps, x averages them with weights γ², and y between both is where gradients
    are taken."""
    module, seen, moved = Plain(), [], AdamWScheduleFree.step

    def step(self, *arguments, **named):
        seen.append((self.param_groups[0]["lr"], [(each.detach().double(), each.grad.double())
                                                  for each in module.parameters()]))
        return moved(self, *arguments, **named)

    monkeypatch.setattr(AdamWScheduleFree, "step", step)
    trained = train(tmp_path, module, epochs=1, steps=40, weight_decay=0.1, **FREE)
    x = [each.detach().double() for each in Plain().parameters()]
    z, v, total = [each.clone() for each in x], [torch.zeros_like(each) for each in x], 0.0
    for number, (rate, pairs) in enumerate(seen, 1):
        total += rate**2
        for i, (y, gradient) in enumerate(pairs):
            torch.testing.assert_close(y, 0.1 * z[i] + 0.9 * x[i], rtol=1e-3, atol=1e-5)
            v[i] = 0.999 * v[i] + 0.001 * gradient**2
            direction = gradient / ((v[i] / (1 - 0.999**number)).sqrt() + 1e-8)
            z[i] = z[i] - rate * (direction + (0.1 if y.ndim > 1 else 0) * y)
            x[i] = x[i] + rate**2 / total * (z[i] - x[i])
    assert [rate for rate, _ in seen] == pytest.approx([0.005] + [0.01] * 39)
    for found, expected in zip(trained.state.values(), x, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-5)
    assert not equal(module.state_dict(), trained.state)


def test_averaged_weights_have_statistics_of_their_own_and_training_goes_on_as_if_not_validated(tmp_path, monkeypatch):
    module, reference = Normed(), Normed()
    trained = train(tmp_path / "with", module, epochs=1, steps=10, **FREE)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "at_average", lambda *_: nullcontext())
        train(tmp_path / "without", reference, epochs=1, steps=10, **FREE)
    assert equal(module.state_dict(), reference.state_dict()) and module.layers[1].momentum == 0.1
    items = ForgeryDataset(PHOTOS.train, Recipe.of(configure()), 0, "train", 60)
    conv = deepcopy(module.layers[0])
    conv.load_state_dict({key: trained.state[f"layers.0.{key}"] for key in ("weight", "bias")})
    # The last eight of ten batches.
    with torch.no_grad():
        features = [conv(torch.stack([items[index][0] for index in range(start, start + 6)]))
                    for start in range(12, 60, 6)]
    for name, expected in (("mean", [each.mean((0, 2, 3)) for each in features]),
                           ("var", [each.var((0, 2, 3)) for each in features])):
        torch.testing.assert_close(trained.state[f"layers.1.running_{name}"], torch.stack(expected).mean(0))


@pytest.mark.parametrize("name, call", [("learning_rate", 4), ("validate", 2), ("write_rows", 1)])
def test_an_interrupted_schedule_free_training_ends_as_an_uninterrupted_one(name, call, tmp_path, monkeypatch):
    whole = train(tmp_path / "whole", Normed(), accumulate=2, **FREE)
    found = broken(tmp_path / "broken", monkeypatch, name, call, Normed, accumulate=2, **FREE)
    assert equal(found.state, whole.state) and found.figures == whole.figures
    assert equal(checkpoint(tmp_path / "broken")["module"], checkpoint(tmp_path / "whole")["module"])
    assert (tmp_path / "broken" / "history.csv").read_bytes() == (tmp_path / "whole" / "history.csv").read_bytes()
