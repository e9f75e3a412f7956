"""Where a run happened: versions, machine and device, as plain values for `environment.json`."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

PACKAGES = (
    "keras", "tensorflow", "jax", "torch", "numpy", "opencv-python-headless", "opencv-python", "scikit-image",
    "scikit-learn", "h5py", "pandas", "pydicom", "matplotlib", "lime", "jsonargparse",
)  # fmt: skip


def environment(seed: int, precision: str) -> dict[str, Any]:
    """Versions of what is installed, the machine and the devices that Keras uses."""
    import keras

    import covidcxnet
    from covidcxnet.backend import devices

    found = {name: _version(name) for name in PACKAGES}
    return {
        "covidcxnet": covidcxnet.__version__,
        "python": platform.python_version(),
        "packages": {name: number for name, number in found.items() if number},
        "backend": keras.backend.backend(),
        "devices": devices(),
        "precision": precision,
        "seed": seed,
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "")
    except OSError:
        return platform.processor()
