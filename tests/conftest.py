"""What all tests share."""

import os
import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory):
    """No test reads or fills the user's cache folder; subprocesses inherit this."""
    before = os.environ.get("GIIDNET_CACHE")
    os.environ["GIIDNET_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("GIIDNET_CACHE")
    if before is not None:
        os.environ["GIIDNET_CACHE"] = before


@pytest.fixture(scope="module")
def browser():
    """A real browser, without a window."""
    if CHROMIUM is None:
        pytest.skip("no chromium, chromium-browser or google-chrome is installed")
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()
