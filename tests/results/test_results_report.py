"""The report's search section, from files written here by hand."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Text
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from configs.files import read_rows, write_atomic, write_json, write_rows
from results import plots
from results.board import write_board
from results.cells import draw_genotype, draw_genotypes
from results.report import read_run, run_figures, write_report
from results.searches import search_figures
from search_space.cost import pareto
from search_space.genotype import SpaceShape, random_genotype, released_genotype, write_genotype
from search_space.registry import OPERATIONS

SPACE = SpaceShape(("sep3", "identity", "se_sep3"), 2, (32, 32), (2, 1), (1, 2), ("plain", "plain+bayar"),
                   ("none", "global+local"))
CONFIG = """
name: tiny
seed: 3
forgeries: {methods: [TE]}
search: {strategy: darts, objective: {metric: auc, cost_weight: 0.0}}
benchmark: {bootstrap: 100}
"""
EPOCHS = (1, 2, 3)
GENOTYPES = [random_genotype(SPACE, np.random.default_rng(seed)) for seed in range(12)]
CANDIDATES = [{
    "index": index, "genotype": str(genotype), "score": 0.6 + 0.02 * index, "auc": 0.6 + 0.02 * index,
    "f1": 0.3, "pictures": 8 if index % 2 else 4, "exact": index % 2, "params": 1000 + 10 * (index * 5 % 12),
    "flops": 10**6 + 10**4 * (index * 7 % 12), "latency_ms": 2.0 + index % 5}
    for index, genotype in enumerate(GENOTYPES)]
STUDY = [{"genotype": str(genotype), "inherited": 0.6 + 0.01 * index, "alone": 0.7 + 0.01 * (index * 3 % 5),
          "sd": 0.02} for index, genotype in enumerate(GENOTYPES[:5])]


def alone(advantage):
    return [{"role": "random" if index else "chosen", "genotype": str(genotype), "seed": seed,
             "auc": 0.7 + (0.0 if index else advantage) + 0.004 * index + 0.003 * (-1) ** seed, "f1": 0.3}
            for index, genotype in enumerate(GENOTYPES[:5]) for seed in range(3)]


def write(path, rows):
    write_rows(path, list(rows[0]), rows)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    place = folder / "search"
    write_atomic(folder / "config.yaml", CONFIG)
    write_genotype(place / "genotype.yaml", replace(GENOTYPES[11], provenance={
        "strategy": "darts", "score": 0.82, "metric": "mean", "candidates_scored": 12}))
    write(place / "candidates.csv", CANDIDATES)
    write(place / "history.csv", [{"epoch": epoch, "train_loss": 1 / epoch, "val_auc": 0.5, "best_auc": 0.6}
                                  for epoch in EPOCHS])
    write(place / "ranking.csv", [{"epoch": epoch, "genotype": str(genotype), "auc": 0.5 + 0.01 * (index * epoch % 4)}
                                  for epoch in EPOCHS for index, genotype in enumerate(GENOTYPES[:4])])
    write(place / "architecture.csv", [
        {"epoch": epoch, "label": label, "option": option, "weight": weight}
        for epoch in EPOCHS for label, options in SPACE.options().items()
        for option, weight in zip(options, np.random.default_rng(epoch).dirichlet([1.0] * len(options)), strict=True)])
    write(place / "alone.csv", alone(0.0))
    write_json(place / "cost.json", {"device": "cpu", "processes": 2, "train_seconds": 11.5, "train_pictures": 1024,
                                     "score_seconds": 2.5, "score_pictures": 96, "check_seconds": 7.0,
                                     "check_pictures": 480})
    write(place / "rank_study.csv", STUDY)
    write_json(place / "rank_study.json", {
        **{key: {"value": 0.25, "low": -0.125, "high": 0.5} for key in
           ("kendall_tau", "spearman_rho", "agreement", "regret", "random_regret")},
        "gain": {"value": None, "low": None, "high": None},
        "noise": {"within_sd": 0.02, "between_sd": 0.03, "reliability": 0.75, "attainable_tau": 0.67},
        "p": 0.5, "architectures": 5, "seeds": 3, "text": "τ = 0.25: this ranking cannot be trusted."})
    return folder


@pytest.fixture
def undrawn(monkeypatch):
    """Drawing is most of the work."""
    monkeypatch.setattr("results.report.svg", lambda figure: "<svg/>")


def text_of(folder):
    return write_report(folder).read_text()


def first_line(page):
    return re.search(r"</h1>\s*(.*?)</p>", page, re.DOTALL).group(1)


@pytest.mark.parametrize("advantage, better", [(0.0, False), (-0.2, False), (0.2, True)])
def test_the_first_line_says_whether_the_search_beat_random(undrawn, run, advantage, better):
    write(run / "search" / "alone.csv", alone(advantage))
    line = first_line(text_of(run))
    assert ("nothing better than random" in line) is not better
    assert ("beat random" in line) is better
    assert ("warn" in line) is not better


def test_a_search_without_comparison_says_so(undrawn, run):
    (run / "search" / "alone.csv").unlink()
    assert "Not known whether the search found more" in first_line(text_of(run))


def test_the_same_files_give_the_same_bytes(run, tmp_path):
    page = text_of(run)
    shutil.copytree(run, tmp_path / "copy")
    assert text_of(tmp_path / "copy") == page


def test_measured_times_stand_apart(undrawn, run):
    page = text_of(run)
    path = run / "search" / "cost.json"
    path.write_text(path.read_text().replace("11.5", "98765.0"))
    other = text_of(run)
    # Of two processes, each of which measured its training; the rest is a sum already.
    assert ">23.0<" in page and ">197,530.0<" in other
    assert ">2.5<" in page and ">7.0<" in page and ">5.0<" not in page and ">14.0<" not in page
    times = re.compile(r'(<span class="time">)[^<]*')
    assert times.sub(r"\1", page) == times.sub(r"\1", other)


def test_the_rank_study_is_told(undrawn, run):
    page = text_of(run)
    assert "this ranking cannot be trusted" in page
    assert page.count("<td>0.250<small>-0.125 to 0.500<") == 5 and "<td>undefined<" in page
    ax = run_figures(read_run(run))["rank_study"].axes[0]
    points = next(line for line in ax.lines if len(line.get_xdata()) == len(STUDY))
    assert np.allclose(points.get_xydata(), [(row["inherited"], row["alone"]) for row in STUDY])


PARTS = {
    "genotype.yaml": {"cells", "front"}, "history.csv": {"loss", "probes"}, "ranking.csv": {"ranks", "agreement"},
    "architecture.csv": {"architecture", "architecture_streams", "architecture_attention"},
    "candidates.csv": {"candidates", "score_flops", "score_params", "score_latency_ms", "front"},
    "alone.csv": {"against_random"}, "cost.json": set(), "rank_study.csv": {"rank_study"}}


@pytest.mark.parametrize("missing", PARTS)
def test_a_missing_file_leaves_its_figures_out(undrawn, run, missing):
    (run / "search" / missing).unlink()
    assert set(run_figures(read_run(run))) == set().union(*PARTS.values()) - PARTS[missing]
    assert "</html>" in text_of(run)


def test_a_run_before_these_columns_is_shown(undrawn, run):
    for name, columns in (("candidates", ("index", "genotype", "auc", "params", "flops")),
                          ("history", ("epoch", "train_loss", "val_auc"))):
        path = run / "search" / f"{name}.csv"
        write_rows(path, columns, [{key: row[key] for key in columns} for row in read_rows(path)])
    for name in ("ranking.csv", "architecture.csv", "alone.csv", "cost.json"):
        (run / "search" / name).unlink()
    write_atomic(run / "config.yaml", CONFIG.replace(", objective: {metric: auc, cost_weight: 0.0}", ""))
    figures = run_figures(read_run(run))
    assert {"cells", "candidates", "score_flops", "loss", "probes"} <= set(figures)
    assert "12 candidates" in text_of(run)


def test_an_unfinished_folder_is_shown(tmp_path):
    write_atomic(tmp_path / "config.yaml", CONFIG + "\nstages: [search, retrain]")
    assert "No search in this run" in text_of(tmp_path) and "Nothing was retrained" in text_of(tmp_path)


def test_a_run_that_only_benchmarks_says_nothing_of_a_search(tmp_path):
    write_atomic(tmp_path / "config.yaml", CONFIG + "\nstages: [benchmark, report]")
    text = text_of(tmp_path)
    assert not any(words in text for words in ("No search in this run", "Nothing was retrained", "Strategy "))


def test_all_figures_are_in_tensorboard_once(run):
    for _ in range(2):
        write_board(run)
    board = EventAccumulator(str(run / "tensorboard" / "report"), {"images": 0}).Reload()
    assert set(board.Tags()["images"]) == {f"report/{name}" for name in run_figures(read_run(run))}
    assert all(len(board.Images(tag)) == 1 and board.Images(tag)[0].width > 400 for tag in board.Tags()["images"])


def test_pareto_keeps_what_nothing_beats():
    generator = np.random.default_rng(0)
    for _ in range(50):
        points = [(int(cost), int(score)) for cost, score in generator.integers(0, 8, (15, 2))]
        beaten = [any(c <= cost and s >= score and (c, s) != (cost, score) for c, s in points)
                  for cost, score in points]
        assert {points[index] for index in pareto(points)} == {
            point for point, is_beaten in zip(points, beaten, strict=True) if not is_beaten}


def test_the_front_is_of_candidates_scored_on_all_pictures(run):
    front = [row for _, row in read_run(run).search.front]
    exact = [row for row in CANDIDATES if row["exact"]]
    assert front and all(row["exact"] == "1" for row in front)
    assert front[0]["index"] == str(max(exact, key=lambda row: row["auc"])["index"])


@pytest.mark.parametrize("cost, column, title, shown", [
    ("flops", "flops", "FLOP", " MFLOP"), ("params", "params", "parameters", " parameters"),
    ("latency", "latency_ms", "latency (ms)", " ms")])
def test_the_front_is_by_the_cost_of_the_objective(undrawn, run, cost, column, title, shown):
    write_atomic(run / "config.yaml", CONFIG.replace("metric: auc", f"metric: auc, cost: {cost}"))
    exact = [row for row in CANDIDATES if row["exact"]]
    expected = [row["index"] for row in exact
                if not any(other[column] <= row[column] and other["auc"] > row["auc"] for other in exact)]
    found = read_run(run)
    assert sorted(int(row["index"]) for _, row in found.search.front) == expected and len(expected) > 1
    texts = [text.get_text() for text in search_figures(found.search)["front"].findobj(Text)]
    assert sum(text.endswith(shown) for text in texts) == len(expected)
    assert f"Pareto front by {title}," in text_of(run)


def test_a_front_by_latencies_that_were_not_measured_is_by_operations(run):
    write_atomic(run / "config.yaml", CONFIG.replace("metric: auc", "metric: auc, cost: latency"))
    before = [row["index"] for _, row in read_run(run).search.front]
    write(run / "search" / "candidates.csv", [{**row, "latency_ms": ""} for row in CANDIDATES])
    found = read_run(run).search
    assert found.price == "flops" and [row["index"] for _, row in found.front] != before


def test_the_distribution_tells_exact_and_raced_apart():
    figure = plots.candidate_scores([0.7, 0.8, 0.9], [0.5, 0.6], 0.9, "AUC")
    counts = [round(sum(bar.get_height() for bar in bars)) for bars in figure.axes[0].containers]
    assert counts == [3, 2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "on all pictures (3)", "raced out (2)", "chosen"]


def test_heat_maps_hold_the_weights(run):
    rows = [row for row in read_rows(run / "search" / "architecture.csv") if row["label"].startswith("cell")]
    figure = plots.architecture_maps(rows, 2)
    axes = {ax.get_title(): ax for ax in figure.axes if ax.get_title()}
    assert list(axes) == ["cell 1, slot 1", "cell 1, slot 2", "cell 2, slot 1", "cell 2, slot 2"]
    for row in rows:
        cell, slot = row["label"].removeprefix("cell").split("_slot")
        values = axes[f"cell {cell}, slot {slot}"].images[0].get_array()
        assert values[SPACE.operations.index(row["option"]), int(row["epoch"]) - 1] == float(row["weight"])


def test_ranks_over_epochs():
    scores = {"a": (0.9, 0.5), "b": (0.7, 0.8), "c": (0.8, 0.6)}
    rows = [{"epoch": str(epoch + 1), "genotype": name, "auc": str(values[epoch])} for epoch in range(2)
            for name, values in scores.items()]
    lines = plots.ranks_over_epochs(rows).axes[0].lines
    assert sorted(tuple(line.get_ydata()) for line in lines) == [(1, 3), (2, 2), (3, 1)]


def test_the_cell_graph_names_all_that_was_chosen():
    shape = SpaceShape(tuple(OPERATIONS), 3, (8,) * 3, (2, 1, 1), (1, 2, 2), ("plain+bayar",), ("none",))
    names = list(OPERATIONS)
    genotype = replace(released_genotype(), cells=(tuple(names[:3]), tuple(names[3:6]), tuple(names[6:])), space=shape,
                       streams="plain+bayar", attention="none")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", plots.svg(draw_genotype(genotype)))
    assert [text for text in texts if text in OPERATIONS][:len(names)] == names
    assert {"plain", "bayar", "none", "stride 2", "dilation 2", *(operation.title.split(",")[0] for operation in
            OPERATIONS.values())} <= {text.split(",")[0] for text in texts}
    small = re.findall(r"<text[^>]*>([^<]*)</text>", plots.svg(draw_genotypes([("one", genotype), ("two", genotype)])))
    assert small.count("hp") == 3 and "streams plain+bayar, attention none" in small


def test_of_several_seeds_the_first_is_drawn_by_the_detectors_name():
    from results.report import first_seeds
    rows = {name: [{"epoch": "1", "val_auc": value}] for name, value in
            (("full/seed-0", "0.5"), ("full/seed-1", "0.6"), ("full/seed-10", "0.7"), ("hpfcn", "0.8"))}
    assert first_seeds(rows) == {"full": rows["full/seed-0"], "hpfcn": rows["hpfcn"]}
