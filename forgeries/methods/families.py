"""Families of inpainting methods, which protocols leave out and tables group by, and the names that each one goes by.

Pure tables, nothing is imported.
"""

import re
from typing import Literal

Family = Literal["classical", "learned", "diffusion", "authentic", "unknown"]

KINDS: dict[str, Family] = {"learned": "learned", "re-synthesis": "learned", "diffusion": "diffusion"}
"""Family by `Method.kind`, in lower case; every other kind, such as "pde" or "patch", is classical."""

LITERATURE: dict[Family, str] = {
    # SG is planar structure guidance (Huang et al. 2014).
    "classical": "TE NS PM EB BH HD SG",
    "learned": "GC CA SH EC LB RN PConv GLCIC Context-Encoder PEN-Net GMCNN HiFill ProFill CRFill MADF LaMa MAT "
               "CoModGAN ZITS ZITS++ AOT RFR CTSDG MEDFE PIC ICT TFill FcF MI-GAN HINT MISF LGNet",
    "diffusion": "LDM SD SD1 SD1.4 SD1.5 SD2 SD2.1 SD3 SDXL GLIDE RePaint BrushNet PowerPaint ControlNet HD-Painter "
                 "Kandinsky Paint-by-Example Blended-Diffusion Blended-Latent-Diffusion DALLE DALLE2 DALLE3 Firefly "
                 "Imagen Imagen-Editor Flux DDRM DiffIR CoPaint",
}
"""Names that methods have in papers and in datasets of others, by family."""

ALIASES: tuple[str, ...] = (
    "TE Telea Inpaint-Telea", "NS Navier-Stokes Inpaint-NS", "PM PatchMatch", "EB Criminisi Exemplar-Based",
    "BH Biharmonic", "HD Harmonic",
    # Yu et al. 2019 and 2018: gated convolution, contextual attention.
    "GC GatedConv Gated-Convolution DeepFill-v2", "CA Contextual-Attention DeepFill DeepFill-v1",
    # Yan et al. 2018, Nazeri et al. 2019, Xie et al. 2019 (learnable bidirectional attention), Yu et al. 2020.
    "SH Shift-Net", "EC EdgeConnect", "LB LBAM", "RN Region-Norm Region-Normalization",
    "PConv Partial-Conv Partial-Convolution", "LaMa Big-LaMa", "AOT AOT-GAN", "RFR RFR-Net",
    "LDM Latent-Diffusion", "SD Stable-Diffusion", "SD1 SD-v1 Stable-Diffusion-1 Stable-Diffusion-v1",
    "SD1.4 SD-v1.4 Stable-Diffusion-1.4 Stable-Diffusion-v1.4",
    "SD1.5 SD-v1.5 Stable-Diffusion-1.5 Stable-Diffusion-v1.5", "SD2 SD-v2 Stable-Diffusion-2 Stable-Diffusion-v2",
    "SD2.1 SD-v2.1 Stable-Diffusion-2.1 Stable-Diffusion-v2.1", "SD3 SD-v3 Stable-Diffusion-3 Stable-Diffusion-v3",
    "SDXL SD-XL Stable-Diffusion-XL", "Firefly Adobe-Firefly", "Flux Flux-Fill",
)
"""Names of one method each. Versions of a method are methods of their own, as their weights differ."""


def _key(name: str) -> str:
    """Datasets write one name in many ways: `DeepFill_v2`, `deepfillv2`. ZITS and ZITS++ are two methods."""
    return re.sub(r"[^\w+]|_", "", name.casefold()) or name


_CANONICAL = {_key(name): _key(names.split()[0]) for names in ALIASES for name in names.split()}


def canonical(name: str) -> str:
    """What all names of a method have in common: without case and punctuation, and one for all of `ALIASES`."""
    return _CANONICAL.get(_key(name), _key(name))


def same_method(first: str, second: str) -> bool:
    """Whether both are names of one method, as far as `ALIASES` knows."""
    return canonical(first) == canonical(second)


_FAMILIES: dict[str, Family] = {canonical(name): family for family, names in LITERATURE.items()
                                for name in names.split()}


def family_of_kind(kind: str) -> Family:
    """Family of a method of `Method.kind`."""
    return KINDS.get(kind.lower(), "classical")


def family_in_literature(name: str) -> Family:
    """Family of a method of others by any of its names; "authentic" for pictures that nothing was painted into,
    "unknown" for a name that is not in the table."""
    return "authentic" if canonical(name) == "authentic" else _FAMILIES.get(canonical(name), "unknown")
