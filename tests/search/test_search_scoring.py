"""Scores of candidates: against scikit-learn on the stand-alone network and against a full forward of each; races."""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from configs.errors import UserError
from configs.schema import Racing
from configs.streams import stream
from results.metrics import f1_iou
from search import scoring
from search.network import SearchNetwork
from search.scoring import PrefixWalk, ScoringData, Unit, race, rounds_of, score_maps, score_unit, split_units
from search_space.cells import build_extraction
from search_space.genotype import Genotype, SpaceShape, random_genotype

SHAPE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 2, (64, 128), (2, 1), (1, 2))
CHOICES = replace(SHAPE, operations=("sep3", "identity", "se_sep3"), streams=("plain", "plain+bayar"),
                  attention=("none", "local", "global"), decoder=2)
GENOTYPE = "relu_sep5-sep3|identity-relu_sep3"
MEMORY = 2**30


def batches(seed, *sizes, side=32):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(size, 3, side, side, generator=generator) * torch.rand(size, 3, 1, 1, generator=generator),
             (torch.rand(size, 1, side, side, generator=generator) < 0.3).float()) for size in sizes]


def make_network(shape=SHAPE):
    torch.manual_seed(0)
    network = SearchNetwork(shape, 0.0625, ["plain", "bayar"])
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer)
        elif name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 2)
        elif name.endswith("num_batches_tracked"):
            buffer.fill_(5)
    return network


def genotypes(shape, count, seed=0):
    generator = stream(seed, "test")
    return tuple(dict.fromkeys(str(random_genotype(shape, generator)) for _ in range(count)))


def norms(network):
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def in_full(network, unit, data):
    """A forward of the whole network for each genotype, picture batch by picture batch."""
    rows = []
    for text in unit.genotypes:
        alone = deepcopy(network)
        alone.set_path(Genotype.parse(text, network.space))
        with torch.no_grad():
            if unit.recalibration:
                for norm in norms(alone):
                    norm.reset_running_stats()
                    norm.momentum = None
                alone.train()
                for images, _ in data.recalibration[:unit.recalibration]:
                    alone(images)
            alone.eval()
            rows.append(np.concatenate([score_maps(alone(images), masks, text)
                                        for images, masks in data.validation[unit.start:unit.stop]]))
    return np.stack(rows)


def stand_alone(network):
    genotype = Genotype.parse(GENOTYPE, SHAPE)
    extraction = build_extraction(genotype, 0.0625)
    extraction.load_state_dict(network.supernet.inherited_state(genotype))
    network = deepcopy(network)
    return nn.Sequential(network.enhancement, extraction, network.decision)


def with_statistics_of(network, data):
    """Sets running statistics to the mean over `data` of each layer's input statistics, gathered by hooks."""
    found = {norm: [] for norm in norms(network)}
    for norm in found:
        norm.register_forward_pre_hook(
            lambda norm, inputs: found[norm].append((inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3)))))
    network.train()
    for images, _ in data:
        network(images * 2 - 1)
    for norm in found:
        means, variances = zip(*found[norm], strict=True)
        norm.running_mean, norm.running_var = torch.stack(means).mean(0), torch.stack(variances).mean(0)
    return network


# Of unequal size: each batch weighs the same.
@pytest.mark.parametrize("recalibration", [[], batches(1, 2, 5)], ids=["own statistics", "recalibrated"])
def test_scores_are_those_of_scikit_learn_on_the_stand_alone_network(recalibration):
    network, validation = make_network(), batches(2, 3, 2)
    with torch.no_grad():
        alone = stand_alone(network)
        if recalibration:
            alone = with_statistics_of(alone, recalibration)
        alone.eval()
        expected = [(roc_auc_score(mask.ravel(), logits.ravel()), f1_iou(logits.numpy(), mask.numpy() > 0, 0.0)[0])
                    for images, masks in validation
                    for logits, mask in zip(alone(images * 2 - 1), masks, strict=True)]
    unit = Unit((GENOTYPE,), 0, 2, len(recalibration))
    found = score_unit(network, unit, ScoringData(validation, recalibration), MEMORY)
    assert found.shape == (1, 5, 2)
    assert found[0, :, 0] == pytest.approx(np.array(expected)[:, 0], abs=1e-5)
    assert found[0, :, 1] == pytest.approx(np.array(expected)[:, 1], abs=0.01)
    other = batches(3, 2)
    found = score_unit(network, replace(unit, recalibration=1), ScoringData(validation, other), MEMORY)
    assert found[0, :, 0].mean() != pytest.approx(np.mean(np.array(expected)[:, 0]), abs=1e-4)


@pytest.mark.parametrize("shape", [SHAPE, CHOICES], ids=["slots", "all choices"])
@pytest.mark.parametrize("memory", [MEMORY, 40_000, 1], ids=["all kept", "some kept", "nothing kept"])
@pytest.mark.parametrize("recalibration", [0, 2])
def test_shared_beginnings_change_no_score(monkeypatch, shape, memory, recalibration):
    monkeypatch.setattr(scoring, "TOGETHER", 1)
    network = make_network(shape)
    data = ScoringData(batches(2, 1, 2, 1, side=30), batches(1, 2, 3, 1, side=30))
    unit = Unit((*genotypes(shape, 10), genotypes(shape, 1)[0]), 1, 3, recalibration)
    expected = in_full(network, unit, data)
    np.testing.assert_array_equal(score_unit(network, unit, data, memory), expected)
    assert len(np.unique(expected[..., 0])) > len(unit.genotypes)  # they are told apart


