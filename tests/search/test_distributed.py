"""Two real processes on a CPU train as one does with their joint batch."""

from pathlib import Path

import pytest
import torch
from together import WORLD, join, together
from torch import nn

from configs.engine import make_fabric
from configs.files import read_rows
from configs.processes import JointBatchNorm2d, apart, join_norms
from configs.schema import Differentiable, RunConfig, Search
from forgeries.dataset import make_loader
from giidnet import main
from search.network import SearchNetwork, search_costs
from search.stage import make_strategy
from search.strategy import SearchContext
from search_space.genotype import SpaceShape

STEPS = 3
SHAPE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 2, (64, 128), (2, 1), (1, 2))
COSTS = search_costs(SHAPE, 0.0625, ["plain"], 32)
CASES = {"uniform": ("one-shot", {}), "fair": ("one-shot", {"paths": "fair"}), "clip": ("one-shot", {"clip_norm": 0.1}),
         "darts": ("darts", {}), "second order": ("darts", {"differentiable": Differentiable(order=2)}),
         "gumbel": ("gumbel", {"differentiable": Differentiable(entropy_weight=0.1)})}


def share(tensor, rank, world):
    return tensor[rank::world]


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    images, masks = torch.rand(8, 3, 32, 32, generator=generator), torch.zeros(8, 1, 32, 32)
    for index in range(8):
        masks[index, :, index:16 + index, 4 + seed:16 + seed] = 1
    # Pictures of different brightness: statistics of a share are not those of the batch.
    images = images * torch.linspace(0.1, 1, 8)[:, None, None, None] * (1 - masks) + 0.5 * masks
    # Of gradients that are nothing but rounding, Adam makes steps of the learning rate: there must be none in digits
    # that are looked at.
    return images.double(), masks.double()


def train(case, fabric):
    """Losses, gradients after the first step and the network's state after the last."""
    name, settings = CASES[case]
    torch.manual_seed(0)
    network = SearchNetwork(SHAPE, 0.0625, ["plain"]).double()
    if fabric.world_size > 1:
        join_norms(network)
    strategy = make_strategy(name)
    strategy.set_up(SearchContext(fabric, network, SHAPE, Search(strategy=name, **settings), 7, COSTS, None))
    network.train()
    losses = []
    for number in range(STEPS):
        parts = [tuple(share(tensor, fabric.global_rank, fabric.world_size) for tensor in batch(seed))
                 for seed in (number, number + 1)]
        losses.append(strategy.step(number, parts[0], parts[1] if strategy.uses_validation else None))
        if number == 0:
            gradients = {key: value.grad.clone() for key, value in network.named_parameters() if value.grad is not None}
    return {"losses": losses, "gradients": gradients, "state": network.state_dict(),
            "alphas": {key: value.detach() for key, value in getattr(strategy, "alphas", {}).items()}}


