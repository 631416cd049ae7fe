"""Training of the networks with which `forgeries` paints: re-synthesis coders and gated inpainters."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from configs.engine import git_revision, versions
from configs.errors import UserError
from configs.schema import RunConfig
from configs.streams import stream, torch_seed
from forgeries.dataset import PictureDataset, draw_square, to_tensor
from forgeries.masks import draw_mask
from forgeries.methods.learned import Spec, describe, save_network
from forgeries.methods.networks import build
from forgeries.photos import Photo
from retrain.trainer import Batches, Task, fit

MASKS = ("rectangle", "stroke", "blob")


@dataclass(frozen=True)
class Budget:
    """How long, and on squares of which `size`, an inpainter is trained."""

    epochs: int = 10
    steps: int = 200
    batch_size: int = 16
    learning_rate: float = 2e-3
    size: int = 64
    validation_images: int = 64


class PaintingDataset(PictureDataset):
    """Items are (picture and mask, float32 4×H×W in [0, 1]), twice: as input and as target."""

    def __init__(self, photos: Sequence[Photo], size: int, shrink: tuple[float, float] | None, seed: int,
                 stream_name: str, length: int, epochs: int = 1) -> None:
        super().__init__(photos, seed, stream_name, length, epochs)
        self.size, self.shrink = size, shrink

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        generator = stream(self.seed, self.stream_name, *divmod(i, self.length))
        photo = self.photos[int(generator.integers(len(self.photos)))]
        image = draw_square(photo, self.size, self.shrink, generator)
        mask = draw_mask(str(generator.choice(MASKS)), image, (0.05, 0.35), generator)
        item = torch.cat([to_tensor(image), torch.from_numpy(mask)[None].float()])
        return item, item


class Critic(nn.Module):
    """Judges patches of (picture, mask), with spectral norm (SN-PatchGAN; Yu et al. 2019, section 3.3)."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        widths = [4, width, 2 * width, 4 * width, 4 * width]
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.utils.parametrizations.spectral_norm(nn.Conv2d(a, b, 5, 2, 2)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        return self.layers(torch.cat([2 * images - 1, masks], 1))


class Painter(nn.Module):
    """A network in training, with its critic where it has one."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.network = build(spec)
        self.critic = Critic() if spec.adversarial else None

    def logits(self, items: Tensor) -> tuple[Tensor, ...]:
        """The painting; then the critic's scores of it as the network sees them (no gradient to the critic), of it as
        the critic sees them (no gradient to the network), and of the photograph."""
        images, masks = items[:, :3], items[:, 3:]
        painted = self.network(images, masks)
        if self.critic is None or not self.training:
            return (painted,)
        pasted = torch.where(masks > 0, painted, images)
        frozen = {key: value.detach() for key, value in self.critic.named_parameters()}
        return (painted, torch.func.functional_call(self.critic, frozen, (pasted, masks)),
                self.critic(pasted.detach(), masks), self.critic(images, masks))


def train_inpainter(name: str, spec: Spec, budget: Budget, config: RunConfig, photos: Sequence[Photo],
                    held_out: Sequence[Photo], path: Path) -> float:
    """Trains a network and writes it to `path`; returns its PSNR in dB on `held_out`, inside of the masks.

    Continues from a checkpoint beside `path` where an earlier call was interrupted; what is finished is not trained
    again.

    Raises:
        UserError: the loss is not finite, or `path` holds a network of another shape or training.
    """
    described = {"photos": sorted(photo.digest[:16] for photo in photos), **asdict(budget), "seed": config.seed}
    if path.exists():
        found = describe(path)
        if found["spec"] != spec.to_dict() or not described.items() <= found["trained"].items():
            raise UserError(f"{path}: holds a network of another shape or training; name another --out, or delete it")
        return found["trained"]["val_psnr"]
    shrink = tuple(config.photos.shrink) if config.photos.shrink else None
    torch.manual_seed(torch_seed(config.seed, "inpainter", name))
    painter = Painter(spec)

    def items(source: Sequence[Photo], stream_name: str, length: int, epochs: int = 1) -> PaintingDataset:
        return PaintingDataset(source, budget.size, shrink, config.seed, stream_name, length, epochs)  # type: ignore[arg-type]

    task = Task("train-inpainter", "--learning-rate", budget,
                items(photos, f"inpainter {name}", budget.steps * budget.batch_size, budget.epochs),
                items(held_out, "inpainter-validate", budget.validation_images), partial(painting_loss, spec),
                validate, None if spec.adversarial else "val_psnr")
    # Work of another kind under the same name is not continued.
    key = hashlib.sha256(json.dumps([spec.to_dict(), described], sort_keys=True).encode()).hexdigest()[:8]
    work = path.parent / f".{name}-{key}"
    with SummaryWriter(str(path.parent / "tensorboard" / name)) as board:
        trained = fit(name, painter, task, config, work, board)
    painter.load_state_dict(trained.state)
    save_network(path, name, spec, painter.network,
                 described | trained.figures | {"versions": versions(), "git_revision": git_revision()})
    shutil.rmtree(work)
    return trained.figures["val_psnr"]


def painting_loss(spec: Spec, outputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
    """Distance of the painting to the photograph, of an inpainter per pixel of the hole; with a critic, also the hinge
    losses of both (Yu et al. 2019, eq. 2)."""
    (painted, *scores), images, masks = outputs, targets[:, :3], targets[:, 3:]
    if spec.network == "gated":
        # Its surroundings are pasted back, so only the hole counts.
        painted = torch.where(masks > 0, painted, images)
    loss = DISTANCES[spec.loss](painted, images)
    if spec.network == "gated":
        loss = loss / masks.mean()
    if scores:
        seen_by_network, of_painting, of_photo = scores
        loss = loss - spec.adversarial * seen_by_network.mean() \
            + F.relu(1 + of_painting).mean() + F.relu(1 - of_photo).mean()
    return loss


def laplacian_distance(painted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference, summed over the levels of a Laplacian pyramid with weights 2^level, divided by their
    number (after Bojanowski et al. 2018, eq. 3, whose weights are others; with box filters)."""
    difference, total, levels = painted - target, painted.new_zeros(()), 3
    for level in range(levels):
        coarse = F.avg_pool2d(difference, 2)
        total = total + 2 ** level * (difference - F.interpolate(coarse, scale_factor=2.0)).abs().mean()
        difference = coarse
    return (total + 2 ** levels * difference.abs().mean()) / (levels + 1)


def fourier_distance(painted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of pixels plus that of the Fourier coefficients, orthonormal."""
    difference = painted - target
    return (difference.abs().mean() + torch.fft.rfft2(difference, norm="ortho").abs().mean()) / 2


DISTANCES = {"l1": F.l1_loss, "l2": lambda a, b: 10 * F.mse_loss(a, b), "laplacian": laplacian_distance,
             "fourier": fourier_distance}


def validate(painter: Any, batches: Batches, device: torch.device) -> dict[str, float]:
    """Peak signal-to-noise ratio in dB of what was painted in the masks, in eval mode.

    Raises:
        UserError: a painting is not finite: training diverged in the step before.
    """
    painter.eval()
    errors = []
    with torch.no_grad():
        for items, _ in batches:
            painted = painter.logits(items.to(device))[0].float().cpu().clamp(0, 1)
            squares = ((painted - items[:, :3]) ** 2 * items[:, 3:]).sum((1, 2, 3)) / (3 * items[:, 3:].sum((1, 2, 3)))
            errors += squares.tolist()
    painter.train()
    if not np.isfinite(errors).all():
        raise UserError("paintings of validation pictures are not finite; lower --learning-rate")
    return {"val_psnr": float(np.mean(-10 * np.log10(np.maximum(errors, 1e-10))))}

