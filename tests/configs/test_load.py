"""Configuration: what is accepted, and the one line that says what is not."""

import pytest

from configs.errors import UserError
from configs.load import differences, dump_config, list_presets, load_config, override
from giidnet import registries


def load(source="quick", *overrides):
    return load_config(source, overrides, registries())


@pytest.mark.parametrize("preset", list_presets())
def test_presets_are_valid_and_read_back(preset, tmp_path):
    config = load(preset)
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load(str(path)) == config


def test_paper_preset_is_the_published_space():
    space = load("paper").space
    assert (space.cells, space.slots, len(space.operations), space.width) == (10, 3, 4, 1.0)
    assert space.channels == [128] + [256] * 9
    assert space.strides == [2, 2] + [1] * 8
    assert space.dilations == [1] * 3 + [2] * 7


@pytest.mark.parametrize("override, expected", [
    ("search.epoch=3", "search.epoch: unknown key; did you mean epochs"),
    ("colour=3", "colour: unknown key"),
    ("search.epochs=three", "search.epochs = 'three': must be a valid integer"),
    ("search.epochs=-3", "search.epochs = -3: must be greater than or equal to 1"),
    ("search.epochs=true", "search.epochs = True"),
    ("search.strategy=magic", "search.strategy = 'magic': must be one of one-shot, evolution"),
    ("search.objective={methods: [NS], cost: time}", "search.objective.cost = 'time'"),
    ("search.limits.latency_ms=3", "needs search.latency=true"),
    ("space.decoder=2", "decoder 2 needs strides whose product is at least that, not 1"),
    ("space.streams=[[plain, bayar], [bayar, plain]]", "each combination once"),
    ("space.attention=[[far]]", "space.attention.0.0 = 'far'"),
    ("forgeries.methods=[TE,XX]", "forgeries.methods.1 = 'XX': must be one of TE, NS"),
    ("forgeries.methods=[TE,TE]", "once"),
    ("space.operations=[conv9]", "space.operations.0 = 'conv9'"),
    ("space.cells=5", "channels has 3 entries for cells = 5"),
    ("forgeries.mask_fraction=[0.5,0.1]", "low at most high"),
    ("photos.train=somewhere", "give either dirs, or all of train, val and test"),
    ("photos.split={train: 0.5, val: 0.1, test: 0.1}", "must be 1, not 0.7"),
    ("search=3", "search"),
    ("search.epochs", "section.key=value"),
])
def test_mistakes_are_told_in_one_line(override, expected):
    with pytest.raises(UserError) as error:
        load("quick", override)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_overrides_take_the_numbers_people_write():
    config = load("quick", "retrain.learning_rate=1e-3", "search.epochs=7", "photos=a")
    assert config.retrain.learning_rate == 1e-3
    assert config.search.epochs == 7
    assert config.photos.dirs == ["a"]


def test_a_loaded_configuration_takes_overrides():
    config = load_config("quick")
    assert override(config, []) == config
    changed = override(config, ["retrain.learning_rate=1e-5", "retrain.widths.hpfcn=0.5"])
    assert changed == load_config("quick", ["retrain.learning_rate=1e-5", "retrain.widths.hpfcn=0.5"])
    assert differences(config, changed)[0].startswith("retrain.widths") and len(differences(config, changed)) == 2
    with pytest.raises(UserError, match="did you mean epochs"):
        override(config, ["retrain.epoch=1"])


def test_unknown_preset_and_broken_files(tmp_path):
    with pytest.raises(UserError, match="presets are"):
        load("quik")
    broken = tmp_path / "broken.yaml"
    broken.write_text("search: [")
    with pytest.raises(UserError, match="not valid YAML"):
        load(str(broken))
    broken.write_text("- 1\n- 2")
    with pytest.raises(UserError, match="sections"):
        load(str(broken))


def test_differences_name_keys():
    assert differences(load(), load("quick", "search.epochs=9")) == ["search.epochs: 4 there, 9 here"]


def test_folders_replace_folders_not_the_preset():
    for value in ("a", "[a]"):
        photos = load_config("quick", [f"photos={value}"]).photos
        assert photos.dirs == ["a"] and photos.shrink == load_config("quick").photos.shrink


@pytest.mark.parametrize("trained, scored, tested, expected", [
    (["TE"], ["NS"], ["PM", "BH"], None),
    (["TE"], [], ["PM"], "needs search.objective.methods"),
    (["TE", "NS"], ["NS"], ["PM"], "NS in both forgeries.methods and search.objective.methods"),
    (["TE"], ["NS"], ["PM", "TE"], "TE in both forgeries.methods and benchmark.methods"),
    (["TE"], ["NS", "PM"], ["PM", "NS"], "NS, PM in both search.objective.methods and benchmark.methods"),
])
def test_a_search_for_what_generalizes_refuses_overlaps(trained, scored, tested, expected):
    methods = [f"forgeries.methods={trained}", f"search.objective.methods={scored}", f"benchmark.methods={tested}"]
    assert load("quick", *methods).search.objective.methods == scored
    if expected is None:
        assert load("quick", *methods, "search.objective.generalize=true").search.objective.generalize
        return
    with pytest.raises(UserError, match=expected):
        load("quick", *methods, "search.objective.generalize=true")
