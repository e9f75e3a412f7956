"""What all tests share: quiet TensorFlow, and the folder of real radiographs where there is one."""

import errno
import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("COVIDCXNET_OFFLINE", "1")
# Networks are converted where a test asks for it: that takes longer than all that most tests predict.
os.environ.setdefault("COVIDCXNET_ENGINE", "keras")
# Tests run side by side: more threads would wait for each other. Read when NumPy is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real radiographs: COVIDCXNET_DATA, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("COVIDCXNET_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "classification" / "metadata.csv").is_file():
        pytest.skip("no real radiographs: set COVIDCXNET_DATA to their folder")
    return folder


@pytest.fixture(scope="module")
def eager():
    """Networks run without a graph: to compile one costs seconds, and most tests run it a few times."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(before)


@pytest.fixture(scope="module")
def coarse():
    """Pictures of few pixels without a layout: both cost more than all that they show."""
    from covidcxnet.reporting import plots

    def quick(write):
        def coarsely(drawn):
            drawn.set(dpi=20, layout_engine="none")
            return write(drawn)

        return coarsely

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "png", quick(plots.png))
        patch.setattr(plots, "svg", quick(plots.svg))
        yield


@pytest.fixture
def blank(coarse, monkeypatch):
    """Empty pictures, where a test is about something else: to draw a page of plots costs seconds."""
    from covidcxnet.reporting import plots

    def hidden(write):
        def empty(drawn):
            for axes in drawn.axes:
                axes.set_visible(False)
            return write(drawn)

        return empty

    monkeypatch.setattr(plots, "png", hidden(plots.png))
    monkeypatch.setattr(plots, "svg", hidden(plots.svg))


@pytest.fixture
def shut(monkeypatch):
    """Folders that may not be listed, also where these tests run as root."""
    closed, scandir = set(), os.scandir

    def refusing(path="."):
        if not isinstance(path, int) and Path(os.fsdecode(path)) in closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    return closed.add


@pytest.fixture
def interrupts():
    """Child processes heed Ctrl-C (SIGINT) even where these tests run as a shell's background job, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
