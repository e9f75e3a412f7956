"""Frozen backbones: features of each image computed once, so that training a head takes seconds."""

from __future__ import annotations

import keras
import numpy as np
from tqdm import tqdm


def compute_features(backbone: keras.Model, batches: keras.utils.PyDataset, name: str) -> np.ndarray:
    """Pooled features of all images of `batches` in inference mode, float32 [n, F]; `name` is for the progress bar."""
    parts = []
    # By batch in inference mode: batch norms of a frozen backbone keep to their moving averages.
    for number in tqdm(range(len(batches)), desc=f"features of {name}", unit="batch", leave=False, disable=None):
        parts.append(np.asarray(backbone.predict_on_batch(batches[number][0]), "float32"))
    return np.concatenate(parts)


class FeatureBatches(keras.utils.PyDataset):
    """Features in memory as `fit` wants them, shuffled by (seed, epoch) like the images that they came from."""

    def __init__(self, features, targets, weights=None, *, batch_size: int, seed: int, sampler=None):
        super().__init__()
        self.arrays = [array for array in (features, targets, weights) if array is not None]
        self.batch_size, self.seed, self.sampler = batch_size, seed, sampler
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Order of an epoch."""
        if self.sampler is not None:
            self.order = self.sampler(epoch)
            return
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.arrays[0]))

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index: int):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        return tuple(array[rows] for array in self.arrays)
