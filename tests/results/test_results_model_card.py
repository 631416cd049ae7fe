"""The generated block of a model card."""

import pytest
from synthetic import METHODS, Shape, write_run

from configs.errors import UserError
from configs.files import read_rows
from giidnet import main
from results.model_card import BEGIN, END, block, write_card

TEXT = f"# Card\n\nBefore.\n\n{BEGIN}\n\nold tables\n\n{END}\n\nAfter.\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    return [write_run(place / "kodak", Shape(("giidnet", "ela"), METHODS[:4], ("none", "jpeg-75"), gallery=False)),
            write_run(place / "real", Shape(("giidnet",), METHODS[3:5], authentic=False, gallery=False), seed=1)]


def test_what_stands_around_the_block_stays_and_the_block_is_written_anew(tmp_path, runs):
    card = tmp_path / "card.md"
    card.write_text(TEXT)
    write_card(card, runs)
    text = card.read_text()
    assert text.startswith(f"# Card\n\nBefore.\n\n{BEGIN}\n\n### kodak\n\n") and text.endswith(f"\n\n{END}\n\nAfter.\n")
    assert "old tables" not in text and text.index("### kodak") < text.index("### real")
    write_card(card, runs)
    assert card.read_text() == text
    write_card(card, runs[1:])
    assert "kodak" not in card.read_text()


def test_every_number_of_the_block_is_one_of_the_summary(runs):
    text = block(runs[0])
    for row in read_rows(runs[0] / "results" / "summary.csv"):
        if row["method"] == "authentic":
            expected = f"{float(row['false_alarm']):.3f}"
        else:
            expected = f"{float(row['auc']):.3f}" + "†" * (row["seen"] == "seen" and "mean" not in row["method"])
            interval = f"({float(row['auc_low']):.2f}–{float(row['auc_high']):.2f})"
            assert any(expected in line and interval in line for line in text.splitlines()), row
        assert expected in text
    titles = [line for line in text.splitlines() if line.startswith("**")]
    assert len(titles) == 3 and titles[1].startswith("**AUC after jpeg-75") and "Authentic" in titles[2]
    assert "authentic 12 of 3" in text and f"{METHODS[0]} 12 of 3" in text
    assert "- `giidnet`, 1,000 parameters: trained on TE, NS" in text
    assert "2 test photographs are in its train split" in text and "Authentic" not in block(runs[1])


def test_the_command_and_what_it_refuses(tmp_path, runs, capsys):
    card = tmp_path / "card.md"
    card.write_text(TEXT)
    main(["weights", "card", *map(str, runs), "--card", str(card)])
    assert "### real" in card.read_text()
    with pytest.raises(UserError, match="no results of a benchmark there"):
        write_card(card, [tmp_path])
    with pytest.raises(UserError, match="no such model card"):
        write_card(tmp_path / "none.md", runs)
    for wrong in ("", BEGIN, f"{END}{BEGIN}", TEXT + BEGIN):
        card.write_text(wrong)
        with pytest.raises(UserError, match="has no block for tables"):
            write_card(card, runs)
        assert card.read_text() == wrong


def test_the_card_of_the_project_has_the_block():
    from pathlib import Path
    text = (Path(__file__).parents[2] / "docs" / "model-card.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
