"""The plain formulations that the search is compared with compute the same; its evolution proposes new genotypes."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from benchmarks import search
from configs.streams import stream
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
