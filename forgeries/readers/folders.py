"""Datasets that are folders of pictures. Pictures and masks are paired by name, never by their order."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from configs.files import PICTURE_SUFFIXES, read_rows
from forgeries.readers.cases import AUTHENTIC, Case, Problem

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "tp", "tampered", "forged", "fake", "inpainted")
MASK_FOLDERS = ("masks", "mask", "gt", "gts", "groundtruth", "ground_truth", "ground-truth", "labels", "label")
AUTHENTIC_FOLDERS = ("au", "authentic", "pristine")
"""Names of folders, in lower case."""

MASK_SUFFIXES = ("_mask", "_gt", "-mask", "-gt", "_groundtruth")
"""What a mask may add to the stem of its picture."""


def read_pairs(place: Path, root: Path) -> Iterator[Case | Problem]:
    """A folder of pictures and one of masks, also CASIA's with authentic pictures.

        place/
        ├── Tp/<name>.jpg            or any other of IMAGE_FOLDERS, also with folders below
        ├── Gt/<name>[_gt].png       or any other of MASK_FOLDERS
        └── Au/<name>.jpg            optional: authentic pictures
    """
    yield from _read_pair(place, "", {})


def read_methods(place: Path, root: Path) -> Iterator[Case | Problem]:
    """Folders of pictures and masks for each method: what `giidnet synthesize` writes.

        place/
        ├── manifest.csv                    optional; its columns method, name, source_id tell dependent cases
        ├── <METHOD>/
        │   ├── images/<name>.png           or any other of IMAGE_FOLDERS
        │   ├── masks/<name>[_mask].png     or any other of MASK_FOLDERS; 255 = inpainted
        │   └── originals/<name>.png        optional, not read
        └── authentic/images/<name>.png     optional, or any other of AUTHENTIC_FOLDERS
    """
    sources = {(row.get("method") or "", row.get("name") or ""): row["source_id"]
               for row in read_rows(place / "manifest.csv") if row.get("source_id")}
    for folder in subfolders(place):
        named = {name: source for (method, name), source in sources.items() if method == folder.name}
        if subfolder(folder, IMAGE_FOLDERS) or subfolder(folder, AUTHENTIC_FOLDERS):
            yield from _read_pair(folder, folder.name, named)
        elif folder.name.lower() in AUTHENTIC_FOLDERS:
            yield from _authentic(pictures(folder), folder, named)
        elif pictures(folder):
            yield Problem(str(folder), "folder not read", f"has pictures, but no folder {IMAGE_FOLDERS[0]}/")


def read_suffixes(place: Path, root: Path) -> Iterator[Case | Problem]:
    """Masks beside their pictures, in one folder or in one for each method: the ten-method test set of IID-Net.

        place/
        ├── <METHOD>/                    such as GC, CA, SH, EC, LB, RN, TE, NS, PM, SG
        │   ├── <name>.png
        │   └── <name>_mask.png          or another of MASK_SUFFIXES
        └── authentic/<name>.png         optional, or any other of AUTHENTIC_FOLDERS
    """
    for folder in (place, *subfolders(place)):
        found = pictures(folder)
        if folder != place and folder.name.lower() in AUTHENTIC_FOLDERS:
            yield from _authentic(found, folder, {})
            continue
        owned = owned_masks(found)
        # A leftover "x_mask" is a mask whose picture is missing rather than a picture without a mask.
        having = set(owned.values())
        masks = {path for path in found if path.stem in owned
                 or (path.stem.endswith(MASK_SUFFIXES) and path.stem not in having)}
        yield from pair((path for path in found if path not in masks), sorted(masks), folder, folder,
                        "" if folder == place else folder.name, {})


def read_authentic(place: Path, root: Path) -> Iterator[Case | Problem]:
    """Pictures alone: all are authentic.

        place/
        └── <name>.jpg
    """
    yield from _authentic(pictures(place), place, {})


def has_pair(folder: Path) -> bool:
    """Whether it holds a folder of pictures and one of masks."""
    return bool(subfolder(folder, IMAGE_FOLDERS) and subfolder(folder, MASK_FOLDERS))


def is_half(folder: Path) -> bool:
    """Whether it is one of the folders of such a pair."""
    return folder.name.lower() in (*IMAGE_FOLDERS, *MASK_FOLDERS) and has_pair(folder.parent)


def has_suffixes(folder: Path) -> bool:
    """Whether a mask lies beside its picture."""
    return bool(owned_masks(pictures(folder)))


def owned_masks(found: Iterable[Path]) -> dict[str, str]:
    """Stems of masks that lie beside their picture, with the stem of the picture.

    A photograph of a gas mask, `gas_mask`, is a picture as long as there is no picture `gas`.
    """
    stems = {path.stem for path in found}
    owned: dict[str, str] = {}
    # Shorter stems first: gas_mask_mask is the mask of gas_mask only if that is not a mask itself.
    for stem in sorted(stems, key=len):
        for suffix in MASK_SUFFIXES:
            base = stem.removesuffix(suffix)
            if base != stem and base in stems and base not in owned:
                owned[stem] = base
    return owned


def subfolders(folder: Path) -> list[Path]:
    """Sorted by name, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def subfolder(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of `names`, whatever its case, that is a folder there."""
    found = {path.name.lower(): path for path in subfolders(folder)}
    return next((found[name] for name in names if name in found), None)


def pictures(folder: Path, below: bool = False) -> list[Path]:
    """Picture files in a folder, sorted, with `below` also those of folders below; hidden ones are left out."""
    found = folder.rglob("*") if below else folder.iterdir()
    return sorted(path for path in found if path.suffix.lower() in PICTURE_SUFFIXES
                  and not path.name.startswith(".") and path.is_file())


def _read_pair(folder: Path, method: str, sources: Mapping[str, str]) -> Iterator[Case | Problem]:
    images, masks = subfolder(folder, IMAGE_FOLDERS), subfolder(folder, MASK_FOLDERS)
    authentic = subfolder(folder, AUTHENTIC_FOLDERS)
    if images and masks is None and method.lower() in AUTHENTIC_FOLDERS:
        yield from _authentic(pictures(images, below=True), images, sources)
    elif images:
        yield from pair(pictures(images, below=True), pictures(masks, below=True) if masks else (), images,
                        masks or folder / MASK_FOLDERS[0], method, sources)
    if authentic:
        yield from _authentic(pictures(authentic, below=True), authentic, {})


def _authentic(images: Iterable[Path], folder: Path, sources: Mapping[str, str]) -> Iterator[Case | Problem]:
    for name, image in _unique(images, folder):
        if isinstance(image, Problem):
            yield image
        else:
            yield Case(image, None, name, AUTHENTIC, sources.get(name, name))


def pair(images: Iterable[Path], masks: Iterable[Path], image_folder: Path, mask_folder: Path, method: str,
         sources: Mapping[str, str]) -> Iterator[Case | Problem]:
    """Cases of pictures and masks whose paths below their folders differ by suffixes alone, and what is left over."""
    by_name: defaultdict[str, list[Path]] = defaultdict(list)
    for path in masks:
        by_name[_name(path, mask_folder)].append(path)
    used: set[Path] = set()
    for name, image in _unique(images, image_folder):
        found = [path for suffix in ("", *MASK_SUFFIXES) for path in by_name.get(name + suffix, ())]
        used.update(found)
        if isinstance(image, Problem):
            yield image
        elif not found:
            beside = MASK_SUFFIXES[0] if image_folder == mask_folder else ""
            yield Problem(str(image), "no mask", f"has no mask {mask_folder.name}/{name}{beside}.png")
        elif len(found) > 1:
            yield Problem(str(image), "several masks", f"has {found[0].name} and {found[1].name}")
        else:
            yield Case(image, found[0], name, method, sources.get(name, name))
    for paths in by_name.values():
        for path in paths:
            if path not in used:
                yield Problem(str(path), "mask without picture", f"no picture of that name in {image_folder.name}/")


def _unique(images: Iterable[Path], folder: Path) -> Iterator[tuple[str, Path | Problem]]:
    """(name, picture) or where the name is taken already, (name, the problem)."""
    taken: dict[str, Path] = {}
    for path in images:
        name = _name(path, folder)
        first = taken.setdefault(name, path)
        yield name, path if first is path else Problem(str(path), "name used twice", f"left out: {first.name} is "
                                                                                    f"called {name} as well")


def _name(path: Path, folder: Path) -> str:
    """The path below the folder without its suffix."""
    return path.relative_to(folder).with_suffix("").as_posix()
