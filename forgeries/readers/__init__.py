"""Datasets on disk, in the layouts that they are published in."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from configs.errors import UserError
from forgeries.readers import folders, lists, shards
from forgeries.readers.cases import AUTHENTIC, KINDS, Case, Cases, Member, Problem, split_by_source
from forgeries.readers.manifests import manifest_finder


@dataclass(frozen=True)
class Layout:
    """How a dataset lies on disk: in a folder or a file, in words, whether such a place looks like it, its reader.

    `read(place, root)` yields cases, and problems in the place of those that cannot be had.
    """

    kinds: tuple[Literal["file", "folder"], ...]
    title: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, Path], Iterator[Case | Problem]]


@dataclass(frozen=True)
class Dataset:
    """The cases at `place`, and what is wrong with those that were left out."""

    place: Path
    layout: str
    cases: Cases
    problems: tuple[Problem, ...]


def read_dataset(place: Path, layout: str = "auto", root: Path | None = None) -> Dataset:
    """The dataset at `place`, a folder or a file. Pictures are not opened.

    Where a picture has a row in a manifest of the dataset or of one around it (`forgeries.readers.manifests`), that
    gives the method and the source which the layout does not tell.

    `layout` is a name of `LAYOUTS`, or "auto" for the first that fits. Paths in lists are looked for in the list's
    folder, then in `root`, by default the working directory.

    Raises:
        UserError: nothing there, an unknown layout, none that fits, or a list that is no list.
    """
    if layout != "auto" and layout not in LAYOUTS:
        raise UserError(f"layout '{layout}': unknown; known are auto, {', '.join(LAYOUTS)}")
    if not place.exists():
        raise UserError(f"{place}: no such dataset")
    layout = detect_layout(place) if layout == "auto" else layout
    if _kind(place) not in LAYOUTS[layout].kinds:
        raise UserError(f"{place}: a {_kind(place)}; the layout '{layout}' is a {LAYOUTS[layout].kinds[0]}: "
                        f"{LAYOUTS[layout].title}")
    problems: list[Problem] = []
    row_of = manifest_finder()

    def found() -> Iterator[Case]:
        for entry in LAYOUTS[layout].read(place, root or Path()):
            if isinstance(entry, Problem):
                problems.append(entry)
            else:
                row = (row_of(entry.image) if isinstance(entry.image, Path) else None) or {}
                method = entry.method or row.get("method") or ""
                told = entry.source not in (entry.name, Path(entry.name).name)
                source = entry.source if told else row.get("source_id") or entry.source
                # A method names files of a run.
                yield replace(entry, method=method.replace("/", "-"), source=source)

    cases = Cases(found())
    if not cases and not problems:
        raise UserError(f"{place}: no pictures there; the layout '{layout}' is {LAYOUTS[layout].title}")
    return Dataset(place, layout, cases, tuple(problems))


def read_by_method(place: Path) -> dict[str, Cases]:
    """Cases at `place` by method, authentic ones last; those of an unknown one, whose own `method` is "", are called by
    the name of the place, or where a method there has that name, "<place>-unnamed".

    Raises:
        UserError: as `read_dataset`, or cases had to be left out.
    """
    dataset = read_dataset(place)
    errors = [problem for problem in dataset.problems if problem.severity == "error"]
    if errors:
        more = f" ({len(errors)} such errors: 'giidnet data check {place}' shows all)" if len(errors) > 1 else ""
        raise UserError(f"{errors[0].file}: {errors[0].what}{more}")
    name = place.resolve().stem if place.is_file() else place.resolve().name
    found = dataset.cases.by_method()
    found = {method or f"{name}{'-unnamed' * (name in found)}": cases for method, cases in found.items()}
    return dict(sorted(found.items(), key=lambda item: item[0] == AUTHENTIC))


def detect_layout(place: Path) -> str:
    """Name of the first layout that looks like `place`.

    Raises:
        UserError: none does.
    """
    for name, layout in LAYOUTS.items():
        if _kind(place) in layout.kinds and layout.fits(place):
            if name == "authentic" and folders.is_half(place.resolve()):
                raise UserError(f"{place}: pictures and masks are in folders side by side; name the folder that holds "
                                f"both, {place.resolve().parent}")
            return name
    raise UserError(f"{place}: no layout fits; a {_kind(place)} may be " + "; ".join(
        f"{name}: {layout.title}" for name, layout in LAYOUTS.items() if _kind(place) in layout.kinds))


def _kind(place: Path) -> Literal["file", "folder"]:
    return "folder" if place.is_dir() else "file"


def _has_suffix(suffix: str) -> Callable[[Path], bool]:
    return lambda place: place.suffix.lower() == suffix


def _lists_datasets(place: Path) -> bool:
    if place.suffix.lower() != ".json":
        return False
    content = lists.load_json(place)
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(content, dict) or (isinstance(first, list) and first[:1] in (["ManiDataset"], ["JsonDataset"]))


LAYOUTS: Mapping[str, Layout] = {
    "webdataset": Layout(("folder", "file"), "uncompressed *.tar with <key>.png, <key>.mask.png, <key>.json",
                         lambda place: any(place.glob("*.tar")) if place.is_dir() else place.suffix == ".tar",
                         shards.read_shards),
    "pairs": Layout(("folder",), "Tp and Gt, images and masks, or the like", folders.has_pair, folders.read_pairs),
    "methods": Layout(("folder",), "<METHOD>/images and <METHOD>/masks, or the like",
                      lambda place: any(map(folders.has_pair, folders.subfolders(place))), folders.read_methods),
    "suffixes": Layout(("folder",), "<METHOD>/<name>.png and <METHOD>/<name>_mask.png",
                       lambda place: any(map(folders.has_suffixes, (place, *folders.subfolders(place)))),
                       folders.read_suffixes),
    "authentic": Layout(("folder",), "pictures alone", lambda place: bool(folders.pictures(place)),
                        folders.read_authentic),
    "balanced": Layout(("file",), ".json list of datasets", _lists_datasets, lists.read_balanced),
    "json": Layout(("file",), '.json list of [picture, mask or "Negative"]', _has_suffix(".json"), lists.read_json),
    "text": Layout(("file",), ".txt with lines 'picture mask label'", _has_suffix(".txt"), lists.read_text),
    "npy": Layout(("file",), ".npy array N×2 of strings", _has_suffix(".npy"), lists.read_npy),
    "csv": Layout(("file",), ".csv of picture, mask", _has_suffix(".csv"), lists.read_csv),
}
"""Layouts by name, in the order in which they are tried."""

__all__ = ["AUTHENTIC", "KINDS", "LAYOUTS", "Case", "Cases", "Dataset", "Layout", "Member", "Problem",
           "read_by_method", "read_dataset", "split_by_source"]
