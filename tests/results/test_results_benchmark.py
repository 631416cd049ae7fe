import json
import shutil
import tarfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.metrics import f1_score

from configs.cache import FOLDER
from configs.errors import UserError
from configs.files import read_rows, write_atomic, write_rows
from configs.load import dump_config, load_config
from detectors.checkpoints import save_detector
from detectors.mantranet import ManTraNet
from detectors.sources import Source, check_map
from forgeries.photos import find_photos
from forgeries.readers import read_by_method
from results import entries
from results.benchmark import by_rank, run_benchmark
from results.cases import AuthenticCases, ForgedCases, ReadCases, load_cases
from results.parts import Part, Writer, finished, read_parts
from results.records import METRICS, RECORDS
from results.report import write_report
from results.tables import closing_table
from results.thresholds import FALSE_ALARM, THRESHOLDS, validation_methods

OVERRIDES = ("forgeries.image_size=48", "forgeries.workers=0", "benchmark.images=4", "benchmark.authentic=3",
             "benchmark.validation=4", "device=cpu", "benchmark.methods=[TE, NS]", "forgeries.methods=[TE]",
             "benchmark.perturbations=[none, jpeg-75]", "benchmark.bootstrap=100", "benchmark.gallery=3",
             "benchmark.detectors=[bright, dark]", "benchmark.map_cache_gigabytes=0")
TRAINED_ON_TE = {"methods": ["TE"], "perturbations": ["none"], "photos": {}}
TEST_MAPS = 2 * 2 * (2 * 4 + 3)
VALIDATION_MAPS = 2 * (4 + 4)


def bench(folder, *further):
    config = load_config("quick", [*OVERRIDES, *further])
    run_benchmark(config, folder, find_photos(config.photos, 48))
    return read_rows(folder / "results" / "records.csv")


class Detectors:
    """Stands for `open_source`: brightness as probability, and what was looked at."""

    def __init__(self):
        self.pictures, self.provenance, self.digests = [], TRAINED_ON_TE, {}

    def __call__(self, spec, device):
        name = spec.partition("=")[0]

        def predict(image, method, picture):
            self.pictures.append((spec, method, picture, image.tobytes()))
            return check_map(self.map_of(spec, image, method, picture), image)

        return Source(name, "callable", "", predict, self.provenance, self.digests.get(name, f"of {spec}"), None, None)

    def map_of(self, spec, image, method, picture):
        values = image.mean(2, dtype=np.float32) / 255
        return values if spec.endswith("bright") else 1 - values


@pytest.fixture
def detectors(monkeypatch):
    found = Detectors()
    monkeypatch.setattr(entries, "open_source", found)
    return found


