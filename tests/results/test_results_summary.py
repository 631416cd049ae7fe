"""Tables of a benchmark against plain formulations over rows."""

import csv
import itertools
import warnings
from collections import defaultdict

import numpy as np
import pytest
from intervals import bootstrap_interval, bootstrap_weights, summarize
from safetensors.numpy import save_file
from sklearn import metrics as sklearn_metrics

from configs.errors import UserError
from configs.files import read_rows, write_atomic, write_json, write_rows
from configs.streams import stream
from results.bench_tables import scores
from results.bench_view import read_bench
from results.claims import claim, headline, methods_section
from results.export import markdown
from results.leaderboard import write_leaderboard
from results.pictures import index_records
from results.records import METRICS, RECORDS, VALIDATION, frame_of, read_records
from results.report import write_report
from results.statistics import holm, limits
from results.summary import SUMMARY, image_rows, write_summaries

SEEN = {"TE": "seen", "NS": "unseen", "GC": "unseen", "authentic": "unknown"}
QUALITY = {"good": 0.85, "fair": 0.7, "twin": 0.7}
PHOTOGRAPHS, PICTURES = 12, 3


def make_rows(photographs=PHOTOGRAPHS, seeds=("",), perturbations=("none",), lose=()):
    """Records of three detectors, the last as good as the second; `lose` are (detector, method, image) that failed."""
    rows = []
    for perturbation, method, (name, quality), seed in itertools.product(perturbations, SEEN, QUALITY.items(), seeds):
        for picture in range(photographs * PICTURES):
            generator = stream(picture, perturbation)
            photo, own = picture % photographs, stream(picture, name, seed, method)
            score = quality + 0.05 * stream(photo, "photo").normal() + 0.02 * own.normal()
            row = dict.fromkeys(RECORDS, "") | {
                "detector": name, "seed": seed, "method": method, "seen": SEEN[method], "perturbation": perturbation,
                "kind": {"GC": "learned", "authentic": "authentic"}.get(method, "classical"),
                "perturbation_seen": "seen", "image": f"image{picture}", "source": f"photo{photo}",
                "mask_kind": ("blob", "box")[picture % 2], "mask_fraction": f"{generator.uniform(0.005, 0.4):.9g}",
                "pixels": "4096", "score": f"{own.uniform(0.2, 1):.9g}", "false_alarm": "0.1"}
            row |= dict.fromkeys(("auc", "f1", "val_f1"), f"{score:.9g}")
            if method == "authentic":
                row |= {"auc": "", "f1": "", "val_f1": "", "mask_kind": "", "mask_fraction": "0",
                        "score": f"{own.uniform(0, 0.6):.9g}"}
            if (name, method, row["image"]) in lose:
                row |= dict.fromkeys((*METRICS, "score"), "") | {"error": "the map has NaN, or infinite values"}
            rows.append(row)
    return rows


def write(folder, rows, thresholds=()):
    write_rows(folder / "records.csv", RECORDS, rows)
    write_rows(folder / "thresholds.csv", VALIDATION, thresholds)
    write_summaries(folder, 200, 0)
    return {path.stem: read_rows(path) for path in folder.glob("*.csv")}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return write(tmp_path_factory.mktemp("results"), make_rows(lose={("fair", "NS", "image3")}),
                 [{"detector": "good", "seed": "", "threshold": "0.4", "image_threshold": "0.5", "pictures": "9"}])


def pick(rows, **wanted):
    found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


def plain_means(rows, **wanted):
    """Mean of AUC by picture, over the rows that are wanted."""
    values = defaultdict(list)
    for row in rows:
        if all(row[name] == value for name, value in wanted.items()) and row["auc"]:
            values[row["source"], row["image"]].append(float(row["auc"]))
    return {key: np.mean(found) for key, found in values.items()}


