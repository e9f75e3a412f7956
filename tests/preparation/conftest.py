"""Small radiographs on disk, lungs, and a segmenter that needs no network."""

import os
from dataclasses import dataclass
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from covidcxnet.datasets import Dataset
from covidcxnet.preparation import build
from covidcxnet.settings import InputSettings


def _picture(seed: int, shape=(60, 80)) -> np.ndarray:
    """Something gray with structure at all scales, brighter than 0 everywhere."""
    noise = np.random.default_rng(seed).integers(1, 256, shape, dtype=np.uint8)
    return np.maximum(cv2.GaussianBlur(noise, (0, 0), 3), 1)


def _ellipses(shape) -> np.ndarray:
    """Two lungs, roughly."""
    h, w = shape
    rows, cols = np.mgrid[:h, :w]
    left, right = (((cols - w * c) / (0.15 * w)) ** 2 + ((rows - 0.5 * h) / (0.3 * h)) ** 2 < 1 for c in (0.3, 0.7))
    return left | right


@dataclass
class Fake:
    """Says `ellipses` of every radiograph, and distrusts those whose mean is below `limit`; `frontal` of all."""

    name: str = "fake"
    sha256: str = "f" * 64
    limit: float = 0
    frontal: float | None = None
    calls: int = 0

    def predict(self, images):
        self.calls += 1
        assert all(image.dtype == np.uint8 and image.ndim == 2 for image in images)
        return [self._lungs(image) for image in images]

    def _lungs(self, image):
        mask = _ellipses(image.shape)
        rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        trusted = bool(image.mean() >= self.limit)
        reasons = () if trusted else ("too dark",)
        facts = {"area_fraction": mask.mean(), "frontal": self.frontal}
        verdict = SimpleNamespace(trusted=trusted, reasons=reasons, **facts)
        box = int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1
        return SimpleNamespace(mask=mask, box=box, verdict=verdict, error=None)


@pytest.fixture
def picture():
    return _picture


@pytest.fixture
def ellipses():
    return _ellipses


@pytest.fixture
def fake_segmenter():
    return Fake


@pytest.fixture
def settings() -> InputSettings:
    return InputSettings(size=32, clahe_tile_grid=(2, 2))


def _small(root) -> Dataset:
    root.mkdir()
    rows = []
    for i in range(12):
        cv2.imwrite(str(root / f"{i:02d}.png"), _picture(i))
        rows.append({"path": f"{i:02d}.png", "label": ["normal", "flu"][i % 2], "patient": f"p{i // 2}", "age": 40 + i})
    return Dataset(pd.DataFrame(rows), root, name="small")


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """Twelve small radiographs of six patients, to be changed."""
    return _small(tmp_path / "data")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of twelve radiographs with lungs, to be left as it is."""
    folder = tmp_path_factory.mktemp("store")
    chosen = InputSettings(size=32, clahe_tile_grid=(2, 2))
    with build.prepare(_small(folder / "data"), chosen, folder / "s.h5", segmenter=Fake(), progress=False) as store:
        yield store


@pytest.fixture
def counted(monkeypatch):
    """Files that were really prepared, call after call."""
    names: list[str] = []
    real = build.prepare_files

    def spy(items, *args, **options):
        names.extend(os.path.basename(item) for item in items)
        return real(items, *args, **options)

    monkeypatch.setattr(build, "prepare_files", spy)
    return names