def product(folder):
    files = [path for path in sorted((folder / "results").rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_records_hold_every_detector_perturbation_method_and_picture(tmp_path, detectors):
    rows = bench(tmp_path)
    assert tuple(rows[0]) == RECORDS
    keys = [(row["perturbation"], row["method"], row["detector"], row["image"]) for row in rows]
    assert len(set(keys)) == len(keys) == TEST_MAPS
    assert {row["method"]: (row["seen"], row["kind"]) for row in rows} == {
        "TE": ("seen", "classical"), "NS": ("unseen", "classical"), "authentic": ("", "authentic")}
    assert {row["perturbation"]: row["perturbation_seen"] for row in rows} == {"none": "seen", "jpeg-75": "unseen"}
    by_method = [[(row["image"], row["mask_fraction"]) for row in rows if row["method"] == method]
                 for method in ("TE", "NS")]
    assert by_method[0] == by_method[1]
    authentic = [row for row in rows if row["method"] == "authentic"]
    assert all(row["mask_fraction"] == "0" and not row["auc"] and row["false_alarm"] and row["score"]
               for row in authentic)
    assert {row["method"] for row in read_rows(tmp_path / "results" / "summary.csv")} == {
        "TE", "NS", "authentic", "mean seen", "mean unseen"}
    curves = load_file(tmp_path / "results" / "curves.safetensors")
    assert {key.split("\t")[0] for key in curves} == {"bright", "dark"} and len(curves) == 2 * 2 * 3
    assert all(counts.sum() == (3 if "authentic" in key else 4) * 48 ** 2 for key, counts in curves.items())
    told = json.loads((tmp_path / "results" / "benchmark.json").read_text())
    assert told["complete"] and told["expected"] == TEST_MAPS and list(told["detectors"]) == ["bright", "dark"]
    assert not (tmp_path / "results" / "parts").exists()


def test_authentic_pictures_are_the_crops_that_forgeries_are_made_of(tmp_path):
    # What happens to photographs of the training before they are forged is not done to those of the test.
    config = load_config("quick", [*OVERRIDES, "forgeries.before=[jpeg-5]"])
    photos = find_photos(config.photos, 48).test
    as_they_are = ForgedCases(load_config("quick", OVERRIDES), photos, "test", "TE", "none", 1)[0]
    assert (ForgedCases(config, photos, "test", "TE", "none", 1)[0].image == as_they_are.image).all()
    for perturbation in ("none", "scale-0.75"):
        forged = ForgedCases(config, photos, "test", "TE", perturbation, 3)
        plain = AuthenticCases(config, photos, "test", perturbation, 3)
        for index in range(3):
            assert plain[index].name == forged[index].name and not plain[index].mask.any()
            if perturbation == "none":
                mask = forged[index].mask
                assert (plain[index].image[~mask] == forged[index].image[~mask]).all()
                assert (plain[index].image[mask] != forged[index].image[mask]).any()
            assert plain[index].image.shape == forged[index].image.shape


def test_an_interrupted_benchmark_continues_at_the_picture_to_the_same_files(tmp_path, detectors, monkeypatch):
    bench(tmp_path / "whole")
    assert len(detectors.pictures) >= TEST_MAPS + VALIDATION_MAPS
    gallery = len(detectors.pictures) - TEST_MAPS - VALIDATION_MAPS
    detectors.pictures.clear()
    plain = detectors.map_of
    for stop in (7, 30, 31):

        def fail_late(*arguments, stop=stop):
            if len(detectors.pictures) > stop:
                detectors.pictures.pop()
                raise KeyboardInterrupt
            return plain(*arguments)

        monkeypatch.setattr(detectors, "map_of", fail_late)
        with pytest.raises(KeyboardInterrupt):
            bench(tmp_path / "cut")
        assert not (tmp_path / "cut" / "results" / "records.csv").exists()
    monkeypatch.setattr(detectors, "map_of", plain)
    bench(tmp_path / "cut")
    assert len(detectors.pictures) == TEST_MAPS + VALIDATION_MAPS + gallery
    assert product(tmp_path / "cut") == product(tmp_path / "whole")


def test_a_torn_line_is_left_out_and_not_appended_to(tmp_path):
    counts = np.arange(2 * 1024).reshape(2, 1024)
    first = Writer(tmp_path, 0)
    for index in range(3):
        first.add(Part(index, {"image": f"ü{index}"}, counts if index else None))
    first.close()
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:-5])
    # What failed is tried again.
    assert finished(tmp_path) == {1}
    second = Writer(tmp_path, 0)
    for index in (1, 2):
        second.add(Part(index, {"image": f"ü{index}"}, counts))
    second.close()
    parts = sorted(read_parts(tmp_path), key=lambda part: part.index)
    assert [(part.index, part.row) for part in parts] == [(index, {"image": f"ü{index}"}) for index in range(3)]
    assert parts[0].histogram is None and all((part.histogram == counts).all() for part in parts[1:])


def test_workers_and_processes_that_share_the_pictures_change_nothing(tmp_path, detectors):
    bench(tmp_path / "one")
    bench(tmp_path / "two", "forgeries.workers=2")
    assert product(tmp_path / "one") == product(tmp_path / "two")