def test_summary_against_plain_means(tables):
    rows = tables["records"]
    for name in QUALITY:
        plain = plain_means(rows, detector=name, seen="unseen")
        found = pick(tables["summary"], detector=name, method="mean unseen")
        interval = bootstrap_interval(list(plain.values()), [source for source, _ in plain], 3000, stream(1, "other"))
        assert float(found["auc"]) == pytest.approx(interval.mean, abs=1e-6)
        assert float(found["auc_low"]) == pytest.approx(interval.low, abs=0.012)
        assert float(found["auc_high"]) == pytest.approx(interval.high, abs=0.012)
        assert (found["count"], found["sources"], found["seeds"], found["kind"]) == ("36", "12", "1", "")
    assert list(tables["summary"][0]) == list(SUMMARY)
    assert list(dict.fromkeys(row["method"] for row in tables["summary"])) == [*SEEN, "mean seen", "mean unseen"]


def test_failures_are_counted_and_not_zero(tables):
    lost = pick(tables["summary"], detector="fair", method="NS")
    assert (lost["count"], lost["undefined"], lost["failures"]) == ("35", "1", "1")
    assert float(lost["auc"]) > 0.6
    mean = pick(tables["summary"], detector="fair", method="mean unseen")
    assert (mean["count"], mean["undefined"], mean["failures"]) == ("36", "0", "1")
    pair = pick(tables["comparisons"], first="good", second="fair", methods="mean unseen", metric="auc")
    assert (pair["count"], pair["lost"]) == ("36", "1")


def test_authentic_pictures_have_false_alarms_and_are_in_no_mean(tables):
    row = pick(tables["summary"], detector="good", method="authentic")
    assert (row["auc"], row["false_alarm"], row["count"], row["undefined"]) == ("", "0.100000", "36", "0")
    assert not any(row["method"] == "mean unknown" for row in tables["summary"])


def test_comparisons_against_plain_differences(tables):
    rows = tables["records"]
    for first, second in itertools.combinations(QUALITY, 2):
        ours, theirs = defaultdict(list), defaultdict(list)
        for row in rows:
            if row["seen"] == "unseen" and row["detector"] in (first, second):
                (ours if row["detector"] == first else theirs)[row["image"], row["method"], row["source"]] = row["auc"]
        differences = defaultdict(list)
        for image, method, source in ours:
            a, b = ours[image, method, source], theirs[image, method, source]
            if a and b:
                differences[source, image].append(float(a) - float(b))
        per_source = defaultdict(list)
        for (source, _), found in differences.items():
            per_source[source].append(np.mean(found))
        found = pick(tables["comparisons"], first=first, second=second, methods="mean unseen", metric="auc")
        every = [value for values in per_source.values() for value in values]
        assert float(found["difference"]) == pytest.approx(np.mean(every), abs=1e-6)
        sums = np.array([sum(values) for values in per_source.values()])
        signs = np.array(list(itertools.product((1, -1), repeat=len(sums))))
        p = np.mean(np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9)
        assert float(found["p"]) == pytest.approx(p, abs=1e-6)
        assert float(found["effect"]) == pytest.approx(np.mean(sums > 0), abs=1e-6)
        assert float(found["low"]) < float(found["difference"]) < float(found["high"])
    table = [row for row in tables["comparisons"] if (row["methods"], row["metric"]) == ("mean unseen", "auc")]
    np.testing.assert_allclose([float(row["p_corrected"]) for row in table],
                               holm(np.array([float(row["p"]) for row in table])), atol=2e-6)


def test_claims_are_made_where_there_is_a_difference_and_only_there(tables):
    claims = {row["claim"] for row in tables["comparisons"]}
    assert claims == {"", "good beats fair", "good beats twin"}
    assert pick(tables["comparisons"], first="fair", second="twin", methods="mean seen", metric="auc")["claim"] == ""


def test_the_worse_detector_first_gives_the_same_claim(tmp_path):
    rows = sorted(make_rows(), key=lambda row: row["detector"] == "good")
    found = write(tmp_path, rows)["comparisons"]
    assert pick(found, first="fair", second="good", methods="mean unseen", metric="auc")["claim"] == "good beats fair"


