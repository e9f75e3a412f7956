"""Worker processes: an item that kills its worker is the only one lost."""

from __future__ import annotations

import os
import sys

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
