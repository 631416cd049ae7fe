"""Fine-tuning: which weights are taken, what the result has seen, and what stays as it is."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from configs.errors import UserError
from configs.load import load_config
from configs.schema import Photos, RunConfig
from detectors import create_detector
from detectors.checkpoints import load_detector, save_detector
from forgeries.photos import PhotoSet, find_photos
from results.guards import methods_known, perturbations_known, photos_known, seen_methods, trained_on, unknown_selection
from retrain.stage import run_retrain, trainees
from retrain.start import add_start, freeze, start_from, widened
from retrain.trainer import train
from search_space.genotype import genotype_dict, genotype_from_dict

PHOTOS = find_photos(Photos(dirs=[str(Path(__file__).parent.parent / "data" / "photos")]), 32)
SPACE = {"cells": 2, "slots": 1, "channels": [64, 128], "strides": [2, 1], "dilations": [1, 1]}


def configure(methods=("TE",), perturbations=("none",), **retrain):
    return RunConfig.model_validate({
        "device": "cpu", "seed": 3, "space": SPACE,
        "forgeries": {"methods": list(methods), "image_size": 32, "workers": 0, "perturbations": list(perturbations)},
        "retrain": {"epochs": 1, "steps": 1, "batch_size": 2, "validation_images": 2, "width": 0.0625,
                    "detectors": ["giidnet-random"]} | retrain})


def network(**switches):
    genotype = trainees(configure(), Path())["giidnet-random"]
    return create_detector("giidnet", genotype=genotype, width=0.0625, **switches)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    folder = tmp_path_factory.mktemp("before")
    # On other photographs: what is for testing elsewhere.
    photos = PhotoSet(PHOTOS.test, PHOTOS.val, (), ())
    run_retrain(configure(methods=["NS"], perturbations=["jpeg-75"], validation_methods=["BH"]), folder, photos)
    return folder / "retrain" / "giidnet-random"


def test_a_training_adds_streams_and_anomaly_to_the_weights(before, tmp_path):
    config = configure(start=str(before), detectors=["giidnet"], streams=["plain", "periods"], anomaly=True)
    run_retrain(config, tmp_path, PHOTOS)
    found = load_detector(tmp_path / "retrain" / "giidnet")
    assert found.options["anomaly"] is True and found.options["streams"] == ["plain", "periods"]
    # It was trained from zero on, what is fixed was not.
    assert found.module.anomaly.conv.weight.abs().max() > 0
    assert all("periods" not in name for name in found.module.state_dict())


def test_a_training_starts_from_the_weights_and_at_no_rate_ends_there(before, tmp_path, capsys):
    # Another seed has other initial weights, and another genotype.
    config = configure(start=str(before), learning_rate=1e-30, detectors=["giidnet"])
    run_retrain(config, tmp_path, PHOTOS)
    there, found = load_detector(before), load_detector(tmp_path / "retrain" / "giidnet")
    # Its genotype is that of the weights, as there is no other.
    assert found.options == there.options
    assert all(torch.equal(value, dict(found.module.named_parameters())[name])
               for name, value in there.module.named_parameters())
    total, line = len(list(there.module.parameters())), capsys.readouterr().err
    assert f"starts from {before}/model.safetensors, {total} of {total} tensors of weights\n" in line


def test_what_does_not_fit_is_told_and_keeps_its_own(before, capsys):
    other = network(anomaly=True)
    other.decision.decoder[1] = torch.nn.Conv2d(other.decision.decoder[1].in_channels, 16, 5)
    own = {name: value.clone() for name, value in other.named_parameters()}
    start_from(other, "net", str(before))
    there = dict(load_detector(before).module.named_parameters())
    unlike = [name for name, value in own.items() if name not in there or there[name].shape != value.shape]
    assert unlike == ["decision.decoder.1.weight", "anomaly.conv.weight"]
    for name, value in other.named_parameters():
        assert torch.equal(value, own[name] if name in unlike else there[name])
    line = capsys.readouterr().err
    assert line.endswith(f"{len(own) - 2} of {len(own)} tensors of weights; not there, or of another shape: "
                         f"{unlike[0]}, {unlike[1]}\n")
    assert line.count("\n") == 1


def test_weights_of_another_network_are_refused(before, tmp_path):
    with pytest.raises(UserError, match="nothing in common with hpfcn; name weights of the same network") as error:
        run_retrain(configure(start=str(before), detectors=["hpfcn"]), tmp_path, PHOTOS)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no trained weights there"):
        start_from(create_detector("hpfcn", width=0.0625), "net", str(tmp_path / "nothing"))
    save_detector(tmp_path / "other", "hpfcn", create_detector("hpfcn", width=0.0625), {"width": 0.0625}, {})
    with pytest.raises(UserError, match="weights of hpfcn, which has no genotype"):
        trainees(configure(start=str(tmp_path / "other"), detectors=["giidnet"]), tmp_path)


def test_what_the_start_saw_was_seen_and_so_on(before, tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    run_retrain(configure(start=str(before)), first, PHOTOS)
    told = load_detector(first / "retrain" / "giidnet-random").provenance
    digest = hashlib.sha256((before / "model.safetensors").read_bytes()).hexdigest()
    assert told["start"] == {"name": "giidnet-random", "sha256": digest, "detector": "giidnet", "methods": ["NS", "BH"],
                             "perturbations": ["jpeg-75"], "photos": True, "pictures_seen": 2,
                             "config": load_detector(before).provenance["config"]}
    assert told["methods"] == ["TE"] and methods_known(told) == ["TE", "NS", "BH"]
    assert perturbations_known(told) == ["none", "jpeg-75"]
    (mark,) = seen_methods("net", told, ["BH", "PM"])
    assert mark.what == "net was trained on BH: these results are labelled seen"
    run_retrain(configure(methods=["PM"], start=str(first / "retrain" / "giidnet-random")), second, PHOTOS)
    again = load_detector(second / "retrain" / "giidnet-random").provenance
    assert methods_known(again) == ["PM", "TE", "NS", "BH"] and again["start"]["pictures_seen"] == 4
    for provenance in (told, again):
        assert photos_known(provenance) and not unknown_selection("net", provenance)
        assert [photo["digest"] for photo in provenance["photos"]["start"]] == [photo.digest for photo in PHOTOS.test]
        (leak,) = trained_on("net", provenance, [("x.png", PHOTOS.test[0].digest)])
        assert leak.what.startswith("x.png: a test photograph that is in the start split of net") and not leak.allowed


def test_a_start_that_does_not_tell_makes_the_result_unknown():
    told = {"methods": ["TE"], "perturbations": ["none"], "photos": {"train": [{"digest": "aa"}]},
            "start": {"methods": None, "perturbations": None, "photos": False}}
    assert methods_known(told) is None and perturbations_known(told) is None and not photos_known(told)
    assert [(mark.guard, mark.allowed) for mark in unknown_selection("net", told)] == [("trained-on", True)]
    for known in ({"methods": [], "photos": {}}, {"methods": ["TE"], "photos": {"train": [{"digest": "aa"}]}}):
        assert photos_known(known)
    assert not photos_known({"methods": None, "photos": {}})
    assert not photos_known(told | {"start": None, "selected_on": {"methods": None, "photos": False}})


@pytest.mark.parametrize("search, photos, known", [
    ({"seed": 1}, True, True), ({"seed": 2}, True, False), ({}, True, False), ({"seed": 1}, False, False)])
def test_photographs_of_a_search_are_known_where_the_start_is_of_the_same_one(before, search, photos, known):
    start = load_detector(before)
    start = replace(start, options={**start.options, "genotype": {**start.options["genotype"], "search": search}},
                    provenance={**start.provenance, "selected_on": {"methods": ["NS"], "photos": photos}})
    told = {"methods": ["TE"], "photos": {"train": []}, "selected_on": {"methods": ["NS"], "photos": False}}
    genotype = replace(genotype_from_dict(start.options["genotype"]), provenance={"seed": 1})
    found = add_start(told, str(before), start, genotype)
    assert found["selected_on"] == {"methods": ["NS"], "photos": known} and not told["selected_on"]["photos"]


def test_frozen_parts_stay_and_the_others_move(tmp_path):
    config = configure(freeze=["enhancement.streams.prefilter", "extraction"], steps=2, epochs=2, learning_rate=1e-2,
                       optimizer="adamw", weight_decay=0.5, ema=0.5)
    module = network()
    start = {key: value.clone() for key, value in module.state_dict().items()}
    with SummaryWriter(str(tmp_path / "board")) as board:
        found = train("net", module, config, PHOTOS, tmp_path, board).state
    for state in (found, module.state_dict()):
        same = {key for key, value in state.items() if torch.equal(value, start[key])}
        frozen = {key for key in start if key.startswith(("enhancement.streams.prefilter.", "extraction."))}
        assert frozen <= same and any("running_var" in key for key in frozen)
        assert same - frozen <= {"decision.attention.1.kernel"}


def test_frozen_norms_normalize_by_what_they_keep():
    module = network()
    module.train()
    freeze(module, ["enhancement"])
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    both = module.enhancement(images)
    torch.testing.assert_close(both[:1], module.enhancement(images[:1]))
    assert module.extraction.training and not any(part.training for part in module.enhancement.modules())


@pytest.mark.parametrize("part, expected", [
    ("enhance", "there are enhancement, extraction, decision"), ("", "there are enhancement, extraction, decision"),
    ("extraction.7", "there are extraction.0, extraction.1"),
    ("enhancement.streams.plain.weight", "enhancement.streams.plain, enhancement.streams.bayar"),
    ("decision,extraction,enhancement", "nothing is left to train")])
def test_parts_that_there_are_not_are_told_in_one_line(part, expected):
    module = network()
    with pytest.raises(UserError, match=r"retrain\.freeze = ") as error:
        freeze(module, part.split(","))
    assert expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("overrides, expected", [
    (["retrain.start=x"], "retrain: start is of one network; name it alone in retrain.detectors"),
    (["retrain.freeze=[extraction]"], "retrain: freeze is of one network"),
    (["retrain.start=x", "retrain.detectors=[mantranet]", "retrain.pretrain.epochs=1"], "give one of them"),
    (["retrain.start=x", "retrain.detectors=[hpfcn]", "benchmark.protocol=matrix"], "compares trainings from scratch")])
def test_what_cannot_be_is_refused_before_anything_is_trained(overrides, expected):
    with pytest.raises(UserError) as error:
        load_config("quick", overrides)
    assert expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("old", "new"), [
    ((4, 4, 1, 1), (4, 4, 3, 3)), ((4, 1, 3, 3), (4, 4, 3, 3)), ((4, 4, 1, 1), (6, 6, 1, 1)), ((4,), (4, 1))])
def test_other_kernels_and_other_groups_are_not_wider_ones(old, new):
    assert widened(torch.ones(old), new) is None


@pytest.mark.parametrize("before", [{}, {"global_attention": False}, {"local_attention": False}])
@pytest.mark.parametrize(("factor", "more"), [
    (2, {}), (3, {}), (1, {"streams": ["spectrum", "residual", "plain", "periods"], "anomaly": True}),
    (2, {"streams": ["plain", "residual", "spectrum"], "anomaly": True})])
def test_a_larger_network_starts_with_the_maps_of_the_narrow_one(tmp_path, factor, more, before):
    space = {**SPACE, "slots": 3, "operations": ["sep3", "highpass5", "se_sep3"], "streams": [["plain", "residual"]]}
    config = configure().model_copy(update={"space": type(configure().space).model_validate(space)})
    genotype = trainees(config, Path())["giidnet-random"]
    torch.manual_seed(0)
    narrow = create_detector("giidnet", genotype=genotype, width=0.125, **before)
    with torch.no_grad():
        for _ in range(3):
            narrow.logits(torch.rand(4, 3, 32, 32))  # statistics of its own
    save_detector(tmp_path, "giidnet", narrow, {"genotype": genotype_dict(genotype), "width": 0.125, **before},
                  {"methods": [], "perturbations": [], "photos": {}})
    wide = create_detector("giidnet", genotype=genotype, width=0.125 * factor, **more)
    start_from(wide, "giidnet", str(tmp_path))
    images = torch.rand(2, 3, 48, 40)
    with torch.no_grad():
        expected, found = narrow.eval().logits(images), wide.eval().logits(images)
    assert expected.std() > 1e-3
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))
    # Copies become different: what reads them does not share its weight evenly.
    first = wide.extraction[1].conv.pointwise.weight
    assert factor == 1 or not torch.allclose(first[:, 0], first[:, 1])
