"""The report of a benchmark, its tables and figures, the leaderboard, and both in a real browser."""

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from sklearn.metrics import auc as area
from synthetic import DETECTORS, FAILURE, METHODS, Shape, write_run

from configs.errors import UserError
from configs.files import read_rows, write_json, write_rows
from giidnet import main
from results import bench_plots, gallery
from results.bench_tables import all_sheets, scores
from results.bench_view import read_bench
from results.export import LATEX, Cell, Column, Sheet, comma_separated, latex, mark_best, markdown, number, write_tables
from results.leaderboard import write_leaderboard
from results.report import heat, write_report
from results.tables import is_mean

MANY = Shape(detectors=DETECTORS, methods=METHODS[:8], perturbations=("none", "jpeg-75", "jpeg-50", "blur-1",
                                                                       "resize-0.5+jpeg-75"), pictures=8, seeds=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with its report."""
    folder = write_run(tmp_path_factory.mktemp("bench") / "run", MANY)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def bench(run):
    return read_bench(run / "results")


@pytest.fixture(scope="module")
def page(run):
    return (run / "results" / "report.html").read_text()


@pytest.fixture
def undrawn(monkeypatch):
    """Drawing is most of the work."""
    monkeypatch.setattr("results.report.svg", lambda figure: "<svg/>")


def trained(methods, groups):
    """What detectors of a training protocol are called and trained on."""
    return {f"{trainee}-{group}": (group.partition("-")[2], trainee, methods(group))
            for trainee in ("giidnet", "hpfcn") for group in groups}


# ── tables

def cells_of(line):
    """Fields of a row of Markdown, with escaped bars."""
    return [field.strip().replace("\\|", "|") for field in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_table_shows_the_summary_best_detectors_first(bench):
    sheet = scores(bench, "auc")
    rows = {(row["detector"], row["method"]): row for row in bench.summary if row["perturbation"] == "none"}
    names = [column.name for column in sheet.columns]
    assert [column.group for column in sheet.columns[1:9]] == ["classical"] * 5 + ["learned"] * 2 + ["diffusion"]
    unseen = [row[names.index("unseen")].value for row in sheet.rows]
    assert unseen == sorted(unseen, reverse=True) and sheet.order == names.index("unseen")
    for row in sheet.rows:
        for name, cell in zip(names[1:9], row[1:9], strict=True):
            expected = rows[row[0].text, name]
            assert cell.value == float(expected["auc"]) and cell.seen == expected["seen"]
            assert (cell.low, cell.high) == (float(expected["auc_low"]), float(expected["auc_high"]))
    assert [row[0].text for row in sheet.rows if row[1].best] == [max(
        (row for row in rows.values() if row["method"] == "TE"), key=lambda row: float(row["auc"]))["detector"]]


def test_less_is_better_of_errors(bench):
    sheet = scores(bench, "calibration_error")
    best = [row[1].value for row in sheet.rows if row[1].best]
    assert best in ([], [min(row[1].value for row in sheet.rows)])


@given(st.lists(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=2, max_size=2), min_size=1, max_size=6),
       st.booleans())
def test_best_is_the_extreme_of_numbers_that_differ(values, lower):
    rows = mark_best([[Cell("d"), *(Cell("", value) for value in row)] for row in values], (1, 2), lower)
    for column in (0, 1):
        found = sorted({row[column] for row in values} - {None})
        expected = {found[0] if lower else found[-1]} if len(found) > 1 else set()
        assert {row[column + 1].value for row in rows if row[column + 1].best} == expected


TEXT = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]) | st.sampled_from("–−×≥†▲µé"), min_size=1,
               max_size=12)


@given(st.lists(TEXT, min_size=1, max_size=4), st.data())
def test_exports_keep_the_shape_whatever_the_names(names, data):
    columns = [Column("detector", text=True), *(Column(name, "kind & co") for name in names)]
    rows = [[Cell(data.draw(TEXT)), *(Cell("0.500", 0.5, 0.4, 0.6, "seen", True) for _ in names)] for _ in range(2)]
    sheet = Sheet("name", "A_title 50 %", columns, rows)
    lines = markdown(sheet).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert [len(cells_of(line)) for line in table] == [len(columns)] * 4
    read = list(csv.reader(io.StringIO(comma_separated(sheet))))
    assert [row[0] for row in read[1:]] == [row[0].text for row in rows]
    assert {len(row) for row in read} == {1 + 4 * len(names)}
    check_latex(latex(sheet), len(columns))


def check_latex(text, columns):
    """A booktabs table: environments and braces closed, every row as wide as it says, nothing left to escape."""
    assert text.count(r"\begin{") == text.count(r"\end{") == 2
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    plain = text.replace(r"\textbackslash{}", "")
    depth = 0
    for letter in re.findall(r"\\[{}]|[{}]", plain):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0
    layout = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1]
    assert len(layout) == columns
    body = text[text.index(r"\toprule"):text.index(r"\bottomrule")]
    for line in (line for line in body.splitlines() if line.endswith(r"\\")):
        fields = re.split(r"(?<!\\)&", line.replace(r"\textbackslash{}", ""))
        spans = [int(found[1]) if (found := re.search(r"\\multicolumn\{(\d+)\}", field)) else 1 for field in fields]
        assert sum(spans) == columns
    assert not re.search(r"(?<!\\)[%#_]", plain)


def test_every_table_of_the_report_is_written_in_three_forms(run, bench):
    sheets = all_sheets(bench)
    folder = run / "results" / "tables"
    assert {path.name for path in folder.iterdir()} == {f"{name}.{suffix}" for name in sheets
                                                        for suffix in ("md", "tex", "csv")}
    for name, sheet in sheets.items():
        check_latex((folder / f"{name}.tex").read_text(), len(sheet.columns))
    assert "0." in (folder / "scores-auc.md").read_text() and LATEX["†"] in (folder / "scores-auc.tex").read_text()
    table = pd.read_csv(folder / "scores-auc.csv").set_index("detector")
    row = next(row for row in bench.summary if row["method"] == "GC" and row["detector"] == "hpfcn")
    assert table.loc["hpfcn", "GC high"] == float(row["auc_high"]) and table.loc["hpfcn", "TE seen"] == "seen"


def test_tables_that_are_no_more_go(tmp_path):
    sheet = Sheet("a", "title", [Column("detector")], [[Cell("x")]])
    write_tables(tmp_path, [sheet, Sheet("b", "title", [Column("detector")], [[Cell("x")]])])
    (tmp_path / "notes.txt").write_text("mine")
    write_tables(tmp_path, [sheet])
    assert {path.name for path in tmp_path.iterdir()} == {"a.md", "a.tex", "a.csv", "notes.txt"}


def test_numbers_have_a_true_minus():
    assert number("-0.1234").text == "−0.123" and number("").text == number(None).text == "–"


def test_failures_are_counted_by_message(bench):
    sheet = all_sheets(bench)["failures"]
    records = pd.read_csv(bench.folder / "records.csv", keep_default_na=False)
    count = (records["error"] != "").sum()
    assert [[cell.text for cell in row] for row in sheet.rows] == [["ela", FAILURE, str(count)]]


def test_pairs_stand_with_both_signs_and_claims_are_bold(bench):
    sheet = all_sheets(bench)["comparisons"]
    names = [column.name for column in sheet.columns[1:]]
    rows = {(row["first"], row["second"]): row for row in bench.comparisons if row["perturbation"] == "none"}
    for (i, first), (j, second) in combinations(enumerate(names), 2):
        row, sign = (rows[first, second], 1) if (first, second) in rows else (rows[second, first], -1)
        there, back = sheet.rows[i][j + 1], sheet.rows[j][i + 1]
        assert there.value == -back.value == sign * float(row["difference"])
        assert there.best is back.best is bool(row["claim"])
        assert ("▲" in there.text) == (bool(row["claim"]) and there.value > 0)


def test_the_matrix_frames_what_was_trained_on(tmp_path, undrawn):
    groups = trained(lambda group: (group.partition("-")[2],), ["on-TE", "on-GC"])
    folder = write_run(tmp_path, Shape(tuple(groups), METHODS[:5], gallery=False), trained_on=groups, protocol="matrix")
    sheets = all_sheets(read_bench(folder / "results"))
    assert {name for name in sheets if name.startswith("matrix")} == {"matrix-giidnet", "matrix-hpfcn"}
    seen = {(row[0].text, column.name) for row in sheets["matrix-hpfcn"].rows
            for column, cell in zip(sheets["matrix-hpfcn"].columns, row, strict=True) if cell.seen == "seen"}
    assert seen == {("TE", "TE"), ("GC", "GC")}
    assert 'class="sortable heat"' in write_report(folder).read_text()


def test_left_out_methods_are_compared_with_training_on_all(tmp_path):
    everything = ("TE", "NS", "GC")
    groups = trained(lambda group: tuple(name for name in everything if f"without-{name}" != group),
                     ["without-TE", "without-NS", "without-GC", "on-all"])
    folder = write_run(tmp_path, Shape(tuple(groups), METHODS[:5], gallery=False), trained_on=groups,
                       protocol="leave-one-method-out")
    bench = read_bench(folder / "results")
    rows = {(row["detector"], row["method"]): float(row["auc"]) for row in bench.summary if row["auc"]}
    sheet = all_sheets(bench)["left-out"]
    assert {(row[0].text, row[1].text) for row in sheet.rows} == {
        (trainee, method) for trainee in ("giidnet", "hpfcn") for method in everything}
    for trainee, method, _, held, reference, difference in sheet.rows:
        assert held.value == rows[f"{trainee.text}-without-{method.text}", method.text]
        assert reference.value == rows[f"{trainee.text}-on-all", method.text]
        assert difference.value == pytest.approx(held.value - reference.value)


# ── figures

@given(st.lists(st.floats(1, 20), min_size=2, max_size=9).map(sorted), st.floats(0.01, 8))
def test_bars_join_the_largest_groups_within_the_critical_difference(ranks, width):
    groups = [(i, j) for i, j in combinations(range(len(ranks)), 2) if ranks[j] - ranks[i] <= width]
    largest = [(i, j) for i, j in groups if not any(a <= i and j <= b and (a, b) != (i, j) for a, b in groups)]
    assert bench_plots._joined(ranks, width) == largest


def test_curves_are_those_of_the_pooled_pixels(bench):
    histograms = bench.histograms(["GC", "LAMA"])
    figure = bench_plots.roc(bench, histograms)
    line = next(line for line in figure.axes[0].lines if len(line.get_xdata()) > 20)
    assert len(line.get_xdata()) <= bench_plots.POINTS
    pristine, inpainted = histograms[bench.detectors[0]].astype(float)
    below = np.cumsum(pristine) - pristine
    exact = inpainted @ (below + pristine / 2) / inpainted.sum() / pristine.sum()
    assert area(line.get_xdata(), line.get_ydata()) == pytest.approx(exact, abs=1e-3)


def test_histograms_are_summed_over_seeds_and_methods(bench):
    found = bench.histograms(["GC", "LAMA"])
    assert list(found) == bench.detectors
    assert all(abs(counts.sum() - 2 * 2 * 1.1e6) < 4096 for counts in found.values())


def test_robustness_has_a_panel_for_each_operation(bench):
    figures = bench_plots.robustness(bench)
    assert list(figures) == ["robustness_jpeg", "robustness_blur", "robustness_chains"]
    ax = figures["robustness_jpeg"].axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["75", "50", "none"] and ax.xaxis_inverted()
    line = next(line for line in ax.lines if len(line.get_xdata()) == 3)
    row = next(row for row in bench.summary if row["perturbation"] == "jpeg-50" and row["method"] == "mean unseen"
               and row["detector"] == bench.detectors[0])
    assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True))[50] == float(row["auc"])


def test_of_many_detectors_only_the_leading_ones_have_colours(tmp_path):
    folder = write_run(tmp_path, Shape(tuple(f"d{index:02}" for index in range(20)), METHODS[:3], gallery=False,
                                       pictures=4))
    looks = bench_plots.styles(read_bench(folder / "results"))
    shown = [look for look in looks.values() if look.shown]
    assert [look.shown for look in looks.values()] == [True] * 6 + [False] * 14
    assert len({look.colour for look in shown}) == len({look.marker for look in shown}) == 6


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_heat_grows_lighter_with_the_number(values):
    def lightness(value):
        red, green, blue = (int(heat(value)[12 + 2 * i:14 + 2 * i], 16) for i in range(3))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    found = [lightness(value) for value in sorted(values)]
    assert all(after >= before - 1.5 for before, after in pairwise(found))
    assert heat(1.0).startswith("background:#" + "".join(f"{round(255 * part):02x}" for part in
                                                          colormaps["cividis"](1.0)[:3]))


# ── single pictures

def test_pictures_are_taken_evenly_from_the_worst_to_the_best(bench, monkeypatch):
    everything = gallery.list_pictures(bench)
    records = pd.read_csv(bench.folder / "records.csv")
    records = records[(records["perturbation"] == "none") & (records["method"] != "authentic")]
    means = records.groupby(["method", "image"])["auc"].mean().sort_values()
    assert everything.of == len(everything.rows) == len(means)
    assert [row[2] for row in everything.rows] == pytest.approx(1000 * means.to_numpy(), abs=1)
    name, method, _, aucs, f1s = everything.rows[5]
    own = records[(records["image"] == name) & (records["method"] == method)].groupby("detector")[["auc", "f1"]].mean()
    for detector, auc, f1 in zip(everything.detectors, aucs, f1s, strict=True):
        assert (auc is None) == np.isnan(own.loc[detector, "auc"])
        assert auc is None or (auc, f1) == pytest.approx(1000 * own.loc[detector].to_numpy(), abs=1)
    monkeypatch.setattr(gallery, "LISTED", 7)
    some = gallery.list_pictures(bench)
    places = [everything.rows.index(row) for row in some.rows]
    assert len(places) == 7 and (places[0], places[-1]) == (0, len(means) - 1) and some.of == len(means)
    assert max(np.diff(places)) - min(np.diff(places)) <= 1


def test_the_gallery_is_limited_and_keeps_the_extremes(bench, monkeypatch):
    assert len(gallery.read_gallery(bench)) == 24
    monkeypatch.setattr(gallery, "CASES", 16)
    cases = gallery.read_gallery(bench)
    assert [case.rank for case in cases] == ["best", "worst"] * 8
    assert {len(case.maps) for case in cases} == {gallery.MAPS}
    assert [name for name, *_ in cases[0].maps] == bench.detectors[:gallery.MAPS]


# ── the page

def test_the_same_files_give_the_same_bytes(run, page, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    assert write_report(tmp_path / "copy").read_text() == page


def test_what_was_overridden_or_failed_stands_before_the_numbers(tmp_path, undrawn, page):
    red = page[page.index('class="box red"'):page.index('id="scores"')]
    assert "2 test photographs are in its train split" in red and FAILURE in red and "trained on TE, NS" not in red
    folder = write_run(tmp_path, Shape(DETECTORS[:2], METHODS[:3], gallery=False))
    about = json.loads((folder / "results" / "benchmark.json").read_text()) | {"guards": [], "complete": True}
    write_json(folder / "results" / "benchmark.json", about)
    assert 'class="box red"' not in write_report(folder).read_text()
    write_json(folder / "results" / "benchmark.json", about | {"complete": False})
    assert "has not finished" in write_report(folder).read_text()


def test_names_cannot_break_the_page(tmp_path, undrawn):
    evil = "</script><img src=x onerror=alert(1)>"
    folder = write_run(tmp_path, Shape(("giidnet", evil), METHODS[:3], gallery=False))
    text = write_report(folder).read_text()
    assert evil not in text and "<img src=x" not in text

    tags = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append(tag)
    parser.feed(text)
    assert "table" in tags and "img" not in tags


def test_a_summary_of_an_earlier_version_is_shown(tmp_path, undrawn):
    """Fewer columns, and none of the other files."""
    folder = write_run(tmp_path, Shape(DETECTORS[:2], METHODS[:3], gallery=False))
    rows = read_rows(folder / "results" / "summary.csv")
    old = ("detector", "perturbation", "method", "seen", "count", "sources", "undefined", "auc", "auc_low", "auc_high")
    for path in (folder / "results").iterdir():
        path.unlink()
    write_rows(folder / "results" / "summary.csv", old,
               [{key: row[key] for key in old} for row in rows if row["method"] != "authentic"])
    assert "0.9" in write_report(folder).read_text()


# ── the leaderboard

@pytest.fixture
def runs(tmp_path):
    """Two runs on the same pictures with one detector name in common, and one on other pictures."""
    return [write_run(tmp_path / name, Shape(detectors, METHODS[:4], pictures=pictures, gallery=False), seed=seed)
            for seed, (name, detectors, pictures) in enumerate((
                ("first", DETECTORS[:2], 32), ("second", (DETECTORS[0], DETECTORS[3]), 32),
                ("third", DETECTORS[:2], 24)))]


def test_runs_on_the_same_pictures_share_a_board(runs, tmp_path, capsys, undrawn):
    main(["report", *map(str, runs), "--out", str(tmp_path / "board")])
    assert "leaderboard.html" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "board" / "leaderboard.csv")
    assert {board: set(rows["detector"]) for board, rows in table.groupby("board")} == {
        "board-1": {"giidnet (first)", "giidnet (second)", "iid-net", "hpfcn"}, "board-2": {"giidnet", "iid-net"}}
    records = pd.read_csv(runs[1] / "results" / "records.csv")
    records = records[(records["method"] == "GC") & (records["detector"] == "giidnet")]
    row = table[(table["board"] == "board-1") & (table["detector"] == "giidnet (second)")].iloc[0]
    assert row["GC"] == pytest.approx(records["auc"].mean(), abs=1e-6) and row["GC low"] < row["GC"] < row["GC high"]
    pairs = {frozenset((row["first"], row["second"])) for row in
             read_rows(tmp_path / "board" / "board-1" / "comparisons.csv")}
    assert frozenset(("giidnet (first)", "giidnet (second)")) in pairs and len(pairs) == 6
    text = (tmp_path / "board" / "leaderboard.html").read_text()
    assert "2 different sets of test pictures" in text and text.count("data-scores>") == 2
    for suffix in ("md", "tex"):
        assert "giidnet (second)" in (tmp_path / "board" / f"leaderboard.{suffix}").read_text()


def test_a_leaderboard_is_the_same_again(runs, tmp_path, undrawn):
    pages = [write_leaderboard(runs[:2], tmp_path / name).read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]


def test_what_is_no_benchmark_is_refused(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no benchmark there"):
        write_leaderboard([runs[0], tmp_path / "empty"], tmp_path / "board")
    with pytest.raises(UserError, match="twice"):
        write_leaderboard([runs[0], runs[0]], tmp_path / "board")


# ── the browser

@pytest.fixture
def opened(browser, run):
    """A function that opens the report in a window of a width; nothing may fail in it, and nothing be asked for."""
    pages, wrong = [], []

    def open_page(width=1280, **options):
        found = browser.new_page(viewport={"width": width, "height": 800}, **options)
        pages.append(found)
        found.on("pageerror", lambda error: wrong.append(str(error)))
        found.on("console", lambda message: message.type in ("error", "warning") and wrong.append(message.text))
        found.on("request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url))
        found.goto((run / "results" / "report.html").as_uri())
        return found

    yield open_page
    for found in pages:
        found.close()
    assert not wrong


def column(page, index):
    return page.locator("[data-scores] tbody tr").evaluate_all(
        f"rows => rows.map(row => row.cells[{index}].dataset.v ?? row.cells[{index}].textContent)")


@pytest.mark.parametrize("width, options", [(375, {}), (1280, {}), (1280, {"color_scheme": "dark"}),
                                            (375, {"java_script_enabled": False})])
def test_nothing_is_wider_than_the_page(opened, width, options):
    page = opened(width, **options)
    wide = page.evaluate("document.documentElement.scrollWidth") if options.get("java_script_enabled", True) else width
    assert wide <= width
    assert page.locator("[data-scores] tbody tr").count() == len(DETECTORS)
    assert page.locator(".tools").first.is_visible() == options.get("java_script_enabled", True)


def test_a_click_or_a_key_sorts(opened):
    page = opened()
    button = page.locator("[data-scores] thead button", has_text="LAMA")
    button.click()
    head = page.locator("[data-scores] th[aria-sort]")
    index = head.evaluate("head => head.cellIndex")
    values = list(map(float, column(page, index)))
    assert head.get_attribute("aria-sort") == "descending" and values == sorted(values, reverse=True)
    button.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert list(map(float, column(page, index))) == sorted(values)
    page.locator("[data-scores] thead button", has_text="detector").click()
    assert column(page, 0) == sorted(DETECTORS)


def test_another_metric_and_perturbation_change_the_table(opened, run):
    page = opened()
    page.select_option("select.metric", "iou")
    page.select_option("select.perturbation", "jpeg-50")
    assert "IoU at 0.5 after jpeg-50" in page.locator("[data-scores] caption").inner_text()
    rows = {(row["detector"], row["method"]): row for row in read_rows(run / "results" / "summary.csv")
            if row["perturbation"] == "jpeg-50"}
    heads = page.locator("[data-scores] thead tr:last-child th").evaluate_all(
        "heads => heads.map(head => head.textContent)")
    for line in page.locator("[data-scores] tbody tr").all():
        detector, *cells = line.locator("th, td").evaluate_all(
            "cells => cells.map(cell => cell.firstChild.textContent)")
        for name, cell in zip(heads[1:], cells, strict=True):
            row = rows[detector, name if (detector, name) in rows else f"mean {name}"]
            assert float(cell) == pytest.approx(float(row["iou"]), abs=6e-4)
    page.select_option("select.metric", "auc")
    page.select_option("select.perturbation", "none")
    marks = page.locator("[data-scores] td sup").all_inner_texts()
    assert sum("†" in mark for mark in marks) == 2 * len(DETECTORS)
    # One detector failed on a picture of each method, and so in both means.
    assert sum("‡" in mark for mark in marks) == 8 + 2
    assert not page.locator("[data-scores] td", has=page.locator("b"), has_text="‡").count()


def test_a_picture_opens_what_detectors_make_of_it(opened):
    page = opened()
    page.fill("#find", "lama 00003")
    assert page.locator("#listing tbody tr").count() == 1 and page.locator("#found").inner_text() == "1 found"
    page.locator("#listing tbody button").click()
    assert page.locator("#detail h3").inner_text().startswith("LAMA: photo00000-00003")
    shown = page.locator("#detail tbody tr").evaluate_all(
        "rows => rows.map(row => [row.cells[0].textContent, row.cells[1].textContent])")
    assert {name for name, _ in shown} == set(DETECTORS)
    values = [float(value) for _, value in shown if value != "undefined"]
    assert values == sorted(values, reverse=True)
    page.fill("#find", "")
    page.select_option("#order", "best")
    means = [float(text) for text in page.locator("#listing tbody tr td:nth-child(3)").all_inner_texts()]
    assert means == sorted(means, reverse=True)


def test_the_gallery_is_filtered(opened):
    page = opened()
    page.select_option("#case-method", "GC")
    page.select_option("#case-rank", "worst")
    assert page.locator(".case:visible").evaluate_all(
        "cases => cases.map(one => [one.dataset.method, one.dataset.rank])") == [["GC", "worst"]]
    assert page.locator(".case:visible img").evaluate_all("images => images.every(image => image.naturalWidth > 0)")


def test_it_can_be_printed(opened):
    page = opened()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_means_are_told_from_methods(bench):
    assert not any(is_mean(name) for name in bench.methods) and bench.means == ["mean unseen", "mean seen"]


def test_pictures_of_one_name_from_two_sources_are_two(tmp_path):
    folder = write_run(tmp_path, Shape(DETECTORS[:2], METHODS[:1], pictures=8, gallery=False)) / "results"
    rows = read_rows(folder / "records.csv")
    for row in rows:
        row["image"] = {"photo00000-00001": "twin", "photo00001-00004": "twin"}.get(row["image"], row["image"])
    write_rows(folder / "records.csv", list(rows[0]), rows)
    found = {row[0]: row for row in gallery.list_pictures(read_bench(folder)).rows}
    assert len(found) == 8 and {"photo00000: twin", "photo00001: twin"} < set(found) and "twin" not in found
    for source in ("photo00000", "photo00001"):
        own = [float(row["auc"]) for row in rows if (row["image"], row["source"], row["method"]) == (
            "twin", source, "TE")]
        assert len(own) == 2 and found[f"{source}: twin"][2] == pytest.approx(1000 * np.mean(own), abs=1)


def test_what_a_detector_was_trained_after_is_marked(run, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(run / "results", folder)
    rows = read_rows(folder / "records.csv")
    for row in rows:
        trained = row["detector"] == DETECTORS[0] and row["perturbation"] in ("none", "jpeg-50")
        row["perturbation_seen"] = "seen" if trained else "unseen"
    write_rows(folder / "records.csv", list(rows[0]), rows)
    found = read_bench(folder)
    sheet = all_sheets(found)["robustness"]
    marked = {(row[0].text, column.name) for row in sheet.rows for column, cell in zip(sheet.columns, row, strict=True)
              if cell.seen == "seen"}
    assert marked == {(DETECTORS[0], "jpeg-50")} and "† trained on this" in markdown(sheet)
    ax = bench_plots.robustness(found)["robustness_jpeg"].axes[0]
    filled = [line for line in ax.lines if len(line.get_xdata()) == 1 and line.get_markerfacecolor() != "white"]
    assert [line.get_xdata()[0] for line in filled] == [50] and len(ax.lines) > len(DETECTORS)


def test_boards_are_of_the_same_pixels(tmp_path, undrawn):
    """Equal names and masks are not enough: the second run's pictures were painted anew."""
    runs = [write_run(tmp_path / name, Shape(DETECTORS[:2], METHODS[:2], gallery=False)) for name in "abc"]
    for folder, digest in zip(runs, ("0123", "4567", "0123"), strict=True):
        rows = read_rows(folder / "results" / "records.csv")
        write_rows(folder / "results" / "records.csv", list(rows[0]), [row | {"digest": digest} for row in rows])
    page = write_leaderboard(runs, tmp_path / "board").read_text()
    assert "2 different sets of test pictures" in page and "Runs: a, c." in page and "Runs: b." in page


def test_guards_of_seeds_are_renamed_and_sizes_keep_their_levels(tmp_path, undrawn):
    runs = [write_run(tmp_path / name, Shape(DETECTORS[:1], METHODS[:2], gallery=False, seeds=2)) for name in "ab"]
    for folder in runs:
        path = folder / "results" / "benchmark.json"
        write_json(path, json.loads(path.read_text()) | {"guards": [
            {"guard": "map-size", "detector": "giidnet seed 1", "what": "gave maps of another size", "allowed": True}]})
        (folder / "config.yaml").write_text(
            (folder / "config.yaml").read_text().replace("{bootstrap: 100}", "{bootstrap: 100, fractions: [0.013]}"))
    page = write_leaderboard(runs, tmp_path / "board").read_text()
    assert "giidnet (a) seed 1: gave maps" in page and "giidnet (b) seed 1: gave maps" in page
    levels = {row["level"] for row in read_rows(tmp_path / "board" / "board-1" / "sizes.csv")}
    assert {"0–1.3 %", "1.3–100 %"} <= levels
