"""What a result came from."""

from importlib.metadata import PackageNotFoundError, version

import cv2

from configs import engine


def test_opencv_has_a_version_whichever_package_brought_it(monkeypatch):
    def installed(name):
        if name.startswith("opencv"):
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(engine, "version", installed)
    assert engine.versions()["opencv"] == cv2.__version__
