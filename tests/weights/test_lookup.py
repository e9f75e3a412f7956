"""Look-up: names become verified files, over a local server that behaves badly; nothing here needs a network."""

from __future__ import annotations

import dataclasses
import http.server
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import covidcxnet
import weights
from covidcxnet import pretrained
from enhancement.errors import InputError
from enhancement.parallel import sha256
from segmentation import LungSegmenter
from weights import WeightsError, download, lookup, manifest
from weights.manifest import Entry

CONTENT = np.random.default_rng(0).bytes(300_000)
NONSENSE = [
    "HTTP/1.1 302 x\r\nLocation: http://[bad/x\r\n\r\n",
    f"HTTP/1.1 302 x\r\nLocation: http://{'a' * 100}.test/\r\n\r\n",
    "HTTP/1.1 302 x\r\nLocation: /file.h5\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    "HTTP/1.1 200 x\r\nContent-Length: \u00b2\r\n\r\n",
    f"HTTP/1.1 206 x\r\nContent-Range: bytes {'9' * 5000}-5/{'9' * 5000}\r\n\r\n",
    "words\r\n\r\n",
]


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`, or misbehaves as `script` says: one word for each request in turn, then "good"."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.script, self.requests = CONTENT, [], []
        self.gate = threading.Event()
        self.gate.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file.h5"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append(wanted)
        how = server.script.pop(0) if server.script else "good"
        server.gate.wait(10)
        content = server.content
        if "\r\n" in how:
            self.wfile.write(how.encode("latin-1"))
            return
        if how.startswith("anew"):  # no ranges, and the connection ends early
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: int(how.split()[1])])
            return
        if how.isdigit():
            self.send_error(int(how))
            return
        start = int(re.match(r"bytes=(\d+)-", wanted).group(1)) if wanted and how != "ignores the range" else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        body = content[start:]
        body = {"wrong bytes": bytes(len(body)), "says less": body[: len(body) // 2]}.get(how, body)
        start += 7 * (how == "another part")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if how != "endless":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        while how == "crawls" and body:
            self.wfile.write(body[:1])
            body = body[1:]
            time.sleep(0.02)
        self.wfile.write({"cuts": body[: len(body) // 3], "cuts at once": b"", "endless": 2 * body}.get(how, body))

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PATIENCE", 0.01)
    monkeypatch.setattr(download, "_STRETCH", 0.2)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def entry(server, tmp_path, monkeypatch) -> Entry:
    """An entry for the server's file, alone in a manifest, with an empty cache and an empty package folder."""
    monkeypatch.setenv("COVIDCXNET_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("COVIDCXNET_OFFLINE", raising=False)
    (tmp_path / "package").mkdir()
    (tmp_path / "good").write_bytes(CONTENT)
    facts = {"kind": "classifier", "summary": "a file", "licence": "none", "sha256": sha256(tmp_path / "good")}
    one = Entry(name="one", file="file.h5", url=server.url, size=len(CONTENT), **facts)
    monkeypatch.setattr(manifest, "FOLDER", tmp_path / "package")
    monkeypatch.setattr(manifest, "PATH", manifest.write({"one": one}, tmp_path / "manifest.json"))
    return one


def cached(entry) -> Path:
    return lookup.cache_folder() / entry.file


def left_over(entry) -> list[str]:
    return [path.name for path in cached(entry).parent.iterdir() if not path.name.endswith(".lock")]


def test_a_name_is_downloaded_once_then_found_in_the_cache_also_offline_and_before_it_in_the_package(
    server, entry, monkeypatch
):
    path = weights.released("one", progress=False)
    assert path == cached(entry) and path.read_bytes() == CONTENT and left_over(entry) == ["file.h5"]
    assert weights.released("one") == path and len(server.requests) == 1
    monkeypatch.setenv("COVIDCXNET_OFFLINE", "1")
    assert weights.released("one") == path
    path.unlink()
    with pytest.raises(WeightsError, match="COVIDCXNET_OFFLINE"):
        weights.released("one")
    (manifest.FOLDER / "file.h5").write_bytes(CONTENT)  # comes first, and needs no home folder
    monkeypatch.setenv("COVIDCXNET_HOME", "~nobody-of-this-name/x")
    assert weights.released("one") == manifest.FOLDER / "file.h5" and len(server.requests) == 1


def test_cut_connections_are_resumed_from_where_they_ended(server, entry):
    server.script = ["cuts", "cuts", "cuts at once", "503", "good"]
    assert weights.released("one", progress=False).read_bytes() == CONTENT
    starts = [int(re.search(r"\d+", wanted).group()) for wanted in server.requests[1:]]
    assert server.requests[0] is None and starts == sorted(starts) and 0 < starts[0] < starts[1]


@pytest.mark.parametrize(
    ("partial", "size", "script", "requests"),
    [
        (CONTENT, len(CONTENT), [], []),
        (CONTENT + b"more", len(CONTENT), [], [None]),
        (CONTENT[:1000], len(CONTENT), [], ["bytes=1000-"]),  # of an earlier process
        (b"\0" * 1000, len(CONTENT), [], ["bytes=1000-", None]),  # of another version
        (b"\0" * 1000, None, [], ["bytes=1000-", None]),
        (b"", len(CONTENT), ["cuts", "ignores the range"], [None, "bytes=100000-"]),
        (b"", len(CONTENT), ["cuts", "another part"], [None, "bytes=100000-", None]),
    ],
    ids=["whole", "too long", "begun", "another version", "another version of unknown size", "ignored", "another part"],
)
def test_whatever_part_there_is_or_comes_the_file_ends_whole(server, entry, partial, size, script, requests):
    cached(entry).parent.mkdir(parents=True)
    cached(entry).with_name("file.h5.partial").write_bytes(partial)
    server.script = script
    assert lookup.fetch(dataclasses.replace(entry, size=size), progress=False).read_bytes() == CONTENT
    assert server.requests == requests and left_over(entry) == ["file.h5"]


@pytest.mark.parametrize(
    ("answers", "message", "requests"),
    [
        (["404"], "404", (1,)),
        (["503"] * 99, r"503.*put it at", (download.ATTEMPTS,)),
        (["anew 60000", "anew 20000"] * 50, "cannot be downloaded", range(2 * download.ATTEMPTS + 1)),
        (["says less"], "150,000 bytes, 300,000 expected", (1,)),
        (["endless"], "more than the file has", (1,)),
        (["crawls"], "less than 1,000 bytes a second", (1,)),
        (["wrong bytes"], r"SHA-256.*expected.*deleted", (1,)),
        (["no server"], "cannot be downloaded", (0,)),
        (["of unknown size"], "SHA-256", (1,)),
        *(([answer] * 100, "^one: ", range(100)) for answer in NONSENSE),
    ],
    ids=lambda value: value[0][:30] if isinstance(value, list) else "",
)
def test_a_download_that_fails_ends_in_one_line_with_url_and_path(server, entry, answers, message, requests):
    server.script = list(answers)
    if answers == ["no server"]:
        entry = dataclasses.replace(entry, url="http://127.0.0.1:9/file.h5")
    if answers == ["of unknown size"]:
        entry, server.content = dataclasses.replace(entry, size=None), CONTENT[:1000]
    with pytest.raises(WeightsError, match=message) as error:
        lookup.fetch(entry, progress=False)
    assert entry.url in str(error.value) and f"put it at {cached(entry)}" in str(error.value)
    assert "\n" not in str(error.value) and not cached(entry).exists() and len(server.requests) in requests
    assert "deleted" not in message or left_over(entry) == []


def test_a_wrong_file_in_the_cache_is_refused_and_fetch_replaces_it(server, entry):
    cached(entry).parent.mkdir(parents=True)
    cached(entry).write_bytes(b"x" * len(CONTENT))
    with pytest.raises(WeightsError, match=r"SHA-256.*weights fetch one"):
        weights.released("one")
    path = lookup.fetch(entry, progress=False)
    assert path.read_bytes() == CONTENT and weights.released("one") == path
    path.write_bytes(b"x" + CONTENT[1:])  # changed after it was verified
    with pytest.raises(WeightsError, match="SHA-256"):
        weights.released("one")


def test_a_second_process_waits_and_does_not_download_again(server, entry):
    server.gate.clear()
    code = "import weights, sys; from weights import manifest; from pathlib import Path; "
    code += f"manifest.PATH = Path({str(manifest.PATH)!r}); print(weights.released('one', progress=False))"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen([sys.executable, "-c", code], **pipes, cwd=Path(__file__).parents[2]) for _ in range(2)
    ]
    threading.Timer(1.5, server.gate.set).start()
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert {out.strip() for out, _ in answers} == {str(cached(entry))}
    assert len(server.requests) == 1


@pytest.mark.parametrize("path", [Path("lung-unet"), "a" * 300, f"/{'a' * 300}"])
def test_a_path_is_never_a_name_and_what_no_system_can_name_is_no_file(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    for load in (weights.locate, LungSegmenter, pretrained.resolve, covidcxnet.load_legacy):
        with pytest.raises(InputError, match=r"no such|neither|no released"):
            load(path)
    (mine := tmp_path / "lung-unet").write_bytes(b"mine")
    assert weights.locate("lung-unet") == weights.released("lung-unet")
    for locate in (weights.locate, pretrained.resolve):
        assert locate("./lung-unet").resolve() == locate(Path("lung-unet")).resolve() == mine
