"""Plans of an ablation: every variant differs from the full network in the one thing that it is called by."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import UserError
from configs.load import load_config
from configs.schema import RunConfig
from detectors import create_detector
from forgeries.methods import METHODS
from retrain.variants import hand_designed, variants
from search_space.genotype import (
    PAPER_SPACE,
    Genotype,
    SpaceShape,
    genotype_dict,
    genotype_from_dict,
    random_genotype,
    released_genotype,
)

SPACE = SpaceShape(("relu_sep3", "relu_sep5"), 2, (64, 64), (2, 1), (1, 2))
FOUND = Genotype((("relu_sep3", "relu_sep5"),) * 2, SPACE, {"strategy": "one-shot", "methods": ["TE", "PM"]})
DRAWN = Genotype((("relu_sep5", "relu_sep5"),) * 2, SPACE, {"strategy": "drawn at random", "methods": []})
FIELDS = {"streams": {"switches"}, "attention": {"switches"}, "genotype": {"genotype", "searched"},
          "loss": {"loss"}, "methods": {"methods"}}


def configure(methods=("TE", "NS"), parts=None, **retrain):
    ablate = {"parts": list(parts)} if parts else {}
    return RunConfig.model_validate({"forgeries": {"methods": list(methods)}, "ablate": ablate,
                                     "retrain": retrain})


def plan(genotypes=None, **options):
    found = variants(configure(**options), genotypes or {"discovered": FOUND, "random": DRAWN})
    assert found[0].name == "full" and len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


def test_each_variant_differs_from_the_full_network_in_one_thing():
    found = plan()
    full = found.pop("full")
    assert list(found) == [
        "streams-without-plain", "streams-without-bayar", "streams-without-prefilter", "attention-without-global",
        "attention-without-local", "genotype-random", "genotype-separable", "genotype-residual", "loss-without-focal",
        "methods-without-TE", "methods-without-NS"]
    for name, variant in found.items():
        changed = {key for key in vars(full) if key != "name" and getattr(variant, key) != getattr(full, key)}
        assert changed == FIELDS[name.partition("-")[0]], name
    assert found["streams-without-bayar"].switches == {"streams": ["plain", "prefilter"]}
    assert found["attention-without-global"].switches == {"global_attention": False}
    assert found["loss-without-focal"].loss == {"focal": 0.0, "dice": 0.0}
    assert found["methods-without-TE"].methods == ("NS",)
    assert full.searched and found["methods-without-TE"].searched and not found["genotype-random"].searched


def test_anomaly_is_left_out_where_there_is_one():
    found = plan(parts=["attention"], anomaly=True)
    assert list(found)[1:] == [f"attention-without-{name}" for name in ("global", "local", "anomaly")]
    assert found["attention-without-anomaly"].switches == {"anomaly": False}
    assert "attention-without-anomaly" not in plan(parts=["attention"])


@pytest.mark.parametrize("name, gone", [
    ("streams-without-bayar", {"BayarConv"}), ("attention-without-global", {"GlobalAttention"}),
    ("attention-without-local", {"LocalAttention"}), ("genotype-separable", {"ReluSeparable"})])
def test_the_networks_lack_what_the_names_tell_and_nothing_else(name, gone):
    found = plan()
    full, variant = (create_detector("giidnet", width=0.0625, genotype=genotype_dict(one.genotype), **one.switches)
                     for one in (found["full"], found[name]))
    kinds, others = ({type(module).__name__ for module in network.modules()} for network in (full, variant))
    assert kinds - others == gone
    assert variant.eval()(torch.rand(1, 3, 16, 16)).shape == (1, 1, 16, 16)


def test_the_order_of_parts_is_the_configured_one():
    assert list(plan(parts=["loss", "attention"])) == ["full", "loss-without-focal", "attention-without-global",
                                                       "attention-without-local"]


def test_what_is_not_there_cannot_be_left_out():
    assert list(plan(methods=["TE"], focal_weight=0.0, parts=["loss", "methods", "attention"]))[1:] == [
        "attention-without-global", "attention-without-local"]
    with pytest.raises(UserError, match=r"ablate.parts = \[loss, methods\]: the network has nothing"):
        plan(methods=["TE"], focal_weight=0.0, parts=["loss", "methods"])
    space = replace(SPACE, streams=("plain", "plain+bayar"), attention=("none", "local"))
    bare = {"discovered": replace(FOUND, space=space, streams="plain", attention="none")}
    with pytest.raises(UserError, match="nothing of these"):
        plan(bare, parts=["streams", "attention"])
    chosen = {"discovered": replace(FOUND, space=space, streams="plain+bayar", attention="local")}
    found = plan(chosen, parts=["streams", "attention"])
    assert list(found)[1:] == ["streams-without-plain", "streams-without-bayar", "attention-without-local"]
    assert found["streams-without-plain"].switches == {"streams": ["bayar"]}


def test_other_cells_keep_streams_and_attention_that_the_search_chose_and_what_it_saw():
    space = replace(SPACE, streams=("plain", "plain+bayar"), attention=("none", "local"))
    chosen = replace(FOUND, space=space, streams="plain+bayar", attention="local")
    drawn = replace(DRAWN, space=space, streams="plain", attention="none")
    found = plan({"discovered": chosen, "random": drawn}, parts=["genotype"])
    assert list(found)[1:] == ["genotype-random", "genotype-separable", "genotype-residual"]
    for variant in found.values():
        assert (variant.genotype.streams, variant.genotype.attention) == ("plain+bayar", "local")
        assert variant.genotype.provenance["methods"] == ["TE", "PM"] and variant.searched
    assert found["genotype-random"].genotype.cells == drawn.cells


def test_the_full_network_has_the_best_genotype_that_there_is():
    released, drawn = released_genotype(), random_genotype(PAPER_SPACE, np.random.default_rng(0))
    found = plan({"released": released, "random": drawn}, parts=["genotype"])
    assert list(found) == ["full", "genotype-random", "genotype-separable", "genotype-residual"]
    assert found["full"].genotype == released and not found["full"].searched
    assert list(plan({"random": DRAWN}, parts=["genotype"])) == ["full", "genotype-separable", "genotype-residual"]


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_hand_designed_cells_can_be_read_back_and_run(slots):
    space = replace(PAPER_SPACE, slots=slots, channels=(16, 16), strides=(2, 1), dilations=(1, 2))
    found = hand_designed(space)
    assert found["separable"].cells == (("sep3",) * slots,) * 2
    assert found["residual"].cells == (("identity",) * (slots - 1) + ("sep3",),) * 2
    for genotype in found.values():
        assert genotype_from_dict(genotype_dict(genotype)) == genotype
        assert create_detector("giidnet", genotype=genotype, width=0.25)(torch.rand(2, 3, 16, 16)).shape[2:] == (16, 16)
    # In a slot alone they are the same cell, which is trained once.
    other = random_genotype(replace(space, operations=("relu_sep3",)), np.random.default_rng(0))
    names = plan({"random": other}, parts=["genotype"])
    assert ("genotype-residual" in names) == (slots > 1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(sorted(METHODS)), min_size=2, max_size=6, unique=True))
def test_each_method_is_left_out_once_and_all_others_stay(methods):
    found = plan(methods=methods, parts=["methods"])
    full = found.pop("full")
    assert full.methods == tuple(methods)
    left = {name.removeprefix("methods-without-"): set(methods) - set(variant.methods)
            for name, variant in found.items()}
    assert left == {name: {name} for name in methods}


def test_two_names_of_one_method_are_left_out_together(tmp_path):
    paths = []
    for name in ("GC", "DeepFill_v2"):
        paths.append(str(tmp_path / f"{name}.yaml"))
        Path(paths[-1]).write_text(f"type: command\nname: {name}\nkind: learned\n"
                                   "command: [cp, '{image}', '{output}', '{mask}']\n")
    found = plan(methods=["TE", *paths], parts=["methods"])
    assert {name: variant.methods for name, variant in found.items() if name != "full"} == {
        "methods-without-TE": tuple(paths), "methods-without-GC": ("TE",)}


def test_each_term_of_the_loss_is_left_out_alone():
    found = plan(parts=["loss"], dice_weight=0.5)
    assert {name: one.loss for name, one in found.items()} == {
        "full": {"focal": 1.0, "dice": 0.5}, "loss-without-focal": {"focal": 0.0, "dice": 0.5},
        "loss-without-dice": {"focal": 1.0, "dice": 0.0}}


def test_the_preset_leaves_out_every_part_and_tests_methods_that_it_does_not_train():
    config = load_config("ablate")
    found = variants(config, {"random": DRAWN})
    assert {one.name.partition("-")[0] for one in found} == {"full", *config.ablate.parts} and len(found) > 9
    assert config.benchmark.protocol == "ablate" and set(config.forgeries.methods) < set(config.benchmark.methods)
