"""The page: what the server refuses, and what a real browser shows and saves."""

import asyncio
import base64
import io
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.testclient import TestClient
from torch import nn

from configs.errors import UserError
from detectors import create_detector
from detectors.checkpoints import load_detector, save_detector
from detectors.inference import default_tile, overlay, predict_map, to_grey
from detectors.serve import (
    Limits,
    StoppedError,
    build_app,
    is_loopback,
    listen,
    map_bytes,
    read_body,
    run_while_wanted,
)
from giidnet import main

DEFAULT = Limits()
ROOT = Path(__file__).parent.parent.parent


class Brightness(nn.Module):
    """A map that is the picture's brightness; remembers how many calls overlapped."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.working = self.most = 0

    def forward(self, images):
        self.working += 1
        self.most = max(self.most, self.working)
        time.sleep(0.02)
        self.working -= 1
        return self.scale * images.mean(1, keepdim=True)


def photo(height=80, width=120):
    """RGB uint8: a dark noisy ground with a bright square."""
    image = np.random.default_rng(0).integers(0, 120, (height, width, 3), np.uint8)
    image[20:60, 30:90] += 120
    return image


def encoded(image, suffix=".png"):
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


def client(module=None, limits=DEFAULT, host="127.0.0.1", name="127.0.0.1:8765"):
    return TestClient(build_app({"brightness": module or Brightness()}, limits, host), f"http://{name}")


def asked(receive):
    async def respond():
        await asyncio.sleep(0)
        return receive()
    return Request({"type": "http"}, respond)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp"])
def test_a_picture_gives_the_map_of_predict_map(suffix):
    module, data = Brightness(), encoded(photo(), suffix)
    answer = client(module).post("/map?detector=brightness", content=data)
    found = np.load(io.BytesIO(answer.content))
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert answer.status_code == 200 and found.dtype == np.float32
    assert np.array_equal(found, predict_map(module, np.ascontiguousarray(image[..., ::-1]), default_tile(module)))
    shown = cv2.imdecode(np.frombuffer(client().post("/picture", content=data).content, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(shown, image)


@pytest.mark.parametrize("data, limits, status, expected", [
    (b"", Limits(), 400, "not a PNG, JPEG"),
    (b"no picture", Limits(), 400, "not a PNG, JPEG"),
    (b"GIF89a" + bytes(64), Limits(), 400, "not a PNG, JPEG"),
    (encoded(photo())[:200], Limits(), 400, "no picture that can be decoded"),
    (encoded(photo()[:15]), Limits(), 400, "120×15 is smaller than 16 pixels"),
    (encoded(photo()), Limits(megabytes=0.01), 413, "larger than 0.01 MB"),
    (encoded(photo()), Limits(megapixels=0.009), 413, "120×80 is more than 0.009 megapixels"),
])
def test_what_cannot_be_taken_is_refused_in_one_line(data, limits, status, expected):
    for path in ("/map", "/picture"):
        answer = client(limits=limits).post(path, content=data)
        assert answer.status_code == status
        assert expected in answer.text and "\n" not in answer.text


def test_a_body_without_an_end_is_cut_off():
    received = []

    def endless():
        received.append(b"x" * 100_000)
        return {"type": "http.request", "body": received[-1], "more_body": True}

    with pytest.raises(HTTPException, match="413"):
        asyncio.run(read_body(asked(endless), Limits(megabytes=1)))
    assert len(received) == 11


def test_other_names_and_other_sites_are_refused():
    assert client().get("/").status_code == client(name="localhost:8765").get("/").status_code == 200
    assert client(host="::1").get("/", headers={"Host": "[::1]:8765"}).status_code == 200
    assert client(name="evil.example").get("/").status_code == 400
    assert client(host="0.0.0.0", name="machine.example").get("/").status_code == 200
    for origin, status in (("http://evil.example", 403), ("null", 403), ("http://127.0.0.1:8765", 200)):
        assert client().post("/map", content=encoded(photo()), headers={"Origin": origin}).status_code == status
    assert client().post("/map?detector=other", content=b"").status_code == 404


def test_answers_allow_no_foreign_sources():
    for path in ("/", "/page.js", "/worker.js", "/page.css", "/settings", "/nowhere"):
        headers = client().get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in headers
    page = "".join(path.read_text() for path in (ROOT / "detectors" / "page").iterdir())
    assert "://" not in page


def test_one_picture_at_a_time():
    module = Brightness()
    with client(module) as shared:
        threads = [threading.Thread(target=shared.post, args=("/map",), kwargs={"content": encoded(photo())})
                   for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert module.most == 1


def test_work_stops_when_nobody_waits():
    def until_unwanted(wanted):
        while wanted():
            time.sleep(0.01)
        return "stopped"

    gone, going, module = threading.Event(), threading.Event(), Brightness()
    going.set()
    for kind, ending in (("http.disconnect", gone), ("http.request", going)):
        request = asked(lambda kind=kind: {"type": kind})
        assert asyncio.run(asyncio.wait_for(run_while_wanted(request, ending, until_unwanted), 20)) == "stopped"
    with pytest.raises(StoppedError):
        map_bytes(module, encoded(photo()), DEFAULT, lambda: False)
    assert module.most == 0 and not module._forward_pre_hooks


def test_addresses():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "", "192.168.1.2", "machine.example")))
    with listen("127.0.0.1", 0) as taken, pytest.raises(UserError, match=r"cannot listen there.*in use"):
        listen("127.0.0.1", taken.getsockname()[1])


# ── the command

@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A tiny network with random weights, whose maps use the whole range."""
    torch.manual_seed(0)
    module = create_detector("giidnet", width=0.125)
    with torch.no_grad():
        last = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)][-1]
        last.weight.mul_(100)
    folder = tmp_path_factory.mktemp("weights")
    save_detector(folder, "giidnet", module, {"width": 0.125}, {})
    return folder


