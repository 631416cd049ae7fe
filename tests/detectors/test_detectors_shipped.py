"""Weights that come with this project: how they are made, found, told of and used; and those that are there."""

import csv
import json

import cv2
import numpy as np
import pytest
import torch
from detectors_small import small_detector, small_options
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from configs.errors import UserError
from configs.files import digest, write_json, write_rows
from detectors import create_detector, load_shipped, places
from detectors.checkpoints import load_detector, save_detector
from detectors.inference import predict_map
from detectors.places import default_detector, default_weights, read_description, shipped
from detectors.publish import (
    HALF_PRECISION,
    LIMITS,
    NEEDED,
    Limit,
    chosen_threshold,
    local_paths,
    publish,
    rounded,
    without_places,
)
from detectors.sources import open_source
from giidnet import main
from results.guards import near_duplicates_of, trained_on
from results.records import VALIDATION
from search_space.genotype import genotype_dict

PHOTO = {"name": "rocks", "source": "rocks-01", "digest": "ab" * 32, "hash": f"{0x0123456789abcdef:016x}"}
PROVENANCE = {
    "methods": ["TE", "RS-T2"], "perturbations": ["none", "jpeg-75"], "photos": {"train": [PHOTO], "val": []},
    "image_size": 64, "seed": 7, "git_revision": "0123456789ab", "versions": {"torch": "2.9.0"},
    "selected_on": {"methods": ["NS"], "photos": True},
    "config": {"seed": 7, "photos": {"train": ["/home/somebody/photos/train", "../data/large"], "shrink": [0.5, 0.75]},
               "retrain": {"genotype": "~/runs/a/search/genotype.yaml", "epochs": 2},
               "search": {"storage": "postgresql://me:secret@host/db"}, "benchmark": {"data": "/data/real"}}}


def options_of(name):
    options = small_options(name)
    return options | ({"genotype": genotype_dict(options["genotype"])} if "genotype" in options else {})


def save(folder, name="giidnet", provenance=None):
    save_detector(folder, name, small_detector(name), options_of(name), provenance or PROVENANCE)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save(tmp_path_factory.mktemp("runs") / "retrain" / "giidnet")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """An empty place of shipped weights; the working directory has no runs."""
    monkeypatch.setattr(places, "WEIGHTS", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shipped"


@pytest.fixture
def picture(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), image[..., ::-1])
    return image


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as error:
        main(list(map(str, arguments)))
    assert error.value.code == 2
    return capsys.readouterr().err


def test_a_checkpoint_becomes_half_as_large_and_gives_the_same_maps(checkpoint, weights, picture):
    found = publish(checkpoint, "giidnet", weights)
    assert found.path == weights / "giidnet.safetensors" and found.size == found.path.stat().st_size
    with safe_open(found.path, "pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {torch.float16, torch.float32}
    assert all(value.dtype == torch.float32 for key, value in stored.items() if "running_" in key)
    kernels = [value.dtype for key, value in stored.items() if value.ndim == 4 and "attention" not in key]
    assert kernels and set(kernels) == {torch.float16}
    before, after = load_detector(checkpoint).module, load_shipped("giidnet")
    assert not after.training
    assert all(value.dtype == torch.float32 for value in after.state_dict().values() if value.is_floating_point())
    difference = np.abs(predict_map(before, picture) - predict_map(after, picture))
    assert 0 < difference.max() < 0.02
    assert found.mean_difference <= found.largest_difference < 0.02


def test_the_same_checkpoint_gives_the_same_bytes_and_can_be_published_again(checkpoint, tmp_path):
    first, second = (publish(checkpoint, "giidnet", tmp_path / name).path for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    again = publish(first, "giidnet", tmp_path / "c")
    assert again.path.read_bytes() == first.read_bytes() and again.largest_difference == 0


def test_what_was_trained_on_stays_and_what_is_of_the_machine_goes(checkpoint, weights):
    about = read_description(publish(checkpoint, "giidnet", weights, 0.25).path)
    told = about["provenance"]
    assert about["detector"] == "giidnet" and about["options"] == json.loads(json.dumps(options_of("giidnet")))
    unchanged = set(PROVENANCE) - {"config"}
    assert {key: told[key] for key in unchanged} == {key: PROVENANCE[key] for key in unchanged}
    assert told["threshold"] == 0.25
    assert told["config"] == {"seed": 7, "photos": {"train": ["train", "large"], "shrink": [0.5, 0.75]},
                              "retrain": {"genotype": "genotype.yaml", "epochs": 2}}


@pytest.mark.parametrize("text", ["/home/a", "~/a", "x=/home/a", "TE, /home/a", "C:\\Users\\a", "sqlite:/home/a"])
def test_absolute_paths_are_found(text):
    assert list(local_paths({"a": [{"b": text}], "c": 1, "d": None})) == [text] and list(local_paths({text: 1}))


@pytest.mark.parametrize("text", ["", "runs/a", "TE", "jpeg-60..95", "1/2", "https://host.org/a/b", "and/or", "~"])
def test_other_texts_are_no_absolute_paths(text):
    assert not list(local_paths([text])) and without_places(text) == text


def test_a_place_that_cannot_be_removed_is_refused(tmp_path):
    folder = save(tmp_path / "a", provenance=PROVENANCE | {"note": "photographs of /home/somebody"})
    with pytest.raises(UserError, match="names a place on this machine: photographs of /home/somebody"):
        publish(folder, "giidnet", tmp_path)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20), st.integers(-40, 30))
