"""Models of the user's: each declared convention is what the model sees, and mistakes take one line."""

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnx.parser
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from configs.errors import UserError
from configs.load import load_config
from configs.schema import Photos
from forgeries.dataset import ForgeryDataset, Recipe, make_loader
from forgeries.methods import Method, check_method, find_method, inpaint, list_methods, method_name, method_names
from forgeries.methods.adapters import adapter_method, fit
from forgeries.methods.declarations import TYPES, OnnxModel, read_declaration
from forgeries.methods.learned import Spec, save_network
from forgeries.methods.networks import build
from forgeries.photos import PhotoSet, find_photos

EXAMPLES = sorted(Path(__file__).parents[2].glob("docs/adapters/*.yaml"))


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    modules = set(sys.modules)
    find_method.cache_clear()
    yield
    find_method.cache_clear()
    for name in {"diffusers", "plug", "painter", "noise_fill"} & (set(sys.modules) - modules):
        del sys.modules[name]


@pytest.fixture(scope="module")
def photos():
    return find_photos(Photos(), 32).test


def picture(height=20, width=28, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def hole(height=20, width=28):
    mask = np.zeros((height, width), bool)
    mask[4:11, 6:15] = True
    return mask


def declare(folder, **keys):
    path = folder / f"{keys.get('name', 'OWN')}.yaml"
    path.write_text(yaml.safe_dump({"name": "OWN", **keys}))
    return path


def paint(path, image=None, mask=None, seed=0):
    image = picture() if image is None else image
    return adapter_method(path).paint(image, hole(*image.shape[:2]) if mask is None else mask,
                                      np.random.default_rng(seed))


def told(path, **arguments):
    """The line about what is wrong."""
    with pytest.raises(UserError) as error:
        paint(path, **arguments)
    assert "\n" not in str(error.value) and str(error.value).startswith(f"{path}: ")
    return str(error.value).removeprefix(f"{path}: ")


class First(nn.Module):
    """The image as it is given."""

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image


class Second(nn.Module):
    """The mask as it is given, as a grey picture."""

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return mask.expand(-1, 3, -1, -1)


class FirstChannel(nn.Module):
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image * torch.tensor([1.0, 0.0, 0.0])[:, None, None]


class Left(nn.Module):
    """Moved by one pixel to the left and up; whatever lies beyond the picture comes into view."""

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        assert image.shape[2] % 8 == 0 and image.shape[3] % 8 == 0
        return torch.roll(image, [-1, -1], [2, 3])


class Sized(nn.Module):
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        assert image.shape[2] == 16 and image.shape[3] == 40
        return image


class Together(nn.Module):
    """Of one input: its first or last three channels, and the remaining one, by name."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        assert x.shape[1] == 4
        return {"first": x[:, :3], "last": x[:, 1:], "begin": x[:, :1].repeat(1, 3, 1, 1),
                "end": x[:, 3:].repeat(1, 3, 1, 1)}


class Smaller(nn.Module):
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image[..., :-2]


class NotFinite(nn.Module):
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image / (1 - mask)


class Random(nn.Module):
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.rand_like(image)


class Half(nn.Module):
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        assert image.dtype == torch.float16
        return image


def script(folder, module, **keys):
    """The declaration of a TorchScript file of `module`, which shows the whole of what it makes."""
    torch.jit.script(module).save(str(folder / "model.pt"))
    return declare(folder, **{"type": "torchscript", "file": "model.pt", "composite": False} | keys)


@pytest.mark.parametrize("values, inside, outside", [
    ({}, 255, 0), ({"hole": 0, "known": 1}, 0, 255),
    ({"hole": -0.5, "known": 0.5, "output_range": [-0.5, 0.5]}, 0, 255),
    ({"hole": 255, "output_range": [0, 255]}, 255, 0)])
def test_the_mask_has_the_declared_polarity(tmp_path, values, inside, outside):
    found = paint(script(tmp_path, Second(), **values))
    assert (found[hole()] == inside).all() and (found[~hole()] == outside).all()


@pytest.mark.parametrize("channels, kept", [("RGB", 0), ("BGR", 2)])
def test_channels_come_in_the_declared_order(tmp_path, channels, kept):
    found = paint(script(tmp_path, FirstChannel(), channels=channels))
    assert (found[..., kept] == picture()[..., kept]).all()
    assert (np.delete(found, kept, 2) == 0).all()


@pytest.mark.parametrize("given", [[0, 1], [-1, 1], [0, 255], [-0.5, 3]])
@pytest.mark.parametrize("taken", [None, [0, 1], [-1, 1], [-300, 300]])
def test_values_have_the_declared_ranges(tmp_path, given, taken):
    found = paint(script(tmp_path, First(), range=given, **({"output_range": taken} if taken else {})))
    low, high = taken or given
    values = given[0] + (given[1] - given[0]) * picture().astype(np.float64) / 255
    assert np.abs(found - np.clip((values - low) / (high - low), 0, 1) * 255).max() <= 0.501


@pytest.mark.parametrize("height, width", [(19, 27), (16, 33), (8, 24), (9, 9)])
def test_pictures_are_padded_by_reflection_and_cropped(tmp_path, height, width):
    image = picture(height, width)
    found = paint(script(tmp_path, Left(), multiple=8), image)
    beyond = np.pad(image, ((0, 1), (0, 1), (0, 0)), "reflect")[1:, 1:]
    assert found.shape == image.shape and (found[:-1, :-1] == image[1:, 1:]).all()
    if height % 8:
        assert (found[-1, :-1] == beyond[-1, :-1]).all()
    if width % 8:
        assert (found[:-1, -1] == beyond[:-1, -1]).all()


def test_a_fixed_size_is_resized_to_and_back(tmp_path):
    path = script(tmp_path, Sized(), size=[16, 40])
    y, x = np.mgrid[:33, :51]
    ramp = np.stack([4 * x, 5 * y, x + y], 2).astype(np.uint8)
    found = paint(path, ramp).astype(int)
    assert found.shape == ramp.shape and np.abs(found - ramp)[3:-3, 3:-3].max() <= 3
    assert "assert" in told(script(tmp_path, Sized(), size=32)).lower()


@settings(max_examples=50, deadline=None)
@given(st.integers(8, 60), st.integers(8, 60), st.integers(1, 16), st.none() | st.integers(8, 50),
       st.none() | st.tuples(st.integers(8, 50), st.integers(8, 50)))
def test_any_picture_fits_and_nothing_hidden_is_seen(height, width, multiple, shorter, size):
    declaration = OnnxModel(type="onnx", name="x", file="x", multiple=multiple, size=list(size) if size else None,
                            shorter_side=None if size else shorter)
    image, mask = np.full((height, width, 3), 90, np.uint8), np.zeros((height, width), bool)
    mask[height // 3:height // 2, width // 4:width // 2] = True
    image[mask] = 255
    seen = []

    def model(part, holes):
        seen.append(part.shape[:2])
        assert holes.shape == part.shape[:2] and (part[~holes] == 90).all()
        return part

    found = fit(image, mask, declaration, model)
    assert found.shape == image.shape and seen[0][0] % multiple == seen[0][1] % multiple == 0
    if not size and not shorter:
        assert (found == image).all()
    elif shorter and not size:
        assert shorter <= min(seen[0]) < shorter + multiple


@pytest.mark.parametrize("order, shown, mask_shown", [("mask+image", "last", "begin"), ("image+mask", "first", "end")])
def test_inputs_are_concatenated_in_the_stated_order(tmp_path, order, shown, mask_shown):
    assert (paint(script(tmp_path, Together(), inputs=[order], output=shown)) == picture()).all()
    found = paint(script(tmp_path, Together(), inputs={"x": order}, output=mask_shown))
    assert (found == 255 * hole()[..., None]).all()
    assert "first" in told(script(tmp_path, Together(), inputs=[order], output=0))


def test_the_hole_is_blanked_with_the_stated_value(tmp_path):
    found = paint(script(tmp_path, First(), range=[-1, 1], blank=0))
    assert (found[~hole()] == picture()[~hole()]).all() and (found[hole()] == 128).all()
    assert (paint(script(tmp_path, First())) == picture()).all()


def test_pixels_outside_stay_bit_for_bit_unless_the_whole_is_made_anew(tmp_path):
    for composite in (True, False):
        path = script(tmp_path, Second(), composite=composite, size=32)
        found, method = paint(path), adapter_method(path)
        assert method.composite == composite
        assert (found[~hole()] == picture()[~hole()]).all() == composite
        assert (found[5:10, 7:14] == 255).all()


def test_half_precision_is_given_where_it_is_declared(tmp_path):
    assert np.abs(paint(script(tmp_path, Half(), dtype="float16")).astype(int) - picture()).max() <= 1


def test_random_torchscript_follows_the_generator_and_leaves_training_alone(tmp_path):
    path, before = script(tmp_path, Random(), deterministic=False), torch.get_rng_state()
    first, second, other = (paint(path, seed=seed) for seed in (1, 1, 2))
    assert (first == second).all() and (first != other).any() and torch.equal(before, torch.get_rng_state())


PIPELINE = """<ir_version: 8, opset_import: ["": 17]>
pipeline (uint8[n, 3, h, w] image, uint8[n, 1, h, w] mask) => (uint8[n, 3, h, w] result, uint8[n, 1, h, w] other) {
  seven = Constant<value = uint8[1] {7}>()
  full = Constant<value = uint8[1] {255}>()
  known = Equal(mask, full)
  result = Where(known, image, seven)
  other = Identity(mask)
}"""

PLAIN = """<ir_version: 8, opset_import: ["": 17]>
plain (float[1, h, w, 4] x) => (float[1, h, w, 3] y) {
  sizes = Constant<value = int64[2] {1, 3}>()
  mask, image = Split<axis = 3>(x, sizes)
  y = Add(image, mask)
}"""


def graph(folder, text, **keys):
    onnx.save(onnx.parser.parse_model(text), folder / "model.onnx")
    return declare(folder, **{"type": "onnx", "file": "model.onnx", "composite": False} | keys)


@pytest.mark.parametrize("inputs", [["image", "mask"], {"mask": "mask", "image": "image"}])
@pytest.mark.parametrize("output", [0, "result"])
def test_onnx_takes_bytes_where_its_inputs_are_bytes(tmp_path, inputs, output):
    path = graph(tmp_path, PIPELINE, inputs=inputs, output=output, range=[0, 255], hole=0, known=255)
    found = paint(path)
    assert (found[hole()] == 7).all() and (found[~hole()] == picture()[~hole()]).all()


def test_onnx_with_channels_last(tmp_path):
    found = paint(graph(tmp_path, PLAIN, inputs=["mask+image"], layout="NHWC", hole=-1, known=0, blank=1))
    assert (found[hole()] == 0).all() and (found[~hole()] == picture()[~hole()]).all()


@pytest.mark.parametrize("keys, expected", [
    ({"inputs": ["image"]}, "it takes image, mask"),
    ({"inputs": {"image": "image", "hole": "mask"}}, "it takes image, mask"),
    ({"output": 2}, "it gives result, other"),
    ({"output": "nothing"}, "it gives result, other"),
    ({"output": "other"}, "with 3 channels"),
    ({"layout": "NHWC"}, "invalid dimensions"),
    ({"device": "cuda"}, "onnxruntime-gpu"),
])
def test_what_an_onnx_model_does_not_take_is_told(tmp_path, keys, expected):
    assert expected.lower() in told(graph(tmp_path, PIPELINE, **keys)).lower()


def test_a_file_that_is_no_model_is_told(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"no model")
    for kind in ("onnx", "torchscript"):
        assert "the model fails" in told(declare(tmp_path, type=kind, file="model.bin"))


@pytest.mark.parametrize("module, expected", [(Smaller(), "26×20 for a picture of 28×20; set multiple or size"),
                                              (NotFinite(), "NaN")])
def test_what_a_model_gives_wrongly_is_told(tmp_path, module, expected):
    assert expected in told(script(tmp_path, module))


DIFFUSERS = '''
import numpy as np, torch
from types import SimpleNamespace

class Pipeline:
    """With the names of StableDiffusionInpaintPipeline.__call__ in diffusers 0.42."""
    flagged = 0

    def __init__(self, loading): self.loading, self.device = loading, "cpu"
    def set_progress_bar_config(self, **options): pass
    def to(self, device): self.device = device; return self

    def __call__(self, prompt=None, image=None, mask_image=None, height=None, width=None, strength=1.0,
                 num_inference_steps=50, guidance_scale=7.5, negative_prompt=None, generator=None, output_type="pil"):
        assert image.size == mask_image.size == (width, height) and mask_image.mode == "L" and output_type == "np"
        assert width % 8 == height % 8 == 0
        assert (prompt, negative_prompt, num_inference_steps, guidance_scale, strength) == ("sky", None, 7, 3.5, 1.0)
        assert self.loading == {"torch_dtype": torch.float16, "local_files_only": True, "variant": "fp16"}
        found = torch.rand(height, width, 3, generator=generator).numpy() / 2
        found = np.where(np.asarray(mask_image)[..., None] >= 128, found, np.asarray(image) / 255)
        Pipeline.flagged -= 1
        return SimpleNamespace(images=found[None], nsfw_content_detected=[Pipeline.flagged >= 0])

class AutoPipelineForInpainting:
    @classmethod
    def from_pretrained(cls, name, **loading):
        if name == "nobody/nothing": raise OSError("not found\\nanywhere")
        return Pipeline(loading)
'''

DIFFUSION = {"type": "diffusers", "prompt": "sky", "steps": 7, "guidance": 3.5, "dtype": "float16", "variant": "fp16"}


def test_diffusers_is_called_as_declared(tmp_path, monkeypatch):
    (tmp_path / "diffusers.py").write_text(DIFFUSERS)
    monkeypatch.syspath_prepend(tmp_path)
    path = declare(tmp_path, model="somebody/something", composite=False, **DIFFUSION)
    image, mask = picture(19, 27), hole(19, 27)
    first, second, other = (paint(path, image, seed=seed) for seed in (1, 1, 2))
    assert (first == second).all() and (first != other)[mask].any()
    assert (first[~mask] == image[~mask]).all() and first[mask].max() < 128
    assert not adapter_method(path).deterministic
    large = paint(declare(tmp_path, model="somebody/something", shorter_side=64, **DIFFUSION), image)
    assert (large[~mask] == image[~mask]).all()

    import diffusers
    diffusers.Pipeline.flagged = 2
    assert (paint(path, image, seed=1) != first).any(), "a blanked picture is not taken"
    diffusers.Pipeline.flagged = 99
    assert "safety checker" in told(path)
    assert "download: true" in told(declare(tmp_path, model="nobody/nothing", **DIFFUSION))


PAINTER = '''
def paint(image, mask, generator):
    image[mask] = generator.integers(256)
    return image

def floats(image, mask, generator): return image / 255
def raises(image, mask, generator): raise RuntimeError("first\\nsecond")
def forked(image, mask, generator): raise RuntimeError("Cannot re-initialize CUDA in forked subprocess. To use " * 9)
number = 3
'''


def test_a_function_of_the_user(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "painter.py").write_text(PAINTER)
    path = declare(tmp_path, type="callable", callable="painter:paint", path="code")
    image = picture()
    before = image.copy()
    first, second, other = (paint(path, image, seed=seed) for seed in (1, 1, 2))
    assert (first == second).all() and (first != other).any() and (image == before).all()
    assert (first[~hole()] == image[~hole()]).all() and len(np.unique(first[hole()])) == 1
    for name, expected in {"painter:floats": "must return RGB uint8", "painter:raises": "first second",
                           "painter:forked": "set forgeries.workers=0", "painter:number": "is no function",
                           "painter:absent": "absent", "nowhere_at_all:paint": "nowhere_at_all"}.items():
        assert expected in told(declare(tmp_path, type="callable", callable=name, path="code"))


def test_two_modules_of_one_name_are_not_confused(tmp_path):
    paths = []
    for value in (1, 2):
        folder = tmp_path / str(value)
        folder.mkdir()
        (folder / "painter.py").write_text(f"def paint(image, mask, generator): return 0 * image + {value}")
        paths.append(declare(folder, type="callable", callable="painter:paint"))
    assert (paint(paths[0])[hole()] == 1).all()
    assert "rename" in told(paths[1])


COMMAND = """
import sys, time
import numpy as np
from PIL import Image
image, mask, output, what = sys.argv[1:5]
if what == "fails":
    print("ignored", file=sys.stderr)
    sys.exit("no luck")
if what == "sleeps": time.sleep(60)
pixels, hole = np.array(Image.open(image)), np.array(Image.open(mask))
pixels[hole == 255] = int(what) % 256 if what.isdigit() else 9
if what == "small": pixels = pixels[1:]
if what != "silent": Image.fromarray(pixels).save(output)
"""


def command(folder, what, **keys):
    (folder / "paint.py").write_text(COMMAND)
    words = [sys.executable, "paint.py", "{image}", "{mask}", "{output}", what]
    return declare(folder, **{"type": "command", "command": words, "composite": False} | keys)


def test_a_command_paints_through_files(tmp_path):
    found = paint(command(tmp_path, "plain"))
    assert (found[hole()] == 9).all() and (found[~hole()] == picture()[~hole()]).all()
    found = paint(command(tmp_path, "plain", hole=0, known=255))
    assert (found[~hole()] == 9).all() and (found[hole()] == picture()[hole()]).all()
    seeded = command(tmp_path, "{seed}", deterministic=False)
    first, second, other = (paint(seeded, seed=seed) for seed in (1, 1, 2))
    assert (first == second).all() and (first != other).any()


@pytest.mark.parametrize("what, expected", [("fails", "exit code 1: no luck"), ("silent", "did not write {output}"),
                                            ("small", "28×19 for a picture of 28×20")])
def test_what_a_command_does_wrongly_is_told(tmp_path, what, expected):
    assert expected in told(command(tmp_path, what))


def test_a_command_and_what_it_started_end_with_the_timeout(tmp_path):
    start, number = time.monotonic(), f"47.{os.getpid()}"
    words = ["sh", "-c", f"sleep {number} & sleep {number}", "{image}", "{mask}", "{output}"]
    assert "timeout = 0.3 seconds" in told(command(tmp_path, "", command=words, timeout=0.3))
    assert time.monotonic() - start < 20
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(number.encode() in line for line in running)


@pytest.mark.parametrize("keys, expected", [
    ({"hle": 1}, "hle: unknown key; did you mean hole?"),
    ({"type": "tensorflow"}, "type = 'tensorflow': must be one of onnx, torchscript, diffusers, callable, command"),
    ({"type": None}, "type = None: must be one of"),
    ({"name": "a/b"}, "name = 'a/b': string should match pattern"),
    ({"file": "absent.pt"}, "file = 'absent.pt': no such file"),
    ({"range": [1, 0]}, "range = [1, 0]: must be [low, high]"),
    ({"range": [0]}, "range = [0]"),
    ({"hole": 0}, "hole = 0: known has the same value"),
    ({"hole": float("nan")}, "hole = nan"),
    ({"size": "big"}, "size = 'big': must be a side in pixels, or [height, width]"),
    ({"size": 64, "shorter_side": 64}, "not both"),
    ({"multiple": 0}, "multiple = 0"),
    ({"inputs": ["picture"]}, "inputs = ['picture']: must be what the model is given, such as [image, mask]"),
    ({"inputs": []}, "inputs = []"),
    ({"channels": "GBR"}, "channels = 'GBR': must be 'RGB' or 'BGR'"),
    ({"speed": "faster"}, "speed = 'faster': must be 'fast', 'medium' or 'slow'"),
    ({"composite": "yes please"}, "composite = 'yes please'"),
    ({"prompt": "sky"}, "prompt: unknown key"),
    ({"type": "command", "command": ["cp", "{image}", "{output}"]}, "must contain {mask}"),
    ({"type": "command", "command": "cp {image} {mask} {output}"}, "must be a valid list"),
    ({"type": "command", "command": ["no-such-program", "{image}{mask}{output}"]}, "no such program"),
    ({"type": "callable"}, "callable: must be given"),
    ({"type": "callable", "callable": "painter.paint"}, "callable = 'painter.paint'"),
    ({"type": "diffusers", "model": "a/b"}, "needs diffusers; install it with: pip install diffusers"),
])
def test_a_wrong_declaration_is_told_in_one_line(tmp_path, keys, expected, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    (tmp_path / "model.pt").write_bytes(b"")
    needed = {"type": "torchscript", "file": "model.pt"} if keys.get("type") in (None, "tensorflow") else {}
    path = tmp_path / "OWN.yaml"
    path.write_text(yaml.safe_dump({"name": "OWN", **needed, **keys}))
    for ask in (paint, lambda path: method_name(str(path))):
        with pytest.raises(UserError) as error:
            ask(path)
        assert str(error.value).startswith(f"{path}: ") and expected in str(error.value)
        assert "\n" not in str(error.value)


def test_no_file_no_yaml_and_no_package_are_told(tmp_path, monkeypatch):
    assert "no such file" in told(tmp_path / "absent.yaml")
    (tmp_path / "bad.yaml").write_text("name: [")
    assert "not valid YAML" in told(tmp_path / "bad.yaml")
    (tmp_path / "bad.yaml").write_text("- name")
    assert "must hold keys" in told(tmp_path / "bad.yaml")
    path = graph(tmp_path, PIPELINE)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert told(path) == "type = 'onnx': needs onnxruntime; install it with: pip install -e \".[onnx]\""


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(TYPES)), st.dictionaries(
    st.sampled_from(["name", "file", "inputs", "size", "range", "command", "callable", "model", "hole", "output", "x"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2)))
def test_any_mapping_is_a_declaration_or_a_line(tmp_path_factory, kind, values):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump({"type": kind, **values}))
    try:
        assert read_declaration(path).type == kind
    except UserError as error:
        assert str(error).startswith(f"{path}: ") and len(str(error).splitlines()) == 1


def test_the_version_follows_every_file(tmp_path):
    def version(path):
        return adapter_method(path).version

    path = script(tmp_path, First())
    versions = [version(path), version(path)]
    (tmp_path / "model.pt").write_bytes((tmp_path / "model.pt").read_bytes() + b" ")
    versions.append(version(path))
    path.write_text(path.read_text() + "# changed\n")
    versions.append(version(path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.pt").write_bytes((tmp_path / "model.pt").read_bytes())
    (tmp_path / "other" / "OWN.yaml").write_bytes(path.read_bytes())
    versions.append(version(tmp_path / "other" / "OWN.yaml"))
    assert versions[0] == versions[1] and versions[3] == versions[4] and len(set(versions)) == 3

    (tmp_path / "weights").mkdir()
    (tmp_path / "painter.py").write_text(PAINTER)
    (tmp_path / "diffusers.py").write_text("")
    sys.path.insert(0, str(tmp_path))
    for path, file in ((command(tmp_path, "x"), "paint.py"),
                       (declare(tmp_path, name="F", type="callable", callable="painter:paint"), "painter.py"),
                       (declare(tmp_path, name="D", model="weights", **DIFFUSION), "weights/unet.bin")):
        before = version(path)
        with (tmp_path / file).open("a") as out:
            out.write("#")
        assert version(path) != before


def test_nothing_heavy_is_loaded_to_name_a_method(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"no model")
    path = declare(tmp_path, type="torchscript", file="model.pt")
    code = ("import sys; from forgeries.methods import method_names, find_method; "
            f"print(method_names(['TE', {str(path)!r}]), find_method({str(path)!r}).name, "
            f"{{'torch', 'cv2', 'scipy', 'onnxruntime'}} & set(sys.modules))")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           cwd=Path(__file__).parents[2])
    assert found.stdout.strip() == "['TE', 'OWN'] OWN set()"


def test_names_are_what_the_file_says_and_each_is_one_method(tmp_path):
    own = str(script(tmp_path, First()))
    assert method_names(["TE", own, "NS"]) == ["TE", "OWN", "NS"] and find_method(own).name == "OWN"
    again = tmp_path / "again.yml"
    again.write_bytes(Path(own).read_bytes())
    with pytest.raises(UserError, match=r"again\.yml: name = 'OWN': .*OWN\.yaml has that name too"):
        method_names([own, str(again)])
    taken = str(declare(tmp_path, name="TE", type="torchscript", file="model.pt"))
    for ask in (method_name, find_method, lambda spec: method_names(["NS", spec])):
        with pytest.raises(UserError, match="name = 'TE': another method has that name"):
            ask(taken)
    with pytest.raises(UserError, match=r"'XX': unknown; known are TE.*\.yaml"):
        method_names(["XX"])


def test_weights_of_a_trained_inpainter_are_named_by_what_they_hold(tmp_path):
    for name in ("XX", "TE"):
        save_network(tmp_path / f"{name}-2.safetensors", name, Spec(width=2, latent=2), build(Spec(width=2, latent=2)),
                     {})
    path = str(tmp_path / "XX-2.safetensors")
    assert method_names([path, "TE"]) == ["XX", "TE"] and find_method(path).name == "XX"
    with pytest.raises(UserError, match="name = 'TE': another method"):
        method_name(str(tmp_path / "TE-2.safetensors"))


def test_a_configuration_takes_files_and_records_names(photos, tmp_path):
    from results.cases import case_sets
    from retrain.stage import provenance
    from retrain.trainer import Trained
    own = str(script(tmp_path, First()))
    known = {"methods": check_method}
    config = load_config("quick", [f"forgeries.methods=[TE,{own}]", f"benchmark.methods=[{own},NS]"], known)
    assert config.forgeries.methods == ["TE", own] and Recipe.of(config).methods == ("TE", own)
    assert provenance(config, PhotoSet((), (), ()), Trained({}, 1, {"val_auc": 0.5}), None)["methods"] == ["TE", "OWN"]
    cases = {(one.perturbation, one.method): one.cases for one in case_sets(config, photos, {})}
    assert {method for _, method in cases} == {"OWN", "NS", "authentic"}
    assert cases["none", "OWN"][0].image.shape == (*[config.forgeries.image_size] * 2, 3)
    with pytest.raises(UserError, match=r"'x.txt': must be one of TE.*, or a file: \.yaml"):
        load_config("quick", ["forgeries.methods=[x.txt]"], known)


@pytest.mark.parametrize("arguments", [["run"], ["benchmark"], ["synthesize", "--photos", ".", "--methods", "TE"]])
def test_the_command_line_answers_a_wrong_file_before_it_writes(tmp_path, monkeypatch, capsys, arguments):
    from giidnet import main
    path = declare(tmp_path, type="onnx", file="absent.onnx")
    monkeypatch.chdir(tmp_path)
    more = [str(path)] if arguments[0] == "synthesize" else [f"benchmark.methods=[TE,{path}]"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *more, "--out", "out"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and f"{path}: file = 'absent.onnx': no such file" in said
    assert not Path("out").exists()


@pytest.mark.parametrize("kind", ["torchscript", "onnx"])
def test_loaders_give_the_same_with_and_without_processes(photos, tmp_path, kind):
    path = script(tmp_path, Random(), deterministic=False, multiple=8) if kind == "torchscript" else \
        graph(tmp_path, PIPELINE, range=[0, 255], hole=0, known=255)
    recipe = Recipe((str(path), "TE"), ("rectangle",), (0.05, 0.2), 32, shrink=(0.25, 0.5))
    dataset = ForgeryDataset(photos, recipe, 0, "train", 6)
    here, there = list(make_loader(dataset, 3, 0)), list(make_loader(dataset, 3, 1))
    assert all(torch.equal(a, b) for one, other in zip(here, there, strict=True)
               for a, b in zip(one, other, strict=True))
    assert {dataset.forgery(index).method for index in range(6)} == {"OWN", "TE"}


def test_a_forgery_does_not_depend_on_where_its_file_lies(photos, tmp_path):
    images = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        path = script(tmp_path / name, Random(), deterministic=False)
        recipe = Recipe((str(path),), ("rectangle",), (0.05, 0.2), 32)
        images.append(ForgeryDataset(photos, recipe, 0, "train", 1).forgery(0).image)
    assert (images[0] == images[1]).all()


PLUGIN = """
import cv2
from forgeries.methods import Method

def fill(image, mask, generator):
    return cv2.GaussianBlur(image, (9, 9), 0)

BLUR = Method("BLUR", "classical", "blurring", "nobody", fill, "fast", blind=False)
def make(): return BLUR
def broken(): raise RuntimeError("no licence")
"""


def install(folder, name, points):
    """A distribution as pip leaves it."""
    (folder / "plug.py").write_text(PLUGIN)
    place = folder / f"{name}-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (place / "entry_points.txt").write_text("[giidnet.methods]\n" + "\n".join(points))


def test_plug_ins_are_found_by_their_entry_points(tmp_path, monkeypatch):
    install(tmp_path, "blurrer", ["BLUR = plug:BLUR", "OTHER = plug:make", "BROKEN = plug:broken", "GONE = plug:gone",
                                  "TE = plug:BLUR"])
    monkeypatch.syspath_prepend(tmp_path)
    assert [name for name in list_methods() if name not in ("TE",)][-4:] == ["BLUR", "BROKEN", "GONE", "OTHER"]
    assert list_methods().count("TE") == 1 and find_method("TE").title == "fast marching"
    image, mask = picture(), hole()
    found = inpaint(image, mask, "BLUR", np.random.default_rng(0))
    assert isinstance(find_method("BLUR"), Method) and (found[~mask] == image[~mask]).all()
    assert (found[mask] == cv2.GaussianBlur(image, (9, 9), 0)[mask]).all()
    for name, expected in {"OTHER": "Method of that name", "BROKEN": "no licence", "GONE": "fails"}.items():
        with pytest.raises(UserError, match=f"method '{name}': .*{expected}") as error:
            find_method(name)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="another method has that name"):
        method_name(str(script(tmp_path, First(), name="BLUR")))
    (tmp_path / "second").mkdir()
    install(tmp_path / "second", "second", ["BLUR = plug:BLUR"])
    monkeypatch.syspath_prepend(tmp_path / "second")
    find_method.cache_clear()
    with pytest.raises(UserError, match="several installed packages"):
        find_method("BLUR")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_worked_examples_are_valid(path):
    declaration = read_declaration(path)
    assert declaration.title and declaration.source != "given by the user" and declaration.name not in list_methods()


def test_every_type_has_a_worked_example_and_every_key_a_line_in_the_documents():
    assert {read_declaration(path).type for path in EXAMPLES} == set(TYPES)
    text = (EXAMPLES[0].parents[1] / "adapters.md").read_text()
    for model in TYPES.values():
        assert all(f"`{key}`" in text for key in model.model_fields)


def test_lama_is_called_as_its_archive_expects(tmp_path):
    """An archive with the signature of big-lama.pt: image and mask, sides multiples of 8, values in [0, 1]."""

    class Lama(nn.Module):
        def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            assert image.shape[2] % 8 == 0 and image.shape[3] % 8 == 0 and mask.shape[1] == 1
            return image * (1 - mask) + mask * 0.5

    torch.jit.script(Lama()).save(str(tmp_path / "big-lama.pt"))
    path = tmp_path / "lama.yaml"
    path.write_text((EXAMPLES[0].parent / "lama.yaml").read_text())
    found = paint(path)
    assert (found[hole()] == 128).all() and (found[~hole()] == picture()[~hole()]).all()


def test_mi_gan_is_called_as_its_pipeline_expects(tmp_path):
    onnx.save(onnx.parser.parse_model(PIPELINE), tmp_path / "migan_pipeline_v2.onnx")
    path = tmp_path / "migan.yaml"
    path.write_text((EXAMPLES[0].parent / "migan.yaml").read_text())
    found = paint(path)
    assert (found[hole()] == 7).all() and (found[~hole()] == picture()[~hole()]).all()


def test_the_worked_function_and_command_run(monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    for name in ("callable", "command"):
        found = paint(EXAMPLES[0].parent / f"{name}.yaml")
        assert (found[~hole()] == picture()[~hole()]).all() and (found[hole()] != picture()[hole()]).any()
