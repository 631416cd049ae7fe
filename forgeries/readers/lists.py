"""Datasets that are a file with the paths of pictures and masks.

Relative paths start from the folder of the list, or where nothing is there, from `root`.
"""

import csv
import json
import os.path
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from configs.errors import UserError
from configs.files import PICTURE_SUFFIXES
from forgeries.readers.cases import AUTHENTIC, Case, Problem

NEGATIVE = frozenset({"", "negative", "none"})
"""What stands in the place of a mask, in lower case, where a picture is authentic."""

COLUMNS = {"image": ("image", "image_path", "img", "input"), "mask": ("mask", "mask_path", "gt", "ground_truth"),
           "method": ("method",), "source": ("source", "source_id")}
"""Names that a CSV list may give its columns, in lower case."""


@dataclass(frozen=True)
class Row:
    """A line of a list; `mask` None where every pixel is pristine."""

    number: int
    image: str
    mask: str | None
    method: str = ""
    source: str = ""


def read_json(place: Path, root: Path) -> Iterator[Case | Problem]:
    """IMDLBenCo's JsonDataset: pairs of paths; "Negative" in the place of a mask marks an authentic picture.

        [["Tp/1.jpg", "Gt/1_gt.png"], ["Au/2.jpg", "Negative"]]
    """
    content = load_json(place)
    if not isinstance(content, list):
        raise UserError(f"{place}: must be a JSON list of [picture, mask] pairs")
    return _cases(place, root, (_row(place, number, entry) for number, entry in enumerate(content, 1)))


def read_balanced(place: Path, root: Path) -> Iterator[Case | Problem]:
    """IMDLBenCo's list of datasets, for its BalancedDataset or for tests; all cases of all of them are read.

        [["ManiDataset", "CASIA2.0"], ["JsonDataset", "FantasticReality.json"]]
        {"Columbia": "Columbia.json", "NIST16": "NIST16_1024"}

    A ManiDataset is a folder with `Tp` and `Gt`, a JsonDataset a list of pairs. Names and sources get the dataset's
    name in front.
    """
    from forgeries.readers import detect_layout, read_dataset
    content = load_json(place)
    rows = list(content.items()) if isinstance(content, dict) else content
    layouts = {"ManiDataset": "pairs", "JsonDataset": "json"}
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
        named = isinstance(row, list | tuple) and len(row) == 2 and all(isinstance(part, str) for part in row)
        if not named or (isinstance(content, list) and row[0] not in layouts):
            yield Problem(str(place), "line not understood", f"entry {number} is no dataset: {str(row)[:80]}")
            continue
        path, name = _find(row[1], place, root), row[0] if isinstance(content, dict) else Path(row[1]).stem
        if path is None:
            yield Problem(str(place), "missing file", f"entry {number} names {row[1]}, which is not there")
            continue
        try:
            layout = detect_layout(path) if isinstance(content, dict) else layouts[row[0]]
            if layout == "balanced":
                raise UserError("a list of datasets, inside of one")
            found = read_dataset(path, layout, root)
        except UserError as error:
            yield Problem(str(path), "unreadable", str(error).removeprefix(f"{path}: "))
            continue
        yield from found.problems
        for case in found.cases:
            yield Case(case.image, case.mask, f"{name}/{case.name}", case.method, f"{name}/{case.source}")


def read_text(place: Path, root: Path) -> Iterator[Case | Problem]:
    """MVSS-Net's lines; the label is 0 where a picture is authentic. A path of an edge map after the mask is ignored.

        Tp/1.jpg Gt/1.png 1
        Au/2.jpg None 0
        Au/3.jpg 0
    """
    return _cases(place, root, (_parse(place, number, line.strip())
                                for number, line in enumerate(_text(place).splitlines(), 1) if line.strip()))


def read_npy(place: Path, root: Path) -> Iterator[Case | Problem]:
    """The published training code of IID-Net: a NumPy array N×2 of strings; an empty mask is an authentic picture.

        np.save(place, [["1.png", "1_mask.png"], ["2.png", ""]])
    """
    try:
        content = np.load(place, allow_pickle=False)
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise UserError(f"{place}: not an array of strings ({str(error).split('. ')[0]}); save one with "
                        "np.save(file, np.array(rows, dtype=str))") from None
    if not isinstance(content, np.ndarray) or content.ndim != 2 or content.shape[1] != 2 or content.dtype.kind != "U":
        raise UserError(f"{place}: must be an array N×2 of strings, a picture and its mask in each row")
    return _cases(place, root, (_row(place, number, entry.tolist()) for number, entry in enumerate(content, 1)))


