"""The table of an ablation: signs, correction and claims, against the comparisons that they come from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import Shape, write_run

from configs.files import read_rows
from results.ablation import ablation_rows, closing_lines, groups_of
from results.bench_tables import ablation
from results.bench_view import read_bench
from results.claims import _ablated, headline
from results.report import write_report

GROUPS = {name: name for name in ("attention-without-local", "full", "loss-without-focal", "streams-without-bayar")}


def compared(first, second, difference, p, low=None, high=None, perturbation="none"):
    low, high = difference - 0.01 if low is None else low, difference + 0.01 if high is None else high
    return {"perturbation": perturbation, "methods": "mean unseen", "metric": "auc", "first": first, "second": second,
            "count": "8", "sources": "4", "difference": f"{difference:.6f}", "low": f"{low:.6f}",
            "high": f"{high:.6f}", "p": "" if p is None else f"{p:.6f}", "p_corrected": "1.000000", "claim": "",
            "first_mean": f"{0.8 + difference:.6f}", "second_mean": "0.800000"}


def test_differences_are_of_the_variant_less_the_full_network_whichever_comes_first():
    rows = list(ablation_rows([compared("attention-without-local", "full", -0.05, 0.001),
                               compared("full", "loss-without-focal", 0.02, 0.04, low=0.005, high=0.03),
                               compared("full", "ela", 0.3, 0.001),
                               compared("attention-without-local", "loss-without-focal", -0.03, 0.001)], GROUPS))
    assert [row["variant"] for row in rows] == ["attention-without-local", "loss-without-focal"]
    first, second = rows
    assert (first["difference"], first["low"], first["high"]) == ("-0.050000", "-0.060000", "-0.040000")
    assert (second["difference"], second["low"], second["high"]) == ("-0.020000", "-0.030000", "-0.005000")
    assert (second["variant_mean"], second["full_mean"]) == ("0.800000", "0.820000")
    assert [row["part"] for row in rows] == ["attention", "loss"]
    # Two planned comparisons, not four: 0.001 doubled, then 0.04 as it is.
    assert [row["p_corrected"] for row in rows] == ["0.002000", "0.040000"]
    assert [row["comparisons"] for row in rows] == ["2", "2"]
    assert [row["claim"] for row in rows] == ["attention-without-local is worse than full",
                                              "loss-without-focal is worse than full"]


@pytest.mark.parametrize("difference, p, low, high, claim", [
    (0.05, 0.01, 0.04, 0.06, "loss-without-focal is better than full"), (0.05, 0.06, 0.04, 0.06, ""),
    (0.05, 0.01, -0.01, 0.06, ""), (0.05, None, 0.04, 0.06, "")])
def test_a_claim_needs_p_and_the_interval(difference, p, low, high, claim):
    (row,) = ablation_rows([compared("loss-without-focal", "full", difference, p, low, high)], GROUPS)
    assert row["claim"] == claim


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_each_table_is_corrected_for_itself(first, second):
    names = [name for name in GROUPS if name != "full"]
    tables = [[compared(name, "full", 0.1, p, perturbation=perturbation) for name, p in zip(names, values, strict=True)]
              for perturbation, values in (("none", first), ("jpeg-75", second))]
    rows = list(ablation_rows(tables[0] + tables[1], GROUPS))
    for values, found in ((first, rows[:3]), (second, rows[3:])):
        least, middle, most = sorted(round(p, 6) for p in values)
        expected = [min(1, 3 * least)]
        expected.append(max(expected[0], min(1, 2 * middle)))
        expected.append(max(expected[1], most))
        assert sorted(float(row["p_corrected"]) for row in found) == pytest.approx(expected, abs=1e-6)


def test_only_an_ablation_has_variants():
    trained = {"trained_on": {"group": "full", "trainee": "giidnet"}}
    detectors = {"full": [trained, trained], "ela": [{"trained_on": {"group": None}}]}
    assert groups_of({"protocol": "ablate", "detectors": detectors}) == {"full": "full"}
    assert groups_of({"protocol": "ablate", "detectors": detectors | {"full (b)": [trained]}}) == {}
    assert groups_of({"protocol": "matrix", "detectors": detectors}) == {} == groups_of({})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    names = (*GROUPS, "ela")
    return write_run(tmp_path_factory.mktemp("ablation") / "run", Shape(detectors=names, pictures=8, seeds=2),
                     trained_on={name: (GROUPS.get(name), "giidnet" if name in GROUPS else None, ("TE", "NS"))
                                 for name in names}, protocol="ablate")


def test_the_report_shows_variants_against_the_full_network(run, monkeypatch):
    monkeypatch.setattr("results.report.svg", lambda figure: "<svg/>")
    bench = read_bench(run / "results")
    sheets = {sheet.name: sheet for sheet in ablation(bench)}
    rows = {frozenset((row["first"], row["second"])): row for row in bench.comparisons
            if (row["methods"], row["metric"], row["perturbation"]) == ("mean unseen", "auc", "none")}
    shown = sheets["ablation-unseen"].rows
    assert {row[0].text for row in shown} == GROUPS.keys() - {"full"}
    for name, mean, full, difference, *_ in shown:
        row = rows[frozenset((name.text, "full"))]
        sign = 1 if row["second"] == "full" else -1
        assert difference.value == pytest.approx(sign * float(row["difference"]))
        assert mean.value - full.value == pytest.approx(difference.value, abs=2e-6)
        assert difference.low <= difference.value <= difference.high
    assert any("full network on methods that neither saw, corrected for 3 comparisons" in sentence
               for sentence in headline(run / "results"))
    write_report(run)
    page = (run / "results" / "report.html").read_text()
    assert 'id="ablation"' in page and 'href="#ablation"' in page
    assert {row["variant"] for row in read_rows(run / "results" / "tables" / "ablation-unseen.csv")} \
        == GROUPS.keys() - {"full"}


def test_the_terminal_shows_the_first_perturbation_and_methods_never_seen_where_there_are_any():
    seen = compared("loss-without-focal", "full", 0.2, 0.001) | {"methods": "mean seen"}
    unseen = compared("full", "loss-without-focal", 0.05, 0.001)
    later = compared("loss-without-focal", "full", 0.3, 0.001, perturbation="jpeg-75")
    head, line = closing_lines(list(ablation_rows([seen, unseen, later], GROUPS)))
    assert "mean unseen" in head
    assert line == "loss-without-focal  -0.050  [-0.060, -0.040]  p 0.001  worse than full"
    assert len(closing_lines(list(ablation_rows([seen], GROUPS)))) == 2
    assert closing_lines([]) == []


def test_the_headline_claims_what_the_table_claims():
    rows = [compared("attention-without-local", "full", -0.05, 0.001),
            compared("full", "loss-without-focal", 0.02, 0.4)]
    assert _ablated(rows, GROUPS) == [
        "AUC of variants less that of the full network on methods that neither saw, corrected for 2 comparisons: "
        "attention-without-local -0.050 [-0.060, -0.040], p = 0.002; 1 of 2 variants cannot be told from it."]
    assert _ablated(rows[1:], GROUPS) == [
        "No variant can be told from the full network on methods that neither saw, corrected for 1 comparison."]
    assert _ablated(rows, {}) == []