def test_five_photographs_allow_no_claim(tmp_path):
    found = write(tmp_path, make_rows(photographs=5))
    assert found["comparisons"] and not any(row["claim"] for row in found["comparisons"])
    assert all(row["smallest"] == "" for row in found["power"])
    assert any(sentence.startswith("Too few photographs") for sentence in headline(tmp_path))


def test_pairs_are_compared_on_methods_that_both_saw_or_neither(tmp_path):
    rows = make_rows()
    for row in rows:
        if row["detector"] == "twin":
            row["seen"] = {"TE": "seen", "NS": "seen", "GC": "unknown"}.get(row["method"], "unknown")
    found = write(tmp_path, rows)
    table = [row for row in found["comparisons"] if row["metric"] == "auc"]
    assert [(row["methods"], row["first"], row["second"]) for row in table] == [
        ("mean seen", "good", "fair"), ("mean seen", "good", "twin"), ("mean seen", "fair", "twin"),
        ("mean unseen", "good", "fair"), ("mean unknown", "good", "twin"), ("mean unknown", "fair", "twin")]
    assert {row["methods"] for row in found["ranks"]} == {"mean seen", "mean unknown"}


def test_ranks_order_detectors(tables):
    rows = [row for row in tables["ranks"] if (row["methods"], row["metric"]) == ("mean unseen", "auc")]
    assert rows[0]["detector"] == "good" and float(rows[0]["rank"]) == 1
    assert sum(float(row["rank"]) for row in rows) == pytest.approx(6, abs=1e-5)
    assert {row["blocks"] for row in rows} == {"12"}


def test_power_rows_are_consistent(tables):
    for row in tables["power"]:
        assert float(row["wanted"]) == 0.02
        assert (float(row["smallest"]) <= 0.02) == (int(row["sources_needed"]) <= int(row["sources"]))
        assert int(row["pictures_needed"]) == PICTURES * int(row["sources_needed"])


def test_sizes_partition_the_pictures(tables):
    rows = [row for row in tables["sizes"] if row["detector"] == "good" and row["seen"] == "seen"]
    for factor in ("mask fraction", "mask kind"):
        assert sum(int(row["count"]) for row in rows if row["factor"] == factor) == PHOTOGRAPHS * PICTURES
    assert [row["level"] for row in rows if row["factor"] == "mask fraction"] == ["1–5 %", "5–10 %", "10–25 %",
                                                                                  "25–100 %"]
    inside = [float(row["auc"]) for row in tables["records"] if row["detector"] == "good" and row["method"] == "TE"
              and 0.05 < float(row["mask_fraction"]) <= 0.1]
    found = pick(rows, level="5–10 %")
    assert float(found["auc"]) == pytest.approx(np.mean(inside), abs=1e-6)


def test_pictures_against_scikit_learn(tables):
    for method, chosen in (("GC", {"GC"}), ("mean unseen", {"NS", "GC"})):
        rows = [row for row in tables["records"] if row["detector"] == "good"]
        rows = [row for row in rows if row["method"] in chosen | {"authentic"}]
        truth = np.array([row["method"] != "authentic" for row in rows])
        score = np.array([float(row["score"]) for row in rows])
        found = pick(tables["images"], detector="good", method=method)
        flagged = score >= 0.5
        for name, value in (("auc", sklearn_metrics.roc_auc_score(truth, score)),
                            ("accuracy", sklearn_metrics.accuracy_score(truth, flagged)),
                            ("balanced_accuracy", sklearn_metrics.balanced_accuracy_score(truth, flagged)),
                            ("f1", sklearn_metrics.f1_score(truth, flagged)), ("threshold", 0.5)):
            assert float(found[name]) == pytest.approx(value, abs=1e-6), name
        assert float(found["auc_low"]) < float(found["auc"]) < float(found["auc_high"])
        assert (int(found["forged"]), int(found["authentic"])) == (truth.sum(), (~truth).sum())
    assert pick(tables["images"], detector="fair", method="GC")["accuracy"] == ""