def test_a_picture_that_fails_is_counted_with_its_message_and_nothing_else_is_lost(tmp_path, detectors, monkeypatch):
    plain = detectors.map_of

    def fail(spec, image, method, picture):
        values = plain(spec, image, method, picture)
        if spec == "bright" and method == "NS":
            number = int(picture[-1])
            if number == 0:
                raise RuntimeError("out of\nmemory")
            if number == 1:
                return values * np.nan
            if number == 2:
                return values[::2]
            raise ValueError("map of my own")
        return values

    monkeypatch.setattr(detectors, "map_of", fail)
    rows = bench(tmp_path, "benchmark.perturbations=[none]")
    errors = [row["error"] for row in rows if row["error"]]
    assert len(rows) == TEST_MAPS // 2 and len(errors) == 4
    assert errors[0] == "RuntimeError: out of memory" and "NaN" in errors[1]
    assert errors[2:] == ["map size: map 24×48 for a picture of 48×48", "map of my own"]
    assert all(not row[metric] for row in rows if row["error"] for metric in METRICS)
    summary = {(row["detector"], row["method"]): row for row in read_rows(tmp_path / "results" / "summary.csv")}
    assert (summary["bright", "NS"]["failures"], summary["bright", "NS"]["count"]) == ("4", "0")
    assert summary["dark", "NS"]["failures"] == "0"
    guards = json.loads((tmp_path / "results" / "benchmark.json").read_text())["guards"]
    assert [(found["detector"], found["what"].split(" of another")[0]) for found in guards
            if found["guard"] == "map-size"] == [("bright", "gave 1 maps")]


def test_maps_are_computed_once_for_all_runs_until_the_weights_change(tmp_path, detectors, monkeypatch):
    monkeypatch.setenv(FOLDER, str(tmp_path / "cache"))
    cached = "benchmark.map_cache_gigabytes=1"
    first = bench(tmp_path / "a", cached)
    looked = len(detectors.pictures)
    # Two detectors, two perturbations; some crops are the same for validation and test.
    assert looked == len({(spec, image) for spec, _, _, image in detectors.pictures}) <= TEST_MAPS + VALIDATION_MAPS
    assert bench(tmp_path / "b", cached, "benchmark.pooling=max") != first and len(detectors.pictures) == looked
    detectors.digests = {"dark": "other weights"}
    bench(tmp_path / "c", cached)
    assert len(detectors.pictures) == looked + looked // 2
    assert {spec for spec, *_ in detectors.pictures[looked:]} == {"dark"}


def test_thresholds_are_chosen_on_validation_photographs_and_used_on_the_test(tmp_path, detectors):
    rows = bench(tmp_path)
    thresholds = {row["detector"]: row for row in read_rows(tmp_path / "results" / "thresholds.csv")}
    assert all((row["methods"], row["pictures"], row["authentic"]) == ("TE", "4", "4") for row in thresholds.values())
    config = load_config("quick", OVERRIDES)
    photos = find_photos(config.photos, 48)
    val, test = ({photo.name for photo in split} for split in (photos.val, photos.test))
    names = {picture.rpartition("-")[0] for _, method, picture, _ in detectors.pictures if method == "TE-4"}
    assert names <= val and not names & test
    case = ForgedCases(config, photos.test, "test", "TE", "none", 4)[0]
    row = next(row for row in rows if row["detector"] == "bright" and row["image"] == case.name)
    authentic = AuthenticCases(config, photos.val, THRESHOLDS, "none", 4)
    for name, chosen in thresholds.items():
        maps = [detectors.map_of(name, authentic[index].image, "", "") for index in range(4)]
        assert np.mean([(found >= float(chosen["quiet_threshold"])).mean() for found in maps]) <= FALSE_ALARM
    flagged = detectors.map_of("bright", case.image, "", "") >= float(thresholds["bright"]["threshold"])
    assert float(row["val_f1"]) == pytest.approx(f1_score(case.mask.ravel(), flagged.ravel()), abs=1e-6)
    other = bench(tmp_path / "other", "benchmark.methods=[PM]")
    assert other and read_rows(tmp_path / "other" / "results" / "thresholds.csv") == list(thresholds.values())


