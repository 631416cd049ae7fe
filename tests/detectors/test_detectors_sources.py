"""Whatever gives maps: names, values, provenance, and what is refused."""

import io
import sys

import cv2
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper

from configs.errors import UserError
from configs.files import digest
from detectors import WEIGHTLESS, create_detector
from detectors.checkpoints import save_detector
from detectors.export import export_onnx
from detectors.inference import predict_map
from detectors.sources import TOLERANCE, UNKNOWN, MapSizeError, check_map, open_source, read_map, split_name

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
GREY = (IMAGE[..., 0] / 255).astype(np.float32)


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    module = create_detector("hpfcn", width=0.125).eval()
    save_detector(tmp_path / "mine", "hpfcn", module, {"width": 0.125},
                  {"methods": ["TE"], "perturbations": ["none"], "photos": {"train": []}, "seed": 7})
    return tmp_path / "mine", module


@pytest.mark.parametrize("file", [True, False])
def test_a_checkpoint(checkpoint, file):
    folder, module = checkpoint
    path = folder / "model.safetensors"
    source = open_source(str(path if file else folder))
    assert (source.name, source.kind, source.detector, source.seed) == ("mine", "checkpoint", "hpfcn", 7)
    assert source.digest == digest(path) and source.provenance["methods"] == ["TE"]
    assert source.parameters == sum(weight.numel() for weight in module.parameters())
    assert np.array_equal(source.predict(IMAGE, "TE", "0"), predict_map(module, IMAGE))


