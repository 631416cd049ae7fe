"""Losses against their formulas on probabilities, and at logits where those formulas break down."""

import numpy as np
import pytest
import torch

from retrain.losses import focal_loss, training_loss


def case(seed):
    generator = np.random.default_rng(seed)
    return generator.normal(0, 4, (2, 1, 5, 7)), (generator.random((2, 1, 5, 7)) < 0.3).astype(float)


@pytest.mark.parametrize("alpha, gamma, weight", [(0.25, 2, 1), (0.25, 2, 0), (0.9, 2, 3), (0.5, 3, 0.5)])
def test_losses_are_their_formulas(alpha, gamma, weight):
    logits, masks = case(0)
    p = 1 / (1 + np.exp(-logits))
    p_t, alpha_t = np.where(masks, p, 1 - p), np.where(masks, alpha, 1 - alpha)
    focal = np.mean(-alpha_t * (1 - p_t) ** gamma * np.log(p_t))
    tensors = torch.from_numpy(logits), torch.from_numpy(masks)
    assert focal_loss(*tensors, alpha, gamma).item() == pytest.approx(focal, rel=1e-12)
    if (alpha, gamma) == (0.25, 2):
        assert training_loss(*tensors, weight).item() == pytest.approx(-np.log(p_t).mean() + weight * focal, rel=1e-12)


def test_gradient_is_that_of_the_value():
    logits, masks = map(torch.from_numpy, case(1))
    assert torch.autograd.gradcheck(lambda x: training_loss(x, masks, 2.0), logits.requires_grad_())


@pytest.mark.parametrize("size", [50.0, 1e4])
def test_surely_wrong_pixels_cost_their_logit_and_surely_right_ones_nothing(size):
    logits = torch.tensor([size, -size]).view(1, 1, 1, 2).requires_grad_()
    right, wrong = torch.tensor([1.0, 0.0]).view_as(logits), torch.tensor([0.0, 1.0]).view_as(logits)
    assert training_loss(logits, right).item() == pytest.approx(0, abs=1e-12)
    loss = training_loss(logits, wrong)
    assert loss.item() == pytest.approx(size + (0.75 + 0.25) * size / 2)
    loss.backward()
    assert logits.grad.flatten().tolist() == pytest.approx([(1 + 0.75) / 2, -(1 + 0.25) / 2])
