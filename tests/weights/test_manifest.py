"""The manifest: what it may say of a file, that the package's own says the truth, and how public files are verified."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from weights import WeightsError, lookup, manifest
from weights.manifest import Entry, git_blob_id

FACTS = {"kind": "backbone", "licence": "none", "layout": "torch"}
ENTRY = Entry(
    name="one",
    file="file.h5",
    kind="classifier",
    summary="a file",
    licence="none",
    url="http://127.0.0.1:1/file.h5",
    size=7,
    sha256="0" * 64,
)


def test_other_hashes_verify_too(tmp_path):
    (tmp_path / "f").write_bytes(b"hello\n")
    assert git_blob_id(tmp_path / "f") == "ce013625030ba8dba906f756967f9e9ca394464a"
    Entry("n", "f", git_blob="ce013625030ba8dba906f756967f9e9ca394464a", **FACTS).verify(tmp_path / "f")
    for wrong, message in (({"git_blob": "0" * 40}, "git blob id"), ({"md5": "0" * 32}, "MD5")):
        with pytest.raises(WeightsError, match=message):
            Entry("n", "f", **wrong, **FACTS).verify(tmp_path / "f")


ALL = {key: value for key, value in dataclasses.asdict(ENTRY).items() if key != "name"}
BAD = [{"file": "../evil.h5"}, {"file": ""}, {"kind": "virus"}, {"sha256": ""}, {"licence": ""}, {"layout": "pickle"}]
BAD += [{"url": "file:///etc/passwd"}, {"surprise": 1}]


@pytest.mark.parametrize(
    "content",
    [
        *(json.dumps({"format": 1, "weights": {"one": ALL | change}}) for change in BAD),
        *("", "[]", "{", '{"format": 2, "weights": {}}', '{"format": 1, "weights": [1]}'),
    ],
)
def test_a_manifest_that_is_damaged_or_cannot_be_trusted_is_refused(tmp_path, content):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(WeightsError, match=r"m\.json: not a manifest|^manifest: one"):
        manifest.read(tmp_path / "m.json")


def test_a_manifest_comes_back_as_it_was_written(tmp_path):
    full = dataclasses.replace(ENTRY, labels=("a", "b"), input={"size": 3}, card="one.md", architecture={"name": "x"})
    assert manifest.read(manifest.write({"one": full}, tmp_path / "m.json")) == {"one": full}


def test_every_file_that_the_package_promises_is_there_whole_and_has_a_card():
    for entry in manifest.read().values():
        if not (entry.url or entry.package):
            entry.verify(manifest.FOLDER / entry.file)
            assert (manifest.FOLDER / entry.card).is_file() and entry.sha256 and entry.size and entry.labels
        assert entry.licence and entry.summary and (entry.url or entry.package or entry.sha256)
        if entry.layout == "torch":
            assert bool(entry.sha256) != entry.unverified and set(entry.thresholds or ()) <= set(entry.labels)


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


def test_a_file_of_an_installed_package_is_taken_without_importing_it(cache, tmp_path, monkeypatch):
    folder = tmp_path / "holder" / "models"
    folder.mkdir(parents=True)
    (tmp_path / "holder" / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "far.pt").write_bytes(b"right")
    monkeypatch.syspath_prepend(str(tmp_path))
    digits = hashlib.sha256(b"right").hexdigest()[:8]  # as many as are published are compared
    entry = Entry("far", "far.pt", package="holder/models", extra="imagenet", sha256=digits, **FACTS)
    assert lookup.find(entry) == folder / "far.pt"
    (folder / "far.pt").write_bytes(b"wrong")
    with pytest.raises(WeightsError, match="install again"):
        lookup.find(entry)
