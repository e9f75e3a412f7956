"""Files to store, store to Keras, in images per second: ``python benchmarks/preparation.py``.

Radiograph-like files of 1024 x 1024 are prepared to 320 x 320 x 3 with one and with all processes, and once more, when
nothing is left to do. Then a store is read shuffled: rows one by one, through `Batches`, and through `Batches` by
Keras' `fit` of a model that does next to nothing, with the memory that the process gains meanwhile. Reading is from the
page cache, as in every epoch but the first of a store that fits in memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import pandas as pd

TARGET = 1000  # images per second from the store into fit


def main() -> int:
    """Print the table; exit code 1 where the loader is slower than the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=192, help="files to prepare")
    parser.add_argument("--rows", type=int, default=4000, help="rows to read from the store")
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--batch-size", type=int, default=16)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stores = {kind: _time_prepare(Path(folder), kind, given) for kind in ("png", "jpg")}
        rate = _time_loader(stores["jpg"], given)
    if rate < TARGET:
        print(f"the loader gives {rate:.0f} images per second to fit, {TARGET} expected")
    return int(rate < TARGET)


def _time_prepare(folder: Path, kind: str, given) -> Path:
    from covidcxnet.datasets import Dataset
    from covidcxnet.preparation import prepare
    from covidcxnet.settings import InputSettings

    root = folder / kind
    root.mkdir()
    for i in range(given.images):
        cv2.imwrite(str(root / f"{i}.{kind}"), _radiograph_like(i))
    names = [f"{i}.{kind}" for i in range(given.images)]
    dataset = Dataset(pd.DataFrame({"path": names, "label": ["normal", "other"] * (given.images // 2)}), root)
    settings, cores = InputSettings(size=given.size), os.cpu_count() or 1
    for jobs in sorted({1, cores}):
        path = folder / f"{kind}-{jobs}.h5"
        start = time.perf_counter()
        prepare(dataset, settings, path, jobs=jobs, progress=False)
        seconds = time.perf_counter() - start
        print(
            f"prepare 1024 x 1024 {kind}, {jobs} process(es)   {given.images / seconds:8.0f} images/s, start included"
        )
    start = time.perf_counter()
    prepare(dataset, settings, path, progress=False)
    print(
        f"the same again, nothing to do       {1000 * (time.perf_counter() - start):8.0f} ms for {given.images} files"
    )
    return path


def _time_loader(path: Path, given) -> float:
    import keras

    from covidcxnet.preparation import Batches, Store

    store = Store(path)
    rows = np.random.default_rng(0).integers(0, len(store), given.rows)
    targets = np.zeros((len(rows), 1))
    batches = Batches(store, rows, targets, batch_size=given.batch_size, shuffle=True)

    start = time.perf_counter()
    for row in rows:
        store.read([row])
    _say("read one by one, shuffled", len(rows), start)

    start = time.perf_counter()
    for i in range(len(batches)):
        batches[i]
    _say(f"Batches of {given.batch_size}", len(rows), start)

    model = keras.Sequential([keras.Input(store.stacks.shape[1:], dtype="uint8"), _Corner(), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(batches, shuffle=False, verbose=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    model.fit(batches, shuffle=False, verbose=0)
    rate = _say("Batches into fit", len(rows), start)
    gained = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"memory gained over that epoch       {gained:8.0f} MiB; the rows read are {_mib(store, rows):.0f} MiB")
    return rate


def _Corner():
    """A layer that looks at four pixels, so that only the input is timed."""
    import keras

    return keras.layers.Lambda(lambda x: keras.ops.reshape(keras.ops.cast(x[:, :2, :2, 0], "float32"), (-1, 4)))


def _say(what: str, images: int, start: float) -> float:
    rate = images / (time.perf_counter() - start)
    print(f"{what:<35} {rate:8.0f} images/s")
    return rate


def _mib(store, rows) -> float:
    return len(rows) * float(np.prod(store.stacks.shape[1:])) / 2**20


def _radiograph_like(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = cv2.resize(
        random.integers(30, 226, (12, 12)).astype(np.float32), (1024, 1024), interpolation=cv2.INTER_CUBIC
    )
    return np.clip(coarse + random.normal(0, 4, coarse.shape), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main())