@pytest.fixture(scope="module")
def url(weights):
    """`giidnet serve`, running; ends as with Ctrl-C."""
    command = [sys.executable, "-m", "giidnet", "serve", "--port", "0", "--device", "cpu", "--weights", str(weights),
               "--limit", "1"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    yield re.search(r"http://127\.0\.0\.1:\d+/", line)[0]
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("", "") and process.returncode == 0


@pytest.mark.parametrize("arguments, expected", [
    (["--port", "99999"], "99999"),
    (["--weights", "nowhere"], "nowhere: no such checkpoint"),
    (["--detector", "giidnet", "--detector", "mantranet", "--weights", "."], "2 --detector for 1 --weights"),
    (["--weights", ".", "--host", "no.such.host.invalid"], "cannot listen there"),
    (["--weights", ".", "--device", "cuda"], "no CUDA device here"),
])
def test_mistakes_end_in_one_line(arguments, expected, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as error:
        main(["serve", *arguments])
    text = capsys.readouterr().err
    assert error.value.code == 2 and expected in text and text.count("\n") == 1


def test_an_address_that_others_reach_is_warned_of(weights, capsys, monkeypatch):
    monkeypatch.setattr("detectors.serve.answer", lambda app, listening: None)
    for host, warned in (("127.0.0.1", False), ("0.0.0.0", True)):
        main(["serve", "--port", "0", "--weights", str(weights), "--host", host])
        told = capsys.readouterr()
        assert f"http://{host}:" in told.out and ("no authentication" in told.err) == warned


def test_without_its_packages_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(SystemExit) as error:
        main(["serve"])
    assert error.value.code == 2 and 'pip install -e ".[serve]"' in capsys.readouterr().err


def test_the_settings_tell_where_the_slider_begins():
    modules = dict.fromkeys(("a", "b"), Brightness())
    found = TestClient(build_app(modules, DEFAULT, "127.0.0.1", {"a": 0.1234}), "http://127.0.0.1:8765")
    assert found.get("/settings").json()["thresholds"] == {"a": 0.13, "b": 0.5}


# ── the browser

@pytest.fixture
def page(browser, url):
    """The page, loaded; nothing may fail in it, and nothing may be asked for elsewhere."""
    found, wrong = browser.new_page(viewport={"width": 1200, "height": 900}), []
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("console", lambda message: "Security Policy" in message.text and wrong.append(message.text))
    found.on("request", lambda request: request.url.startswith((url, "blob:", "data:")) or wrong.append(request.url))
    found.goto(url, wait_until="networkidle")
    yield found
    found.close()
    assert not wrong


def hand_over(page, how, name, data):
    """A "drop" or "paste" event as the browser makes it, with one file."""
    page.evaluate("""([how, name, data]) => {
        const given = new DataTransfer();
        given.items.add(new File([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], name));
        const options = { bubbles: true, cancelable: true, dataTransfer: given, clipboardData: given };
        const event = how === "drop" ? new DragEvent(how, options) : new ClipboardEvent(how, options);
        document.getElementById("drop").dispatchEvent(event);
    }""", [how, name, base64.b64encode(data).decode()])


def save(page, label):
    with page.expect_download() as download:
        page.get_by_role("button", name=label).click()
    return download.value.suggested_filename, Path(download.value.path())


def shares(page):
    page.locator("#result").wait_for()
    return float(page.locator("#share").inner_text().removesuffix(" %")) / 100


def test_a_dropped_picture_is_shown_flagged_and_saved(page, weights):
    image = photo(150, 301)  # two tiles
    expected = predict_map(load_detector(weights).module, image)
    middle = round(float(np.median(expected)), 2)
    hand_over(page, "drop", "my.photo.png", encoded(image))
    assert shares(page) == pytest.approx((expected >= 0.5).mean(), abs=1e-3)

    page.get_by_label("Threshold").fill(str(middle))
    assert 0.1 < (expected >= middle).mean() < 0.9
    assert shares(page) == pytest.approx((expected >= middle).mean(), abs=1e-3)
    assert page.locator("#threshold-value").inner_text() == f"{middle:.2f}"
    page.get_by_label("Threshold").press("ArrowRight")
    assert shares(page) == pytest.approx((expected >= middle + 0.01).mean(), abs=1e-3)
    page.get_by_label("Threshold").press("ArrowLeft")

    name, path = save(page, "Raw map")
    assert name == "my.photo_map.npy" and np.allclose(np.load(path), expected, atol=1e-5)
    name, path = save(page, "Map PNG")
    saved = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert name == "my.photo_map.png" and saved.shape == image.shape[:2] and saved.dtype == np.uint8
    assert np.abs(saved.astype(int) - to_grey(expected)).max() <= 1
    name, path = save(page, "Overlay")
    saved, ours = cv2.imread(str(path))[..., ::-1].astype(int), overlay(image, expected, middle).astype(int)
    cyan = (saved == (0, 255, 255)).all(2)
    # The page outlines holes too, and inside the region; away from all outlines the pictures agree.
    away = ~cyan & ~(ours == (0, 255, 255)).all(2)
    assert name == "my.photo_overlay.png" and cyan.any() and (expected[cyan] >= middle - 1e-4).all()
    assert np.abs(saved - ours)[away].max() <= 3


def test_the_slider_begins_at_the_threshold_of_the_chosen_weights(browser, url):
    page = browser.new_page()
    page.route("**/settings", lambda route: route.fulfill(json=route.fetch().json() | {
        "detectors": ["one", "two"], "thresholds": {"one": 0.42, "two": 0.9}}))
    page.goto(url, wait_until="networkidle")
    shown = page.locator("#threshold-value")
    assert (page.get_by_label("Threshold").input_value(), shown.inner_text()) == ("0.42", "0.42")
    page.locator("#detector").select_option("two")
    assert (page.get_by_label("Threshold").input_value(), shown.inner_text()) == ("0.9", "0.90")
    page.close()


def test_the_shown_outline_follows_the_slider_and_the_views_differ(page):
    def outlined():
        """Share of the shown picture that has the outline's colour."""
        page.wait_for_timeout(200)
        shown = cv2.imdecode(np.frombuffer(page.locator("#stage").screenshot(), np.uint8), cv2.IMREAD_COLOR)
        return (np.abs(shown.astype(int) - (255, 255, 0)).max(2) < 30).mean()

    hand_over(page, "drop", "photo.png", encoded(photo()))
    shares(page)
    page.get_by_label("Threshold").fill("0")  # all is flagged: a frame
    found = {}
    for view in ("Overlay", "Outlines", "Heat map", "Picture"):
        assert page.get_by_role("radio", name=view).is_checked()
        found[view] = outlined()
        page.get_by_role("radio", name=view).press("ArrowRight")
    assert found.pop("Picture") == 0 and all(0.01 < share < 0.1 for share in found.values())
    assert page.locator("#share").inner_text() == "100.0 %"
    page.get_by_label("Threshold").fill("1")
    assert outlined() == 0 and "Nothing reaches" in page.locator("#meaning").inner_text()
    page.set_viewport_size({"width": 500, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 500


def test_what_cannot_be_shown_is_said_and_a_picture_may_follow(page):
    error = page.get_by_role("alert")
    hand_over(page, "drop", "notes.txt", b"no picture")
    error.get_by_text("not a PNG, JPEG, BMP, TIFF or WebP picture").wait_for()
    hand_over(page, "drop", "large.png", bytes(1_000_001))
    error.get_by_text("larger than 1 MB").wait_for()
    page.route("**/map*", lambda route: route.abort())
    hand_over(page, "drop", "photo.png", encoded(photo()))
    error.get_by_text("The server does not answer").wait_for()
    page.unroute("**/map*")
    page.route("**/map*", lambda route: None)  # an answer that does not come
    hand_over(page, "drop", "photo.png", encoded(photo()))
    page.get_by_role("button", name="Cancel").click()
    page.locator("#progress").wait_for(state="hidden")
    assert error.is_hidden() and page.locator("#result").is_hidden()
    page.unroute("**/map*")

    hand_over(page, "paste", "pasted.png", encoded(photo()))
    shares(page)
    assert "pasted.png" in page.locator("#name").inner_text()
    page.locator("#file").set_input_files([{"name": "scan.tiff", "mimeType": "image/tiff",
                                            "buffer": encoded(photo(), ".tiff")}])
    shares(page)
    assert error.is_hidden() and "scan.tiff, 120×80" in page.locator("#name").inner_text()
