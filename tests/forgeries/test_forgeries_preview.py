"""The picture of all methods, and their table."""

import io

import numpy as np
import pytest
from PIL import Image

from configs.errors import UserError
from forgeries.methods import find_method, list_methods
from forgeries.preview import ACROSS, draw_preview, preview_case
from giidnet import main


def open_png(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_case_is_a_square_of_the_photograph_with_a_hole(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    image, mask = preview_case(tmp_path / "wide.png", "rectangle", side=40)
    assert (image == pixels[:, 25:65]).all() and mask.shape == (40, 40) and 0.12 <= mask.mean() <= 0.16
    image, mask = preview_case(None, "blob", side=64)
    assert image.shape == (64, 64, 3) and image.std() > 10


def test_every_method_has_its_place_in_a_repeatable_picture():
    image, mask = preview_case(None, "rectangle", side=48)
    one, three = (open_png(draw_preview(image, mask, names)) for names in (["TE"], ["TE", "NS", "HD"]))
    assert three.shape[1] == one.shape[1] and three.shape[0] > one.shape[0] and ACROSS == 3
    again = open_png(draw_preview(image, mask, ["TE"]))
    assert (again == one).all()
    other = open_png(draw_preview(image, mask, ["NS"]))
    assert (other != one).any()


def test_a_method_that_cannot_paint_does_not_end_the_picture():
    image, _ = preview_case(None, "rectangle", side=32)
    mask = np.ones((32, 32), bool)
    mask[0] = False
    with pytest.raises(UserError):
        find_method("EB").paint(image, mask, np.random.default_rng(0))
    both, other = (open_png(draw_preview(image, mask, ["EB", name])) for name in ("TE", "HD"))
    assert both.shape == other.shape and (both != other).any()


def test_the_command_draws_and_lists(tmp_path, capsys):
    main(["list", "methods"])
    table = capsys.readouterr().out
    for name in list_methods():
        method = find_method(name)
        row = next(line for line in table.splitlines() if line.split()[:1] == [name])
        assert method.source in row and method.speed in row and ("random" in row) != method.deterministic
    declared = tmp_path / "own.yaml"
    declared.write_text("name: OWN\ntype: command\ncommand: [cp, '{image}', '{mask}', '{output}']\ncomposite: false\n")
    main(["list", "methods", str(declared)])
    assert any("OWN" in line and "made anew" in line for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize("words, message", [
    (["list", "methods", "--preview", "x.jpg"], "must end in .png"),
    (["list", "methods", "--preview", "x.png", "--mask", "star"], "'star'"),
    (["list", "methods", "--preview", "x.png", "--photo", "nowhere.png"], "nowhere.png"),
    (["list", "masks", "--preview", "x.png"], "belong to list methods"),
    (["list", "methods", "XX"], "'XX'"),
])
def test_mistakes_are_told_in_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as code:
        main(words)
    text = capsys.readouterr().err
    assert code.value.code == 2 and message in text and text.count("\n") == 1
