"""Batches from a store to Keras: shuffled, reproducible, a few stacks in memory at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from covidcxnet.preparation.store import Store
from enhancement.errors import InputError
from segmentation.backend import keras


class Batches(keras.utils.PyDataset):
    """Rows of a store as batches of stacks, targets and, if given, weights.

    The order of an epoch is a function of `seed` and the epoch's number alone, so a run that is taken up again sees
    what it would have seen. Set the epoch with `set_epoch`, and keep Keras from shuffling the batches on top:
    ``fit(batches, shuffle=False)``.

    Parameters
    ----------
    store : Store
        Opened anew in every process.
    indices, targets, weights : int [n], float [n] or [n, K], float [n]
        Rows of the store; what a model shall say of each; their weight in the loss, if given.
    batch_size : int
        Stacks a batch; the last one may be smaller.
    shuffle, seed : bool, int
        A new order in every epoch, by this seed; otherwise that of `indices`.
    sampler : callable, optional
        ``sampler(epoch) -> int [m]``: rows that an epoch shows, in order, in place of `shuffle`; m is always the same.
    part : callable, optional
        An attribute: ``part(rows of a batch) -> rows``, those that this process reads where several share a batch.
    **options
        ``workers``, ``use_multiprocessing``, ``max_queue_size`` of `keras.utils.PyDataset`.
    """

    def __init__(
        self,
        store: Store,
        indices,
        targets,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        weights=None,
        sampler=None,
        **options,
    ):
        super().__init__(**options)
        self.store = store
        self.indices = np.asarray(indices, np.int64).reshape(-1)
        self.targets = np.asarray(targets, np.float32)
        self.weights = None if weights is None else np.asarray(weights, np.float32)
        self.batch_size, self.shuffle, self.seed = int(batch_size), bool(shuffle), int(seed)
        n = len(self.indices)
        if n == 0:
            raise InputError("batches: no rows given")
        if self.batch_size < 1:
            raise InputError(f"batch_size: {batch_size} given, 1 or more expected")
        if self.indices.min() < 0 or self.indices.max() >= len(store):
            span = f"{self.indices.min()} to {self.indices.max()}"
            raise InputError(f"batches: rows {span} given, the store has {len(store)}")
        for name, values in (("targets", self.targets), ("weights", self.weights)):
            if values is not None and len(values) != n:
                raise InputError(f"batches: {len(values)} {name} given for {n} rows")
        self.sampler = sampler
        self.part: Callable[[np.ndarray], np.ndarray] | None = None
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Take the order of this epoch, counted from 0; call it in a callback's ``on_epoch_begin(epoch)``."""
        # Keras' own `on_epoch_end` cannot serve: it is called at other times too, such as before the first epoch.
        self.epoch = int(epoch)
        if self.sampler is not None:
            self._order = self.sampler(self.epoch)
        else:
            order = np.random.default_rng([self.seed, self.epoch]).permutation if self.shuffle else np.arange
            self._order = order(len(self.indices))

    @property
    def rows(self) -> int:
        """Rows of an epoch."""
        return len(self._order)

    def __len__(self) -> int:
        return -(-len(self._order) // self.batch_size)

    def __getitem__(self, index: int):
        """Batch `index`: (uint8 [B, S, S, C], float32 targets[, float32 weights])."""
        index = range(len(self))[index]  # IndexError where it is out of range, as iteration needs it
        rows = self._order[index * self.batch_size : (index + 1) * self.batch_size]
        rows = rows if self.part is None else self.part(rows)
        batch = self.store.read(self.indices[rows]), self.targets[rows]
        return batch if self.weights is None else (*batch, self.weights[rows])
