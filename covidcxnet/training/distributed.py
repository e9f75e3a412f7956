"""Training on several devices: the processes of a training, what each of them feeds, and where the model lies.

Under JAX a step is one program over all devices of all processes. It computes what one device would: the same batches,
draws of augmentation and dropout, and statistics of batch norms. TensorFlow has several devices in one process, and
batch norms that count the part of a batch that is on their device.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from typing import Any

import numpy as np

from covidcxnet.models import MODELS
from enhancement.errors import InputError
from segmentation.backend import keras

from .recipe import Recipe

# Keras' own names, and ours for the number among the processes of the same machine, which picks its GPUs.
ADDRESSES, COUNT, NUMBER = (f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID"))
LOCAL = "COVIDCXNET_LOCAL_PROCESS_ID"
# What a collective operation says when a process that takes part in it is gone.
LOST = re.compile(r"gloo|nccl|coordination service|connection (reset|closed|refused)|socket closed", re.IGNORECASE)
DAY = 24 * 60 * 60 * 1000  # milliseconds


@dataclass(frozen=True)
class Processes:
    """The processes of one training: how many there are, and which of them this is. Number 0 writes and prints."""

    count: int = 1
    number: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder."""
        return self.number == 0

    def share(self, value: Any = None) -> Any:
        """What process 0 gives, a value of JSON, in all of them; they wait for it, for days if need be."""
        if self.count == 1:
            return value
        # JAX has no public name for it. Its collectives would run into a time limit while process 0 prepares images.
        from jax._src.distributed import global_state

        global _shared
        _shared, key, client = _shared + 1, f"covidcxnet/{_shared}", global_state.client
        if self.leads:
            client.key_value_set(key, json.dumps(value))
            return value
        return json.loads(client.blocking_key_value_get(key, 30 * DAY))

    @contextmanager
    def follow(self) -> Iterator[None]:
        """Within it a process other than 0 prints nothing and leaves it to process 0 to end on Ctrl-C."""
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
                yield
        finally:
            signal.signal(signal.SIGINT, before)


_processes, _shared = Processes(), 0


def processes() -> Processes:
    """The processes that `join` has found; one where it has not been called."""
    return _processes


def join(devices: int = 1) -> Processes:
    """Join the processes that the environment names, each with so many devices; before Keras computes anything.

    `InputError` if the variables are wrong, the backend is not JAX, or the processes do not find each other.
    """
    global _processes
    count, number, local = (_whole(name, default) for name, default in ((COUNT, 1), (NUMBER, 0), (LOCAL, 0)))
    if count == 1:
        return _processes
    if number >= count:
        raise InputError(f"{NUMBER}: {number} given, 0 to {count - 1} expected")
    address = os.environ.get(ADDRESSES, "").split(",")[0]
    if not re.fullmatch(r".+:\d+", address):
        raise InputError(f"{ADDRESSES}: {address!r} given, HOST:PORT of process 0 expected")
    # The variable and not Keras, which computes something when it is loaded here.
    if os.environ.get("KERAS_BACKEND") != "jax":
        raise InputError("KERAS_BACKEND: several processes train together under JAX alone; set KERAS_BACKEND=jax")
    if not importlib.util.find_spec("jax"):
        raise InputError("KERAS_BACKEND: jax is not installed")
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            address,
            count,
            number,
            # Where a process sees the GPUs of others too. On CPUs it has no effect.
            local_device_ids=[local * devices + k for k in range(devices)],
            coordinator_bind_address=address if address.startswith("127.") else None,  # loopback stays so
            cluster_detection_method="deactivate",  # or a job of Slurm would decide what was not given here
            heartbeat_timeout_seconds=20,
        )
        jax.devices()  # all of them at once: each waits here for the devices of the others, two minutes at most
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{ADDRESSES}: the processes did not find each other at {address}: {error}") from error
    # The workers that prepare images are none of these processes.
    for name in (ADDRESSES, COUNT, NUMBER, LOCAL):
        os.environ.pop(name, None)
    _processes = Processes(count, number)
    return _processes


def leave(code: int) -> int:
    """End a process that has joined others: in step with them after success, at once after a failure."""
    if _processes.count > 1:
        if code:
            # JAX would wait for the others first, which may never come, and then abort.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        import jax

        jax.distributed.shutdown()
    return code


def lost(error: BaseException) -> bool:
    """Whether an error says that another process is gone."""
    return _processes.count > 1 and not isinstance(error, InputError) and LOST.search(str(error)) is not None