def test_interval_of_the_picture_auc_is_that_of_a_full_bootstrap():
    rows = [row for row in make_rows() if row["detector"] == "good" and row["method"] in ("GC", "authentic")]
    found = next(image_rows(index_records(frame_of(rows)), [], 2000, 0))
    forged = np.array([row["method"] == "GC" for row in rows])
    score = np.array([float(row["score"]) for row in rows])
    above = np.sign(score[forged, None] - score[~forged]) / 2 + 0.5
    areas = []
    for weights in bootstrap_weights([row["source"] for row in rows], 2000, stream(3, "full")):
        ours, theirs = weights[forged], weights[~forged]
        areas.append(ours @ above @ theirs / (ours.sum() * theirs.sum()))
    low, high = limits(np.array(areas)[:, None], PHOTOGRAPHS, len(rows))[:, 0]
    assert float(found["auc_low"]) == pytest.approx(low, abs=0.015)
    assert float(found["auc_high"]) == pytest.approx(high, abs=0.015)


def test_seeds_are_averaged_and_widen_intervals(tmp_path):
    rows = make_rows(seeds=("0", "1", "2"))
    for row in rows:
        if row["auc"]:
            row["auc"] = f"{float(row['auc']) + 0.1 * (int(row['seed']) - 1):.9g}"
    found = write(tmp_path, rows)
    single = summarize([row for row in rows if row["seed"] == "1"], 200, 0)
    three, one = (pick(table, detector="good", method="mean unseen") for table in (found["summary"], single))
    assert (three["seeds"], one["seeds"], three["count"]) == ("3", "1", "36")
    assert float(three["auc"]) == pytest.approx(float(one["auc"]), abs=0.01)
    widths = [float(row["auc_high"]) - float(row["auc_low"]) for row in (three, one)]
    assert widths[0] > 1.3 * widths[1]
    parts = pick(found["variance"], detector="good", methods="mean unseen", metric="auc")
    assert float(parts["seed_sd"]) == pytest.approx(0.1, abs=0.01)
    alone = pick(write(tmp_path / "one", [row for row in rows if row["seed"] == "1"])["variance"], detector="good",
                 methods="mean unseen", metric="auc")
    assert alone["seed_sd"] == "" and float(alone["source_sd"]) > 0
    pairs = {row["claim"] for row in found["comparisons"] if row["metric"] == "auc"}
    assert not any("fair beats" in claim or "twin beats" in claim for claim in pairs)
    # What three seeds say of the means, they do not change for the metric that seeds left alone.
    assert pick(found["comparisons"], first="good", second="fair", methods="mean seen", metric="val_f1")["claim"]


def test_each_perturbation_has_its_tables(tmp_path):
    found = write(tmp_path, make_rows(perturbations=("none", "jpeg:50")))
    for name in ("summary", "comparisons", "ranks", "power", "variance", "images"):
        counts = defaultdict(int)
        for row in found[name]:
            counts[row["perturbation"]] += 1
        assert set(counts) == {"none", "jpeg:50"} and len(set(counts.values())) == 1, name


def test_the_same_records_give_the_same_bytes(tmp_path):
    rows = make_rows()
    for name in "ab":
        write(tmp_path / name, rows)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def plain_area(counts):
    bins = np.arange(counts.shape[1])
    truth, score = np.repeat([0, 1], counts.sum(1)), np.concatenate([bins.repeat(row) for row in counts])
    return sklearn_metrics.roc_auc_score(truth, score)


def test_pooled_rows_sum_methods_and_average_seeds(tmp_path):
    rows = make_rows(seeds=("0", "1"))
    curves = {}
    for number, (name, seed, method) in enumerate(itertools.product(QUALITY, "01", SEEN)):
        counts = stream(number, "curve").integers(0, 9, (2, 1024))
        curves[f"{name}\t{seed}\tnone\t{method}"] = counts * [[1], [method != "authentic"]]
    tmp_path.mkdir(exist_ok=True)
    save_file(curves, tmp_path / "curves.safetensors")
    found = write(tmp_path, rows)["pooled"]
    sums = [curves[f"good\t{seed}\tnone\tNS"] + curves[f"good\t{seed}\tnone\tGC"] for seed in "01"]
    row = pick(found, detector="good", method="all unseen")
    assert float(row["auc"]) == pytest.approx(np.mean([plain_area(counts) for counts in sums]), abs=1e-6)
    assert pick(found, detector="twin", method="authentic")["auc"] == ""
    assert [row["method"] for row in found if row["detector"] == "fair"] == [*SEEN, "all seen", "all unseen"]


