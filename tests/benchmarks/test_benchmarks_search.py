"""The plain formulations that the search is compared with compute the same; its evolution proposes new genotypes."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks import search
from configs.schema import Racing
from configs.streams import stream
from search.network import SearchNetwork
from search.scoring import ScoringData
from search_space.genotype import Genotype, SpaceShape, random_genotype
from search_space.supernet import Supernet

SPACE = SpaceShape(("sep3", "relu_sep3", "relu_sep5", "identity"), 2, (64, 128), (2, 1), (1, 2))


@pytest.mark.parametrize("form", [search.Published, search.Nni])
def test_other_forms_of_a_step_have_the_same_gradients(monkeypatch, form):
    monkeypatch.setattr(search, "SPACE", SPACE)
    torch.manual_seed(0)
    ours, other = Supernet(SPACE, 0.0625), form(0.0625)
    x = torch.randn(2, 4, 16, 16)
    assert search.gradient_gap(ours, other, x) > 0.1  # of other weights
    search.like(ours, other)
    assert search.gradient_gap(ours, other, x) < 1e-12


@pytest.mark.parametrize("levels", [3, 10**9])
def test_plain_auc_is_scikit_learns(levels):
    generator = stream(0, "test")
    scores, mask = generator.integers(levels, size=(13, 11)) / levels, generator.random((13, 11)) < 0.3
    assert search.plain_auc(scores, mask) == pytest.approx(roc_auc_score(mask.ravel(), scores.ravel()), abs=1e-12)


def test_children_are_new_and_like_their_parents():
    space, generator = search.SPACE, stream(0, "test")
    parents = [str(random_genotype(space, generator)) for _ in range(3)]
    found = search.children(parents, set(parents), generator)
    assert len(set(found) - set(parents)) == len(found) == search.POPULATION
    samples = [[list(Genotype.parse(text, space).sample().values()) for text in texts] for texts in (parents, found)]
    nearest = [max(np.mean(np.array(child) == parent) for parent in samples[0]) for child in samples[1]]
    assert np.mean(nearest) > 0.5


@pytest.mark.parametrize("recalibration", [0, 2])
def test_the_plain_form_scores_each_candidate_as_all_ways_of_saving_do(monkeypatch, recalibration):
    monkeypatch.setattr(search, "SPACE", SPACE)
    monkeypatch.setattr(search, "JOINED", 3)
    torch.manual_seed(0)
    network, generator = SearchNetwork(SPACE, 0.0625, ["plain"]), stream(0, "test")
    batches = [(torch.rand(2, 3, 16, 16), (torch.rand(2, 1, 16, 16) < 0.3).float()) for _ in range(6)]
    data = ScoringData(batches[:4], batches[4:4 + recalibration])
    texts = list(dict.fromkeys(str(random_genotype(SPACE, generator)) for _ in range(8)))
    plain = search.in_full(network, data, texts)
    assert list(plain) == texts
    assert len({search.objective(text, values) for text, values in plain.items()}) > len(texts) // 2
    for shared in (True, False):
        found = search.scorer(network, data, Racing(keep=0), shared)(texts)
        # Rounding may swap two pixels of nearly the same score: one of about 15,000 pairs.
        assert search.difference(found, plain) < 1e-4
        assert search.best_of(found, 1) == search.best_of(plain, 1)
