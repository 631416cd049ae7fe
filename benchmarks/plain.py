"""The published computations, formulated plainly: what `benchmarks/networks.py` measures this project against.

Same weights, same results, no thought of cost: dense attention with one-hot products, two-dimensional window means,
the recurrent cell's convolution of the concatenated input at every step, padding by explicit indices, a median that
sorts. Each function takes a network of `detectors` for its weights.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detectors.blocks import NEIGHBOURS, SIMILAR
from detectors.iid_net import IIDNet
from detectors.mantranet import NORM_EPS, WINDOWS, AnomalyDetector, ManTraNet, TraceExtractor, hard_sigmoid


def global_attention(x: Tensor) -> Tensor:
    """Global attention N×C×h×w to N×C×h×w, T from the mean over the batch: memory grows with (h·w)²."""
    features = x.flatten(2).transpose(1, 2)
    units = features / features.norm(dim=2, keepdim=True).clamp(min=1e-6)
    similarity = units @ units.transpose(1, 2)
    values, indices = similarity.topk(NEIGHBOURS, 2)
    means = values.mean((0, 1)).tolist()
    count = max(2, *(t for t in range(NEIGHBOURS) if means[t] >= SIMILAR))
    total = features.clone()
    for t in range(1, count):
        one_hot = torch.zeros_like(similarity).scatter_(2, indices[..., t:t + 1], 1)
        total += one_hot @ features
    return (total / count).transpose(1, 2).reshape(x.shape)


def iid_net(network: IIDNet, images: Tensor) -> Tensor:
    """RGB N×3×H×W in [0, 1] to the map N×1×H×W."""
    x = network.extraction(network.enhancement.convs(network.enhancement.enhanced(images.flip(1) * 2 - 1)))
    local = network.decision.attention[1](x)
    x = network.decision.decoder(torch.cat([x, global_attention(x), local], 1))
    n, _, height, width = x.shape
    x = F.unfold(x, 3).median(1).values.view(n, 1, height - 2, width - 2)
    return F.interpolate(x, images.shape[-2:], mode="nearest").sigmoid()


def mantranet(network: ManTraNet, images: Tensor) -> Tensor:
    """RGB N×3×H×W in [0, 1] to the map N×1×H×W."""
    return anomalies(network.anomalies, traces(network.traces, images * 2 - 1)).sigmoid()


def traces(network: TraceExtractor, x: Tensor) -> Tensor:
    """N×3×H×W in [−1, 1] to features N×C×H×W of length 1."""
    x = pad_by_index(x, 2)
    x = torch.cat([F.conv2d(x, network.plain.weight), F.conv2d(x, network.srm), F.conv2d(x, network.constrained())], 1)
    x = x.relu()
    for layer in network.convs:
        x = F.conv2d(pad_by_index(x, 1), layer.weight, layer.bias) if isinstance(layer, nn.Conv2d) else layer(x)
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)


def pad_by_index(x: Tensor, pad: int) -> Tensor:
    """Mirrors `pad` rows and columns, the border included."""
    def index(length: int) -> Tensor:
        inside = torch.arange(length, device=x.device)
        return torch.cat([inside[:pad].flip(0), inside, inside[-pad:].flip(0)])

    return x[:, :, index(x.shape[2])][:, :, :, index(x.shape[3])]


def anomalies(network: AnomalyDetector, features: Tensor) -> Tensor:
    """N×C×H×W to logits N×1×H×W; the recurrent cell is the ConvLSTM."""
    x = F.batch_norm(network.adaptation(features), None, None, training=True, eps=NORM_EPS)
    mean = x.mean((2, 3), keepdim=True)
    deviation = torch.maximum((x - mean).square().mean((2, 3), keepdim=True).sqrt(), network.least_deviation + 1e-6)
    means = [F.avg_pool2d(x, window, 1, window // 2, count_include_pad=False) for window in WINDOWS]
    steps = torch.stack([((other - x) / deviation).abs() for other in (*means, mean)])
    gates = network.cell.gates
    hidden = cell = x.new_zeros(len(x), gates.out_channels // 4, *x.shape[2:])
    for step in steps:
        into, forget, candidate, out = gates(torch.cat([step, hidden], 1)).chunk(4, 1)
        cell = hard_sigmoid(forget) * cell + hard_sigmoid(into) * candidate.tanh()
        hidden = hard_sigmoid(out) * cell.tanh()
    return network.end(hidden)
