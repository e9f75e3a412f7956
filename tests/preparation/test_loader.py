"""Batches: everything once an epoch, in an order that the seed and the epoch decide."""

from __future__ import annotations

import numpy as np
import pytest

from covidcxnet.preparation import Batches
from enhancement import InputError


@pytest.fixture
def batches(store):
    def make(**options):
        return Batches(store, np.arange(1, 11), np.arange(10.0)[:, None], **{"batch_size": 4, **options})

    return make


def order(batches) -> list[int]:
    return [int(v) for i in range(len(batches)) for v in batches[i][1][:, 0]]


def test_stacks_and_targets_belong_together(batches, store):
    shuffled = batches(shuffle=True, weights=np.arange(10) * 2)
    assert len(shuffled) == 3 and [len(shuffled[i][0]) for i in range(3)] == [4, 4, 2]
    for i in range(3):
        x, y, weight = shuffled[i]
        assert x.dtype == np.uint8 and y.dtype == weight.dtype == np.float32 and y.shape == (len(x), 1)
        np.testing.assert_array_equal(x, store.read(y[:, 0].astype(int) + 1))
        np.testing.assert_array_equal(weight, 2 * y[:, 0])


def test_the_order_is_the_one_given_or_a_function_of_seed_and_epoch(batches):
    plain = batches()
    plain.set_epoch(1)
    assert order(plain) == list(range(10))
    left, right = batches(shuffle=True, seed=7), batches(shuffle=True, seed=7)
    first = order(left)
    assert sorted(first) == list(range(10)) and first != list(range(10))
    left.set_epoch(1)
    left.set_epoch(2)
    right.set_epoch(2)
    assert order(left) == order(right) != first
    right.set_epoch(0)
    assert order(right) == first
    assert order(batches(shuffle=True, seed=8)) != first


def test_keras_sees_every_row_once_an_epoch_and_a_new_order_in_the_next(batches):
    import keras

    rows: list[int] = []

    def watch(y, predicted):
        rows.extend(int(v) for v in keras.ops.convert_to_numpy(y)[:, 0])
        return keras.ops.mean(keras.ops.square(y - predicted))

    shuffled = batches(shuffle=True, seed=7)
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", watch, run_eagerly=True)
    follow = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: shuffled.set_epoch(epoch))
    model.fit(shuffled, epochs=2, shuffle=False, verbose=0, callbacks=[follow])
    reference = batches(shuffle=True, seed=7)
    first = order(reference)
    reference.set_epoch(1)
    second = order(reference)
    assert rows == first + second


def test_negative_and_impossible_arguments_are_refused(store):
    for bad in (
        {"indices": []},
        {"indices": [12]},
        {"indices": [-1]},
        {"batch_size": 0},
        {"targets": [1.0, 2.0]},
        {"weights": [1.0, 2.0]},
    ):
        with pytest.raises(InputError):
            Batches(store, **{"indices": [0], "targets": [1.0], "batch_size": 1, **bad})
    with pytest.raises(IndexError):
        _ = Batches(store, [0], [1.0], batch_size=1)[1]