def normalise(norm, fabric):
    """Result, its inputs' gradient and the statistics of a batch norm, of values far from 0."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(6, 4, 5, 7, generator=generator) * torch.linspace(0.5, 3, 6)[:, None, None, None] + 100
    weight = torch.randn(6, 4, 5, 7, generator=generator)
    x, weight = (share(tensor, fabric.global_rank, fabric.world_size) for tensor in (x, weight))
    x.requires_grad_()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.linspace(-1, 2, 4))
    if fabric.world_size > 1:
        join_norms(norm)
        assert type(norm) is JointBatchNorm2d
    y = norm(x)
    (y ** 2 * weight).sum().backward()
    with apart(norm):
        assert type(norm) is nn.BatchNorm2d
    return {"y": y.detach(), "x": x.grad, **norm.state_dict()}


NORMS = {"affine": {}, "plain": {"affine": False}, "cumulative": {"momentum": None}, "still": {}}


def everything(fabric):
    return {case: train(case, fabric) for case in CASES} \
        | {name: normalise(still(nn.BatchNorm2d(4, **options), name == "still"), fabric)
           for name, options in NORMS.items()}


def still(norm, still):
    """With statistics that are not updated, where `still`."""
    norm.track_running_stats = not still
    return norm


def compute(rank, port, path):
    join(rank, port)
    torch.save(everything(make_fabric(RunConfig(device="cpu"))), path)


def search(rank, port, arguments):
    join(rank, port)
    main(arguments)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    assert together(compute, lambda rank: folder / f"{rank}.pt") == [0] * WORLD
    return everything(make_fabric(RunConfig(device="cpu"))), [torch.load(folder / f"{rank}.pt")
                                                              for rank in range(WORLD)]


@pytest.mark.parametrize("case", CASES)
def test_gradients_and_weights_are_those_of_one_process_with_the_joint_batch(case, results):
    alone, both = results[0][case], [result[case] for result in results[1]]
    assert both[0]["losses"] == both[1]["losses"] == pytest.approx(alone["losses"], rel=1e-6)
    for key in ("gradients", "state", "alphas"):
        torch.testing.assert_close(both[0][key], both[1][key], rtol=0, atol=0)
    torch.testing.assert_close(both[0]["gradients"], alone["gradients"], rtol=1e-6, atol=1e-9)
    # The architecture weights are of single precision.
    torch.testing.assert_close(both[0]["alphas"], alone["alphas"], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(both[0]["state"], alone["state"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NORMS)
def test_batch_norm_of_all_processes_is_torchs_on_the_joint_batch(name, results):
    alone, both = results[0][name], [result[name] for result in results[1]]
    for key in ("y", "x"):
        joint = torch.empty_like(alone[key])
        for rank in range(WORLD):
            joint[rank::WORLD] = both[rank][key]
        torch.testing.assert_close(joint, alone[key], rtol=1e-3, atol=1e-4)
    for result in both:
        assert set(result) == set(alone)
        for key in set(alone) - {"y", "x"}:
            torch.testing.assert_close(result[key], alone[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("start", [0, 8])
def test_shares_make_the_batches(start):
    def batches(rank=0, world=1):
        return [numbers.tolist() for numbers in make_loader(list(range(20)), 4, 0, start, rank, world)]

    for whole, first, second in zip(batches(), batches(0, 2), batches(1, 2), strict=True):
        assert sorted(first + second) == whole and len(first) == len(second)


TINY = ["photos=" + str(Path(__file__).parent.parent / "data" / "photos"), "forgeries.image_size=32",
        "forgeries.methods=[TE]", "forgeries.workers=0", "space.cells=2", "space.channels=[64, 64]",
        "space.strides=[2, 1]", "space.dilations=[1, 1]", "space.slots=1", "space.width=0.0625", "search.epochs=2",
        "search.steps=2", "search.batch_size=4", "search.candidates=4", "search.validation_images=4",
        "search.check.random=0", "checkpoint_seconds=0.0", "device=cpu"]


def test_a_search_by_two_processes_is_resumed_to_the_same_files(tmp_path):
    def arguments(name, *more):
        return ["search", "--out", str(tmp_path / name), *TINY, "search.storage=journal:scores.log", *more]

    assert together(search, lambda rank: arguments("whole")) == [0, 0]
    kept = tmp_path / "broken" / "search" / "checkpoint.pt"
    assert together(search, lambda rank: arguments("broken"), kept) == [-9, -9]
    assert kept.exists() and not (tmp_path / "broken" / "search" / "supernet.safetensors").exists()
    assert together(search, lambda rank: arguments("broken", "--resume")) == [0, 0]
    for name in ("candidates.csv", "history.csv", "ranking.csv", "supernet.safetensors", "genotype.yaml"):
        whole, broken = ((tmp_path / folder / "search" / name).read_bytes() for folder in ("whole", "broken"))
        assert whole == broken, name
    assert len(read_rows(tmp_path / "whole" / "search" / "candidates.csv")) == 4
    main(arguments("one"))
    losses = [[float(row["train_loss"]) for row in read_rows(tmp_path / name / "search" / "history.csv")]
              for name in ("one", "whole")]
    assert len(losses[0]) == 2 and losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_what_cannot_be_done_together_is_told(tmp_path):
    odd = ["search", "--out", str(tmp_path / "odd"), *TINY, "search.batch_size=3"]
    diverging = ["search", "--out", str(tmp_path / "diverging"), *TINY, "search.learning_rate=1e30"]
    assert together(search, lambda rank: odd) == [2, 2]
    assert together(search, lambda rank: diverging) == [2, 2]
    assert together(search, lambda rank: ["run", "--out", str(tmp_path / "run"), *TINY]) == [2, 2]