def walked(network, texts, memory, images):
    """Logits by genotype, stages computed, and the most bytes held of what is kept, read from the tensors' storages."""
    walk, held, runs = PrefixWalk(network, [Genotype.parse(text, network.space) for text in texts], memory), [], []

    def counted(stage):
        def run(features):
            runs.append(stage.label)
            held.append(sum({tensor.data_ptr(): tensor.untyped_storage().nbytes()
                             for kept in walk.kept.values() for tensor in kept}.values()))
            return stage.run(features)
        return replace(stage, run=run)

    walk.stages = [counted(stage) for stage in walk.stages]
    with torch.no_grad():
        return dict(walk.run(images)), len(runs), max(held)


def test_no_more_is_kept_than_the_limit_and_no_more_computed_than_needed():
    network, (images, _) = make_network().eval(), batches(2, 2)[0]
    texts = genotypes(SHAPE, 40)
    stages = len(network.stages())
    beginnings = {(length, tuple(Genotype.parse(text, SHAPE).sample().values())[:length])
                  for text in texts for length in range(5)}
    expected, computed, most = walked(network, texts, MEMORY, images)
    assert computed == len(beginnings) + len(texts)  # no genotype has its last stage, the decision, with another
    least = computed
    for memory in (most, most // 2, most // 4, 1):
        found, computed, held = walked(network, texts, memory, images)
        assert held <= memory
        assert computed >= least
        for index, logits in found.items():
            torch.testing.assert_close(logits, expected[index], rtol=0, atol=0)
    assert computed == len(texts) * stages


@pytest.mark.parametrize("limit", [1, 32 * 32 * 5, 2**20])
def test_joining_batches_keeps_pictures_order_and_the_limit(monkeypatch, limit):
    monkeypatch.setattr(scoring, "TOGETHER", limit)
    single = [*batches(2, 2, 3, 1, 4), *batches(3, 2, side=24)]
    joined = list(scoring._joined(single))
    assert [len(images) for images, _ in joined] == {1: [2, 3, 1, 4, 2], 5120: [5, 5, 2], 2**20: [10, 2]}[limit]
    for part in range(2):
        found = [picture for batch in joined for picture in batch[part]]
        expected = [picture for batch in single for picture in batch[part]]
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_joined_batches_change_no_more_than_rounding_does():
    network, unit = make_network(), Unit(genotypes(SHAPE, 6), 0, 3, 1)
    data = ScoringData(batches(2, 1, 3, 2), batches(1, 2))
    gap = score_unit(network, unit, data, MEMORY) - in_full(network, unit, data)
    # Rounding may swap two pixels of nearly the same score: one of about 220,000 pairs.
    assert np.abs(gap[..., 0]).max() < 2e-5
    assert np.median(np.abs(gap[..., 0])) < 1e-6


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_scoring_leaves_the_network_as_it_was(training, fails):
    network = make_network().train(training)
    for index, norm in enumerate(norms(network)):
        norm.momentum = 0.1 + index / 1000
    before = deepcopy(network)
    pointers = {name: buffer.data_ptr() for name, buffer in network.named_buffers()}
    data = ScoringData(batches(2, 2), batches(1, 2))
    unit = Unit((GENOTYPE,), 0, 1, 1)
    if fails:
        data.validation[0][0].fill_(torch.nan)
        with pytest.raises(UserError, match="not finite"):
            score_unit(network, unit, data, MEMORY)
    else:
        score_unit(network, unit, data, MEMORY)
    torch.testing.assert_close(network.state_dict(), before.state_dict(), rtol=0, atol=0)
    assert {name: buffer.data_ptr() for name, buffer in network.named_buffers()} == pointers
    for module, copy in zip(network.modules(), before.modules(), strict=True):
        assert module.training == copy.training
        assert getattr(module, "momentum", None) == getattr(copy, "momentum", None)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())


class Judge:
    """Evaluates units on made-up scores, and notes what was asked for."""

    def __init__(self, table):
        self.table, self.units = table, []

    def __call__(self, units):
        self.units += units
        return [np.stack([self.table[text][2 * unit.start:2 * unit.stop] for text in unit.genotypes])
                for unit in units]

    def looked_at(self):
        """Genotypes and batches of each round."""
        found = {}
        for unit in self.units:
            found.setdefault((unit.start, unit.stop, unit.recalibration), []).extend(unit.genotypes)
        return found


def made_up(count, batch_count, noise=0.01):
    generator = stream(5, "race")
    level = np.linspace(0.5, 0.9, count)
    values = generator.permutation(level)[:, None, None] + noise * generator.normal(size=(count, 2 * batch_count, 2))
    return dict(zip(genotypes(CHOICES, 3 * count)[:count], values, strict=True))


