"""Batches: everything once an epoch, in an order that the seed and the epoch decide."""

from __future__ import annotations

import numpy as np
import pytest

from covidcxnet.preparation import prepare
from enhancement import InputError


@pytest.fixture
def store(dataset, settings, tmp_path):
    with prepare(dataset, settings, tmp_path / "s.h5", progress=False) as store:
        yield store


@pytest.fixture
def batches(store):
    from covidcxnet.preparation import Batches

    def make(**options):
        return Batches(store, np.arange(1, 11), np.arange(10.0)[:, None], **{"batch_size": 4, **options})

    return make


def order(batches) -> list[int]:
    return [int(v) for i in range(len(batches)) for v in batches[i][1][:, 0]]


def test_stacks_and_targets_belong_together(batches, store):
    found = batches(shuffle=True, weights=np.arange(10) * 2)
    assert len(found) == 3 and [len(found[i][0]) for i in range(3)] == [4, 4, 2]
    for i in range(3):
        x, y, weight = found[i]
        assert x.dtype == np.uint8 and y.dtype == weight.dtype == np.float32 and y.shape == (len(x), 1)
        np.testing.assert_array_equal(x, store.read(y[:, 0].astype(int) + 1))
        np.testing.assert_array_equal(weight, 2 * y[:, 0])


def test_without_shuffling_the_order_is_the_one_given(batches):
    found = batches()
    assert order(found) == list(range(10))
    found.set_epoch(1)
    assert order(found) == list(range(10))


def test_the_order_is_a_function_of_seed_and_epoch(batches):
    one, two = batches(shuffle=True, seed=7), batches(shuffle=True, seed=7)
    first = order(one)
    assert sorted(first) == list(range(10)) and first != list(range(10))
    one.set_epoch(1)
    one.set_epoch(2)
    two.set_epoch(2)
    assert order(one) == order(two) != first
    two.set_epoch(0)
    assert order(two) == first
    assert order(batches(shuffle=True, seed=8)) != first


def test_keras_sees_every_row_once_an_epoch_and_a_new_order_in_the_next(batches):
    import keras

    seen: list[int] = []

    def watch(y, predicted):
        seen.extend(int(v) for v in keras.ops.convert_to_numpy(y)[:, 0])
        return keras.ops.mean(keras.ops.square(y - predicted))

    found = batches(shuffle=True, seed=7)
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.compile("sgd", watch, run_eagerly=True)
    follow = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: found.set_epoch(epoch))
    model.fit(found, epochs=2, shuffle=False, verbose=0, callbacks=[follow])
    reference = batches(shuffle=True, seed=7)
    first = order(reference)
    reference.set_epoch(1)
    second = order(reference)
    assert seen == first + second


def test_negative_and_impossible_arguments_are_refused(store):
    from covidcxnet.preparation import Batches

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
