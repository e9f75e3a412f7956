"""The search for duplicates among many images, in seconds and memory: ``python benchmarks/duplicates.py``.

Synthetic thumbnails (one common shape and smooth noise of each) of which every hundredth is a copy with noise, half of
them mirrored, are encoded and searched; reading files is not part of it (see ``datasets check`` for its rate).
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np

TARGET = 600  # seconds for 100,000 images


def main() -> int:
    """Print the figures; exit code 1 where the search is slower than the target or misses a copy in twenty."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    given = parser.parse_args()
    from covidcxnet.datasets.duplicates import near_copies
    from covidcxnet.datasets.fingerprint import SIDE

    with tempfile.TemporaryDirectory() as folder:
        thumbnails = np.memmap(f"{folder}/thumbnails", np.uint8, "w+", shape=(given.images, SIDE, SIDE))
        planted = _fill(thumbnails)
        start = time.perf_counter()
        pairs, looks = near_copies(thumbnails, np.arange(given.images), folder)
        seconds = time.perf_counter() - start
    found = {(min(a, b), max(a, b)) for a, b, *_ in pairs}
    recall = len(found & planted) / len(planted)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{given.images} images: {seconds:.0f} s, {looks} second looks, {memory:.1f} GiB at most (files in the page")
    print(f"cache counted), {recall:.1%} of {len(planted)} planted copies found, {len(found - planted)} other pairs")
    return int(recall < 0.95 or seconds > TARGET * max(1.0, given.images / 100_000))


def _fill(thumbnails: np.ndarray) -> set[tuple[int, int]]:
    random = np.random.default_rng(0)
    side = thumbnails.shape[1]
    shape = cv2.resize(random.normal(size=(5, 5)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    planted = set()
    for i in range(len(thumbnails)):
        if i % 100 == 99:
            image = thumbnails[i - 50] + random.normal(0, 4, (side, side))
            image = image[:, ::-1] if i % 200 == 99 else image
            planted.add((i - 50, i))
        else:
            own = sum(
                cv2.resize(random.normal(0, w, (n, n)), (side, side), interpolation=cv2.INTER_CUBIC)
                for n, w in ((8, 0.7), (24, 0.4))
            )
            image = cv2.normalize(shape + own, None, 0, 255, cv2.NORM_MINMAX)
        thumbnails[i] = cv2.equalizeHist(np.clip(image, 0, 255).astype(np.uint8))
    return planted


if __name__ == "__main__":
    sys.exit(main())
