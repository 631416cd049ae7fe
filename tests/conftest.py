"""What all tests share."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory):
    """No test reads or fills the user's cache folder; subprocesses inherit this."""
    before = os.environ.get("GIIDNET_CACHE")
    os.environ["GIIDNET_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("GIIDNET_CACHE")
    if before is not None:
        os.environ["GIIDNET_CACHE"] = before