def test_headline_and_claims_carry_their_evidence(tmp_path):
    write(tmp_path, make_rows())
    sentences = headline(tmp_path)
    assert sentences[0].startswith("On methods that it never saw, good has a mean AUC of 0.8")
    assert "the highest of 3 detectors, over 36 pictures of 12 photographs." in sentences[0]
    row = pick(read_rows(tmp_path / "comparisons.csv"), first="good", second="fair", methods="mean unseen",
               metric="auc")
    text = claim(row)
    assert text in sentences
    for part in ("good beats fair on methods that neither saw", f"{float(row['first_mean']):.3f} against",
                 f"{float(row['difference']):+.3f} [", "corrected for 3 comparisons", "of 12 photographs",
                 "better on 100 % of them"):
        assert part in text
    swapped = row | {"first": "fair", "second": "good", "difference": f"-{row['difference']}",
                     "low": f"-{row['high']}", "high": f"-{row['low']}", "first_mean": row["second_mean"],
                     "second_mean": row["first_mean"], "effect": "0.000000"}
    assert claim(swapped) == text
    assert "is not distinguishable from" in claim(row | {"claim": "", "p_corrected": "0.400000"})
    assert "Of 3 pairs of detectors there, 2 can be told apart." in sentences
    assert headline(tmp_path / "empty") == []


def test_nobody_leads_where_detectors_have_unseen_methods_of_their_own(tmp_path):
    rows = make_rows()
    for row in rows:
        if row["detector"] == "twin" and row["method"] == "NS":
            row["seen"] = "seen"
    write(tmp_path, rows)
    sentences = headline(tmp_path)
    assert "means over different methods are not compared" in sentences[0]
    assert not any("the highest of" in sentence for sentence in sentences if "never saw" in sentence)
    # What they have in common is compared.
    assert any(sentence.startswith("good beats twin on methods that neither saw") for sentence in sentences)
    best = {column.name: [row[index].best for row in sheet.rows] for sheet in [scores(read_bench(tmp_path), "auc")]
            for index, column in enumerate(sheet.columns)}
    assert any(best["NS"]) and not any(best["unseen"]) and not any(best["seen"])


def test_baselines_that_saw_nothing_do_not_keep_the_others_from_being_ranked(tmp_path):
    rows = make_rows()
    for row in rows:
        if row["detector"] == "twin" and row["seen"] == "seen":
            row["seen"] = "unseen"
    write(tmp_path, rows)
    sentence = headline(tmp_path)[0]
    assert sentence.startswith("On methods that it never saw, good has a mean AUC of ")
    assert "the highest of 2 detectors that were trained on the same methods" in sentence


def test_who_failed_on_the_hard_pictures_does_not_lead(tmp_path):
    """The quitter has no maps of half of the pictures, and a higher mean on the others."""
    rows = make_rows()
    for row in rows:
        if row["detector"] == "fair":
            hard = int(row["image"][5:]) % 2
            row |= failed(row) if hard else {name: f"{float(row[name]) + 0.3:.9g}" for name in ("auc", "f1", "val_f1")
                                             if row[name]}
    found = write(tmp_path, rows)
    quitter, honest = (pick(found["summary"], detector=name, method="mean unseen") for name in ("fair", "good"))
    assert float(quitter["auc"]) > float(honest["auc"]) and int(quitter["failures"]) == 36
    sentences = headline(tmp_path)
    assert sentences[0].startswith("On methods that it never saw, good has") and \
        "the highest of 2 detectors that failed on no picture" in sentences[0]
    told = f"fair (36 failures; the others have a mean AUC of {float(quitter['auc']):.3f})"
    assert any(told in text and "is not ranked" in text for text in sentences)
    sheet = scores(read_bench(tmp_path), "auc")
    cells = {row[0].text: row[-2:] for row in sheet.rows}
    assert all(cell.failed and not cell.best for cell in cells["fair"])
    assert all(cell.best and not cell.failed for cell in cells["good"])
    text = markdown(sheet)
    assert f"{float(quitter['auc']):.3f}‡" in text and "‡ some maps are missing; not ranked." in text
    write(tmp_path / "all", [failed(row) if row["image"] == "image0" else row for row in make_rows()])
    assert not any("the highest" in sentence for sentence in headline(tmp_path / "all"))


