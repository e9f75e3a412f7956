"""Maps over worker processes: an item that kills its worker is the only one lost."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from enhancement.parallel import cores, map_files, sha256

MODULE = """
import os

def double_or_die(item):
    if item == "die":
        os._exit(11)
    return 2 * item
"""


def test_results_come_in_order_and_a_deadly_item_is_lost_alone(tmp_path, monkeypatch):
    (tmp_path / "deadly_work.py").write_text(MODULE)  # a worker process must be able to import it
    monkeypatch.syspath_prepend(tmp_path)
    from deadly_work import double_or_die

    results = map_files(double_or_die, [1, 2, 3, "die", 4, 5, 6], lost=lambda item: f"lost {item}", jobs=2, batch=2)
    assert list(results) == [2, 4, 6, "lost die", 8, 10, 12]
    del sys.modules["deadly_work"]


def test_one_job_works_here_lazily_and_starts_no_process():
    calls = []
    results = map_files(lambda item: calls.append(os.getpid()) or item, [1, 2, 3], lost=str, jobs=1)
    assert next(results) == 1 and calls == [os.getpid()]
    assert list(results) == [2, 3] and set(calls) == {os.getpid()}
    assert list(map_files(str, [], lost=str)) == []


PARENT = """
import os, sys
from enhancement.parallel import map_files

def pid(item):
    return os.getpid()

if __name__ == "__main__":
    results = map_files(pid, range(8), lost=str, jobs=2, batch=1)
    print(next(results), flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_workers_end_with_a_parent_that_is_killed_outright(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **pipes, text=True) as process:
        worker = process.stdout.readline().strip()
        assert _runs(worker)
        process.send_signal(signal.SIGKILL)
    end = time.monotonic() + 30
    while _runs(worker) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _runs(worker)


def _runs(pid: str) -> bool:
    try:
        return Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_file_has_its_sha256_and_a_machine_at_least_one_core(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert cores() >= 1
