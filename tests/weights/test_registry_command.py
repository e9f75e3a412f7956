"""`covidcxnet weights`: what is printed, and the exit codes."""

from __future__ import annotations

import json

import pytest

import covidcxnet
from covidcxnet.cli.weights import main
from enhancement.errors import InputError
from weights import manifest


def test_a_registered_file_that_changes_is_refused_by_name(registered, package, capsys):
    path = package / "tiny.weights.h5"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"SHA-256.*install again"):
        covidcxnet.load_model("tiny")
    assert main(["verify"]) == 1
    assert "SHA-256" in capsys.readouterr().err


def test_list_and_show_say_what_there_is(registered, package, capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(word in out for word in ("tiny", "classifier", "package", "a tiny one"))
    assert main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tiny"]["labels"] == ["normal", "covid19"]
    assert main(["show", "tiny"]) == 0
    out = capsys.readouterr().out
    assert registered.sha256 in out and "CC BY 4.0" in out and str(package / "tiny.md") in out


def test_path_and_verify_find_the_file(registered, package, capsys):
    assert main(["path", "tiny"]) == 0
    assert capsys.readouterr().out.strip() == str(package / "tiny.weights.h5")
    assert main(["verify", "tiny"]) == main(["verify"]) == 0
    assert "as released" in capsys.readouterr().out


def test_what_is_not_there_is_one_line_and_exit_code_2(registered, package, capsys):
    assert main(["show", "none"]) == 2
    assert "tiny" in capsys.readouterr().err
    (package / "tiny.weights.h5").unlink()
    for action, code in (("path", 2), ("fetch", 2), ("verify", 1)):
        assert main([action, "tiny"]) == code
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["verify"]) == 0


def test_fetch_offline_names_url_and_place(package, capsys, tmp_path):
    facts = {"kind": "classifier", "summary": "s", "licence": "l", "md5": "0" * 32}
    far = manifest.Entry(name="far", file="far.h5", url="https://example.org/far.h5", **facts)
    manifest.write({"far": far}, manifest.PATH)
    assert main(["fetch", "far"]) == 2
    line = capsys.readouterr().err
    assert far.url in line and str(tmp_path / "home" / "weights" / "far.h5") in line and line.count("\n") == 1
