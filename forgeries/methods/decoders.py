"""Decoders that are new for each hole, drawn at random and fitted to the picture in closed form: on what the hole hid,
or on a fill of it."""

from typing import TYPE_CHECKING

import numpy as np

from forgeries.methods.learned import one_thread
from forgeries.methods.method import Method
from forgeries.methods.patch import patch_match
from forgeries.methods.pde import telea
from forgeries.methods.region import around

if TYPE_CHECKING:
    from torch import Tensor

MARGIN = 16
"""Pixels around the hole that the decoder is fitted to as well."""

FITTED = 2000
"""Positions of each level that weights are fitted on."""

UPS = ("shuffle", "nearest", "bilinear")
"""How a level doubles the sides: a weight for each of the four phases, or enlarging before the convolution."""

SMALLER = 0.25
"""Share of holes that are re-synthesised at a smaller size."""

LATENT = {1: (3, 9), 2: (5, 32), 3: (12, 48)}
"""Range of latent channels by depth; fewer blur more."""


def _random_decoder(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The region and its surroundings as principal components of their blocks, decoded level by level.

    A level is a random convolution with an activation, as in an extreme learning machine (Huang et al. 2006), and a
    linear layer on 3×3 of its features that is fitted by ridge regression. Details that the components cannot hold are
    replaced, by chance, by noise of the same local energy and another spectrum, as decoders that are trained with a
    critic do.
    """
    import torch
    place = around(mask, MARGIN)
    part = image[place]
    height, width = part.shape[:2]
    pixels = np.pad(part, ((0, -height % 8), (0, -width % 8), (0, 0)), "symmetric")
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode(), one_thread():
        made = _at_scale(picture, generator)
    result = image.copy()
    result[place] = (made[0, :, :height, :width].permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
    return result


def _random_inpainter(image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """As inpainters do, invents the content and leaves the trace of a decoder: a fill, three in four by patches of the
    picture and the others smooth, and `_random_decoder` on it and its surroundings."""
    filled = patch_match(image, mask, generator, blend=True) if generator.random() < 0.75 \
        else telea(image, mask, generator)
    return _random_decoder(np.where(mask[..., None], filled, image), mask, generator)


def _at_scale(picture: "Tensor", generator: np.random.Generator) -> "Tensor":
    """As models of a fixed size are used on larger pictures: by chance, made smaller, re-synthesised and enlarged."""
    from torch.nn import functional as F
    if generator.random() >= SMALLER:
        return _resynthesise(picture, generator)
    factor = generator.uniform(0.4, 0.95)
    small = F.interpolate(picture, size=[max(24, round(side * factor / 8) * 8) for side in picture.shape[2:]],
                          mode="bilinear", antialias=True)
    kind = str(generator.choice(("bilinear", "bicubic")))
    return F.interpolate(_resynthesise(small, generator), size=picture.shape[2:], mode=kind)


def _resynthesise(picture: "Tensor", generator: np.random.Generator) -> "Tensor":
    import torch
    from torch.nn import functional as F
    depth = int(generator.choice(list(LATENT), p=[0.3, 0.45, 0.25]))
    low, high = LATENT[depth]
    code = _components(picture, 2 ** depth, round(low * (high / low) ** generator.random()))
    spread = code.std((2, 3), keepdim=True) + 1e-6
    match generator.integers(4):
        case 0:
            step = spread * generator.uniform(0.05, 0.6)
            code = (code / step).round() * step
        case 1:
            code = code + _normal(generator, code.shape) * spread * generator.uniform(0.02, 0.3)
        case _:
            pass
    activations = (F.relu, F.elu, F.gelu, F.silu, F.softsign)
    kind, activation = str(generator.choice(UPS)), activations[generator.integers(len(activations))]
    hidden = int(generator.integers(8, 17))
    kernel = int(generator.choice((3, 3, 5)))
    ridge = 10 ** generator.uniform(-5, -2)
    features, decoded = code / spread, None
    for level in reversed(range(depth)):
        target = F.avg_pool2d(picture, 2 ** level) if level else picture
        known = features if decoded is None else torch.cat([features, decoded], 1)
        if kind != "shuffle":
            known = F.interpolate(known, scale_factor=2, mode=kind)
        # A padding by reflection is smaller than what it pads.
        kernel = min(kernel, 2 * min(known.shape[2:]) - 1)
        weight = _normal(generator, (hidden, known.shape[1], kernel, kernel)) / known.shape[1] ** 0.5 / kernel
        features = activation(F.conv2d(F.pad(known, (kernel // 2,) * 4, mode="reflect"), weight,
                                       _normal(generator, (hidden,)) / 4))
        rows = torch.cat([features, known], 1)
        if kind == "shuffle":
            decoded = F.pixel_shuffle(_fitted(rows, F.pixel_unshuffle(target, 2), ridge, generator), 2)
            features = F.interpolate(features, scale_factor=2, mode="nearest")
        else:
            decoded = _fitted(rows, target, ridge, generator)
    assert decoded is not None
    return decoded if generator.random() < 0.4 else decoded + _texture(picture - decoded, generator)


def _components(picture: "Tensor", side: int, count: int) -> "Tensor":
    """The first `count` principal components of blocks of `side` pixels: 1×count×h×w."""
    import torch
    from torch.nn import functional as F
    blocks = F.pixel_unshuffle(picture, side)
    rows = blocks[0].flatten(1)
    rows = rows - rows.mean(1, keepdim=True)
    basis = torch.linalg.eigh(rows @ rows.t())[1][:, -count:]
    return torch.einsum("kc,nkhw->nchw", basis, blocks)


def _fitted(features: "Tensor", target: "Tensor", ridge: float, generator: np.random.Generator) -> "Tensor":
    """`target` (1×T×h×w) as the linear function of 3×3 of `features` (1×C×h×w) that fits it best."""
    import torch
    from torch.nn import functional as F
    padded = F.pad(features, (1, 1, 1, 1), mode="replicate")
    height, width = target.shape[2:]
    chosen = generator.integers(height * width, size=min(FITTED, height * width))
    row, column = (torch.from_numpy(place) for place in divmod(chosen, width))
    some = torch.stack([padded[0, :, row + y, column + x] for y in range(3) for x in range(3)], 1).flatten(0, 1)
    some = torch.cat([some, some.new_ones(1, len(chosen))])
    gram = some @ some.t()
    gram += (ridge * gram.diagonal().mean() + 1e-6) * torch.eye(len(gram))
    weights = torch.linalg.solve(gram, some @ target[0, :, row, column].t())
    return F.conv2d(padded, weights[:-1].view(-1, 3, 3, target.shape[1]).permute(3, 0, 1, 2), weights[-1])


def _texture(missing: "Tensor", generator: np.random.Generator) -> "Tensor":
    """Noise of up to the local energy of `missing` (1×3×H×W), of a random spectrum and resolution."""
    import torch
    from torch.nn import functional as F
    shape = missing.shape[2:]
    coarse = generator.random() < 0.5
    noise = _normal(generator, (1, 3, *(side // 2 if coarse else side for side in shape)))
    noise = generator.uniform(0, 1) * noise.mean(1, keepdim=True) * 3 ** 0.5 + generator.uniform(0, 1) * noise
    if coarse:
        noise = F.interpolate(noise, scale_factor=2, mode=str(generator.choice(("nearest", "bilinear"))))
    kernel = _normal(generator, (1, 1, 3, 3)).repeat(3, 1, 1, 1)
    noise = F.conv2d(F.pad(noise, (1, 1, 1, 1), mode="reflect"), kernel, groups=3)
    size = 2 * int(generator.integers(1, 5)) + 1
    energy = F.avg_pool2d(F.pad(missing.square().mean(1, keepdim=True), (size // 2,) * 4, mode="replicate"), size, 1)
    return torch.sqrt(energy) * noise / (noise.std() + 1e-6) * generator.uniform(0.2, 1.2)


def _normal(generator: np.random.Generator, shape: tuple[int, ...]) -> "Tensor":
    import torch
    return torch.from_numpy(generator.standard_normal(shape, np.float32))


DECODERS = (
    Method("RD", "re-synthesis", "a random decoder, fitted to the picture", "this project", _random_decoder, "medium",
           deterministic=False, blind=False),
    Method("RI", "re-synthesis", "a fill, and a random decoder on it", "this project", _random_inpainter, "medium",
           deterministic=False),
)
