"""What tests of runs share: weights compared array by array, and a training stopped in the middle of an epoch."""

from contextlib import contextmanager

import h5py
import numpy as np

from covidcxnet.training import callbacks


@contextmanager
def eagerly(eager=True):
    """Within it steps are not compiled, or are."""
    import tensorflow as tf

    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(eager)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def weights(path):
    """All arrays of a weights file."""
    arrays = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys() and one
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def interrupt(*_):
    raise KeyboardInterrupt


def stop_after(monkeypatch, epoch, stop=interrupt):
    """Make the training stop in the middle of the epoch after `epoch`."""

    def on_train_batch_begin(self, batch, logs=None):
        if self.current == epoch and batch == 1:
            stop()

    def on_epoch_begin(self, number, logs=None):
        self.current = number
        original(self, number, logs)

    original = callbacks.Seeds.on_epoch_begin
    monkeypatch.setattr(callbacks.Seeds, "on_epoch_begin", on_epoch_begin)
    monkeypatch.setattr(callbacks.Seeds, "on_train_batch_begin", on_train_batch_begin)
