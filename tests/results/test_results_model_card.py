"""The generated block of a model card."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save
from synthetic import METHODS, Shape, write_run

from configs.errors import UserError
from configs.files import read_rows, write_atomic, write_json
from giidnet import main
from results.metrics import EDGES
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


def test_shares_at_the_threshold_that_weights_carry(tmp_path):
    run = write_run(tmp_path / "run", Shape(("giidnet", "ela"), METHODS[:2], gallery=False))
    assert "threshold that its weights carry" not in block(run)
    about = json.loads((run / "results" / "benchmark.json").read_text())
    about["detectors"]["giidnet"][0]["threshold"] = float(EDGES[500])
    write_json(run / "results" / "benchmark.json", about)
    curves = load_file(run / "results" / "curves.safetensors")
    curves["giidnet\t\tnone\tauthentic"] = np.stack([np.arange(1024), np.zeros(1024, int)])
    write_atomic(run / "results" / "curves.safetensors", save(curves))
    alarm = sum(range(500, 1024)) / sum(range(1024))
    found = [curves[f"giidnet\t\tnone\t{method}"][1] for method in METHODS[:2]]
    painted = ", ".join(f"{method} {counts[500:].sum() / counts.sum():.0%}"
                        for method, counts in zip(METHODS[:2], found, strict=True))
    (line,) = [line for line in block(run).splitlines() if "threshold that its weights carry" in line]
    assert line == (f"- `giidnet`, 1,000 parameters: trained on TE, NS. At the threshold that its weights carry, "
                    f"{EDGES[500]:.4g}, it flags {alarm:.1%} of the area of authentic pictures, and of the area that "
                    f"was inpainted by {painted} (all pixels pooled).")


def test_no_folder_of_the_machine_comes_into_the_card(tmp_path):
    run = write_run(tmp_path / "run", Shape(("giidnet",), METHODS[:1], gallery=False))
    about = json.loads((run / "results" / "benchmark.json").read_text())
    about["guards"][0]["what"] = "/home/somebody/data/real: origin of the pictures is not known"
    write_json(run / "results" / "benchmark.json", about)
    text = block(run)
    assert "Guards: real: origin of the pictures is not known; trained on TE, NS." in text
    assert "somebody" not in text and str(tmp_path) not in text


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
    text = (Path(__file__).parents[2] / "docs" / "model-card.md").read_text()
    assert text.count(BEGIN) == text.count(END) == 1
