"""Pictures in, maps out: formats, folders, faults, several detectors."""

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from configs.errors import UserError
from detectors import create_detector
from detectors.checkpoints import save_detector
from detectors.detect import Options, detect
from detectors.places import find_pictures, unique_stems
from detectors.sheet import PAGE, Thumbnail, contact_sheets


class Redness(nn.Module):
    """Map = the red channel: what arrived is what was in the file."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images):
        return self.scale * images[:, :1]


@pytest.fixture
def picture():
    """RGB 40×56: red grows to the right, green downwards, blue constant."""
    image = np.zeros((40, 56, 3), np.uint8)
    image[..., 0] = np.linspace(20, 230, 56)
    image[..., 1] = np.linspace(10, 250, 40)[:, None]
    image[..., 2] = 90
    return image


def rows_of(folder):
    with (folder / "detections.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def run(files, out, options=None, detectors=None, sheets=False):
    return detect([Path(file) for file in files], detectors or {"redness": Redness()}, out,
                  options or Options(raw=True), sheets)


def save_turned(path, image):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(image).copy()).save(path, exif=exif, quality=95)


FORMATS = {
    "a.png": lambda path, image: Image.fromarray(image).save(path),
    "b.jpg": lambda path, image: Image.fromarray(image).save(path, quality=95),
    "turned.jpg": save_turned,
    "c.webp": lambda path, image: Image.fromarray(image).save(path, lossless=True),
    "alpha.webp": lambda path, image: Image.fromarray(image).convert("RGBA").save(path, lossless=True),
    "d.tif": lambda path, image: Image.fromarray(image).save(path),
    "lzw.tiff": lambda path, image: Image.fromarray(image).save(path, compression="tiff_lzw"),
    "rgba.png": lambda path, image: Image.fromarray(np.dstack([image, np.full((40, 56), 7, np.uint8)])).save(path),
    "rgba.tif": lambda path, image: Image.fromarray(image).convert("RGBA").save(path),
    "deep.png": lambda path, image: cv2.imwrite(str(path), image[..., ::-1].astype(np.uint16) * 257),
    "deep.tif": lambda path, image: cv2.imwrite(str(path), image[..., ::-1].astype(np.uint16) * 257),
    "cmyk.jpg": lambda path, image: Image.fromarray(image).convert("CMYK").save(path, quality=95),
    "cmyk.tif": lambda path, image: Image.fromarray(image).convert("CMYK").save(path),
    "palette.png": lambda path, image: Image.fromarray(image).quantize(256).save(path),
    "e.bmp": lambda path, image: Image.fromarray(image).save(path),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats(tmp_path, picture, name):
    FORMATS[name](tmp_path / name, picture)
    assert run([tmp_path / name], tmp_path / "out") == (1, [])
    found = np.load(tmp_path / "out" / f"{Path(name).stem}_map.npy")
    assert found.dtype == np.float32 and found.shape == (40, 56)
    assert np.abs(found - picture[..., 0] / 255).mean() < 0.02
    (row,) = rows_of(tmp_path / "out")
    assert (row["width"], row["height"]) == ("56", "40")


@pytest.mark.parametrize("name, image", [
    ("grey.png", lambda: Image.fromarray(np.full((20, 30), 200, np.uint8))),
    ("grey16.png", lambda: Image.fromarray(np.full((20, 30), 200 * 257, np.uint16))),
    ("grey16.tif", lambda: Image.fromarray(np.full((20, 30), 200 * 257, np.uint16))),
    ("greyalpha.png", lambda: Image.fromarray(np.full((20, 30), 200, np.uint8)).convert("LA")),
])
def test_grey(tmp_path, name, image):
    image().save(tmp_path / name)
    run([tmp_path / name], tmp_path / "out")
    assert np.allclose(np.load(tmp_path / "out" / f"{Path(name).stem}_map.npy"), 200 / 255, atol=1 / 255)


def test_figures_maps_and_overlays(tmp_path, picture):
    picture[...] = 0
    picture[10:20, 5:25, 0] = 255
    picture[30:34, 40:44, 0] = 255
    Image.fromarray(picture).save(tmp_path / "p.png")
    run([tmp_path / "p.png"], tmp_path / "out", Options(threshold=0.9))
    (row,) = rows_of(tmp_path / "out")
    assert float(row["score"]) == 1
    assert float(row["flagged_fraction"]) == pytest.approx(216 / (40 * 56), abs=1e-6)
    assert [int(row[f"region_{key}"]) for key in ("left", "top", "width", "height")] == [5, 10, 20, 10]
    assert row["largest_region"] == "200" and float(row["seconds"]) >= 0 and row["error"] == ""
    grey = cv2.imread(str(tmp_path / "out" / row["map"]), cv2.IMREAD_UNCHANGED)
    assert grey.shape == (40, 56) and grey[15, 10] == 255 and grey[0, 0] == 0
    assert cv2.imread(str(tmp_path / "out" / row["overlay"])).shape == (40, 56, 3)
    assert not list((tmp_path / "out").glob("*.npy"))


def test_a_broken_file_costs_one_line(tmp_path, picture):
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for number in range(5):
        Image.fromarray(picture).save(folder / "below" / f"{number}.png")
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    Image.fromarray(picture[:8]).save(folder / "tiny.png")
    files = find_pictures([str(folder)])
    count, errors = run(files, tmp_path / "out", sheets=True)
    assert count == 5 and len(errors) == 4 and all("\n" not in error for error in errors)
    rows = rows_of(tmp_path / "out")
    assert len(rows) == 9
    assert {Path(row["image"]).name: row["error"] for row in rows if row["error"]}.keys() == {
        "empty.png", "text.jpg", "cut.jpg", "tiny.png"}
    assert (tmp_path / "out" / "contact_sheet_01.png").exists()


class Failing(Redness):
    """Fails on its second picture, as a network does that runs out of memory."""

    calls = 0

    def forward(self, images):
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("out of memory\nand more")
        return super().forward(images)


def test_a_failing_network_costs_one_picture(tmp_path, picture):
    for number in range(3):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    count, errors = run(sorted(tmp_path.glob("*.png")), tmp_path / "out", detectors={"failing": Failing()})
    assert count == 2 and len(errors) == 1 and "1.png" in errors[0] and "\n" not in errors[0]


def test_an_interrupt_keeps_the_rows(tmp_path, picture, monkeypatch):
    for number in range(3):
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
    network = Redness()
    calls = iter([lambda x: x[:, :1]])

    def forward(images):
        try:
            return next(calls)(images)
        except StopIteration:
            raise KeyboardInterrupt from None
    monkeypatch.setattr(network, "forward", forward)
    with pytest.raises(KeyboardInterrupt):
        run(sorted(tmp_path.glob("*.png")), tmp_path / "out", detectors={"redness": network})
    assert len(rows_of(tmp_path / "out")) == 1


def test_several_detectors_side_by_side(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "p.png")
    run([tmp_path / "p.png"], tmp_path / "out", detectors={"one": Redness(), "two": Redness()})
    assert [row["detector"] for row in rows_of(tmp_path / "out")] == ["one", "two"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"p_one_map.png", "p_two_map.png", "p_one_overlay.png", "p_two_map.npy", "contact_sheet_01.png"} <= names


def test_places(tmp_path, picture):
    (tmp_path / "a").mkdir()
    for name in ("1.png", "2.png", "a/3.PNG"):
        Image.fromarray(picture).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "odd[1].png").write_bytes((tmp_path / "1.png").read_bytes())

    def names(*places):
        return [path.name for path in find_pictures([str(tmp_path / place) for place in places])]

    assert names("") == ["1.png", "2.png", "3.PNG", "odd[1].png"]
    assert names("?.png") == ["1.png", "2.png"]
    assert names("**/3.*") == ["3.PNG"]
    assert names("odd[1].png") == ["odd[1].png"]
    assert names("2.png", "?.png") == ["2.png", "1.png"]
    for place, message in (("*.gif", "no file matches"), ("none", "no such file"), ("empty", "no pictures there")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=message):
            names(place)


def test_stems_do_not_collide():
    files = [Path(name) for name in ("a/x.png", "b/x.png", "x.jpg", "b/x.jpg")]
    stems = unique_stems(files)
    assert len(set(stems.values())) == 4 and stems[files[0]] == "x" and stems[files[1]] == "b_x"


def test_contact_sheets_show_the_most_suspicious_first():
    thumbnails = [Thumbnail.of(f"${number}.png", np.full((40, 60, 3), number * 9, np.uint8),
                               [np.zeros((40, 60, 3), np.uint8)], [number / PAGE]) for number in range(PAGE + 1)]
    pages = [cv2.imdecode(np.frombuffer(page, np.uint8), cv2.IMREAD_COLOR)
             for page in contact_sheets(thumbnails, ["redness"])]
    assert len(pages) == 2 and pages[0].shape[0] > pages[1].shape[0]
    first, values = pages[0], [number * 9 for number in range(1, PAGE + 1)]
    middle = {value: np.argwhere((np.abs(first.astype(int) - value) <= 1).all(2)).mean(0) for value in values[-3:]}
    assert middle[values[-1]][1] < middle[values[-2]][1] < middle[values[-3]][1]


@pytest.mark.slow
@pytest.mark.parametrize("name, width", [("giidnet", 0.25), ("mantranet", 0.0625)])
def test_a_picture_of_48_megapixels_takes_less_than_4_gigabytes(tmp_path, name, width):
    coarse = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "large.jpg"), cv2.resize(coarse, (8000, 6000), interpolation=cv2.INTER_CUBIC))
    save_detector(tmp_path / name, name, create_detector(name, width=width), {"width": width}, {})
    code = ("import resource, sys, giidnet\ngiidnet.main(sys.argv[1:])\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
    done = subprocess.run([sys.executable, "-c", code, "detect", tmp_path / "large.jpg", "--weights", tmp_path / name,
                           "--out", tmp_path / "out", "--raw"], capture_output=True, text=True, check=True)
    assert int(done.stdout.splitlines()[-1]) * 1024 < 4e9
    assert np.load(tmp_path / "out" / "large_map.npy", mmap_mode="r").shape == (6000, 8000)
