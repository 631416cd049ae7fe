"""Families of inpainting methods, which protocols leave out and tables group by. Pure tables, nothing is imported."""

import re
from typing import Literal

Family = Literal["classical", "learned", "diffusion", "authentic", "unknown"]

KINDS: dict[str, Family] = {"learned": "learned", "re-synthesis": "learned", "diffusion": "diffusion"}
"""Family by `Method.kind`, in lower case; every other kind, such as "pde" or "patch", is classical."""

LITERATURE: dict[Family, str] = {
    # SG is planar structure guidance (Huang et al. 2014).
    "classical": "TE Telea NS Navier-Stokes PM PatchMatch Criminisi SG",
    # After the short names: contextual attention (Yu et al. 2018), Shift-Net (Yan et al. 2018), EdgeConnect (Nazeri et
    # al. 2019), learnable bidirectional attention (Xie et al. 2019), region normalization (Yu et al. 2020) and others.
    "learned": "GC CA SH EC LB LBAM RN DeepFill DeepFill-v1 DeepFill-v2 GatedConv Shift-Net EdgeConnect PConv "
               "Partial-Conv GLCIC Context-Encoder PEN-Net GMCNN HiFill ProFill CRFill MADF LaMa Big-LaMa MAT "
               "CoModGAN ZITS ZITS++ AOT-GAN AOT RFR RFR-Net CTSDG MEDFE PIC ICT TFill FcF MI-GAN HINT MISF LGNet",
    "diffusion": "LDM SD SD1 SD1.4 SD1.5 SD2 SD2.1 SD3 SDXL Stable-Diffusion Stable-Diffusion-2 Stable-Diffusion-XL "
                 "GLIDE RePaint BrushNet PowerPaint ControlNet HD-Painter Kandinsky Paint-by-Example Blended-Diffusion "
                 "Blended-Latent-Diffusion DALLE DALL-E DALLE2 DALL-E-2 DALLE3 DALL-E-3 Firefly Adobe-Firefly Imagen "
                 "Imagen-Editor Flux Flux-Fill DDRM DiffIR CoPaint Latent-Diffusion",
}
"""Names that methods have in papers and in datasets of others, by family."""


def _key(name: str) -> str:
    """Datasets write one name in many ways: `DeepFill_v2`, `deepfillv2`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


_FAMILIES: dict[str, Family] = {_key(name): family for family, names in LITERATURE.items() for name in names.split()}


def family_of_kind(kind: str) -> Family:
    """Family of a method of `Method.kind`."""
    return KINDS.get(kind.lower(), "classical")


def family_in_literature(name: str) -> Family:
    """Family of a method of others by its name, case and punctuation aside; "authentic" for pictures that nothing was
    painted into, "unknown" for a name that is not in the table."""
    return "authentic" if _key(name) == "authentic" else _FAMILIES.get(_key(name), "unknown")
