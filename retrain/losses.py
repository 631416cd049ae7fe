"""The training loss (Wu & Zhou 2021, section III-D, and terms against class imbalance), on logits."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from configs.schema import Loss

ALPHA, GAMMA = 0.25, 2.0


def focal_loss(logits: Tensor, masks: Tensor, alpha: float = ALPHA, gamma: float = GAMMA) -> Tensor:
    """Mean of −α_t (1 − p_t)^γ log p_t (Lin et al. 2017, equation 5).

    Logits N×1×H×W, masks of the same shape in {0, 1}; α weighs inpainted pixels, 1 − α the others.
    """
    cross_entropy = binary_cross_entropy_with_logits(logits, masks, reduction="none")
    missed = (logits.sigmoid() - masks).abs()
    weight = alpha * masks + (1 - alpha) * (1 - masks)
    return (weight * missed**gamma * cross_entropy).mean()


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 − (2 Σ p m + 1) / (Σ p + Σ m + 1) of each picture, p the sigmoid of its logits, and the mean of pictures.

    As Milletari et al. 2016 (V-Net, section 3), without their squares. Logits and masks N×1×H×W. The ones make an
    empty map of an empty mask cost nothing.
    """
    p = logits.sigmoid()
    overlap, areas = (p * masks).sum((1, 2, 3)), (p + masks).sum((1, 2, 3))
    return (1 - (2 * overlap + 1) / (areas + 1)).mean()


def class_weights(masks: Tensor, positive: float | str) -> Tensor:
    """Weights of pixels, of the masks' shape N×1×H×W: `positive` where inpainted, 1 elsewhere.

    With "balanced", pixels / (2 · pixels of the same class), counted in each picture so that accumulated batches give
    the gradient of a joint one: both classes weigh the same, and the mean weight is 1. A picture of one class has
    weights 1.
    """
    if not isinstance(positive, str):
        return 1 + (positive - 1) * masks
    share = masks.mean((1, 2, 3), keepdim=True)
    weights = masks / (2 * share) + (1 - masks) / (2 * (1 - share))
    return torch.where((share > 0) & (share < 1), weights, 1.0)


def training_loss(logits: Tensor, masks: Tensor, terms: Loss | None = None) -> Tensor:
    """Binary cross-entropy by `class_weights`, the focal and the Dice loss, weighted as `terms` says: a scalar.

    It is the mean of what it would be for each picture alone.
    """
    terms = terms or Loss()
    weights = None if terms.positive_weight == 1 else class_weights(masks, terms.positive_weight)
    # The published focal term takes probabilities for logits.
    scores = logits.sigmoid() if "double-sigmoid" in terms.defects else logits
    loss = binary_cross_entropy_with_logits(logits, masks, weights) + terms.focal_weight * focal_loss(scores, masks)
    return loss + terms.dice_weight * dice_loss(logits, masks) if terms.dice_weight else loss
