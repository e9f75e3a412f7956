"""LIME of real radiographs: its time beside 1,000 predictions, and how near `auto` comes to the map of all samples.

    python benchmarks/lime_samples.py covid-cxnet-lite chest.png folder/ [--seeds 0 1] [--batch-size 16]

One line a radiograph and seed: samples that `auto` drew, Spearman's correlation of its superpixel weights with those of
1,000 samples, fit R^2 of both, seconds of LIME with 1,000 samples and of as many predictions alone. As `auto` draws the
same samples, their predictions are replayed instead of computed twice.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np


class Recorder:
    """Predicts stacks, keeps the answers and its seconds."""

    def __init__(self, classifier):
        self.predict, self.answers, self.seconds = classifier.predict_stacks, [], 0.0

    def __call__(self, stacks: np.ndarray) -> np.ndarray:
        start = time.perf_counter()
        self.answers.append(self.predict(stacks, len(stacks)))
        self.seconds += time.perf_counter() - start
        return self.answers[-1]


def main() -> None:
    """Print the table and its means."""
    from scipy.stats import spearmanr

    from covidcxnet import load_model
    from covidcxnet.explain.lime import explain_lime

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--batch-size", type=int, default=16)
    given = parser.parse_args()
    classifier = load_model(given.weights)
    names = "samples", "correlation", "R2 of all", "R2", "LIME, s", "predictions, s"
    print(f"{'radiograph':<40}{'seed':>5}" + "".join(f"{name:>15}" for name in names), flush=True)
    rows = []
    for items, outcomes in classifier.batches(given.images, 1):
        for item, outcome in zip(items, outcomes, strict=True):
            if outcome.prepared is None:
                print(f"{item}: {outcome.error}")
                continue
            for seed in given.seeds:
                options = {"seed": seed, "batch_size": given.batch_size}
                recorder = Recorder(classifier)
                start = time.perf_counter()
                full = explain_lime(recorder, outcome.prepared.stack, **options)
                seconds = time.perf_counter() - start
                replayed = iter(recorder.answers)
                auto = explain_lime(lambda _, a=replayed: next(a), outcome.prepared.stack, samples="auto", **options)
                correlation = spearmanr(_by_superpixel(full), _by_superpixel(auto)).statistic
                rows.append((auto.samples, correlation, full.score, auto.score, seconds, recorder.seconds))
                print(_line(Path(item).name, seed, rows[-1]), flush=True)
    if rows:
        print(_line("mean", "", np.mean(rows, axis=0)))
        print(_line("lowest", "", np.min(rows, axis=0)))
        print(_line("highest", "", np.max(rows, axis=0)))


def _by_superpixel(explanation) -> np.ndarray:
    """Weight of each superpixel."""
    numbers, first = np.unique(explanation.segments, return_index=True)
    return explanation.weights.ravel()[first][numbers >= 0]


def _line(name: str, seed, row) -> str:
    samples, *figures = row
    return f"{name:<40.40}{seed:>5}{samples:>15.0f}" + "".join(f"{figure:>15.3f}" for figure in figures)


if __name__ == "__main__":
    main()
