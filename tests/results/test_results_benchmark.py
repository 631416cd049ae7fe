import csv
import shutil
import tarfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from configs.errors import UserError
from configs.files import read_rows, write_rows
from configs.load import load_config
from detectors.checkpoints import LoadedDetector, save_detector
from detectors.mantranet import ManTraNet
from forgeries.photos import find_photos
from forgeries.readers import read_by_method
from results import benchmark
from results.benchmark import RECORDS, ReadCases, run_benchmark
from results.tables import closing_table

OVERRIDES = ("forgeries.image_size=48", "forgeries.workers=0", "benchmark.images=4", "device=cpu",
             "benchmark.methods=[TE, NS]", "benchmark.perturbations=[none, jpeg-75]", "benchmark.bootstrap=100",
             "benchmark.gallery=1")


def bench(config, folder):
    run_benchmark(config, folder, None if config.benchmark.data else find_photos(config.photos, 48))


class Brightness(torch.nn.Module):
    """A detector of one parameter."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, images):
        return (images.mean(1, keepdim=True) * self.scale).clamp(0, 1)


def provenance(photos=()):
    return {"methods": ["TE"], "perturbations": ["none"],
            "photos": {"train": [{"name": p.name, "source": p.source, "digest": p.digest} for p in photos],
                       "val": []}}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("bright", "dark"):
        (tmp_path / "retrain" / name).mkdir(parents=True)
        (tmp_path / "retrain" / name / "model.safetensors").touch()
    monkeypatch.setattr(benchmark, "load_detector",
                        lambda path, device: LoadedDetector("x", Brightness(), {}, provenance()))
    return tmp_path


def product(folder):
    files = [path for path in sorted((folder / "results").rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_records_hold_every_detector_perturbation_method_and_picture(folder):
    bench(load_config("quick", OVERRIDES), folder)
    rows = read_rows(folder / "results" / "records.csv")
    assert tuple(rows[0]) == RECORDS
    keys = [(row["perturbation"], row["method"], row["detector"], row["image"]) for row in rows]
    assert len(set(keys)) == len(keys) == 2 * 2 * 2 * 4
    assert {row["method"]: row["seen"] for row in rows} == {"TE": "seen", "NS": "unseen"}
    assert {row["perturbation"]: row["perturbation_seen"] for row in rows} == {
        "none": "seen", "jpeg-75": "unseen"}
    by_method = [[(row["image"], row["mask_fraction"]) for row in rows if row["method"] == method]
                 for method in ("TE", "NS")]
    assert by_method[0] == by_method[1]
    assert {row["method"] for row in read_rows(folder / "results" / "summary.csv")} == {
        "TE", "NS", "mean seen", "mean unseen"}
    assert {path.name for path in (folder / "results" / "gallery" / "TE-0").iterdir()} == {
        "image.png", "mask.png", "name.txt", "map-bright.png", "map-dark.png"}


def test_an_interrupted_benchmark_continues_to_the_same_files(folder, monkeypatch):
    config = load_config("quick", OVERRIDES)
    bench(config, folder)
    whole = product(folder)
    for path in sorted((folder / "results").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    scored = []
    score = benchmark.score_map

    def fail_late(*arguments):
        if len(scored) == 21:
            raise KeyboardInterrupt
        scored.append(1)
        return score(*arguments)

    monkeypatch.setattr(benchmark, "score_map", fail_late)
    with pytest.raises(KeyboardInterrupt):
        bench(config, folder)
    assert len(read_rows(folder / "results" / "records.csv")) == 16
    scored.clear()
    monkeypatch.setattr(benchmark, "score_map", lambda *arguments: scored.append(1) or score(*arguments))
    bench(config, folder)
    assert len(scored) == 16
    assert product(folder) == whole


def test_workers_change_nothing(folder):
    bench(load_config("quick", OVERRIDES), folder)
    alone = (folder / "results" / "records.csv").read_bytes()
    (folder / "results" / "records.csv").unlink()
    bench(load_config("quick", [*OVERRIDES, "forgeries.workers=2"]), folder)
    assert (folder / "results" / "records.csv").read_bytes() == alone


def test_a_test_photograph_among_those_trained_on_is_refused(folder, monkeypatch):
    config = load_config("quick", OVERRIDES)
    leaked = find_photos(config.photos, 48).test[1]
    monkeypatch.setattr(benchmark, "load_detector",
                        lambda path, device: LoadedDetector("x", Brightness(), {}, provenance([leaked])))
    with pytest.raises(UserError, match=rf"{leaked.path.name}.*train split of bright"):
        bench(config, folder)


def test_no_checkpoint_and_two_of_one_name_are_refused(tmp_path, folder):
    with pytest.raises(UserError, match="no retrained detector"):
        bench(load_config("quick", OVERRIDES), tmp_path / "elsewhere")
    twice = [str(folder / "retrain" / "bright"), str(folder / "retrain" / "bright" / "model.safetensors")]
    with pytest.raises(UserError, match="two checkpoints are called bright"):
        bench(load_config("quick", [*OVERRIDES, f"benchmark.detectors={twice}"]), folder)


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


def test_a_forged_folder_of_other_sizes_is_scored_and_undefined_fields_are_empty(folder, data):
    bench(load_config("quick", [*OVERRIDES, f"benchmark.data={data}"]), folder)
    rows = [row for row in read_rows(folder / "results" / "records.csv")
            if row["detector"] == "bright" and row["perturbation"] == "none"]
    assert [row["auc"] for row in rows] == ["1", ""]
    assert [row["seen"] for row in rows] == ["unseen", "unseen"]
    summary = read_rows(folder / "results" / "summary.csv")[0]
    assert (summary["count"], summary["undefined"], summary["auc"]) == ("1", "1", "1.000000")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_list_with_authentic_pictures_and_a_shard_are_scored(folder, data, workers):
    (data / "list.csv").write_text("LAMA/images/1.png,\nLAMA/images/0.png,LAMA/masks/0.png\n")
    with tarfile.open(data / "set.tar", "w") as tar:
        for name in ("0.png", "1.png"):
            tar.add(data / "LAMA" / "images" / name, name)
            tar.add(data / "LAMA" / "masks" / name, name.replace(".", ".mask."))
    for place, methods in (("list.csv", ["list", "authentic"]), ("set.tar", ["set", "set"])):
        shutil.rmtree(folder / "results", ignore_errors=True)
        config = load_config("quick", [*OVERRIDES, f"benchmark.data={data / place}", "benchmark.perturbations=[none]",
                                       f"forgeries.workers={workers}"])
        bench(config, folder)
        rows = [row for row in read_rows(folder / "results" / "records.csv") if row["detector"] == "bright"]
        assert [row["method"] for row in rows] == methods and [row["auc"] for row in rows] == ["1", ""]
        assert "0 pictures" not in closing_table(folder)


def test_a_forged_folder_made_from_training_photographs_is_refused(folder, data, monkeypatch):
    config = load_config("quick", [*OVERRIDES, f"benchmark.data={data}"])
    photo = find_photos(config.photos, 48).train[0]
    write_rows(data / "manifest.csv", ("method", "name", "photo", "digest"),
               [{"method": "LAMA", "name": "0", "photo": photo.name, "digest": photo.digest}])
    monkeypatch.setattr(benchmark, "load_detector",
                        lambda path, device: LoadedDetector("x", Brightness(), {}, provenance([photo])))
    with pytest.raises(UserError, match=f"{photo.name}: a test photograph"):
        bench(config, folder)


def test_a_saved_checkpoint_is_benchmarked(tmp_path):
    torch.manual_seed(0)
    save_detector(tmp_path / "retrain" / "mantranet", "mantranet", ManTraNet(width=0.125), {"width": 0.125},
                  provenance())
    bench(load_config("quick", [*OVERRIDES, "benchmark.perturbations=[none]", "benchmark.images=2"]),
                  tmp_path)
    with (tmp_path / "results" / "records.csv").open() as file:
        assert [row["detector"] for row in csv.DictReader(file)] == ["mantranet"] * 4


def test_perturbations_are_seen_where_training_drew_them_and_grids_are_expanded(folder, monkeypatch):
    drawn = provenance() | {"perturbations": ["none", "jpeg-60..95"]}
    monkeypatch.setattr(benchmark, "load_detector", lambda path, device: LoadedDetector("x", Brightness(), {}, drawn))
    bench(load_config("quick", [*OVERRIDES, "benchmark.perturbations=[grid:jpeg, none, scale-0.5]"]), folder)
    rows = read_rows(folder / "results" / "records.csv")
    assert {row["perturbation"]: row["perturbation_seen"] for row in rows} == {
        "jpeg-95": "seen", "jpeg-90": "seen", "jpeg-75": "seen", "jpeg-60": "seen", "jpeg-50": "unseen",
        "jpeg-30": "unseen", "none": "seen", "scale-0.5": "unseen"}
    assert (folder / "results" / "gallery" / "TE-0" / "image.png").is_file()


def test_read_cases_are_perturbed_the_same_each_time_and_each_in_its_own_way(data):
    def pictures(seed):
        cases = ReadCases(read_by_method(data)["LAMA"], "crop-0.5..0.9+noise-20", seed)
        return [cases[index] for index in range(len(cases))]

    first, again, other = pictures(0), pictures(0), pictures(1)
    assert all(one.image.tobytes() == two.image.tobytes() and (one.mask == two.mask).all()
               for one, two in zip(first, again, strict=True))
    assert len({case.image.tobytes() for case in first + other}) == len(first + other)
    assert all(case.image.shape[:2] == case.mask.shape for case in first)
    whole = [case.load()[0] for case in read_by_method(data)["LAMA"]]
    assert all(case.image.size < image.size for case, image in zip(first, whole, strict=True))


def test_maps_with_nan_are_an_error_and_no_record(folder, monkeypatch):
    broken = Brightness()
    broken.scale.data.fill_(float("nan"))
    found = LoadedDetector("x", Brightness(), {}, provenance())
    monkeypatch.setattr(benchmark, "load_detector", lambda path, device: replace(found, module=broken))
    with pytest.raises(UserError, match=r"bright: cannot be scored on TE.*NaN"):
        bench(load_config("quick", OVERRIDES), folder)
    assert not (folder / "results" / "records.csv").exists()