def test_power_and_headline_know_of_the_correction(tmp_path):
    """With 7 photographs one pair can be told apart, and 3 cannot: 3 · 2/2⁷ < 0.05, but 3 · 2/2⁶ > 0.05."""
    few = write(tmp_path / "few", make_rows(photographs=6))
    assert not any(row["claim"] for row in few["comparisons"]) and all(row["smallest"] == "" for row in few["power"])
    assert all(int(row["sources_needed"]) >= 7 for row in few["power"])
    assert any("fewer than 7 no test can tell, corrected for 3 comparisons" in text for text in
               headline(tmp_path / "few"))
    pair = write(tmp_path / "pair", [row for row in make_rows(photographs=6) if row["detector"] != "twin"])
    assert {row["claim"] for row in pair["comparisons"]} == {"good beats fair"}
    enough = write(tmp_path / "enough", make_rows(photographs=7))
    assert any(row["claim"] for row in enough["comparisons"]) and all(row["smallest"] for row in enough["power"])


def test_thresholds_win_nothing_on_the_methods_that_they_were_chosen_on(tmp_path):
    """Only the fair one's was chosen on NS, which neither was trained on."""
    thresholds = [{"detector": "good", "seed": "", "methods": "TE"},
                  {"detector": "fair", "seed": "", "methods": "TE Navier-Stokes"}]
    found = write(tmp_path, make_rows(), thresholds)
    for first, second, metric, methods in (("good", "fair", "auc", {"NS", "GC"}), ("good", "fair", "val_f1", {"GC"}),
                                           ("good", "twin", "val_f1", {"NS", "GC"})):
        row = pick(found["comparisons"], first=first, second=second, metric=metric, methods="mean unseen")
        means = {name: np.mean([float(row[metric]) for row in found["records"] if row["method"] in methods
                                and row["detector"] == name]) for name in (first, second)}
        assert float(row["difference"]) == pytest.approx(means[first] - means[second], abs=1e-6)
    assert pick(found["comparisons"], first="good", second="fair", metric="val_f1", methods="mean seen")
    assert {row["detector"] for row in found["ranks"] if row["metric"] == "val_f1"} == set(QUALITY)


def test_a_method_that_one_saw_is_not_compared_with_one_that_may_have(tmp_path):
    rows = make_rows()
    for row in rows:
        if row["detector"] == "twin":
            row["seen"] = "unknown"
    found = write(tmp_path, rows)
    row = pick(found["comparisons"], first="good", second="twin", metric="auc", methods="mean unknown")
    means = [np.mean([float(row["auc"]) for row in rows if row["detector"] == name and row["method"] in ("NS", "GC")])
             for name in ("good", "twin")]
    assert float(row["difference"]) == pytest.approx(means[0] - means[1], abs=1e-6)
    assert not [row for row in found["comparisons"] if "twin" in (row["first"], row["second"])
                and row["methods"] != "mean unknown"]


def test_other_pictures_of_one_name_are_others(tmp_path):
    """TE and NS: one name is one picture where size and mask agree, else two of one source."""
    base = {"detector": "net", "seen": "seen", "perturbation": "none", "image": "a", "source": "s", "pixels": "100"}
    rows = [base | {"method": "TE", "mask_fraction": "0.25", "auc": "0.2"},
            base | {"method": "NS", "mask_fraction": "0.25", "auc": "0.4"},
            base | {"method": "PM", "mask_fraction": "0.5", "auc": "0.9"},
            base | {"method": "GC", "mask_fraction": "0.25", "pixels": "400", "auc": "0.6"}]
    row = next(row for row in summarize(rows, 100, 0) if row["method"] == "mean seen")
    assert (row["count"], row["sources"]) == ("3", "1")
    assert float(row["auc"]) == pytest.approx((0.3 + 0.9 + 0.6) / 3, abs=1e-6)


