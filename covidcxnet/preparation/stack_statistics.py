"""Simple statistics of prepared stacks: what border, grey levels, sharpness and corners of a network's input are."""

from __future__ import annotations

import numpy as np

from covidcxnet.datasets.bias import COUNT, shortcuts

from .store import Store

_CHUNK = 256  # stacks read at once


def stack_statistics(store: Store, rows: np.ndarray, progress: bool = False) -> np.ndarray:
    """Statistics of stacks as a network gets them, after crop, resizing and matched grey levels.

    Of the plane of the radiograph itself ("raw"), or else the first.

    Parameters
    ----------
    store : Store
    rows : int array [n]
        Rows of the store.
    progress : bool
        Show a progress bar.

    Returns
    -------
    float32 [n, COUNT]
        As `covidcxnet.datasets.bias.FEATURES` names them.
    """
    from tqdm import tqdm

    channels = store.settings.channels
    plane = channels.index("raw") if "raw" in channels else 0
    found = np.zeros((len(rows), COUNT), np.float32)
    with tqdm(total=len(rows), desc="measuring inputs", unit="image", leave=False, disable=not progress) as bar:
        for start in range(0, len(rows), _CHUNK):
            for at, stack in enumerate(store.read(rows[start : start + _CHUNK]), start):
                found[at] = shortcuts(np.ascontiguousarray(stack[..., plane]))
                bar.update()
    return found
