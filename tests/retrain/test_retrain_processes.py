"""Two real processes on a CPU retrain as one does with their joint batch."""

from pathlib import Path

import pytest
import torch
from together import WORLD, join, together
from torch import nn
from torch.nn import functional as F

from configs.engine import make_fabric
from configs.errors import UserError
from configs.files import read_rows
from configs.processes import JointBatchNorm1d, JointBatchNorm2d, by_first, join_norms
from configs.schema import RunConfig
from detectors.giidnet import GIIDNet
from giidnet import main
from retrain.gradients import Gradients
from retrain.losses import training_loss
from search_space.genotype import Genotype, SpaceShape

GENOTYPE = Genotype.parse("sep3|relu_sep5", SpaceShape(("sep3", "relu_sep5", "identity"), 1, (64, 128), (2, 1), (1, 2)))
DOUBLE = RunConfig(device="cpu").model_copy(update={"precision": "64-true"})


class Classifier(nn.Module):
    """With the batch norm of a table, as that of the pre-training."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                    nn.BatchNorm1d(8), nn.Linear(8, 5))

    def logits(self, images):
        return self.layers(images)


NETWORKS = {"giidnet": lambda: GIIDNet(GENOTYPE, 0.0625), "classifier": Classifier}


def share(tensor, fabric):
    return tensor[fabric.global_rank::fabric.world_size]


def compute_gradients(name, fabric):
    """Of the mean loss of two parts of a step, whose pictures are of different brightness: statistics of a share are
    not those of the batch."""
    torch.manual_seed(0)
    module = NETWORKS[name]().double()
    if fabric.world_size > 1:
        join_norms(module)
        assert {type(each) for each in module.modules()} & {JointBatchNorm1d, JointBatchNorm2d}
    network, optimizer = fabric.setup(module, torch.optim.Adam(module.parameters()))
    network.mark_forward_method("logits")
    batches = []
    for _ in range(2):
        images = torch.rand(4, 3, 32, 32, dtype=torch.float64) * torch.linspace(0.1, 1, 4)[:, None, None, None]
        targets = (torch.rand(4, 1, 32, 32) < 0.3).double() if name == "giidnet" else torch.randint(5, (4,))
        batches.append((share(images, fabric), share(targets, fabric)))
    loss = Gradients(fabric, network, optimizer, training_loss if name == "giidnet" else F.cross_entropy, "")(batches)
    return {"loss": loss, "gradients": {key: value.grad for key, value in module.named_parameters()},
            "state": module.state_dict()}


def mistake():
    raise UserError("one line")


def compute(rank, port, path):
    join(rank, port)
    fabric = make_fabric(DOUBLE)
    found = {name: compute_gradients(name, fabric) for name in NETWORKS} | {"told": by_first(fabric, lambda: rank)}
    with pytest.raises(UserError, match="one line"):
        by_first(fabric, mistake if rank == 0 else lambda: rank)
    torch.save(found, path)


def retrain(rank, port, arguments):
    join(rank, port)
    main(arguments)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    assert together(compute, lambda rank: folder / f"{rank}.pt") == [0] * WORLD
    fabric = make_fabric(DOUBLE)
    return {name: compute_gradients(name, fabric) for name in NETWORKS}, [torch.load(folder / f"{rank}.pt")
                                                                          for rank in range(WORLD)]


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_one_process_with_the_joint_batch(name, found):
    alone, both = found[0][name], [result[name] for result in found[1]]
    assert both[0]["loss"] == both[1]["loss"] == pytest.approx(alone["loss"], rel=1e-12)
    torch.testing.assert_close(both[0]["gradients"], both[1]["gradients"], rtol=0, atol=0)
    for key in ("gradients", "state"):
        torch.testing.assert_close(both[0][key], alone[key], rtol=1e-7, atol=1e-11)
    # Those of a bias before a batch norm are nothing but rounding.
    assert sum(gradient.abs().max() > 1e-6 for gradient in alone["gradients"].values()) > 5


def test_what_the_first_process_finds_all_have(found):
    assert [result["told"] for result in found[1]] == [0, 0]


TINY = ["photos=" + str(Path(__file__).parent.parent / "data" / "photos"), "forgeries.image_size=32",
        "forgeries.methods=[TE]", "forgeries.workers=0", "space.cells=2", "space.channels=[64, 64]",
        "space.strides=[2, 1]", "space.dilations=[1, 1]", "space.slots=1", "retrain.width=0.0625", "retrain.epochs=2",
        "retrain.steps=2", "retrain.batch_size=4", "retrain.accumulate=2", "retrain.validation_images=4",
        "retrain.ema=0.9", "retrain.schedule=plateau", "retrain.patience=2", "retrain.hard_examples=0.5",
        "retrain.pretrain.epochs=1",
        "retrain.pretrain.steps=2", "retrain.pretrain.batch_size=4", "retrain.pretrain.classes=8",
        "retrain.pretrain.validation_patches=4", "retrain.detectors=[giidnet-random, mantranet]",
        "retrain.widths={mantranet: 0.0625}", "checkpoint_seconds=0.0", "device=cpu"]


def test_a_retraining_by_two_processes_is_that_of_one_and_is_resumed_to_the_same_files(tmp_path):
    def arguments(name, *more):
        return ["retrain", "--out", str(tmp_path / name), *TINY, *more]

    assert together(retrain, lambda rank: arguments("whole")) == [0, 0]
    kept = tmp_path / "broken" / "retrain" / "giidnet-random" / "checkpoint.pt"
    assert together(retrain, lambda rank: arguments("broken"), kept) == [-9, -9]
    assert kept.exists() and not kept.with_name("model.safetensors").exists()
    assert together(retrain, lambda rank: arguments("broken", "--resume")) == [0, 0]
    main(arguments("one"))
    for path in ("giidnet-random", "mantranet", "mantranet/pretrain"):
        one, whole, broken = (tmp_path / name / "retrain" / path for name in ("one", "whole", "broken"))
        assert (whole / "history.csv").read_bytes() == (broken / "history.csv").read_bytes()
        if not path.endswith("pretrain"):
            assert (whole / "model.safetensors").read_bytes() == (broken / "model.safetensors").read_bytes()
        rows = [read_rows(folder / "history.csv") for folder in (one, whole)]
        assert len(rows[0]) == len(rows[1]) > 0
        # Before rounding has grown.
        assert float(rows[1][0]["train_loss"]) == pytest.approx(float(rows[0][0]["train_loss"]), rel=1e-3)
    # One process alone wrote.
    assert len(list((tmp_path / "whole" / "tensorboard").rglob("events*"))) == 1
    assert not list((tmp_path / "whole").rglob("checkpoint.pt"))


def test_what_cannot_be_done_together_is_told(tmp_path):
    def exit_codes(name, *more):
        return together(retrain, lambda rank: ["retrain", "--out", str(tmp_path / name), *TINY, *more])

    assert exit_codes("odd", "retrain.batch_size=3") == [2, 2]
    assert exit_codes("odd-pretraining", "retrain.pretrain.batch_size=3") == [2, 2]
    assert exit_codes("diverging", "retrain.learning_rate=1e30") == [2, 2]