def test_rounding_keeps_range_and_precision(values, exponent):
    tensor = torch.tensor([values], dtype=torch.float32) * 2.0**exponent
    found = rounded(tensor)
    assert found.isfinite().all()
    assert (found.float() - tensor).abs().max() <= HALF_PRECISION * tensor.abs().max()
    assert rounded(tensor[0]).dtype == torch.float32 and torch.equal(rounded(tensor[0]), tensor[0])


@pytest.mark.parametrize("scale, kept", [(1.0, torch.float16), (1e6, torch.float32), (1e-7, torch.float32)])
def test_what_float16_cannot_hold_stays_float32(scale, kept):
    assert rounded(torch.linspace(-1, 1, 12).reshape(3, 4) * scale).dtype == kept
    assert rounded(torch.tensor([[3]])).dtype == torch.int64


def broken(folder, damage):
    module = small_detector("hpfcn")
    with torch.no_grad():
        damage(module)
    save_detector(folder, "hpfcn", module, small_options("hpfcn"), PROVENANCE)
    return folder


def test_weights_that_are_not_finite_are_refused(tmp_path):
    def damage(module):
        next(module.parameters()).view(-1)[0] = float("nan")
    with pytest.raises(UserError, match="has values that are not finite"):
        publish(broken(tmp_path / "a", damage), "hpfcn", tmp_path)


def test_rounding_that_changes_maps_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("detectors.publish.rounded", lambda tensor, *_: tensor + 2 * tensor.is_floating_point())
    with pytest.raises(UserError, match="rounded to float16 its maps differ by"):
        publish(save(tmp_path / "a"), "giidnet", tmp_path)


def test_limits(checkpoint, tmp_path, monkeypatch):
    assert LIMITS["giidnet"].megabytes == 12 and LIMITS["giidnet-small"] == Limit(3, 1_500_000)
    size = publish(checkpoint, "giidnet", tmp_path).size
    parameters = read_description(checkpoint / "model.safetensors")["parameters"]
    for limit, fits in ((Limit(size / 1e6), True), (Limit((size - 1) / 1e6), False), (Limit(12, parameters), True),
                        (Limit(12, parameters - 1), False)):
        monkeypatch.setitem(LIMITS, "giidnet-small", limit)
        if fits:
            publish(checkpoint, "giidnet-small", tmp_path)
        else:
            with pytest.raises(UserError, match=r"giidnet-small may have .* MB.*; train a narrower network"):
                publish(checkpoint, "giidnet-small", tmp_path)