def test_a_threshold_is_chosen_on_methods_of_the_training_alone():
    config = load_config("quick", [*OVERRIDES, "forgeries.methods=[TE, PM]"])
    assert validation_methods(config, {"methods": ["NS"]}) == {"NS": "NS"}
    assert list(validation_methods(config, {"methods": ["NS", "unknown here"]})) == ["NS"]
    for methods in (None, [], ["unknown here"]):
        assert list(validation_methods(config, {"methods": methods})) == ["TE", "PM"]


def test_two_of_one_given_name_are_seeds_of_one_detector(tmp_path, detectors):
    rows = bench(tmp_path, "benchmark.detectors=['both=bright', 'both=dark', bright]", "benchmark.perturbations=[none]")
    assert {(row["detector"], row["seed"]) for row in rows} == {("both", "0"), ("both", "1"), ("bright", "")}
    with pytest.raises(UserError, match="two checkpoints are called bright"):
        bench(tmp_path / "other", "benchmark.detectors=[bright, bright]")


def test_no_detector_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no retrained detector"):
        bench(tmp_path, "benchmark.detectors=[]")


def test_a_test_photograph_among_those_trained_on_is_refused_or_told(tmp_path, detectors):
    leaked = find_photos(load_config("quick").photos, 48).test[1]
    entry = {"name": leaked.name, "source": leaked.source, "digest": leaked.digest}
    detectors.provenance = TRAINED_ON_TE | {"photos": {"train": [entry], "val": []}}
    with pytest.raises(UserError, match=rf"{leaked.path.name}.*train split of bright"):
        bench(tmp_path)
    bench(tmp_path, "benchmark.allow=[trained-on]")
    guards = json.loads((tmp_path / "results" / "benchmark.json").read_text())["guards"]
    assert {(found["detector"], found["allowed"]) for found in guards if found["guard"] == "trained-on"} == {
        ("bright", True), ("dark", True)}


def test_what_training_saw_is_marked(tmp_path, detectors):
    detectors.provenance = TRAINED_ON_TE | {"perturbations": ["none", "jpeg-60..95"]}
    rows = bench(tmp_path, "benchmark.perturbations=[grid:jpeg, none, scale-0.5]", "benchmark.gallery=1")
    assert {row["perturbation"]: row["perturbation_seen"] for row in rows} == {
        "jpeg-95": "seen", "jpeg-90": "seen", "jpeg-75": "seen", "jpeg-60": "seen", "jpeg-50": "unseen",
        "jpeg-30": "unseen", "none": "seen", "scale-0.5": "unseen"}
    guards = json.loads((tmp_path / "results" / "benchmark.json").read_text())["guards"]
    told = {found["guard"]: found["what"] for found in guards if found["detector"] == "dark"}
    assert told["seen-methods"] == "dark was trained on TE: these results are labelled seen"
    assert told["seen-perturbations"].startswith("dark was trained on jpeg-95, jpeg-90, jpeg-75, jpeg-60: ")
    assert "whether test photographs are among them is not known" in told["trained-on"]


def test_weights_that_changed_since_the_kill_are_refused(tmp_path, detectors, monkeypatch):
    plain = detectors.map_of
    monkeypatch.setattr(detectors, "map_of", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path)
    monkeypatch.setattr(detectors, "map_of", plain)
    detectors.digests = {"dark": "other weights"}
    with pytest.raises(UserError, match=r"dark: changed since this benchmark began; delete .*parts"):
        bench(tmp_path)


