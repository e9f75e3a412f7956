"""Public files that this package does not hold: in another package, with part of a hash published, or with none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from weights import WeightsError, lookup, manifest
from weights.manifest import Entry

FACTS = {"kind": "backbone", "licence": "none", "layout": "torch"}


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path))
    monkeypatch.setenv("COVIDCXNET_OFFLINE", "1")
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def test_without_a_published_hash_the_first_file_is_recorded_and_holds(cache, capsys):
    entry = Entry("far", "far.pt", url="https://example.org/far.pt", unverified=True, **FACTS)
    (cache / "far.pt").write_bytes(b"first")
    assert lookup.find(entry) == cache / "far.pt"
    digest = hashlib.sha256(b"first").hexdigest()
    assert f"unverified, as nobody publishes its hash; its SHA-256 {digest} is recorded" in capsys.readouterr().err
    assert (cache / "far.pt.sha256").read_text().strip() == digest
    assert lookup.find(entry) and not capsys.readouterr().err
    (cache / "far.pt").write_bytes(b"another")
    with pytest.raises(
        WeightsError, match=r"not the file that was downloaded first; to accept it, delete far\.pt\.sha256"
    ):
        lookup.find(entry)


def test_the_digits_that_are_published_are_compared(cache):
    entry = Entry("far", "far.pt", sha256=hashlib.sha256(b"right").hexdigest()[:8], **FACTS)
    (cache / "far.pt").write_bytes(b"right")
    assert lookup.find(entry)
    (cache / "far.pt").write_bytes(b"wrong")
    with pytest.raises(WeightsError, match="SHA-256"):
        lookup.find(entry)


def test_a_file_of_an_installed_package_is_taken_without_importing_it(cache, tmp_path, monkeypatch):
    folder = tmp_path / "holder" / "models"
    folder.mkdir(parents=True)
    (tmp_path / "holder" / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "far.pt").write_bytes(b"right")
    monkeypatch.syspath_prepend(str(tmp_path))
    digest = hashlib.sha256(b"right").hexdigest()
    entry = Entry("far", "far.pt", package="holder/models", extra="imagenet", sha256=digest, **FACTS)
    assert lookup.find(entry) == folder / "far.pt"
    (folder / "far.pt").write_bytes(b"wrong")
    with pytest.raises(WeightsError, match="install again"):
        lookup.find(entry)


def test_each_public_file_says_how_its_content_is_known():
    torch_files = [entry for entry in manifest.read().values() if entry.layout == "torch"]
    assert len(torch_files) == 10
    for entry in torch_files:
        assert entry.url or entry.package
        assert bool(entry.sha256) != entry.unverified
        if entry.thresholds:
            assert set(entry.thresholds) <= set(entry.labels)
