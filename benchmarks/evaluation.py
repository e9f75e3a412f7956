"""Memory of evaluating and predicting many images: ``python benchmarks/evaluation.py --images 2500 10000 25000``.

For each number of images: small radiograph-like files in three sources with 14 independent findings, a run of a tiny
network on a few of them, then `evaluate` of that run in a process of its own, without explanations. With `--predict`,
`covidcxnet predict --csv` of so many of the files too. Prints peak memory (`ru_maxrss`), what it gained after
everything was imported and the weights were loaded, and CPU seconds: other work on the machine hardly changes them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

FINDINGS = 14
_TRAINED = 400  # images of training and validation: they only have to be there


def main() -> None:
    """Print one line a number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--images", type=int, nargs="+", default=[500, 2500], help="images to evaluate")
    add("--predict", type=int, nargs="*", default=[], help="files to predict")
    add("--size", type=int, default=32, help="pixels a side")
    add("--bootstrap", type=int, default=20, help="resamples")
    add("--explain", action="store_true", help="with Grad-CAM of some cases")
    add("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        work, folder = given.child
        print(json.dumps({"make": make, "evaluate": evaluate, "predict": predict}[work](Path(folder), given)))
        return
    print(f"{'work':<10}{'images':>8}{'peak, MB':>10}{'gained, MB':>12}{'CPU, s':>8}", flush=True)
    for work, numbers in (("evaluate", given.images), ("predict", given.predict)):
        for images in numbers:
            with tempfile.TemporaryDirectory() as folder:
                # Each in a process of its own, and nothing heavy here: a child inherits the peak of its parent.
                child("make", folder, images, given)
                row = child(work, folder, images, given)
            print(f"{work:<10}{images:>8}{row['peak']:>10.0f}{row['gained']:>12.0f}{row['cpu']:>8.1f}", flush=True)


def child(work: str, folder: str, images: int, given) -> dict:
    """What a process that does the work prints last."""
    command = [sys.executable, __file__, "--child", work, folder, "--images", str(images)]
    command += ["--size", str(given.size), "--bootstrap", str(given.bootstrap), *["--explain"] * given.explain]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out.splitlines()[-1])


def make(folder: Path, given) -> dict:
    """Files, table, split and run."""
    import cv2
    import numpy as np
    import pandas as pd

    from covidcxnet.settings import InputSettings
    from covidcxnet.training import Recipe, train

    (evaluated,) = given.images
    count = evaluated + _TRAINED
    rng = np.random.default_rng(0)
    truth = (rng.random((count, FINDINGS)) < np.linspace(0.02, 0.3, FINDINGS)).astype(int)
    (folder / "images").mkdir()
    for i in range(count):
        pixels = rng.integers(30, 226, (given.size, given.size)) // 2 + 20 * truth[i, -1]
        cv2.imwrite(str(folder / "images" / f"{i:06}.png"), pixels.astype(np.uint8))
    paths = [f"images/{i:06}.png" for i in range(count)]
    table = pd.DataFrame({"path": paths, "patient": [f"patient-{i * 5 // 8:06}" for i in range(count)]})
    table["source"] = np.array(["first", "second", "third"])[np.arange(count) * 3 // count]
    for k in range(FINDINGS):
        table[f"finding_{'abcdefghijklmn'[k]}"] = truth[:, k]
    table.sample(frac=1, random_state=0).to_csv(folder / "table.csv", index=False)
    # Whole patients, in order: the first rows are trained on.
    names = np.array(["train", "validation", "test"])[np.digitize(np.arange(count), [_TRAINED * 5 // 8, _TRAINED])]
    pd.DataFrame({"path": paths, "split": names}).to_csv(folder / "split.csv", index=False)
    recipe = Recipe(
        data=str(folder / "table.csv"),
        split=str(folder / "split.csv"),
        store=str(folder / "store.h5"),
        out=str(folder / "run"),
        multilabel=True,
        model="small-cnn",
        options={"filters": [8, 8], "hidden": [8]},
        input=InputSettings(size=given.size, channels=("raw",)),
        epochs=1,
        jobs=1,
    )
    with contextlib.redirect_stdout(sys.stderr):
        train(recipe)
    return {}


def evaluate(folder: Path, given) -> dict:
    """`evaluate` of the run."""
    from covidcxnet import load_model
    from covidcxnet.evaluation import evaluate

    load_model(folder / "run" / "best.weights.h5")
    options = {"bootstrap": given.bootstrap, "explain": given.explain, "lime": 0, "progress": False}
    return measured(lambda: evaluate(folder / "run", out=folder / "report", **options))


def predict(folder: Path, given) -> dict:
    """`covidcxnet predict --csv` of all files."""
    from covidcxnet import load_model
    from covidcxnet.cli import main as command

    load_model(folder / "run" / "best.weights.h5")
    words = ["predict", str(folder / "images"), "--weights", str(folder / "run"), "--csv", str(folder / "out.csv")]
    return measured(lambda: command(words))


def measured(work) -> dict:
    """Peak memory of this process in MB, how much of it a work took, and its CPU seconds."""
    before, start = peak(), sum(os.times()[:2])
    with contextlib.redirect_stdout(open(os.devnull, "w")):
        work()
    return {"peak": peak(), "gained": peak() - before, "cpu": sum(os.times()[:2]) - start}


def peak() -> float:
    """Largest memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
