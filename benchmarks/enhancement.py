"""Speed of the enhancements, side by side in one run: ``python benchmarks/enhancement.py``.

Each row's candidates take turns many times over, in random order, so that a busy machine slows all of them alike; the
ratio compares the lower quartiles, which a neighbour's bursts leave alone. "BEASF, bin by bin" stands in for the
published implementation: the same loops over 256 bins and the same look-up through a table of floats, restated here.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

# This file has the package's name and its folder comes first on the path: look in the folder above instead.
sys.path[0] = str(Path(__file__).resolve().parents[1])
import enhancement  # noqa: E402

SIZES = (320, 1024, 3000)


def radiograph_like(size: int, seed: int = 0) -> np.ndarray:
    """A smooth ``uint8 [size, size]`` image with noise: two dark ovals on a bright ground."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    lungs = sum(np.exp(-((((x - side * 0.4) / 0.28) ** 2 + ((y - 0.05) / 0.6) ** 2) ** 2)) for side in (-1, 1))
    body = 200 * np.exp(-((x / 0.95) ** 8)) - 120 * lungs + 20 * np.exp(-((x / 0.1) ** 2))
    return np.clip(body + random.normal(0, 4, (size, size)), 0, 255).astype(np.uint8)


def beasf_bin_by_bin(image: np.ndarray, gamma: float = 1.5) -> np.ndarray:
    """BEASF with one Python step a bin and a level, and floats for the whole image."""
    shares = np.histogram(image, bins=256)[0] / image.size
    mean = int(np.mean(image))
    table = np.zeros(256)
    for first, last in ((0, mean), (mean, 255)):
        total = sum(shares[first : last + 1])
        reached, center = 0.0, first
        for center in range(first, last + 1):
            reached += shares[center] / total
            if reached > 0.5:
                break
        for level in range(first, last + 1):
            table[level] = 1 / (1 + np.exp(-gamma * 5 * (level - center) / (last - first)))
        low, high = table[first], table[last]
        for level in range(first, last + 1):
            table[level] = first + (last - first) * (table[level] - low) / (high - low)
    result = copy.deepcopy(image)
    result[:, :] = table[image[:, :]]
    return result


def interleaved(candidates: dict[str, Callable[[], object]], seconds: float) -> dict[str, np.ndarray]:
    """Seconds of every call, candidates taking turns until the time is up (at least 7 rounds)."""
    for call in candidates.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    end = time.perf_counter() + seconds
    turns, random = list(candidates.items()), np.random.default_rng(0)
    while time.perf_counter() < end or len(next(iter(times.values()))) < 7:
        random.shuffle(turns)  # nobody always follows the same neighbour, whose cache and memory it inherits
        for name, call in turns:
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in times.items()}


def report(title: str, candidates: dict[str, Callable[[], object]], seconds: float, reference: str) -> None:
    """Time the candidates and print one line each."""
    times = interleaved(candidates, seconds)
    base = np.percentile(times[reference], 25)
    print(f"\n{title} ({len(times[reference])} rounds; ratio to {reference})")
    for name, values in times.items():
        quartile, median, _ = np.percentile(values, (25, 50, 75)) * 1e3
        print(f"  {name:28s} quartile {quartile:8.3f} ms   median {median:8.3f} ms   x {quartile / base / 1e3:6.2f}")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each comparison (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="OpenCV's threads (default: %(default)s)")
    arguments = parser.parse_args()
    cv2.setNumThreads(arguments.threads)
    print(f"OpenCV {cv2.__version__}, {arguments.threads} thread(s), uint8")
    for size in SIZES:
        image = radiograph_like(size)
        report(
            f"BEASF, {size} x {size}",
            {
                "cv2.equalizeHist": lambda image=image: cv2.equalizeHist(image),
                "enhancement.beasf, levels": lambda image=image: enhancement.beasf(image),
                "enhancement.beasf, range": lambda image=image: enhancement.beasf(image, 1.5, "range"),
            },
            arguments.seconds,
            "cv2.equalizeHist",
        )
        report(  # apart: its floats for every pixel would push all others out of the cache
            f"BEASF against bin by bin, {size} x {size}",
            {
                "enhancement.beasf, levels": lambda image=image: enhancement.beasf(image),
                "BEASF, bin by bin": lambda image=image: beasf_bin_by_bin(image),
            },
            arguments.seconds,
            "enhancement.beasf, levels",
        )
        report(
            f"CLAHE, {size} x {size}",
            {
                "cv2 CLAHE": lambda image=image: cv2.createCLAHE(2.0, (8, 8)).apply(image),
                "enhancement.clahe": lambda image=image: enhancement.clahe(image),
            },
            arguments.seconds,
            "cv2 CLAHE",
        )
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".png", ".jpg"):
            path = str(Path(folder, f"radiograph{suffix}"))
            cv2.imwrite(path, radiograph_like(1024))
            report(
                f"reading {suffix}, 1024 x 1024",
                {
                    "cv2.imread": lambda path=path: cv2.imread(path, cv2.IMREAD_GRAYSCALE),
                    "enhancement.read_radiograph": lambda path=path: enhancement.read_radiograph(path),
                },
                arguments.seconds,
                "cv2.imread",
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
