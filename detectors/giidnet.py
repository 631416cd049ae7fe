"""GIID-Net with any genotype (Wu & Zhou 2021), corrected where the published code is defective."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from configs.errors import UserError
from detectors import ATTENTION, DEFECTS, STREAMS
from detectors.blocks import Anomaly, Decision, Enhancement, GlobalAttention, LocalAttention, median3, pad_to_multiple
from detectors.iid_net import PublishedBayarConv
from search_space.cells import build_extraction, scaled
from search_space.genotype import Genotype, genotype_from_dict, released_genotype, split_parts


class GIIDNet(nn.Module):
    """Enhancement, extraction by `genotype`, decision with attention, 3×3 median.

    Args:
        genotype: a `Genotype`, its dictionary form, or None for the released one.
        width: factor on all channels.
        streams: those of the enhancement block, see `detectors.blocks.Enhancement`; None: those that the genotype
            has chosen, or else the three published ones.
        global_attention, local_attention, median: switches for ablations. An attention that the genotype has not
            chosen, where its space lets it choose, is left out anyway.
        anomaly: features also tell how unusual they are for the picture, see `detectors.blocks.Anomaly`.
        defects: those of the published network that are brought back, of `detectors.DEFECTS`; see docs/differences.md.

    Raises:
        UserError: an unknown defect.
    """

    def __init__(self, genotype: Genotype | Mapping[str, Any] | None = None, width: float = 1.0,
                 streams: Sequence[str] | None = None, global_attention: bool = True,
                 local_attention: bool = True, median: bool = True, anomaly: bool = False,
                 defects: Sequence[str] = ()) -> None:
        super().__init__()
        if unknown := [name for name in defects if name not in DEFECTS]:
            raise UserError(f"giidnet: defect '{unknown[0]}': unknown; known are {', '.join(DEFECTS)}")
        if genotype is None:
            genotype = released_genotype()
        elif not isinstance(genotype, Genotype):
            genotype = genotype_from_dict(genotype)
        self.reduction = 2 * genotype.space.reduction
        self.median, self.stretched = median, "stretched-map" in defects
        chosen = split_parts(genotype.streams) if genotype.streams else STREAMS
        self.enhancement = Enhancement(chosen if streams is None else streams, width)
        self.extraction = build_extraction(genotype, width)
        channels = scaled(genotype.space.channels[-1], width)
        names = split_parts(genotype.attention) if genotype.attention else ATTENTION
        attention: list[nn.Module] = []
        if global_attention and "global" in names:
            attention.append(GlobalAttention("batch-attention" in defects))
        if local_attention and "local" in names:
            attention.append(LocalAttention(channels))
        self.decision = Decision(channels, self.reduction, width, attention, "align-corners" in defects,
                                 genotype.space.decoder)
        # After all that it is added to, whose initial weights then are the same.
        self.anomaly = Anomaly(channels) if anomaly else None
        if "bayar" in self.enhancement.streams and {"bayar-first-channel", "bayar-write-back"} & set(defects):
            # Last, and with the same weights: the initial ones of a network are those without defects.
            published = PublishedBayarConv("bayar-write-back" in defects)
            published.load_state_dict(self.enhancement.streams["bayar"].state_dict())
            self.enhancement.streams["bayar"] = published

    def logits(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to logits N×1×H×W."""
        height, width = images.shape[-2:]
        if self.stretched:
            x = self.decision(self.features(images * 2 - 1))
            return F.interpolate(median3(x) if self.median else x, (height, width), mode="nearest")
        x = pad_to_multiple(images * 2 - 1, self.reduction)
        x = self.decision(self.features(x))[..., :height, :width]
        return median3(F.pad(x, (1, 1, 1, 1), mode="replicate")) if self.median else x

    def features(self, x: Tensor) -> Tensor:
        """RGB N×3×H×W in [−1, 1] to what is decided on, N×C×⌈H/r⌉×⌈W/r⌉."""
        x = self.extraction(self.enhancement(x))
        return x if self.anomaly is None else self.anomaly(x)

    def forward(self, images: Tensor) -> Tensor:
        """RGB N×3×H×W in [0, 1], H, W ≥ 16, to the probability N×1×H×W that each pixel was inpainted."""
        return self.logits(images).sigmoid()
