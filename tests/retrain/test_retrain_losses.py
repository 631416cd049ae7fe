"""Losses against their formulas on probabilities, and at logits where those formulas break down."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import UserError
from configs.load import load_config
from configs.schema import Loss
from retrain.losses import class_weights, dice_loss, focal_loss, training_loss

TERMS = Loss(focal_weight=2.0, positive_weight="balanced", dice_weight=0.5)


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
        loss = training_loss(*tensors, Loss(focal_weight=float(weight)))
        assert loss.item() == pytest.approx(-np.log(p_t).mean() + weight * focal, rel=1e-12)


def test_gradient_is_that_of_the_value():
    logits, masks = map(torch.from_numpy, case(1))
    assert torch.autograd.gradcheck(lambda x: training_loss(x, masks, TERMS), logits.requires_grad_())


@pytest.mark.parametrize("size", [50.0, 1e4])
def test_surely_wrong_pixels_cost_their_logit_and_surely_right_ones_nothing(size):
    logits = torch.tensor([size, -size]).view(1, 1, 1, 2).requires_grad_()
    right, wrong = torch.tensor([1.0, 0.0]).view_as(logits), torch.tensor([0.0, 1.0]).view_as(logits)
    assert training_loss(logits, right).item() == pytest.approx(0, abs=1e-12)
    loss = training_loss(logits, wrong)
    assert loss.item() == pytest.approx(size + (0.75 + 0.25) * size / 2)
    loss.backward()
    assert logits.grad.flatten().tolist() == pytest.approx([(1 + 0.75) / 2, -(1 + 0.25) / 2])


def test_dice_is_the_soft_f1_of_each_picture():
    logits, masks = case(2)
    p = 1 / (1 + np.exp(-logits))
    scores = [(2 * (a * m).sum() + 1) / (a.sum() + m.sum() + 1) for a, m in zip(p, masks, strict=True)]
    found = dice_loss(torch.from_numpy(logits), torch.from_numpy(masks)).item()
    assert found == pytest.approx(1 - np.mean(scores), rel=1e-12)
    sure = torch.where(torch.from_numpy(masks) > 0, 40.0, -40.0)
    assert dice_loss(sure, torch.from_numpy(masks)).item() == pytest.approx(0, abs=1e-12)
    empty = torch.zeros(1, 1, 8, 8)
    assert dice_loss(empty - 40, empty).item() == pytest.approx(0) and dice_loss(empty + 40, empty).item() > 0.98


def test_dice_does_not_depend_on_the_size_of_the_mask():
    """The same share of a mask found, at a twentieth of the picture and at a half: cross-entropy differs tenfold."""
    dice, plain = [], []
    for pixels in (400, 4000):
        masks = torch.zeros(1, 1, 1, 8000)
        masks[..., :pixels] = 1
        logits = torch.full_like(masks, -9.0)
        logits[..., :pixels // 2] = 9.0
        dice.append(dice_loss(logits, masks).item())
        plain.append(training_loss(logits, masks).item())
    assert dice[0] == pytest.approx(dice[1], rel=0.02) and plain[1] > 9 * plain[0]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.98))
def test_balanced_classes_weigh_the_same_in_each_picture(seed, share):
    masks = torch.from_numpy((np.random.default_rng(seed).random((3, 1, 9, 11)) < share).astype(float))
    for mask, weights in zip(masks, class_weights(masks, "balanced"), strict=True):
        assert weights.mean().item() == pytest.approx(1)
        if 0 < mask.sum() < mask.numel():
            assert (weights * mask).sum().item() == pytest.approx((weights * (1 - mask)).sum().item())
        else:
            assert weights.unique().tolist() == [1]


def test_positive_weight_is_that_of_torch_and_one_changes_nothing():
    logits, masks = map(torch.from_numpy, case(3))
    expected = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(7.0))(logits, masks)
    assert training_loss(logits, masks, Loss(focal_weight=0.0, positive_weight=7.0)).item() == pytest.approx(
        expected.item(), rel=1e-12)
    assert torch.equal(class_weights(masks, 1.0), torch.ones_like(masks))


def test_a_batch_is_the_mean_of_its_pictures():
    """So that accumulated batches give the gradient of a joint one."""
    logits, masks = map(torch.from_numpy, case(4))
    alone = [training_loss(logits[i:i + 1], masks[i:i + 1], TERMS).item() for i in range(2)]
    assert training_loss(logits, masks, TERMS).item() == pytest.approx(np.mean(alone), rel=1e-12)


@pytest.mark.parametrize("value", ["0.0", "even", ".inf"])
def test_positive_weights_that_cannot_be_are_refused_in_one_line(value):
    with pytest.raises(UserError, match="must be a number above 0, or balanced") as error:
        load_config("quick", [f"retrain.positive_weight={value}"])
    assert "\n" not in str(error.value) and str(error.value).startswith("retrain.positive_weight")


def test_the_published_focal_term_applies_the_sigmoid_twice():
    logits, masks = case(5)
    p = 1 / (1 + np.exp(-1 / (1 + np.exp(-logits))))
    assert p.min() > 0.5 and p.max() < 0.732
    p_t, alpha_t = np.where(masks, p, 1 - p), np.where(masks, 0.25, 0.75)
    tensors = torch.from_numpy(logits), torch.from_numpy(masks)
    plain = training_loss(*tensors, Loss(focal_weight=0.0)).item()
    found = training_loss(*tensors, Loss(defects=["double-sigmoid"])).item()
    assert found - plain == pytest.approx(np.mean(-alpha_t * (1 - p_t) ** 2 * np.log(p_t)), rel=1e-9)
    assert abs(found - training_loss(*tensors).item()) > 0.01