def test_a_part_of_a_benchmark_counts_only_where_that_is_allowed_and_is_told(tmp_path, detectors, monkeypatch):
    plain = detectors.map_of
    monkeypatch.setattr(detectors, "map_of", lambda *arguments: plain(*arguments) if len(detectors.pictures) < 30
                        else (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path)
    monkeypatch.setattr(detectors, "map_of", plain)
    rows = bench(tmp_path, "benchmark.allow=[partial]")
    told = json.loads((tmp_path / "results" / "benchmark.json").read_text())
    assert 0 < len(rows) < TEST_MAPS and not told["complete"]
    assert all(row["threshold"] for row in read_rows(tmp_path / "results" / "thresholds.csv"))
    assert f"{len(rows)} of {TEST_MAPS} maps" in next(found["what"] for found in told["guards"]
                                                      if found["guard"] == "partial")
    # What is there can still be completed.
    assert len(bench(tmp_path)) == TEST_MAPS


def test_the_gallery_shows_best_median_and_worst(tmp_path, detectors):
    rows = bench(tmp_path)
    mean = {}
    for row in rows:
        if row["method"] == "NS" and row["perturbation"] == "none":
            mean.setdefault(row["image"], []).append(float(row["auc"]))
    order = sorted(mean, key=lambda name: -np.mean(mean[name]))
    shown = {}
    for place in (tmp_path / "results" / "gallery" / "NS").iterdir():
        assert {path.name for path in place.iterdir()} == {"image.png", "mask.png", "case.json", "map-bright.png",
                                                           "map-dark.png"}
        shown[place.name] = json.loads((place / "case.json").read_text())["image"]
    assert set(shown) == {"best", "median", "worst"}
    if len({round(float(np.mean(values)), 6) for values in mean.values()}) == len(mean):
        assert shown["best"] == order[0] and shown["worst"] == order[-1]
    image = cv2.imread(str(tmp_path / "results" / "gallery" / "authentic" / "worst" / "mask.png"))
    assert image.max() == 0


def test_ranks_are_even_from_best_to_worst():
    scores = {index: index / 10 for index in range(11)}
    assert by_rank(scores, 3) == [("best", 10), ("median", 5), ("worst", 0)]
    assert [rank for rank, _ in by_rank(scores, 5)] == ["best", "quantile-75", "median", "quantile-25", "worst"]
    assert by_rank(scores, 0) == [] and by_rank({4: 0.5}, 3) == [("best", 4)]


@pytest.fixture
def data(tmp_path):
    """Two pictures of different sizes, the second with an empty mask."""
    for index, size in enumerate(((40, 56), (33, 64))):
        image = np.full((*size, 3), 90, np.uint8)
        mask = np.zeros(size, np.uint8)
        if index == 0:
            image[8:20, 8:20], mask[8:20, 8:20] = 200, 255
        for kind, pixels in (("images", image), ("masks", mask)):
            (tmp_path / "data" / "LAMA" / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "data" / "LAMA" / kind / f"{index}.png"), pixels)
    return tmp_path / "data"


def test_a_forged_folder_of_other_sizes_is_scored_and_undefined_fields_are_empty(tmp_path, detectors, data):
    found = bench(tmp_path, f"benchmark.data={data}")
    rows = [row for row in found if row["detector"] == "bright" and row["perturbation"] == "none"]
    assert [row["auc"] for row in rows] == ["1", ""]
    assert [(row["seen"], row["kind"]) for row in rows] == [("unseen", "learned")] * 2
    told = json.loads((tmp_path / "results" / "benchmark.json").read_text())["guards"]
    assert any(mark["what"].startswith(f"{data}: origin of the pictures is not known") for mark in told)
    summary = read_rows(tmp_path / "results" / "summary.csv")[0]
    assert (summary["count"], summary["undefined"], summary["auc"]) == ("1", "1", "1.000000")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_list_with_authentic_pictures_and_a_shard_are_scored(tmp_path, detectors, data, workers):
    (data / "list.csv").write_text("LAMA/images/1.png,\nLAMA/images/0.png,LAMA/masks/0.png\n")
    with tarfile.open(data / "set.tar", "w") as tar:
        for name in ("0.png", "1.png"):
            tar.add(data / "LAMA" / "images" / name, name)
            tar.add(data / "LAMA" / "masks" / name, name.replace(".", ".mask."))
    for place, methods in (("list.csv", ["list", "authentic"]), ("set.tar", ["set", "set"])):
        shutil.rmtree(tmp_path / "results", ignore_errors=True)
        found = bench(tmp_path, f"benchmark.data={data / place}", "benchmark.perturbations=[none]",
                      f"forgeries.workers={workers}", "benchmark.validation=0")
        rows = [row for row in found if row["detector"] == "bright"]
        assert [row["method"] for row in rows] == methods and [row["auc"] for row in rows] == ["1", ""]
        assert {(row["seen"], row["kind"]) for row in rows if row["method"] != "authentic"} == {("unknown", "unknown")}
        assert "0 pictures" not in closing_table(tmp_path)


