"""Networks that paint: any size, only what they should see, and weights that ship."""

import json
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pytest
import torch

from configs.errors import UserError
from forgeries.methods import METHODS, find_method, inpaint
from forgeries.methods.learned import (
    SPECS,
    WEIGHTS,
    Spec,
    describe,
    learned_method,
    load_network,
    save_network,
    shipped,
)
from forgeries.methods.networks import Coder, GatedConv, build, smooth_fill
from forgeries.methods.region import around

ACTIVATIONS, LOSSES = ("relu", "leaky", "elu", "gelu", "silu"), ("l1", "l2", "laplacian", "fourier")
UPS = ("transposed", "pixel-shuffle", "nearest", "bilinear")


def picture(seed: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(tmp_path, spec: Spec, name: str = "XX", photos: int = 1):
    torch.manual_seed(0)
    path = tmp_path / f"{name}.safetensors"
    save_network(path, name, spec, build(spec), {"photos": photos * ["0123456789abcdef"]})
    return path


def test_a_network_may_be_trained_on_any_number_of_photographs(tmp_path):
    assert len(describe(save(tmp_path, Spec(width=3), photos=100_000))["trained"]["photos"]) == 100_000


@pytest.mark.parametrize("up", UPS)
@pytest.mark.parametrize("network", ["coder", "gated"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_every_shape_paints_pictures_of_any_size(tmp_path, up, network, depth):
    path = save(tmp_path, Spec(network, up=up, depth=depth, width=3, latent=4))
    method = find_method(str(path))
    for height, width in ((16, 16), (33, 41), (70, 130)):
        image, mask = picture(0, height, width), np.zeros((height, width), bool)
        mask[height // 3:height // 2, width // 4:width // 2] = True
        painted = method.paint(image, mask, np.random.default_rng(0))
        assert painted.shape == image.shape and painted.dtype == np.uint8
        assert (painted[~mask] == image[~mask]).all() and (painted[mask] != image[mask]).any()
        assert (painted == method.paint(image, mask, np.random.default_rng(1))).all()


def test_a_gated_network_is_blind_to_the_hole_and_a_coder_is_not(tmp_path):
    mask = np.zeros((40, 48), bool)
    mask[10:25, 12:30] = True
    image = picture(0, 40, 48)
    hidden = np.where(mask[..., None], picture(1, 40, 48), image)
    for network, blind in (("gated", True), ("coder", False)):
        method = learned_method(save(tmp_path, Spec(network, width=3), network))
        assert method.blind == blind
        same = method.fill(image, mask, np.random.default_rng(0)) == method.fill(hidden, mask, np.random.default_rng(0))
        assert same[mask].all() == blind


def test_painting_with_a_crop_is_painting_the_whole_where_the_margin_is_enough(tmp_path):
    """A coder of depth 1 sees less than its margin: far from the hole nothing matters."""
    path = save(tmp_path, Spec(depth=1, width=3))
    image, mask = picture(0, 128, 160), np.zeros((128, 160), bool)
    mask[60:70, 80:100] = True
    painted = learned_method(path).paint(image, mask, np.random.default_rng(0))
    _, network = load_network(path)
    with torch.inference_mode():
        whole = network(torch.from_numpy(image).permute(2, 0, 1)[None] / 255, torch.zeros(1, 1, 128, 160))
    expected = (whole[0].permute(1, 2, 0) * 255).clamp(0, 255).numpy()
    assert np.abs(painted[mask].astype(float) - expected[mask]).max() <= 0.51


def test_the_result_does_not_depend_on_the_number_of_threads(tmp_path):
    method = learned_method(save(tmp_path, Spec("gated", width=8)))
    image, mask = picture(0, 96, 96), np.zeros((96, 96), bool)
    mask[30:60, 30:60] = True
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(method.paint(image, mask, np.random.default_rng(0)).tobytes())
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.parametrize("up", UPS)
def test_ways_to_upsample_double_the_sides(up):
    coder = Coder(Spec(up=up, depth=2, width=2, latent=3))
    shapes = []
    for layer in coder.up:
        layer.register_forward_hook(lambda module, inputs, output: shapes.append((inputs[0].shape, output.shape)))
    coder(torch.rand(1, 3, 32, 48), torch.zeros(1, 1, 32, 48))
    assert [(tuple(a[2:]), tuple(b[2:])) for a, b in shapes] == [((8, 12), (16, 24)), ((16, 24), (32, 48))]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_gated_convolution_is_a_feature_weighed_by_a_gate(activation):
    torch.manual_seed(0)
    layer, x = GatedConv(2, 3, activation=activation), torch.randn(1, 2, 5, 6)
    function = {"relu": torch.relu, "leaky": lambda v: torch.where(v > 0, v, 0.2 * v), "elu": torch.nn.ELU(),
                "gelu": torch.nn.GELU(), "silu": lambda v: v * v.sigmoid()}[activation]
    plain = torch.nn.functional.conv2d(x, layer.conv.weight[:3], layer.conv.bias[:3], padding=1)
    gate = torch.nn.functional.conv2d(x, layer.conv.weight[3:], layer.conv.bias[3:], padding=1)
    assert torch.allclose(layer(x), function(plain) / (1 + torch.exp(-gate)), atol=1e-6)


def test_the_box_around_a_mask_is_tight_up_to_the_margin():
    mask = np.zeros((50, 60), bool)
    mask[10:12, 3:8] = mask[20, 40] = True
    assert around(mask, 0) == (slice(10, 21), slice(3, 41))
    box = around(mask, 7)
    assert mask[box].shape == (25, 48)  # rows 3 to 27, columns 0 to 47
    assert mask[around(mask, 100)].shape == mask.shape


def test_another_file_changes_the_version(tmp_path):
    first = learned_method(save(tmp_path, Spec(width=3), "A"))
    second = learned_method(save(tmp_path, Spec(width=4), "B"))
    assert first.version != second.version and first.name == "A"


def write_header(path, found):
    header = json.dumps({"__metadata__": {"inpainter": json.dumps(found)}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)


@pytest.mark.parametrize("write, message", [
    (lambda path: None, "cannot be read"),
    (lambda path: path.write_bytes(b""), "not the weights of an inpainter"),
    (lambda path: path.write_bytes(b"\xff" * 100), "not the weights of an inpainter"),
    (lambda path: path.write_bytes((2).to_bytes(8, "little") + b"{}"), "not the weights of an inpainter"),
    *((partial(write_header, found=found), "not the weights of an inpainter") for found in (
        [], "x", {"name": "x"}, {"name": "x", "spec": 3}, {"name": "x", "spec": {"network": "other"}},
        {"name": "x", "spec": {"activation": "none"}}, {"name": "x", "spec": {"other": 1}}, {"spec": {}},
        {"name": 3, "spec": {}}, {"name": "../../elsewhere", "spec": {}}, {"name": "", "spec": {}})),
])
def test_a_file_of_something_else_is_told(tmp_path, write, message):
    path = tmp_path / "x.safetensors"
    write(path)
    with pytest.raises(UserError, match=message) as error:
        find_method(str(path))
    assert "\n" not in str(error.value)


def test_damaged_weights_are_told(tmp_path):
    path = save(tmp_path, Spec(width=3))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="damaged"):
        inpaint(picture(0, 32, 32), np.eye(32, dtype=bool), str(path), np.random.default_rng(0))
    other = tmp_path / "other.safetensors"
    save_network(other, "O", replace(Spec(width=3), depth=3), build(Spec(width=3)), {})
    with pytest.raises(UserError, match="damaged"):
        load_network(other)


def test_shipped_weights_are_those_of_the_table_and_small():
    found = shipped()
    assert set(found) == set(SPECS) <= set(METHODS)
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) <= 3_000_000
    for name, path in found.items():
        held = describe(path)
        assert (held["name"], held["spec"]) == (name, json.loads(json.dumps(asdict(SPECS[name]))))
        assert held["trained"]["photos"] and held["trained"]["val_psnr"] > 0
        spec, network = load_network(path)
        assert spec == SPECS[name] and all(p.isfinite().all() for p in network.parameters())


def test_shipped_coders_differ_in_every_choice():
    coders = [spec for spec in SPECS.values() if spec.network == "coder"]
    assert {spec.up for spec in coders} == set(UPS) and {spec.loss for spec in coders} == set(LOSSES)
    assert {spec.activation for spec in coders} == set(ACTIVATIONS) and len({spec.depth for spec in coders}) > 1


def test_shipped_methods_give_back_what_they_see_or_fill_smoothly():
    """On a smooth picture, coders keep the region to some grey levels and the inpainter comes near it."""
    rows, columns = np.mgrid[:96, :96]
    image = np.stack([60 + rows, 80 + columns, 200 - rows], 2).astype(np.uint8)
    mask = np.zeros((96, 96), bool)
    mask[36:60, 36:60] = True
    for name in SPECS:
        painted = inpaint(image, mask, name, np.random.default_rng(0))
        error = np.abs(painted[mask].astype(float) - image[mask]).mean()
        # Untrained networks are tens of grey levels away.
        assert 0 < error < 3, name


def test_a_smooth_fill_keeps_what_is_known_and_stays_within_its_range():
    generator = torch.Generator().manual_seed(0)
    for height, width in ((16, 16), (21, 37), (64, 8)):
        images = torch.rand(2, 3, height, width, generator=generator)
        masks = (torch.rand(2, 1, height, width, generator=generator) < 0.6).float()
        masks[0, :, :height - 1] = 1
        filled = smooth_fill(images, masks)
        assert torch.equal(filled * (1 - masks), images * (1 - masks))
        for image, fill, mask in zip(images, filled, masks, strict=True):
            known = image[:, mask[0] == 0]
            assert (fill.amin((1, 2)) >= known.amin(1) - 1e-5).all()
            assert (fill.amax((1, 2)) <= known.amax(1) + 1e-5).all()
        hidden = torch.where(masks > 0, torch.rand(images.shape, generator=generator), images)
        assert torch.equal(smooth_fill(hidden, masks), filled)
    assert torch.allclose(smooth_fill(torch.full((1, 3, 9, 9), 0.3), torch.eye(9)[None, None]), torch.tensor(0.3))
