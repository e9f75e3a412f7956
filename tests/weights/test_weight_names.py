"""A name of released weights, a path, or neither: everything that loads weights means the same by it."""

from __future__ import annotations

from pathlib import Path

import pytest

import covidcxnet
import weights
from covidcxnet import pretrained
from enhancement.errors import InputError
from segmentation import LungSegmenter


def test_a_name_comes_before_a_file_of_that_name_and_a_path_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = tmp_path / "lung-unet"
    mine.write_bytes(b"mine")
    assert weights.locate("lung-unet") == weights.released("lung-unet")
    for path in ("./lung-unet", mine.relative_to(tmp_path), mine):
        assert weights.locate(path).resolve() == mine
        assert pretrained.resolve(path).resolve() == mine


@pytest.mark.parametrize("path", [Path("lung-unet"), Path("covid-cxnet"), "a" * 300, f"/{'a' * 300}"])
def test_a_path_is_never_a_name_and_what_no_system_can_name_is_no_file(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    for load in (weights.locate, LungSegmenter, pretrained.resolve, covidcxnet.load_legacy):
        with pytest.raises(InputError, match=r"no such|neither|no released"):
            load(path)