@pytest.mark.parametrize("missing", [*NEEDED, "hash", "digest"])
def test_a_provenance_that_guards_cannot_use_is_refused(tmp_path, missing):
    photo = {key: value for key, value in PHOTO.items() if key != missing}
    told = {key: value for key, value in PROVENANCE.items() if key != missing} \
        | ({"photos": {"train": [photo]}} if missing in PHOTO else {})
    with pytest.raises(UserError, match=f"does not say all that it was trained on .*{missing}"):
        publish(save(tmp_path / "a", provenance=told), "giidnet", tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("name", ["mantranet", "../a", "Small", "", "a b"])
def test_names_that_mislead_are_refused(checkpoint, tmp_path, name):
    with pytest.raises(UserError, match="--name"):
        publish(checkpoint, name, tmp_path)


def table(folder, checkpoint, quiet="0.37", tested=None, seed=None):
    write_rows(folder / "thresholds.csv", VALIDATION, [
        {"detector": "ela", "seed": "", "threshold": "0.1", "quiet_threshold": "0.2"},
        {"detector": "mine", "seed": "" if seed is None else seed, "threshold": "0.3", "quiet_threshold": quiet}])
    write_json(folder / "benchmark.json", {"detectors": {
        "ela": [{"seed": None, "digest": "0"}],
        "mine": [{"seed": seed, "digest": tested or digest(checkpoint / "model.safetensors")}]}})
    return folder / "thresholds.csv"


def test_the_threshold_is_that_of_the_benchmark_of_these_very_weights(checkpoint, tmp_path):
    assert chosen_threshold(table(tmp_path, checkpoint), checkpoint) == 0.37
    assert chosen_threshold(table(tmp_path, checkpoint, seed=3), checkpoint / "model.safetensors") == 0.37
    with pytest.raises(UserError, match="its benchmark did not test"):
        chosen_threshold(table(tmp_path, checkpoint, tested="0" * 64), checkpoint)
    with pytest.raises(UserError, match="has no quiet_threshold of mine"):
        chosen_threshold(table(tmp_path, checkpoint, quiet=""), checkpoint)
    with pytest.raises(UserError, match=r"nowhere\.csv: no such file"):
        chosen_threshold(tmp_path / "nowhere.csv", checkpoint)


def test_the_command(checkpoint, weights, capsys):
    main(["weights", "publish", str(checkpoint), "--name", "giidnet-small", "--thresholds",
          str(table(weights.parent / "results", checkpoint)), "--out", str(weights)])
    told = capsys.readouterr().out
    parameters = sum(weight.numel() for weight in load_shipped("giidnet-small").parameters())
    assert f"giidnet-small: {parameters:,} parameters, {(weights / 'giidnet-small.safetensors').stat().st_size:,} " \
           "bytes; a map differs" in told
    assert read_description(shipped()["giidnet-small"])["provenance"]["threshold"] == 0.37
    assert "not both" in fails(capsys, "weights", "publish", checkpoint, "--name", "a", "--threshold", 0.5,
                               "--thresholds", "x.csv")
    assert "no such checkpoint" in fails(capsys, "weights", "publish", "nowhere", "--name", "a")


def detections(folder):
    with (folder / "detections.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_detect_takes_what_comes_with_the_project(checkpoint, weights, picture, capsys):
    publish(checkpoint, "giidnet-small", weights, 0.125)
    assert default_detector() == "giidnet-small"
    main(["detect", "photo.png", "--raw", "--out", "only"])
    assert "weights of giidnet-small: those that come with giidnet" in capsys.readouterr().err
    expected = predict_map(load_shipped("giidnet-small"), picture)
    assert np.array_equal(np.load("only/photo_map.npy"), expected)
    (row,) = detections(weights.parent / "only")
    assert (row["detector"], row["threshold"]) == ("giidnet-small", "0.125")
    assert float(row["flagged_fraction"]) == pytest.approx((expected >= 0.125).mean(), abs=1e-6)

    publish(checkpoint, "giidnet", weights)
    assert default_detector() == "giidnet"
    main(["detect", "photo.png", "--detector", "giidnet-small", "--detector", "giidnet", "--out", "both"])
    assert [(row["detector"], row["threshold"]) for row in detections(weights.parent / "both")] == [
        ("giidnet-small", "0.125"), ("giidnet", "0.5")]
    main(["detect", "photo.png", "--detector", "giidnet-small", "--threshold", "0.75", "--out", "asked"])
    assert detections(weights.parent / "asked")[0]["threshold"] == "0.75"
    assert "takes no --weights" in fails(capsys, "detect", "photo.png", "--detector", "giidnet-small", "--weights",
                                         checkpoint)


def test_weights_of_a_run_are_taken_where_none_ship_or_when_named(checkpoint, weights, picture, capsys):
    own = save(weights.parent / "runs" / "quick" / "retrain" / "giidnet")
    main(["detect", "photo.png", "--out", "maps"])
    assert "weights of giidnet: runs/quick/retrain/giidnet" in capsys.readouterr().err
    assert default_weights("giidnet").resolve() == own
    publish(checkpoint, "giidnet", weights)
    main(["detect", "photo.png", "--out", "shipped"])
    assert "weights of giidnet: those that come with giidnet" in capsys.readouterr().err
    main(["detect", "photo.png", "--weights", "runs/quick/retrain/giidnet", "--out", "named"])
    assert "those that come with giidnet" not in capsys.readouterr().err


def test_without_weights_one_line_says_what_to_do(weights, picture, capsys):
    assert not shipped() and default_detector() == "giidnet"
    assert "no trained weights there" in fails(capsys, "detect", "photo.png")
    with pytest.raises(UserError, match="comes with no weights; those that do are none"):
        load_shipped("giidnet")


def test_a_benchmark_takes_them_with_their_provenance(checkpoint, weights, capsys):
    for name in ("giidnet", "giidnet-small"):
        publish(checkpoint, name, weights)
        source = open_source(name)
        assert (source.name, source.kind, source.detector, source.seed) == (name, "registered", "giidnet", 7)
        assert source.provenance["methods"] == PROVENANCE["methods"]
        assert source.digest == digest(shipped()[name])
        assert f"weights of {name}: those that come with giidnet" in capsys.readouterr().err
        assert trained_on(name, source.provenance, [("test/rocks.png", PHOTO["digest"])])
        assert near_duplicates_of(name, source.provenance, {"other": int(PHOTO["hash"], 16) ^ 1})
    assert open_source("ours=giidnet-small").name == "ours"


def test_the_untrained_network_stays_what_a_name_creates(checkpoint, weights):
    publish(checkpoint, "giidnet", weights)
    torch.manual_seed(0)
    first = create_detector("giidnet", width=0.125)
    torch.manual_seed(0)
    second = create_detector("giidnet", width=0.125)
    assert isinstance(first, nn.Module) and all(
        torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())
    with pytest.raises(UserError, match="unknown"):
        create_detector("giidnet-small")


def test_the_list_tells_which_come_with_weights(checkpoint, weights, capsys):
    found = [publish(checkpoint, name, weights) for name in ("giidnet", "giidnet-small")]
    main(["list", "detectors"])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for name, one in zip(("giidnet", "giidnet-small"), found, strict=True):
        assert f"comes with weights: {one.parameters:,} parameters, {one.size / 1e6:.1f} MB" in lines[name]
    assert "comes with" not in lines["iid-net"] + lines["ela"]


@pytest.mark.parametrize("name", sorted(shipped()) or [None])
def test_what_comes_with_the_project(name):
    if name is None:
        pytest.skip("no weights in detectors/weights yet")
    path = shipped()[name]
    about, limit = read_description(path), LIMITS.get(name, Limit())
    assert path.stat().st_size <= limit.megabytes * 1e6
    assert about["parameters"] <= (limit.parameters or float("inf"))
    told = about["provenance"]
    assert all(told.get(key) for key in NEEDED)
    photos = [photo for split in told["photos"].values() for photo in split]
    assert photos and all(len(photo["digest"]) == 64 and len(photo["hash"]) == 16 for photo in photos)
    assert 0 <= told.get("threshold", 0.5) <= 1
    assert not list(local_paths(about))
    module = load_shipped(name)
    assert sum(weight.numel() for weight in module.parameters()) == about["parameters"]
    ramp = np.linspace(0, 255, 72 * 56 * 3).reshape(72, 56, 3).astype(np.uint8)
    found = predict_map(module, ramp)
    assert found.dtype == np.float32 and found.shape == (72, 56)
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1
