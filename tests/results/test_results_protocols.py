"""Plans of the protocols that train: what each training sees, what is left out, and what cannot be planned."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import UserError
from configs.load import dump_config, load_config
from configs.schema import RunConfig
from forgeries.methods import METHODS, family
from giidnet import registries
from results.protocols import Training, plan
from search_space.genotype import released_genotype, write_genotype

# By what they are, not by the code: what decodes like a network and what does not.
NETWORKS = {name for name in METHODS if name.startswith(("RS-", "GC-", "RD", "RI"))}
DIFFUSION = {"type": "command", "name": "SD", "kind": "diffusion",
             "command": ["/bin/sh", "-c", "cp {image} {output}; : {mask}"]}

methods_of = st.lists(st.sampled_from(sorted(METHODS)), min_size=2, max_size=6, unique=True)


def configure(protocol, methods, detectors=("giidnet-random", "mantranet"), tested=None, genotype=None, **benchmark):
    return RunConfig.model_validate({
        "forgeries": {"methods": list(methods)}, "retrain": {"detectors": list(detectors), "genotype": genotype},
        "benchmark": {"protocol": protocol, "methods": list(tested or methods), **benchmark}})


@pytest.fixture
def diffusion(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text("\n".join(f"{key}: {value!r}" for key, value in DIFFUSION.items()))
    return str(path)


@settings(max_examples=20, deadline=None)
@given(methods_of, st.integers(1, 3))
def test_leave_one_method_out_leaves_each_out_once_and_trains_on_all_others(methods, seeds):
    trainings = plan(configure("leave-one-method-out", methods, seeds=seeds))
    assert len(trainings) == 2 * seeds * (len(methods) + 1)
    assert len({training.folder for training in trainings}) == len(trainings)
    for trainee in ("giidnet-random", "mantranet"):
        for seed in range(seeds) if seeds > 1 else [None]:
            chosen = [each for each in trainings if (each.trainee, each.seed) == (trainee, seed)]
            left = {each.group: each for each in chosen if each.group != "all"}
            assert set(left) == set(methods)
            for name, training in left.items():
                assert training.name == f"{trainee}-without-{name}"
                assert name not in training.methods and {*training.methods, name} == set(methods)
            (reference,) = (each for each in chosen if each.group == "all")
            assert reference.name == f"{trainee}-on-all" and reference.methods == tuple(methods)


@settings(max_examples=20, deadline=None)
@given(methods_of)
def test_leave_one_kind_out_leaves_all_of_a_kind_out(methods):
    config = configure("leave-one-kind-out", methods)
    parts = {"learned": NETWORKS & set(methods), "classical": set(methods) - NETWORKS}
    if not all(parts.values()):
        with pytest.raises(UserError, match=r"at least two kinds, not (learned|classical) alone"):
            plan(config)
        return
    trainings = [each for each in plan(config) if each.trainee == "mantranet"]
    assert {each.name: set(each.methods) for each in trainings} == {
        "mantranet-on-all": set(methods), "mantranet-without-learned": parts["classical"],
        "mantranet-without-classical": parts["learned"]}


@settings(max_examples=20, deadline=None)
@given(methods_of)
def test_the_matrix_trains_on_each_method_alone(methods):
    trainings = plan(configure("matrix", methods))
    assert trainings == [Training(f"{trainee}-on-{name}", (name,), name, trainee)
                         for name in methods for trainee in ("giidnet-random", "mantranet")]


def test_the_matrix_trains_on_given_groups_and_all_of_a_seed_come_before_the_next():
    groups = {"smooth": ["TE", "NS"], "patch": ["PM"]}
    trainings = plan(configure("matrix", ["BH"], ["mantranet"], groups=groups, seeds=2))
    assert [(each.folder, each.methods, each.seed) for each in trainings] == [
        ("mantranet-on-smooth/seed-0", ("TE", "NS"), 0), ("mantranet-on-patch/seed-0", ("PM",), 0),
        ("mantranet-on-smooth/seed-1", ("TE", "NS"), 1), ("mantranet-on-patch/seed-1", ("PM",), 1)]
    assert len({each.name for each in trainings}) == 2


def test_methods_of_files_go_by_their_names(diffusion):
    methods = ["TE", "GC-S", diffusion]
    found = {each.group: each for each in plan(configure("leave-one-method-out", methods, ["mantranet"]))}
    assert list(found) == ["all", "TE", "GC-S", "SD"] and found["TE"].methods == ("GC-S", diffusion)
    kinds = {each.name: each.methods for each in plan(configure("leave-one-kind-out", methods, ["mantranet"]))}
    assert kinds["mantranet-without-diffusion"] == ("TE", "GC-S")
    assert kinds["mantranet-without-classical"] == ("GC-S", diffusion)
    # Another method of the kind will do as a test of it.
    assert plan(configure("leave-one-kind-out", methods, tested=["PM", "RS-N2", diffusion]))


@pytest.mark.parametrize("protocol", ["seen-unseen", "robustness", "size", "authentic"])
def test_other_protocols_train_nothing(protocol):
    assert plan(configure(protocol, ["TE", "PM"])) == []


@pytest.mark.parametrize("options, expected", [
    ({"protocol": "leave-one-method-out", "methods": ["TE"]}, "at least two methods, not TE alone"),
    ({"protocol": "leave-one-method-out", "methods": ["TE", "PM"], "tested": ["TE"]}, "leaves out PM, which is not"),
    ({"protocol": "leave-one-kind-out", "methods": ["TE", "GC-S"], "tested": ["PM"]}, "leaves out learned, which"),
    ({"protocol": "matrix", "methods": ["TE", "PM"], "detectors": ["giidnet"]}, "retrain.genotype"),
])
def test_what_says_nothing_about_what_is_left_out_is_refused(options, expected):
    with pytest.raises(UserError, match=expected) as error:
        plan(configure(**options))
    assert "\n" not in str(error.value)


def dataset(folder, names):
    """Empty files will do: pictures are not opened."""
    for name in names:
        for kind in ("images", "masks"):
            (folder / name / kind).mkdir(parents=True)
            (folder / name / kind / "a.png").touch()
    return str(folder)


@pytest.mark.parametrize("protocol, methods, held, missing", [
    ("leave-one-method-out", ["TE", "PM"], ["telea", "Patch_Match", "LaMa"], None),
    ("leave-one-method-out", ["TE", "PM"], ["TE", "LaMa"], r"holds \[LaMa, TE\]: leave-one-method-out leaves out PM"),
    ("leave-one-kind-out", ["TE", "GC-S"], ["PM", "Big-LaMa"], None),
    ("leave-one-kind-out", ["TE", "GC-S"], ["PM", "SD2"], r"holds \[PM, SD2\]: leave-one-kind-out leaves out learned"),
    ("leave-one-method-out", ["TE", "PM"], ["."], r"holds \[\]: leave-one-method-out leaves out TE")])
def test_what_is_left_out_is_in_the_dataset_that_is_tested(tmp_path, protocol, methods, held, missing):
    # The dataset is called TE, which says nothing of what painted pictures that lie in no method's folder.
    config = configure(protocol, methods, ["mantranet"], tested=["NS"], data=dataset(tmp_path / "TE", held))
    if missing is None:
        assert plan(config)
        return
    with pytest.raises(UserError, match=missing) as error:
        plan(config)
    assert str(error.value).endswith("which is not tested; give a dataset that has it")


def test_two_names_of_one_method_are_left_out_together(tmp_path):
    specs = []
    for name in ("LaMa", "Big-LaMa"):
        specs.append(str(tmp_path / f"{name}.yaml"))
        declared = DIFFUSION | {"name": name, "kind": "learned"}
        Path(specs[-1]).write_text("\n".join(f"{key}: {value!r}" for key, value in declared.items()))
    trainings = plan(configure("leave-one-method-out", ["TE", *specs], ["mantranet"]))
    assert {each.group: each.methods for each in trainings} == {
        "all": ("TE", *specs), "TE": tuple(specs), "LaMa": ("TE",)}


def test_a_dataset_that_is_not_there_is_refused_and_a_missing_genotype_is_told_later():
    with pytest.raises(UserError, match="somewhere: no such dataset"):
        plan(configure("leave-one-method-out", ["TE", "PM"], data="somewhere"))
    assert plan(configure("matrix", ["TE", "PM"], ["giidnet"], genotype="found.yaml"))


@pytest.mark.parametrize("protocol, trained, found, expected", [
    ("leave-one-method-out", ["TE", "PM"], {"methods": ["NS"], "methods_scored": ["TE"]},
     "saw TE, which giidnet-without-TE"),
    ("leave-one-method-out", ["TE", "PM"], {"methods": ["patch-match"]}, "saw PM, which giidnet-without-PM"),
    ("leave-one-kind-out", ["TE", "GC-S"], {"methods": ["GC-S"]}, "saw GC-S, which giidnet-without-learned"),
    ("matrix", ["TE", "PM"], {"methods": ["TE"]}, "saw TE, which giidnet-on-PM of matrix"),
    ("matrix", ["TE", "PM"], {"methods": ["NS"]}, None), ("leave-one-method-out", ["TE", "PM"], {}, None)])
def test_a_genotype_whose_search_saw_what_is_left_out_is_refused(tmp_path, protocol, trained, found, expected):
    path = tmp_path / "genotype.yaml"
    write_genotype(path, replace(released_genotype(), provenance=found))
    config = configure(protocol, trained, ["giidnet"], genotype=str(path))
    if expected is None:
        assert plan(config)
        return
    with pytest.raises(UserError, match=expected) as error:
        plan(config)
    assert str(error.value).startswith(f"retrain.genotype = {path}: ") and "\n" not in str(error.value)
    assert plan(configure(protocol, trained, ["mantranet"], genotype=str(path)))


@pytest.mark.parametrize("override, expected", [
    ("{protocol: robustness, groups: {a: [TE]}}", "groups belong to the protocol matrix, not to robustness"),
    ("{protocol: size, seeds: 3}", "seeds = 3: the protocol size trains nothing"),
    ("{protocol: matrix, groups: {a: []}}", "at least 1 item"),
    ("{protocol: matrix, groups: {a: [XX]}}", "'XX': must be one of TE"),
    ("{protocol: matrix, groups: {a/b: [TE]}}", "benchmark.groups.a/b"),
    ("{protocol: leave-one-out}", "benchmark.protocol = 'leave-one-out': must be 'seen-unseen'"),
])
def test_the_configuration_refuses_what_a_protocol_does_not_have(override, expected):
    with pytest.raises(UserError) as error:
        load_config("quick", [f"benchmark={override}"], registries())
    assert expected in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name, names, trainings", [
    ("seen-unseen", {"none", "jpeg-90"}, 0), ("robustness", {"none", "webp-50", "median-5", "crop-0.5"}, 0),
    ("size", {"none"}, 0), ("authentic", {"none"}, 0), ("matrix", {"none"}, 6), ("leave-one-method-out", {"none"}, 8),
    ("leave-one-kind-out", {"none"}, 6)])
def test_each_protocol_is_a_preset(name, names, trainings, tmp_path):
    from forgeries.perturbations import expand
    config = load_config(name, names=registries())
    assert config.name == config.benchmark.protocol == name and config.stages == ["benchmark", "report"]
    assert names <= set(expand(config.benchmark.perturbations)) and len(plan(config)) == trainings
    assert {method for each in plan(config) for method in each.methods} <= set(config.benchmark.methods)
    # Every preset shows methods that none of its detectors saw, where it trains them.
    assert all(set(config.benchmark.methods) - set(each.methods) for each in plan(config) if each.group != "all")
    path = Path(tmp_path / "config.yaml")
    path.write_text(dump_config(config))
    assert load_config(path, names=registries()) == config


@pytest.mark.parametrize("name, expected", [
    ("TE", "classical"), ("PC", "classical"), ("EB", "classical"), ("RS-T2", "learned"), ("GC-S", "learned"),
    ("GC", "learned"), ("lama", "learned"), ("LaMa", "learned"), ("DeepFill_v2", "learned"), ("comodgan", "learned"),
    ("LDM", "diffusion"), ("sd-2.1", "diffusion"), ("Stable Diffusion XL", "diffusion"), ("DALL-E 3", "diffusion"),
    ("patchmatch", "classical"), ("te", "classical"), ("authentic", "authentic"), ("Authentic", "authentic"),
    ("something", "unknown"), ("", "unknown"), ("s", "unknown"),
])
def test_families_by_name(name, expected):
    assert family(name) == expected


@pytest.mark.parametrize("kind, expected", [
    ("diffusion", "diffusion"), ("Diffusion", "diffusion"), ("learned", "learned"), ("re-synthesis", "learned"),
    ("exemplar", "classical")])
def test_families_of_the_users_own_methods_go_by_their_kind(tmp_path, kind, expected):
    path = tmp_path / "own.yaml"
    declared = DIFFUSION | {"name": "own", "kind": kind}
    path.write_text("\n".join(f"{key}: {value!r}" for key, value in declared.items()))
    assert family(str(path)) == expected


def test_no_name_of_the_literature_is_in_two_families():
    from forgeries.methods.families import LITERATURE
    names = [name.lower() for group in LITERATURE.values() for name in group.split()]
    assert len(set(names)) == len(names)
    for name in METHODS:
        assert family(name.lower()) in ("unknown", family(name))