def data_of(batch_count, recalibration=0):
    """As many batches of two pictures."""
    return ScoringData(batches(0, *[2] * batch_count, side=2), batches(0, *[2] * recalibration, side=2))


def mean_auc(text, values):
    return float(np.nanmean(values[:, 0])) if not np.isnan(values[:, 0]).all() else np.nan


@pytest.mark.parametrize("recalibration", [0, 4])
def test_a_race_finds_the_best_and_scores_them_on_everything(recalibration):
    table = made_up(60, 9)
    data, judge = data_of(9, recalibration), Judge(table)
    found = race(list(table), data, Racing(keep=5, factor=3, rounds=3), judge, mean_auc)
    assert set(found) == set(table)
    for text, values in found.items():
        np.testing.assert_array_equal(values, table[text][:len(values)])
    exact = [text for text, values in found.items() if len(values) == 18]
    assert sorted({len(values) for values in found.values()}) == [2, 6, 18]
    ranked = sorted(table, key=lambda text: -mean_auc(text, table[text]))
    assert set(ranked[:5]) <= set(exact)
    rounds = judge.looked_at()
    assert {key: len(texts) for key, texts in rounds.items()} == {
        (0, 1, recalibration): 60, (1, 3, recalibration): 20, (3, 9, recalibration): 7}


@pytest.mark.parametrize("racing, batch_count, count", [
    (Racing(keep=0), 9, 60), (Racing(keep=20), 9, 20), (Racing(keep=20), 9, 3), (Racing(keep=2), 1, 60),
    (Racing(keep=2, rounds=1), 9, 60)], ids=["off", "as many as stay", "fewer", "one batch", "one round"])
def test_without_anything_to_race_for_all_are_scored_on_everything(racing, batch_count, count):
    table = made_up(count, batch_count)
    judge = Judge(table)
    found = race(list(table), data_of(batch_count, 4), racing, judge, mean_auc)
    assert {len(values) for values in found.values()} == {2 * batch_count}
    assert {(unit.start, unit.stop, unit.recalibration) for unit in judge.units} == {(0, batch_count, 4)}
    assert sorted(text for unit in judge.units for text in unit.genotypes) == sorted(table)


@pytest.mark.parametrize("racing", [Racing(keep=keep, factor=factor, rounds=rounds)
                                    for keep in (1, 20) for factor in (2, 3, 7) for rounds in (1, 2, 5)])
def test_rounds_narrow_and_end_with_all_pictures(racing):
    for count, batch_count in product([1, 2, 7, 50, 1000], [1, 2, 5, 13, 100]):
        found = rounds_of(count, batch_count, racing)
        counts, stops = zip(*found, strict=True)
        assert counts[0] == count and stops[-1] == batch_count
        assert counts[-1] >= min(count, racing.keep)
        assert all(a > b for a, b in pairwise(counts))
        assert all(a < b for a, b in pairwise(stops))
        assert stops[0] >= 1 and len(found) <= racing.rounds


def test_ties_break_by_the_text_and_what_is_undefined_ranks_last():
    texts = sorted(genotypes(SHAPE, 30))[:9]
    table = {text: np.full((6, 2), 0.5) for text in texts}
    for text in texts[:3]:
        table[text][:] = np.nan
    table[texts[8]][:1] = np.nan  # one undefined picture is none that counts
    orders = [race(list(order), data_of(3), Racing(keep=3, factor=3, rounds=2), Judge(table), mean_auc)
              for order in (texts, texts[::-1])]
    for found in orders:
        assert sorted(text for text, values in found.items() if len(values) == 6) == texts[3:6]


def test_a_race_of_real_scores_ends_in_those_without_racing(monkeypatch):
    network, texts = make_network(), genotypes(SHAPE, 30)
    data = ScoringData(batches(2, 2, 2, 2, 1), batches(1, 2, 2))

    def evaluate(units):
        return [score_unit(network, unit, data, MEMORY) for unit in units]

    monkeypatch.setattr(scoring, "TOGETHER", 1)
    raced = race(texts, data, Racing(keep=4, factor=4, rounds=2), evaluate, mean_auc)
    everything = race(texts, data, Racing(keep=0), evaluate, mean_auc)
    last = [text for text, values in raced.items() if len(values) == data.pictures]
    assert 4 <= len(last) < len(texts)
    for text in last:
        np.testing.assert_array_equal(raced[text], everything[text])


def test_units_hold_each_genotype_once_and_common_beginnings_together():
    texts = genotypes(CHOICES, 400)
    units = split_units(texts, 0, 13, 0)
    assert sorted(text for unit in units for text in unit.genotypes) == sorted(texts)
    assert all(16 <= len(unit.genotypes) <= 64 for unit in units)
    ordered = [text for unit in units for text in unit.genotypes]
    starts = [next(part for part in text.split(";") if part.startswith("streams=")) + text.split("-")[0]
              for text in ordered]
    assert sum(a != b for a, b in pairwise(starts)) + 1 == len(set(starts))
    assert split_units(texts[::-1], 0, 13, 0) == units
    assert len({unit.key for unit in units}) == len(units)
