"""What `giidnet data check` says of datasets that are well, and of datasets with every flaw."""

import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

import giidnet
from forgeries.check import check_dataset, compare_datasets, looks_inverted
from forgeries.readers import KINDS, read_dataset


def textured(seed: int, height: int = 64, width: int = 80) -> np.ndarray:
    """Smooth shapes, which a perceptual hash can tell apart."""
    grid = np.random.default_rng(seed).integers(0, 256, (9, 9, 3)).astype(np.float32)
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def box(height: int = 64, width: int = 80, side: int = 16) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[8:8 + side, 8:8 + side] = 255
    return mask


def add(folder, name: str, image: np.ndarray, mask: np.ndarray, suffix: str = ".png") -> None:
    for kind, pixels, end in (("images", image, ".png"), ("masks", mask, suffix)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{name}{end}")


@pytest.fixture
def well(tmp_path):
    folder = tmp_path / "well"
    for seed in range(4):
        add(folder / "TE", str(seed), textured(seed), box(side=8 * (seed + 1)))
        add(folder / "NS", str(seed), textured(seed + 10, 32, 48), box(32, 48) // 255)
    return folder


def told(folder, sample=None):
    return {(problem.kind, problem.file.split("/")[-1]): problem.what
            for problem in check_dataset(read_dataset(folder), sample).problems}


def test_a_dataset_that_is_well(well):
    report = check_dataset(read_dataset(well))
    assert report.problems == ()
    ns, te = sorted(report.methods, key=lambda summary: summary.method)
    assert (ns.method, ns.pictures, ns.looked, ns.sizes) == ("NS", 4, 4, ((48, 32),))
    # Masks of 0 and 1 count as those of 0 and 255 do.
    assert ns.fractions == pytest.approx([256 / 1536] * 4)
    assert te.sizes == ((80, 64),) and te.fractions == pytest.approx([side**2 / 5120 for side in (8, 16, 24, 32)])


def test_a_sample_is_spread_over_all_methods(well):
    report = check_dataset(read_dataset(well), 2)
    assert [(summary.method, summary.pictures, summary.looked) for summary in report.methods] == [
        ("NS", 4, 1), ("TE", 4, 1)]
    assert len(check_dataset(read_dataset(well), 99).looks) == 8


def test_every_flaw_of_a_picture_is_told_with_its_file(well):
    rng, folder = np.random.default_rng(0), well / "TE"
    add(folder, "small", textured(20), box(32, 40))
    soft = box()
    soft[0, :32] = np.arange(100, 132)
    add(folder, "soft", textured(21), soft)
    add(folder, "jpeg", textured(22), np.where(rng.random((64, 80)) < 0.3, 255, 0).astype(np.uint8), ".jpg")
    add(folder, "colour", textured(23), box()[..., None] * np.array([0, 1, 0], np.uint8))
    add(folder, "empty", textured(24), np.zeros((64, 80), np.uint8))
    add(folder, "full", textured(25), np.full((64, 80), 255, np.uint8))
    add(folder, "inverted", textured(26), 255 - box())
    add(folder, "again", textured(0), box())
    add(folder, "broken", textured(27), box())
    (folder / "images" / "broken.png").write_bytes(b"no picture")
    add(folder, "blank", textured(28), box())
    (folder / "masks" / "blank.png").write_bytes(b"")
    found = told(well)
    assert set(found) == {
        ("different sizes", "small.png"), ("mask not binary", "soft.png"), ("mask is JPEG", "jpeg.jpg"),
        ("mask has colours", "colour.png"), ("empty mask", "empty.png"), ("full mask", "full.png"),
        ("mask looks inverted", "inverted.png"), ("same picture twice", "again.png"), ("unreadable", "broken.png"),
        ("unreadable", "blank.png")}
    assert found["different sizes", "small.png"] == "40×32, but its picture is 80×64"
    assert found["mask not binary", "soft.png"] == f"{100 * 32 / 5120:.2g} % of its pixels are between 0 and 255 " \
                                                   "(100 to 131)"
    share = float(re.match(r"[\d.]+", found["mask is JPEG", "jpeg.jpg"])[0])
    pixels = np.asarray(Image.open(folder / "masks" / "jpeg.jpg"))
    # Two decoders may round differently.
    assert share == pytest.approx(100 * ((pixels > 0) & (pixels < 255)).mean(), rel=0.05)
    assert found["unreadable", "blank.png"] == "the file is empty"


@pytest.mark.parametrize("mask, expected", [
    (255 - box(), True), (box(), False), (box(side=0), False), (np.full((64, 80), 255, np.uint8), False),
    # Most of the picture, but nothing of its border: a large region that was inpainted.
    (np.pad(np.full((60, 76), 255, np.uint8), 2), False)])
def test_what_looks_inverted(mask, expected):
    assert looks_inverted(mask == 255) is expected


def test_a_method_of_inverted_masks_is_one_error(well):
    for seed in range(4):
        add(well / "LAMA", str(seed), textured(seed + 30), 255 - box())
    found = check_dataset(read_dataset(well)).problems
    assert [problem.kind for problem in found] == ["masks look inverted"] and "4 of 4 masks of LAMA" in found[0].what
    # One alone may be meant.
    for seed in range(1, 4):
        (well / "LAMA" / "masks" / f"{seed}.png").write_bytes((well / "TE" / "masks" / "1.png").read_bytes())
    assert set(told(well)) == {("mask looks inverted", "0.png")}


def test_pictures_in_two_sets_are_told(well, tmp_path):
    other = tmp_path / "train"
    other.mkdir()
    Image.fromarray(textured(1)).save(other / "same.png")
    Image.fromarray(textured(2)).save(other / "near.jpg", quality=80)
    Image.fromarray(textured(40)).save(other / "new.png")
    # Without structure there is no hash, but the same pixels are the same.
    for place in (well / "TE" / "images" / "5.png", other / "white.png"):
        Image.fromarray(np.full((64, 80, 3), 255, np.uint8)).save(place)
    Image.fromarray(box()).save(well / "TE" / "masks" / "5.png")
    Image.fromarray(np.full((64, 80, 3), 254, np.uint8)).save(other / "grey.png")
    found = compare_datasets([check_dataset(read_dataset(place)) for place in (well, other)])
    assert {(problem.kind, problem.file.split("/")[-1], problem.what.split("/")[-1]) for problem in found} == {
        ("same picture in two sets", "same.png", "1.png"), ("same picture in two sets", "white.png", "5.png"),
        ("nearly the same picture in two sets", "near.jpg", "2.png")}


def check(*places):
    return giidnet.main(["data", "check", *map(str, places)])


def test_the_command_prints_one_line_a_row_when_piped(well, capsys):
    check(well)
    out = capsys.readouterr().out
    assert f"{well}: layout methods" in out and "8 pictures" in out and "\x1b" not in out
    row = next(line for line in out.splitlines() if line.split()[:1] == ["TE"])
    assert row.split() == ["TE", "4", "4", "80×64", "8.1", "%", "1.2", "%", "…", "20.0", "%"]


def test_warnings_end_well_and_errors_with_one_line_and_code_2(well, capsys):
    add(well / "TE", "empty", textured(24), np.zeros((64, 80), np.uint8))
    check(well)
    assert re.search(r"warning +empty mask +1 +TE/masks/empty.png: marks nothing", capsys.readouterr().out)
    (well / "TE" / "masks" / "0.png").unlink()
    with pytest.raises(SystemExit) as caught:
        check(well)
    output = capsys.readouterr()
    assert caught.value.code == 2
    assert output.err.splitlines()[-1] == f"giidnet: {well}: 1 error, see 'what to do' above"
    assert re.search(r"\n +error +no mask .*\n +→ add the mask[^\n]*\n +warning +empty mask", output.out)


def test_several_folders_are_compared(well, tmp_path, capsys):
    (tmp_path / "copy").mkdir()
    Image.fromarray(textured(1)).save(tmp_path / "copy" / "same.png")
    with pytest.raises(SystemExit):
        check(well, tmp_path / "copy")
    assert re.search(r"error +same picture in two sets +1", capsys.readouterr().out)


def test_a_narrow_terminal_hides_nothing(well, tmp_path):
    """Under a pseudo-terminal of 60 columns, all words of the problem are there."""
    pty = pytest.importorskip("pty")
    (well / "TE" / "masks" / "0.png").unlink()
    main, side = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "giidnet", "data", "check", str(well)], stdout=side,
                               stderr=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "60", "NO_COLOR": "1",
                                                               "TERM": "xterm"})
    os.close(side)
    text = b""
    while True:
        try:
            data = os.read(main, 4096)
        except OSError:
            break
        if not data:
            break
        text += data
    assert process.wait() == 2
    os.close(main)
    lines = re.sub(r"\x1b\[[\d;]*m", "", text.decode()).splitlines()
    assert max(map(len, lines)) <= 60
    column = next(line.index("→") for line in lines if "→" in line)
    last = " ".join(" ".join(line[column:] for line in lines[-12:]).split())
    assert f"TE/images/0.png: has no mask masks/0.png → {KINDS['no mask'].advice}" in last


def test_help_and_unknown_layouts_answer_without_heavy_imports(tmp_path):
    code = ("import sys, giidnet\ntry: giidnet.main(['data', 'check', '--help'])\nexcept SystemExit: pass\n"
            "print([name for name in ('torch', 'cv2', 'rich', 'scipy') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