def test_a_forged_folder_made_from_training_photographs_is_refused(tmp_path, detectors, data):
    photo = find_photos(load_config("quick").photos, 48).train[0]
    write_rows(data / "manifest.csv", ("method", "name", "photo", "digest"),
               [{"method": "LAMA", "name": "0", "photo": photo.name, "digest": photo.digest}])
    entry = {"name": photo.name, "source": photo.source, "digest": photo.digest}
    detectors.provenance = TRAINED_ON_TE | {"photos": {"train": [entry]}}
    with pytest.raises(UserError, match=f"{photo.name}: a test photograph"):
        bench(tmp_path, f"benchmark.data={data}")


def test_saved_checkpoints_of_several_seeds_are_found(tmp_path):
    torch.manual_seed(0)
    for place, seed in (("mantranet", None), ("small-on-TE/seed-0", 0), ("small-on-TE/seed-1", 1)):
        trained = TRAINED_ON_TE | ({} if seed is None else {"protocol": {
            "name": "matrix", "group": "TE", "trainee": "small", "training_seed": seed}})
        save_detector(tmp_path / "retrain" / place, "mantranet", ManTraNet(width=0.125), {"width": 0.125}, trained)
    rows = bench(tmp_path, "benchmark.perturbations=[none]", "benchmark.images=2", "benchmark.detectors=[]",
                 "benchmark.methods=[NS]", "benchmark.authentic=0", "benchmark.validation=2",
                 "benchmark.baselines=[constant]")
    assert [(row["detector"], row["seed"]) for row in rows] == [
        ("mantranet", "")] * 2 + [("small-on-TE", "0")] * 2 + [("small-on-TE", "1")] * 2 + [("constant", "")] * 2
    told = json.loads((tmp_path / "results" / "benchmark.json").read_text())["detectors"]
    assert [one["seed"] for one in told["small-on-TE"]] == [0, 1]
    assert told["small-on-TE"][0]["trained_on"]["group"] == "TE" and told["mantranet"][0]["parameters"] > 1000


def test_read_cases_are_perturbed_the_same_each_time_and_each_in_its_own_way(data):
    def pictures(seed):
        cases = ReadCases(read_by_method(data)["LAMA"], "crop-0.5..0.9+noise-20", seed)
        return list(load_cases(cases, range(len(cases)), 0))

    first, again, other = pictures(0), pictures(0), pictures(1)
    assert all(one.image.tobytes() == two.image.tobytes() and (one.mask == two.mask).all()
               for one, two in zip(first, again, strict=True))
    assert len({case.image.tobytes() for case in first + other}) == len(first + other)
    assert all(case.image.shape[:2] == case.mask.shape for case in first)
    whole = [case.load()[0] for case in read_by_method(data)["LAMA"]]
    assert all(case.image.size < image.size for case, image in zip(first, whole, strict=True))


def test_an_entry_is_labelled_with_its_seed(detectors):
    entry = entries.Entry("one", "", "one", detectors("one", "cpu"))
    assert entry.label == "one" and replace(entry, seed="3").label == "one seed 3"


