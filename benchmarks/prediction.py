"""Speed of prediction: ``python benchmarks/prediction.py [--batch 16] [--rounds 16]``.

Images per second of the lung U-Net (256 x 256) and of COVID-CXNet (320 x 320) from stacks to outputs, with the batch
norm of Keras and with the fused one, which the package uses for classifiers. Batches are taken in turns, so that both
meet the same machine; random weights and images: only time is measured.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main() -> None:
    """Print two lines a network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=16)
    given = parser.parse_args()
    import numpy as np

    from covidcxnet.models import create
    from segmentation.model import unet

    random = np.random.default_rng(0)
    for name, build, shape in (
        ("lung U-Net", lambda: unet(width=16, outputs=2, size=256), (256, 256, 1)),
        ("covid-cxnet", lambda: create("covid-cxnet", size=320, channels=3), (320, 320, 3)),
    ):
        measure(name, build, random.integers(0, 256, (given.batch, *shape), dtype=np.uint8), given.rounds)


def measure(name: str, build, images, rounds: int) -> None:
    """Time one network both ways."""
    import numpy as np

    from segmentation.backend import fuse_batch_norm

    plain, fused = build(), build()
    fused.set_weights(plain.get_weights())
    fuse_batch_norm(fused)
    for model in (plain, fused):
        model.predict_on_batch(images)
    times: list[list[float]] = [[], []]
    for _ in range(rounds):
        for model, seconds in zip((plain, fused), times, strict=True):
            start = time.perf_counter()
            model.predict_on_batch(images)
            seconds.append(time.perf_counter() - start)
    for title, seconds in zip(("batch norm of Keras", "fused batch norm"), times, strict=True):
        best, median = len(images) / min(seconds), len(images) / float(np.median(seconds))
        print(f"{name + ', ' + title:<32} best {best:6.1f}, median {median:6.1f} images/s", flush=True)


if __name__ == "__main__":
    main()