def read_csv(place: Path, root: Path) -> Iterator[Case | Problem]:
    """Picture and mask, or under a header any of COLUMNS; an empty mask is an authentic picture.

        image,mask,method,source
        1.png,1_mask.png,TE,beach
    """
    lines = [(number, cells) for number, cells in enumerate(csv.reader(_text(place).splitlines()), 1) if any(cells)]
    header = [cell.strip().lower() for cell in lines[0][1]] if lines else []
    places = {key: header.index(name) for key, names in COLUMNS.items() for name in names if name in header}
    named = "image" in places
    places = places if named else {"image": 0, "mask": 1}

    def row(number: int, cells: list[str]) -> Row | Problem:
        if len(cells) <= max(places.values()):
            return Problem(str(place), "line not understood", f"line {number} has too few columns: {cells}")
        values = {key: cells[index].strip() for key, index in places.items()}
        return Row(number, values["image"], _mask(values.get("mask", "")), values.get("method", ""),
                   values.get("source", ""))

    return _cases(place, root, (row(number, cells) for number, cells in lines[named:]))


def load_json(place: Path) -> Any:
    """The content of a JSON file.

    Raises:
        UserError: it is none.
    """
    try:
        return json.loads(_text(place))
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not JSON ({error})") from None


def _text(place: Path) -> str:
    try:
        return place.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{place}: not a text file in UTF-8") from None
    except OSError as error:
        raise UserError(f"{place}: cannot be read ({error.strerror})") from None


def _mask(text: str) -> str | None:
    return None if text.lower() in NEGATIVE else text


def _row(place: Path, number: int, entry: Any) -> Row | Problem:
    if isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry) and entry[0]:
        return Row(number, entry[0], _mask(entry[1]))
    return Problem(str(place), "line not understood", f"entry {number} is no [picture, mask]: {str(entry)[:80]}")


_PICTURE = r".+?(?:" + "|".join(re.escape(suffix) for suffix in sorted(PICTURE_SUFFIXES)) + ")"
_LINE = re.compile(rf"(?P<image>{_PICTURE})(?:\s+(?P<mask>None|{_PICTURE}))?(?:\s+(?:None|{_PICTURE}))?"
                   r"(?:\s+(?P<label>-?\d+))?", re.IGNORECASE)


def _parse(place: Path, number: int, line: str) -> Row | Problem:
    # Paths may contain spaces, so that a line is cut where a picture's suffix ends.
    match = _LINE.fullmatch(line)
    if match is None:
        return Problem(str(place), "line not understood", f"line {number} is no 'picture mask label': {line[:80]}")
    mask, label = match["mask"], match["label"]
    if label is not None and int(label) == 0:
        return Row(number, match["image"], None)
    if mask is None or mask.lower() == "none":
        return Problem(match["image"], "no mask", f"line {number} of {place.name} has neither a mask nor the label 0")
    return Row(number, match["image"], mask)


def _find(path: str, place: Path, root: Path) -> Path | None:
    # Lists that were made on Windows write backslashes.
    spellings = dict.fromkeys((path, path.replace("\\", "/")))
    return next((base / spelling for base in (place.parent, root) for spelling in spellings
                 # Other than Path.exists, this takes names that no file can have.
                 if os.path.exists(base / spelling)), None)  # noqa: PTH110


def _cases(place: Path, root: Path, rows: Iterable[Row | Problem]) -> Iterator[Case | Problem]:
    """Cases of rows whose files are there. A stem that pictures of several folders share gets the folder in front."""
    found = list(rows)
    stems = Counter(Path(path).stem for path in {row.image for row in found if isinstance(row, Row)})
    taken: dict[Path, Row] = {}
    for row in found:
        if isinstance(row, Problem):
            yield row
            continue
        image, mask = _find(row.image, place, root), _find(row.mask, place, root) if row.mask else None
        missing = row.image if image is None else row.mask if row.mask and mask is None else None
        if image is None or missing:
            yield Problem(str(place), "missing file", f"line {row.number} names {missing}, which is not there")
            continue
        if mask is None and row.method not in ("", AUTHENTIC):
            yield Problem(str(image), "no mask", f"line {row.number} of {place.name} has the method {row.method}, but "
                                                 "no mask")
            continue
        first = taken.setdefault(image, row)
        if first is not row:
            same = "the same mask" if first.mask == row.mask else "another mask"
            yield Problem(str(image), "name used twice", f"left out: line {row.number} of {place.name} repeats line "
                                                         f"{first.number} with {same}")
            continue
        name = image.stem if stems[image.stem] < 2 else f"{image.parent.name}/{image.stem}"
        yield Case(image, mask, name, row.method or ("" if mask else AUTHENTIC), row.source or image.stem)
