"""What all tests share: quiet TensorFlow, and the folder of real radiographs where there is one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("COVIDCXNET_OFFLINE", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real radiographs: COVIDCXNET_DATA, or ../shared/data beside the checkout."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("COVIDCXNET_DATA", beside))
    if not (folder / "classification" / "metadata.csv").is_file():
        pytest.skip("no real radiographs: set COVIDCXNET_DATA to their folder")
    return folder


@pytest.fixture
def interrupts():
    """Child processes heed Ctrl-C (SIGINT) even where these tests run as a shell's background job, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