def test_methods_section_has_the_numbers_of_the_run(tmp_path):
    write(tmp_path, make_rows(), [{"detector": "good", "seed": "", "threshold": "0.4", "image_threshold": "0.5",
                                   "pictures": "9"}])
    about = {"protocol": "seen-unseen", "pooling": "top-0.01", "versions": {"torch": "2.9.0"}, "git_revision": "abcd",
             "guards": [{"guard": "partial", "detector": "", "what": "3 of 9 maps were scored", "allowed": True}],
             "detectors": {"good": [{"parameters": 1234, "trained_on": {"methods": ["TE"], "photographs": 40}}]}}
    text = methods_section({"seed": 7, "benchmark": {"bootstrap": 200}, "forgeries": {"mask_fraction": [0.01, 0.4]}},
                           about, tmp_path)
    for part in ("classical (TE, NS) and learned (GC)", "36 pictures a method, from 12 photographs",
                 "between 0.01 and 0.4", "36 authentic pictures",
                 "good (1,234 parameters; trained on TE; 40 photographs)", "3 of 9 maps were scored",
                 "9 forged validation pictures", "200 resamples", "over the 3 pairs",
                 "torch 2.9.0", "revision abcd", "seed 7", "top-0.01"):
        assert part in text, part
    assert methods_section({}, {}, tmp_path)
    assert methods_section({}, {}, tmp_path / "empty") == ""


def test_records_come_back_as_they_were_written(tmp_path):
    rows = make_rows(lose={("fair", "NS", "image3")})[:150]
    rows[0] |= {"detector": "NA", "image": 'odd, "name"\nof two lines', "error": "caf\u00e9"}
    write_rows(tmp_path / "records.csv", RECORDS, rows)
    for frame in (read_records(tmp_path / "records.csv"), frame_of(rows)):
        assert list(frame) == list(RECORDS)
        assert str(frame["auc"].dtype) == "float32" and str(frame["image"].dtype) == "category"
        for row, (_, found) in zip(rows, frame.iterrows(), strict=True):
            assert all(found[name] == row[name] for name in ("detector", "seed", "image", "source", "error"))
            assert np.isnan(found["auc"]) if row["auc"] == "" else found["auc"] == np.float32(row["auc"])


def test_names_that_are_no_text_stay_apart(tmp_path):
    rows = make_rows()[:2]
    for row, name in zip(rows, ("\udcfe", "\udcff"), strict=True):
        row["image"] = name
    write_rows(tmp_path / "records.csv", RECORDS, rows)
    assert read_records(tmp_path / "records.csv")["image"].tolist() == ["\\xfe", "\\xff"]


def test_records_of_an_earlier_version_lack_columns(tmp_path):
    with (tmp_path / "records.csv").open("w") as file:
        csv.writer(file).writerows([["detector", "method", "seen", "perturbation", "image", "source", "auc"],
                                    ["net", "TE", "seen", "none", "a", "s", "0.5"]])
    frame = read_records(tmp_path / "records.csv")
    assert frame["error"].tolist() == [""] and np.isnan(frame["val_f1"]).all()
    assert summarize(frame, 100, 0)[0]["failures"] == "0"


def test_no_records_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such file; run the benchmark first"):
        write_summaries(tmp_path, 100, 0)
    (tmp_path / "records.csv").write_text("")
    with pytest.raises(UserError, match="not a table of records"):
        write_summaries(tmp_path, 100, 0)


def test_tables_of_no_rows_are_empty_and_old_ones_go(tmp_path):
    write(tmp_path, make_rows())
    assert (tmp_path / "images.csv").exists()
    found = write(tmp_path, [])
    assert not (tmp_path / "images.csv").exists()
    assert all(rows == [] for rows in found.values())


