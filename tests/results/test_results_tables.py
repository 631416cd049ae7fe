import pytest

from configs.files import write_rows
from results.summary import SUMMARY
from results.tables import closing_table, columns_of, not_detected


def row(detector, method, seen, auc, low, high):
    return {"detector": detector, "method": method, "seen": seen, "perturbation": "none", "count": "24",
            "sources": "3", "undefined": "0", "failures": "0", "auc": auc, "auc_low": low, "auc_high": high}


ROWS = [row("giidnet", "NS", "unseen", "0.930000", "0.900000", "0.960000"),
        row("giidnet", "TE", "seen", "0.950000", "0.930000", "0.970000"),
        row("giidnet", "PM", "seen", "0.600000", "0.550000", "0.650000"),
        row("giidnet", "PC", "unseen", "", "", ""),
        row("giidnet", "mean seen", "seen", "0.775000", "0.740000", "0.800000"),
        row("giidnet", "mean unseen", "unseen", "0.930000", "0.900000", "0.960000")]


def test_no_results_are_said_in_words(tmp_path):
    assert closing_table(tmp_path).startswith("No results yet")


def _table(folder, rows):
    write_rows(folder / "results" / "summary.csv", SUMMARY, rows)
    return closing_table(folder)


def test_closing_table_groups_methods_names_what_is_not_detected_and_fits(tmp_path):
    assert "24 pictures of 3 photographs a method" in _table(tmp_path, ROWS)
    assert "7–24 pictures of" in _table(tmp_path, [*ROWS[:-2], {**ROWS[0], "method": "EB", "count": "7"}])
    many = [row("giidnet-released", f"METHOD{i}", "unseen", "0.7", "0.65", "0.75") for i in range(12)]
    write_rows(tmp_path / "results" / "summary.csv", SUMMARY, ROWS + many)
    text = closing_table(tmp_path)
    head = text.splitlines()[2].split()
    assert head[:4] == ["TE", "PM", "NS", "PC"]
    assert "0.90–0.96" in text and "undefined" in text
    assert "giidnet does not detect PM (" in text
    assert all(len(line) <= 110 for line in text.splitlines())


def test_undefined_methods_are_not_called_undetected():
    assert not_detected(ROWS) == {"giidnet": ["PM"]}


@pytest.mark.parametrize("other, label", [("seen", "seen"), ("unseen", "mixed")])
def test_columns_say_where_detectors_differ(other, label):
    columns = columns_of([*ROWS, row("mantranet", "TE", other, "0.9", "0.8", "0.95")])
    assert columns["TE"] == label
    assert list(columns)[-2:] == ["mean seen", "mean unseen"]


def test_mixed_columns_mark_the_detector_that_did_not_see_the_method(tmp_path):
    write_rows(tmp_path / "results" / "summary.csv", SUMMARY,
               [*ROWS, row("mantranet", "TE", "unseen", "0.9", "0.8", "0.95")])
    text = closing_table(tmp_path)
    assert "0.900*" in text and "0.950*" not in text and "* not among" in text


def test_other_perturbations_false_alarms_and_failures_are_told(tmp_path):
    jpeg = [{**one, "perturbation": "jpeg-50"} for one in ROWS]
    authentic = {**row("giidnet", "authentic", "unknown", "", "", ""), "false_alarm": "0.021"}
    failed = {**jpeg[0], "method": "EB", "failures": "3"}
    write_rows(tmp_path / "results" / "summary.csv", SUMMARY,
               [*ROWS, authentic, *jpeg[:-1], {**jpeg[-1], "auc": "0.610000"}, failed])
    text = closing_table(tmp_path)
    assert "authentic" not in text.splitlines()[2]
    lines = text.splitlines()
    place = lines.index("Mean unseen AUC by perturbation")
    assert " ".join(" ".join(lines[place + 2:place + 5]).split()) == "giidnet none 0.930 jpeg-50 0.610"
    assert "Flagged at 0.5 in authentic pictures: giidnet 2.1% of their area." in text
    assert "giidnet failed on 3 pictures: see" in text