def _whole(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise InputError(f"{name}: {text!r} given, a whole number expected")
    return int(text)


class Devices:
    """One device in one process: everything is as Keras does it."""

    several = False

    def scope(self) -> AbstractContextManager[Any]:
        """Within it the variables of model and optimizer are created, and the model is trained."""
        return nullcontext()

    def divide(self, batches: Any) -> Any:
        """Let batches read what this process feeds of them; the same batches."""
        return batches

    def training(self, layers: list[Any], batches: Any) -> keras.Model:
        """The model of these layers, to be fitted to the `batches`."""
        return keras.Sequential(layers)

    def predictor(self, model: keras.Model, batches: Any) -> keras.Model:
        """A model that predicts what `model` does, for all images of the `batches` in every process."""
        return model

    def whole(self, loss: Any) -> Any:
        """A loss of all images at once, outside of a step."""
        return loss


class MirroredDevices(Devices):
    """Devices of one process under TensorFlow: a copy of the model on each, gradients averaged."""

    several = True

    def __init__(self, names: list[str]):
        import tensorflow as tf

        self.strategy = tf.distribute.MirroredStrategy(names)

    def scope(self) -> AbstractContextManager[Any]:
        return self.strategy.scope()

    def whole(self, loss: Any) -> Any:
        # Within the scope Keras divides each loss by the number of devices, whose losses a step adds up.
        return lambda truth, chances: loss(truth, chances) * self.strategy.num_replicas_in_sync


class ShardedDevices(Devices):
    """Devices of one or several processes under JAX: one program over all of them, each with its part of a batch."""

    several = True

    def __init__(self, names: list[str]):
        self.count = len(names)
        self.distribution = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)

    def scope(self) -> AbstractContextManager[Any]:
        return self.distribution.scope()

    def divide(self, batches: Any) -> Any:
        sizes = {size: padded for padded, size in self._sizes(batches).items()}

        def part(rows: np.ndarray) -> np.ndarray:
            # All devices must get as many rows. What fills up is cut off again in the step, before anything counts it.
            filled = np.concatenate([rows, np.repeat(rows[-1:], sizes[len(rows)] - len(rows))])
            return filled.reshape(_processes.count, -1)[_processes.number]

        batches.part = part
        return batches

    def training(self, layers: list[Any], batches: Any) -> keras.Model:
        return self._cutting(layers, batches)

    def predictor(self, model: keras.Model, batches: Any) -> keras.Model:
        return self._cutting([keras.Input(model.input_shape[1:]), model], batches)

    def _sizes(self, batches: Any) -> dict[int, int]:
        """Rows that batches have when filled up, a multiple of the devices, and how many of them count."""
        size, total = batches.batch_size, batches.rows
        sizes: dict[int, int] = {}
        for rows in dict.fromkeys((min(size, total), total % size or size)):
            filled = -(-rows // self.count) * self.count
            # Its length alone tells a batch from others: the last must not be as long as the rest by filling up.
            sizes[filled + self.count * (filled in sizes)] = rows
        return sizes

    def _cutting(self, layers: list[Any], batches: Any) -> keras.Model:
        sizes = self._sizes(batches)
        replicated = keras.distribution.TensorLayout((None, None), self.distribution.device_mesh)

        def cut(data: Any) -> Any:
            return keras.tree.map_structure(lambda array: array[: sizes[array.shape[0]]], data)

        class Cutting(keras.Sequential):
            """Steps over the rows that count. The program is that of one device: XLA divides it."""

            def train_step(self, state, data):
                return super().train_step(state, cut(data))

            def predict_step(self, state, data):
                outputs, state = super().predict_step(state, cut(data))
                # In full in every process, which could not read it otherwise.
                return keras.distribution.distribute_tensor(outputs, replicated), state

        return Cutting(layers)


def devices_of(recipe: Recipe) -> Devices:
    """The devices of a recipe in all processes; `InputError` if there are too few, or the model cannot use them."""
    count = _processes.count
    if count == 1 < _whole(COUNT, 1):
        # Each would train for itself, and into the same folder.
        raise InputError(f"{COUNT}: only covidcxnet train joins other processes; a script calls join() before train()")
    if recipe.devices == count == 1:
        return Devices()
    if MODELS[recipe.model].solve:
        raise InputError(f"devices: {recipe.model} is solved at once, on one device in one process")
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        local = [f"{device.platform}:{device.id}" for device in jax.local_devices()]
    elif backend == "tensorflow":
        import tensorflow as tf

        kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
        local = [device.name for device in tf.config.list_logical_devices(kind)]
    else:
        raise InputError(f"devices: {backend} trains on one device here; set KERAS_BACKEND to jax or tensorflow")
    if len(local) < recipe.devices:
        has = ", ".join(name.removeprefix("/device:") for name in local)
        raise InputError(f"devices: {recipe.devices} given, {backend} finds {len(local)} on this machine ({has})")
    if backend == "tensorflow":
        return MirroredDevices(local[: recipe.devices])
    by_process: dict[int, list[str]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(f"{device.platform}:{device.id}")
    # In the order of the processes, as each reads a stretch of a batch.
    return ShardedDevices([name for number in sorted(by_process) for name in by_process[number][: recipe.devices]])