def test_published_protocols_score_the_same_maps_under_their_names(tmp_path, detectors):
    rows = bench(tmp_path, "benchmark.variants=[iid-net, mvss]", "benchmark.perturbations=[none]")
    found = {(row["detector"], row["method"], row["variant"], row["number"]): row
             for row in read_rows(tmp_path / "results" / "variants.csv")}
    aucs = [float(row["auc"]) for row in rows if row["detector"] == "dark" and row["method"] == "NS"]
    assert float(found["dark", "NS", "iid-net", "auc"]["value"]) == pytest.approx(100 * np.mean(aucs))
    assert found["dark", "NS", "iid-net", "auc"]["pictures"] == "4"
    # Of authentic pictures the published code has no AUC.
    assert found["dark", "all", "iid-net", "auc"]["value"] == ""
    assert found["dark", "all", "mvss", "specificity"]["pictures"] == "11"
    write_atomic(tmp_path / "config.yaml", dump_config(load_config("quick", OVERRIDES)))
    assert "As mvss scores" in write_report(tmp_path).read_text()


def test_what_failed_is_tried_again_on_resume_and_counted_until_it_works(tmp_path, detectors, monkeypatch):
    plain, broken = detectors.map_of, [True]

    def fail(spec, image, method, picture):
        if method == "authentic" and len(detectors.pictures) > 40:
            raise KeyboardInterrupt
        if method == "NS" and broken[0]:
            raise FileNotFoundError("no map yet")
        return plain(spec, image, method, picture)

    monkeypatch.setattr(detectors, "map_of", fail)
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path)
    monkeypatch.setattr(detectors, "map_of", plain)
    broken[0] = False
    assert not any(row["error"] for row in bench(tmp_path))


def test_a_picture_that_cannot_be_read_is_a_failure_of_all(tmp_path, detectors, data):
    (data / "LAMA" / "images" / "0.png").write_bytes(b"no picture")
    rows = bench(tmp_path, f"benchmark.data={data}", "benchmark.perturbations=[none]", "benchmark.validation=0")
    assert [(row["detector"], row["image"], bool(row["error"])) for row in rows] == [
        ("bright", "0", True), ("bright", "1", False), ("dark", "0", True), ("dark", "1", False)]
    assert "no picture that can be decoded" in rows[0]["error"]


def test_pictures_that_changed_since_the_kill_are_refused(tmp_path, detectors, data, monkeypatch):
    plain = detectors.map_of
    monkeypatch.setattr(detectors, "map_of", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    settings = f"benchmark.data={data}", "benchmark.validation=0"
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path, *settings)
    monkeypatch.setattr(detectors, "map_of", plain)
    for kind in ("images", "masks"):
        shutil.copy(data / "LAMA" / kind / "0.png", data / "LAMA" / kind / "00.png")
    with pytest.raises(UserError, match="the test pictures: changed since this benchmark began"):
        bench(tmp_path, *settings)


def test_names_that_tables_cannot_hold_are_refused(tmp_path, detectors, data):
    (data / "LAMA").rename(data / "mean seen")
    with pytest.raises(UserError, match="a method called 'mean seen'"):
        bench(tmp_path, f"benchmark.data={data}")


def test_what_is_no_seed_of_one_detector_is_refused(tmp_path, detectors):
    detectors.digests = {"both": "the same"}
    with pytest.raises(UserError, match="two of those called both are the same"):
        bench(tmp_path, "benchmark.detectors=['both=bright', 'both=dark']")
    detectors.digests = {}
    found = [detectors("both=bright", "cpu"), replace(detectors("both=dark", "cpu"), parameters=7)]
    with pytest.raises(UserError, match="those called both are of different networks"):
        entries._check_seeds("both", found)


def test_a_threshold_that_is_next_to_a_score_stays_beside_it(tmp_path, detectors, monkeypatch):
    monkeypatch.setattr(detectors, "map_of", lambda spec, image, *rest: np.full(image.shape[:2], 0.5, np.float32))
    bench(tmp_path, "benchmark.perturbations=[none]")
    # A map that tells nothing calls no picture forged, by the threshold of validation.
    assert {row["f1"] for row in read_rows(tmp_path / "results" / "images.csv")} == {"0.000000"}
