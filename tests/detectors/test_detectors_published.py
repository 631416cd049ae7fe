"""Foreign checkpoints: what is read, what is named, what is refused."""

import json
from pathlib import Path

import pytest
import torch
from golden import golden_state
from safetensors.torch import save_file

from configs.errors import UserError
from detectors import PUBLISHED, create_detector
from detectors.checkpoints import import_published, load_detector, save_detector
from detectors.published import published_keys, read_state

DATA = Path(__file__).parent.parent / "data"


def table(name):
    return json.loads((DATA / f"{name.replace('-', '_')}_state_dict.json").read_text())


@pytest.fixture(scope="module")
def state():
    return golden_state(table("mantranet"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_keys_are_those_of_the_published_tables(name):
    module, published = create_detector(name), table(name)
    keys = published_keys(name, module)
    assert len(set(keys.values())) == len(keys)
    assert set(published) - set(keys.values()) == ({"median.weight"} if name == "iid-net" else set())
    shapes = {keys[key]: list(value.shape) for key, value in module.state_dict().items()}
    assert all(shapes[key] == published[key][0] for key in shapes)


@pytest.mark.parametrize("write", [
    lambda state, path: torch.save(state, path.with_suffix(".pth")),
    lambda state, path: torch.save({f"module.{key}": value for key, value in state.items()}, path.with_suffix(".pth")),
    lambda state, path: torch.save({"epoch": 3, "state_dict": state}, path.with_suffix(".pt")),
    lambda state, path: torch.save(state, path.with_suffix(".pth"), _use_new_zipfile_serialization=False),
    lambda state, path: save_file(state, path.with_suffix(".safetensors")),
], ids=["pth", "prefix", "wrapped", "legacy", "safetensors"])
def test_all_forms_give_the_same_map(tmp_path, state, write):
    write(state, tmp_path / "weights")
    (path,) = tmp_path.iterdir()
    network = create_detector("mantranet", path)
    assert not network.training
    assert torch.equal(network.anomalies.end.weight, state["AnomalyDetector.end.0.weight"])
    assert torch.equal(network.traces.convs[0].weight, state["IMTFE.middle_and_last_block.0.weight"])


def test_imported_weights_are_ours(tmp_path, state):
    torch.save(state, tmp_path / "weights.pth")
    found = import_published(tmp_path / "weights.pth", "mantranet", methods=["GC"])
    save_detector(tmp_path, "mantranet", found.module, found.options, found.provenance)
    again = load_detector(tmp_path)
    assert again.name == "mantranet" and again.provenance["methods"] == ["GC"]
    assert again.provenance["imported"]["file"] == "weights.pth"
    images = torch.rand(1, 3, 20, 20)
    assert torch.equal(again.module(images), found.module(images))


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("AnomalyDetector.sigma_F"), "AnomalyDetector.sigma_F is missing"),
    (lambda s: s.update(extra=torch.zeros(1)), "extra is superfluous"),
    (lambda s: s.update({"AnomalyDetector.end.0.bias": torch.zeros(2)}), r"end.0.bias has shape \(2,\), the network"),
])
def test_wrong_keys_are_named(tmp_path, state, change, message):
    changed = dict(state)
    change(changed)
    torch.save(changed, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=message):
        create_detector("mantranet", tmp_path / "weights.pth")


class Harmful:
    """Would run code when unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def test_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(1), "object": Harmful()}, "weights.pth")
    with pytest.raises(UserError, match="refused: this pickle holds code"):
        create_detector("mantranet", "weights.pth")
    torch.save(torch.nn.Linear(1, 1), "module.pth")
    with pytest.raises(UserError, match="refused: this pickle holds code"):
        read_state(Path("module.pth"))
    assert not Path("harm").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 broken"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damage_is_told(tmp_path, content, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged|cannot be read as a checkpoint|not a safetensors") as error:
        create_detector("mantranet", path)
    assert "\n" not in str(error.value) and "code" not in str(error.value)


def test_what_is_not_published_has_to_be_named(tmp_path, state):
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="weights import"):
        create_detector("giidnet", tmp_path / "weights.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UserError, match="no state dict"):
        create_detector("mantranet", tmp_path / "list.pth")