def failed(row):
    return row | dict.fromkeys((*METRICS, "score"), "") | {"error": "out of memory"}


@pytest.mark.parametrize("change", [
    lambda rows: [row for row in rows if row["method"] == "authentic"],
    lambda rows: [row for row in rows if row["detector"] == "good"],
    lambda rows: [row for row in rows if row["image"] == "image0"],
    lambda rows: [row for row in rows if row["image"] == "image0" and row["method"] == "authentic"],
    lambda rows: [failed(row) for row in rows],
    lambda rows: [failed(row) for row in rows if row["method"] == "authentic"],
    lambda rows: [failed(row) if row["detector"] == "good" else row for row in rows],
], ids=["authentic", "one detector", "one picture", "one authentic", "failed", "authentic failed", "one failed"])
def test_a_report_and_a_leaderboard_can_be_had_of_whatever_there_is(change, tmp_path, monkeypatch):
    monkeypatch.setattr("results.report.svg", lambda figure: "<svg/>")
    rows = change(make_rows(photographs=2))
    write(tmp_path / "results", rows)
    write_json(tmp_path / "results" / "benchmark.json", {"protocol": "authentic", "guards": []})
    write_atomic(tmp_path / "config.yaml", "{name: edge, seed: 0, forgeries: {methods: [TE]}, "
                                           "search: {}, benchmark: {bootstrap: 100}}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = write_report(tmp_path).read_text()
        board = write_leaderboard([tmp_path], tmp_path / "board").read_text()
    for text in (page, board):
        assert "good" in text and ">nan<" not in text
        assert ("Nothing was painted into any" in text) == all(row["method"] == "authentic" for row in rows)


def test_one_picture_has_no_interval(tmp_path):
    found = write(tmp_path, [row for row in make_rows() if row["image"] == "image0"])
    row = pick(found["summary"], detector="good", method="TE")
    assert row["auc"] and (row["auc_low"], row["auc_high"]) == ("", "")
    assert all(row["auc"] and not row["auc_low"] for row in (*found["images"], *found["sizes"]))
    pair = found["comparisons"][0]
    assert pair["difference"] and (pair["low"], pair["high"], pair["claim"]) == ("", "", "")
    assert "difference +" in claim(pair) and "nan" not in claim(pair)
    assert not any("nan" in sentence or "[" in sentence for sentence in headline(tmp_path))
    two = write(tmp_path / "two", [row for row in make_rows() if row["image"] in ("image0", "image1")])
    assert pick(two["summary"], detector="good", method="TE")["auc_low"]


@pytest.mark.parametrize("protocol", ["matrix", "leave-one-method-out"])
def test_the_headline_answers_what_a_protocol_that_trains_asks(tmp_path, protocol):
    rows = make_rows()
    names = {"good": "all", "fair": "NS", "twin": "GC"}
    for row in rows:
        row["seen"] = "seen" if row["method"] != names[row["detector"]] else "unseen"
    write(tmp_path, rows)
    known = {name: [{"trained_on": {"methods": [method for method in ("TE", "NS", "GC") if method != group],
                                    "group": group, "trainee": "net"}}] for name, group in names.items()}
    write_json(tmp_path / "benchmark.json", {"protocol": protocol, "detectors": known})
    cells = {(row["detector"], row["method"]): float(row["auc"] or "nan")
             for row in read_rows(tmp_path / "summary.csv")}
    sentence = headline(tmp_path)[0]
    if protocol == "matrix":
        assert sentence.startswith("net, trained on each alone, has a mean AUC on the methods that it did not see of: ")
        assert f"; GC {cells['twin', 'mean unseen']:.3f} [" in sentence and "all " not in sentence.split(": ")[1]
    else:
        assert f": NS {cells['fair', 'NS']:.3f} [" in sentence and f"against {cells['good', 'NS']:.3f}" in sentence
        assert f"GC {cells['twin', 'GC']:.3f} [" in sentence and "TE" not in sentence
    assert any(text.startswith("Of the area of") and "good 10.0%" in text for text in headline(tmp_path))