def test_names_before_a_spec(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = open_source("our-net=mine")
    assert source.name == "our-net" and source.kind == "checkpoint"
    assert split_name("mine") == (None, "mine") and split_name("runs/a=b/model") == (None, "runs/a=b/model")
    assert split_name("A=maps:x=y") == ("A", "maps:x=y")
    (tmp_path / "mine").rename(tmp_path / "width=2")
    assert open_source("width=2").name == "width=2" and open_source("a=width=2").name == "a"


@pytest.mark.parametrize("name", WEIGHTLESS)
def test_a_registered_baseline(name):
    source = open_source(name)
    assert (source.name, source.kind, source.detector, source.parameters) == (name, "registered", name, 0)
    assert source.provenance == {"methods": [], "perturbations": [], "photos": {}}
    assert np.array_equal(source.predict(IMAGE, "TE", "0"), predict_map(create_detector(name), IMAGE))


def test_digests_tell_detectors_apart(checkpoint):
    digests = [open_source(spec).digest for spec in (*WEIGHTLESS, str(checkpoint[0]))]
    assert len(set(digests)) == len(digests) and None not in digests
    assert open_source("ela").digest == open_source("again=ela").digest


def test_a_registered_network_takes_imported_weights(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="weights/hpfcn: no trained weights there"):
        open_source("hpfcn")
    (tmp_path / "weights").mkdir()
    (tmp_path / "mine").rename(tmp_path / "weights" / "hpfcn")
    source = open_source("hpfcn")
    assert (source.name, source.kind, source.detector, source.seed) == ("hpfcn", "registered", "hpfcn", 7)
    assert np.array_equal(source.predict(IMAGE, "", ""), predict_map(checkpoint[1], IMAGE))


def test_an_exported_network_gives_the_maps_of_its_checkpoint(checkpoint, tmp_path):
    list(export_onnx(checkpoint[1], tmp_path / "net.onnx"))
    exported, own = open_source(str(tmp_path / "net.onnx")), open_source(str(checkpoint[0]))
    assert (exported.name, exported.kind, exported.detector) == ("net", "onnx", "")
    assert exported.provenance == UNKNOWN
    for image in (IMAGE, IMAGE[:17, :33]):
        assert np.abs(exported.predict(image, "", "") - own.predict(image, "", "")).max() <= 1e-5


def save_onnx(path, shape, kind=TensorProto.FLOAT, axis=1):
    """The maximum over the channel axis."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMax", ["x"], ["y"], axes=[axis], keepdims=1)], "net",
        [helper.make_tensor_value_info("x", kind, shape)], [helper.make_tensor_value_info("y", kind, None)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return str(path)


@pytest.mark.parametrize("shape, axis", [(["n", 3, "h", "w"], 1), (["n", "h", "w", 3], 3), ([1, 3, 40, 56], 1)])
def test_layouts_of_onnx(tmp_path, shape, axis):
    source = open_source(save_onnx(tmp_path / "a.onnx", shape, axis=axis))
    assert np.allclose(source.predict(IMAGE, "", ""), IMAGE.max(2) / 255, atol=1e-6)


def test_a_fixed_size_of_onnx_is_told(tmp_path):
    source = open_source(save_onnx(tmp_path / "a.onnx", [1, 3, 64, "w"]))
    with pytest.raises(MapSizeError, match="export it with free height and width"):
        source.predict(IMAGE, "", "")
    source = open_source(save_onnx(tmp_path / "b.onnx", [1, 3, 64, 32]))
    with pytest.raises(MapSizeError, match="takes pictures of 64×32 only, not of 40×56"):
        source.predict(IMAGE, "", "")


@pytest.mark.parametrize("shape, kind", [(["n", 1, "h", "w"], TensorProto.FLOAT), ([4, 3, "h", "w"], TensorProto.FLOAT),
                                         (["h", "w", 3], TensorProto.FLOAT), ([1, 3, "h", "w"], TensorProto.DOUBLE)])
def test_other_inputs_of_onnx_are_refused(tmp_path, shape, kind):
    with pytest.raises(UserError, match="must take one picture, float N×3×H×W or N×H×W×3, not tensor"):
        open_source(save_onnx(tmp_path / "a.onnx", shape, kind))


def test_onnx_mistakes(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"none\.onnx: no such file"):
        open_source(str(tmp_path / "none.onnx"))
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    with pytest.raises(UserError, match=r"bad\.onnx: cannot be read as ONNX"):
        open_source(str(tmp_path / "bad.onnx"))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime is not installed; pip install -e \"\.\[onnx\]\""):
        open_source(str(tmp_path / "bad.onnx"))


FUNCTIONS = """
import numpy as np
from beside_it import SCALE
def red(image):
    return image[..., 0] / SCALE
def spoils(image):
    image[:] = 0
    return image[..., 0]
def logits(image):
    return image[..., 0] - 128.0
def small(image):
    return np.zeros((8, 8))
number = 3
"""


@pytest.fixture
def functions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "beside_it", raising=False)
    monkeypatch.delitem(sys.modules, "map_functions", raising=False)
    (tmp_path / "map_functions.py").write_text(FUNCTIONS)
    (tmp_path / "beside_it.py").write_text("SCALE = 255")
    return tmp_path / "map_functions.py"


@pytest.mark.parametrize("by_file", [True, False])
def test_a_function(functions, by_file):
    place = str(functions) if by_file else "map_functions"
    source = open_source(f"{place}:red")
    assert (source.name, source.kind, source.provenance) == ("map_functions.red", "callable", UNKNOWN)
    found = source.predict(IMAGE, "TE", "0")
    assert found.dtype == np.float32 and np.allclose(found, GREY)
    assert source.digest not in (open_source(f"{place}:spoils").digest, None)
    image = IMAGE.copy()
    open_source(f"{place}:spoils").predict(image, "", "")
    assert np.array_equal(image, IMAGE)
    functions.write_text(FUNCTIONS + "\n")
    assert open_source(f"{functions}:red").digest != source.digest


def test_maps_of_a_function_are_checked(functions):
    with pytest.raises(MapSizeError, match="map 8×8 for a picture of 40×56"):
        open_source(f"{functions}:small").predict(IMAGE, "", "")
    with pytest.raises(ValueError, match="values from -128 to 127 in the map; must be probabilities"):
        open_source(f"{functions}:logits").predict(IMAGE, "", "")


@pytest.mark.parametrize("spec, message", [
    ("map_functions.py:none", "no function of that name in"),
    ("map_functions.py:number", "no function of that name in"),
    ("nowhere.py:red", r"nowhere\.py: no such file"),
    ("no_module_of_this_name:red", "cannot be imported .No module named"),
    ("broken.py:red", r"broken\.py:red: cannot be imported \(division by zero\)"),
])
def test_functions_that_cannot_be_had(functions, spec, message):
    (functions.parent / "broken.py").write_text("1 / 0")
    with pytest.raises(UserError, match=message) as error:
        open_source(spec)
    assert "\n" not in str(error.value)


def packed(array, suffix):
    if suffix == ".npy":
        buffer = io.BytesIO()
        np.save(buffer, array)
        return buffer.getvalue()
    return cv2.imencode(suffix, array)[1].tobytes()


FORMS = {
    "float.npy": GREY, "double.npy": GREY.astype(np.float64), "batched.npy": GREY[None, None],
    "8.png": np.round(GREY * 255).astype(np.uint8), "16.png": np.round(GREY * 65535).astype(np.uint16),
    "colour.png": np.repeat(np.round(GREY * 255).astype(np.uint8)[..., None], 3, 2),
    "float.tif": GREY, "8.tiff": np.round(GREY * 255).astype(np.uint8), "8.npy": np.round(GREY * 255).astype(np.uint8),
}


@pytest.mark.parametrize("form", FORMS)
def test_stored_maps(tmp_path, form):
    suffix = "." + form.split(".")[1]
    (tmp_path / "others" / "TE").mkdir(parents=True)
    (tmp_path / "others" / "TE" / f"photo-0001{suffix}").write_bytes(packed(FORMS[form], suffix))
    for spec in ("others", "maps:others"):
        source = open_source(f"{spec.removesuffix('others')}{tmp_path / 'others'}")
        assert (source.name, source.kind, source.digest) == ("others", "maps", None)
        assert np.abs(source.predict(IMAGE, "TE", "photo-0001") - GREY).max() < 1e-6 + 0.5 / 255


def test_which_stored_map_belongs_to_a_picture(tmp_path):
    for place, value in (("TE/0.npy", 0.25), ("1.npy", 0.5), ("2_map.png", 1), ("TE/3.npy", 0.75)):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        array = np.full((40, 56), value)
        (tmp_path / place).write_bytes(packed(array if place.endswith("npy") else array.astype(np.uint8) * 255,
                                              place[place.rindex("."):]))
    source = open_source(f"maps:{tmp_path}")
    assert source.predict(IMAGE, "TE", "0")[0, 0] == 0.25
    assert source.predict(IMAGE, "NS", "1")[0, 0] == 0.5
    assert source.predict(IMAGE, "NS", "2")[0, 0] == 1
    # What lies beside the folders of methods is of none of them.
    for method, name in (("TE", "1"), ("NS", "3"), ("NS", "4")):
        with pytest.raises(FileNotFoundError, match=rf"no map {name}\.npy, \.png or \.tif of the {method} picture"):
            source.predict(IMAGE, method, name)


@pytest.mark.parametrize("name, content, message", [
    ("a.npy", b"", "cannot be read as a map"), ("a.npy", b"\x93NUMPY cut", "cannot be read as a map"),
    ("a.png", b"no picture", "no picture that can be decoded"), ("a.png", b"", "cannot be read as a map"),
    ("a.png", packed(IMAGE, ".png"), "a coloured picture"),
    ("a.npy", packed(np.zeros((4, 4), np.int64), ".npy"), "holds int64"),
    ("a.npy", packed(np.array(["x"], object), ".npy"), "cannot be read as a map"),
])
def test_stored_maps_that_are_none(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_map(tmp_path / name)


def test_places_that_hold_nothing(tmp_path):
    with pytest.raises(UserError, match="no such folder of maps"):
        open_source(f"maps:{tmp_path / 'none'}")
    with pytest.raises(UserError, match="neither a checkpoint"):
        open_source(str(tmp_path))
    with pytest.raises(UserError, match="no such checkpoint, file or folder, and no detector of this name; known are"):
        open_source("giidnett")
    with pytest.raises(UserError, match="no such checkpoint"):
        open_source(str(tmp_path / "model.safetensors"))
    (tmp_path / "w.pth").touch()
    with pytest.raises(UserError, match="weights import"):
        open_source(str(tmp_path / "w.pth"))


@settings(deadline=None)
@given(arrays(st.sampled_from([np.float32, np.float64]), (4, 5), elements=st.floats(0, 1, width=32)))
def test_probabilities_pass_unchanged(values):
    image = np.zeros((4, 5, 3), np.uint8)
    assert np.array_equal(check_map(values, image), values.astype(np.float32))
    near = values.copy()
    near[0, 0], near[1, 1] = -TOLERANCE / 2, 1 + TOLERANCE / 2
    found = check_map(near, image)
    assert found.dtype == np.float32 and found.min() == 0 and found.max() == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.001, -0.001])
def test_one_bad_value_is_refused(value):
    values = np.full((4, 5), 0.5)
    values[2, 3] = value
    with pytest.raises(ValueError, match="in the map"):
        check_map(values, np.zeros((4, 5, 3), np.uint8))


@pytest.mark.parametrize("shape", [(32, 32), (64, 63), (1, 64, 64), (64, 64, 1), ()])
def test_another_shape_is_refused(shape):
    with pytest.raises(MapSizeError, match="for a picture of 64×64"):
        check_map(np.zeros(shape), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="in the map, not numbers"):
        check_map(np.full((64, 64), "a"), np.zeros((64, 64, 3), np.uint8))
