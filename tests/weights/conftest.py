"""What tests of weights files share: a tiny classifier, and a package folder that holds it."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from weights import manifest
from weights.format import save_weights

sys.path.append(str(Path(__file__).parents[1] / "legacy"))  # keras2_files
sys.path.append(str(Path(__file__).parent))  # torch_files

OPTIONS = {"size": 32, "channels": 1, "filters": [4, 4], "hidden": [4]}
METADATA = {
    "kind": "classifier",
    "architecture": {"name": "small-cnn", "options": OPTIONS},
    "classes": ["normal", "covid19"],
    "input": {"size": 32, "channels": ["raw"]},
}


@pytest.fixture(scope="session")
def metadata():
    return METADATA


@pytest.fixture(scope="session")
def classifier():
    from covidcxnet.models import create

    return create("small-cnn", classes=("normal", "covid19"), **OPTIONS)


@pytest.fixture(scope="session")
def classifier_file(classifier, tmp_path_factory):
    """The tiny classifier's weights file; copy it before changing it."""
    return save_weights(classifier, tmp_path_factory.mktemp("good") / "good.weights.h5", METADATA)


@pytest.fixture(scope="session")
def tool():
    """The maintainers' script, which is no package: a module that only its path names."""
    path = Path(__file__).parents[2] / "tools" / "weights.py"
    spec = importlib.util.spec_from_file_location("maintainers_weights", path)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@pytest.fixture
def package(tmp_path, monkeypatch, classifier_file):
    """A package folder with one file of ours and its card, an empty manifest and an empty cache; offline."""
    folder = tmp_path / "package"
    folder.mkdir()
    shutil.copy(classifier_file, folder / "tiny.weights.h5")
    (folder / "tiny.md").write_text("# tiny")
    monkeypatch.setattr(manifest, "FOLDER", folder)
    monkeypatch.setattr(manifest, "PATH", manifest.write({}, folder / "manifest.json"))
    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COVIDCXNET_OFFLINE", "1")
    return folder


@pytest.fixture
def registered(package, tool):
    """The entry of that file, which the maintainers' command made."""
    command = ["register", str(package / "tiny.weights.h5"), "--licence", "CC BY 4.0", "--summary", "a tiny one"]
    assert tool.main(command) == 0
    return manifest.read()["tiny"]
