"""Retraining: discovered cells become the full network, beside baselines at the same budget."""

TRAINEES = {
    "giidnet": "GIID-Net with the genotype that the search found",
    "giidnet-random": "GIID-Net with a genotype drawn at random from the same space",
    "giidnet-released": "GIID-Net with the released genotype, where the space is the paper's",
    "mantranet": "ManTraNet",
    "mantranet-gru": "ManTraNet with ConvGRU",
    "hpfcn": "the high-pass fully convolutional network",
}
"""What `retrain.detectors` may name."""


def list_trainees() -> list[str]:
    """Names that `retrain.detectors` may hold."""
    return list(TRAINEES)
