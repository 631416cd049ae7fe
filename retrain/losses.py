"""The training loss (Wu & Zhou 2021, section III-D), on logits."""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

ALPHA, GAMMA = 0.25, 2.0


def focal_loss(logits: Tensor, masks: Tensor, alpha: float = ALPHA, gamma: float = GAMMA) -> Tensor:
    """Mean of −α_t (1 − p_t)^γ log p_t (Lin et al. 2017, equation 5).

    Logits N×1×H×W, masks of the same shape in {0, 1}; α weighs inpainted pixels, 1 − α the others. The published
    code applies the sigmoid twice; here p is the sigmoid of the logits, once.
    """
    cross_entropy = binary_cross_entropy_with_logits(logits, masks, reduction="none")
    missed = (logits.sigmoid() - masks).abs()
    weight = alpha * masks + (1 - alpha) * (1 - masks)
    return (weight * missed**gamma * cross_entropy).mean()


def training_loss(logits: Tensor, masks: Tensor, focal_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy plus `focal_weight` times the focal loss: a scalar."""
    return binary_cross_entropy_with_logits(logits, masks) + focal_weight * focal_loss(logits, masks)
