"""Worker processes: an item that kills its worker is the only one lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from covidcxnet.workers import in_order

MODULE = """
import os

def double_or_die(task):
    if "die" in task:
        os._exit(11)
    return [2 * item for item in task]
"""


def test_results_come_in_order_and_a_deadly_item_is_lost_alone(tmp_path, monkeypatch):
    (tmp_path / "deadly_work.py").write_text(MODULE)  # a worker process must be able to import it
    monkeypatch.syspath_prepend(tmp_path)
    from deadly_work import double_or_die

    tasks = [[1, 2], [3, "die"], [4, 5], [6]]
    found = list(in_order(double_or_die, tasks, 2, lambda item: f"lost {item}"))
    assert found == [[2, 4], [6, "lost die"], [8, 10], [12]]
    del sys.modules["deadly_work"]


def test_one_job_works_here_and_asks_for_no_process():
    seen = []
    assert list(in_order(lambda task: seen.append(os.getpid()) or task, [[1], [2]], 1, None)) == [[1], [2]]
    assert set(seen) == {os.getpid()}


PARENT = """
import os, sys
from covidcxnet.workers import in_order

def pid(task):
    return [os.getpid()]

if __name__ == "__main__":
    found = in_order(pid, [[i] for i in range(8)], 2, None)
    print(next(found)[0], flush=True)
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
