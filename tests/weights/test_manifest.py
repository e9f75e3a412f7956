"""The manifest: what it may say of a file, and that the package's own says the truth."""

from __future__ import annotations

import dataclasses
import json

import pytest

from weights import WeightsError, manifest
from weights.manifest import Entry, git_blob_id

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


def test_a_git_blob_id_verifies_too(tmp_path):
    (tmp_path / "f").write_bytes(b"hello\n")
    assert git_blob_id(tmp_path / "f") == "ce013625030ba8dba906f756967f9e9ca394464a"
    facts = {"name": "n", "file": "f", "kind": "classifier", "licence": "none"}
    Entry(**facts, git_blob="ce013625030ba8dba906f756967f9e9ca394464a").verify(tmp_path / "f")
    with pytest.raises(WeightsError, match="git blob id"):
        Entry(**facts, git_blob="0" * 40).verify(tmp_path / "f")
    with pytest.raises(WeightsError, match="MD5"):
        Entry(**facts, md5="0" * 32).verify(tmp_path / "f")


FACTS = {key: value for key, value in dataclasses.asdict(ENTRY).items() if key != "name"}
BAD = [{"file": "../evil.h5"}, {"file": ""}, {"kind": "virus"}, {"sha256": ""}, {"licence": ""}, {"layout": "pickle"}]
BAD += [{"url": "file:///etc/passwd"}, {"surprise": 1}]


@pytest.mark.parametrize(
    "content",
    [
        *(json.dumps({"format": 1, "weights": {"one": FACTS | change}}) for change in BAD),
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
        assert entry.licence and entry.summary
