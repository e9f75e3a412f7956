"""Preparing and predicting over a local cluster: ``python benchmarks/scaling.py --files 1000 10000 --workers 1 2 4``.

For each number of files, synthetic radiographs of `--side` pixels are prepared to stacks of `--size` by one process
(0 workers) and by local Dask clusters, in alternation, so that all meet the same machine. Then an empty task for
`--empty` file names shows what the plumbing costs, and with `--weights` some files (`--predict`) are predicted.
Seconds to start a cluster stand apart from those of the work. CPU seconds are those of all processes, start and end
included: other work on the machine hardly changes them. Prints a table; `--json` writes it too.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import pandas as pd

from covidcxnet.cluster import IMAGES, Cluster, connected
from covidcxnet.datasets import Dataset
from covidcxnet.preparation import prepare
from covidcxnet.settings import InputSettings


def main() -> None:
    """Print a line for each work, number of files, number of workers and round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--files", type=int, nargs="*", default=[1000], help="numbers of files to prepare")
    add("--workers", type=int, nargs="+", default=[1, 2, 4], help="numbers of workers beside one process without Dask")
    add("--side", type=int, default=128, help="pixels a side of the files")
    add("--size", type=int, default=64, help="pixels a side of the stacks")
    add("--empty", type=int, default=100_000, help="file names of the empty task; 0 for none")
    add("--weights", help="weights file or released name for predictions")
    add("--predict", type=int, default=64, help="files to predict, with --weights")
    add("--rounds", type=int, default=1)
    add("--json", type=Path)
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(
        f"{'work':<10}{'files':>8}{'workers':>9}{'start, s':>10}{'work, s':>10}{'files/s':>10}{'CPU, s':>10}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        most = max([1, *given.files, given.predict if given.weights else 0])
        dataset = synthetic(folder / "files", most, given.side)
        works: list[tuple[str, int, Callable[[Cluster | None], Any]]] = []
        works += [("prepare", n, preparation(dataset, n, given.size, folder)) for n in given.files]
        works += [("empty", given.empty, empty(given.empty))] if given.empty else []
        works += [("predict", given.predict, prediction(dataset, given))] if given.weights else []
        for kind, files, work in works:
            for _ in range(given.rounds):
                for workers in [0] * (kind != "empty") + given.workers:
                    start, before = time.perf_counter(), cpu_seconds()
                    with connected(workers=workers) as cluster:
                        begun = time.perf_counter()
                        work(cluster)
                        end = time.perf_counter()
                    row = {"work": kind, "files": files, "workers": workers}
                    row |= {"start_seconds": round(begun - start, 2), "work_seconds": round(end - begun, 2)}
                    row["files_per_second"] = round(files / (end - begun), 1)
                    row["cpu_seconds"] = round(cpu_seconds() - before, 1)
                    rows.append(row)
                    print("{:<10}{:>8}{:>9}{:>10.1f}{:>10.1f}{:>10.1f}{:>10.1f}".format(*row.values()), flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def cpu_seconds() -> float:
    """Of this process and of those children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def synthetic(folder: Path, count: int, side: int) -> Dataset:
    """So many gray files, all different."""
    folder.mkdir()
    noise = np.random.default_rng(0).normal(0, 8, (side, side))
    for i in range(count):
        coarse = np.random.default_rng(i).integers(30, 226, (8, 8)).astype(np.float32)
        pixels = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR) + noise
        cv2.imwrite(str(folder / f"{i:06d}.png"), np.clip(pixels, 0, 255).astype(np.uint8))
    table = pd.DataFrame({"path": [f"{i:06d}.png" for i in range(count)], "label": "normal"})
    return Dataset(table, folder, ("normal",), "synthetic")


def preparation(dataset: Dataset, count: int, size: int, folder: Path) -> Callable[[Cluster | None], None]:
    """Prepares so many of the files, each time into a new store."""
    some = Dataset(dataset.table.iloc[:count], dataset.root, dataset.classes, dataset.name)

    def work(cluster: Cluster | None) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as name:
            settings = InputSettings(size=size)
            prepare(some, settings, Path(name) / "s.h5", jobs=1, progress=False, cluster=cluster).close()

    return work


def empty(count: int) -> Callable[[Cluster | None], None]:
    """Sends so many file names in tasks of the usual number, and gets a number for each."""
    names = [f"/data/images/{i:09d}.png" for i in range(count)]
    batches = [names[i : i + IMAGES] for i in range(0, count, IMAGES)]

    def work(cluster: Cluster | None) -> None:
        assert cluster is not None
        results = cluster.map(lambda batch, jobs: [0] * len(batch), batches, files=lambda batch: [])
        assert sum(map(len, results)) == count

    return work


def prediction(dataset: Dataset, given) -> Callable[[Cluster | None], None]:
    """Predicts so many of the files; loading the weights is part of it, here and in each worker."""

    def work(cluster: Cluster | None) -> None:
        from covidcxnet import load_model

        results = load_model(given.weights).predict(dataset.paths[: given.predict], cluster=cluster)
        assert len(results) == given.predict

    return work


if __name__ == "__main__":
    main()
