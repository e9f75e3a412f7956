"""Batches of radiographs and target masks, read once, augmented by threads, in an order that the seed alone decides."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from enhancement.errors import RadiographError
from enhancement.progress import ProgressBar
from enhancement.radiograph import read_radiograph

from .augmentation import MaskAugmentation, augment
from .model import SegmenterInput
from .pairs import Pair, read_mask


class PairBatches:
    """Pairs in memory, served as network input and targets.

    Radiographs are kept as ``uint8`` with at most twice the network's side, so a thousand pairs take some 200 MB.
    Without `augmentation` every pair is served as it is, in order. Threads read and augment: OpenCV lets go of the
    interpreter. Raises `InputError` if a file cannot be read, or a mask's size is not its radiograph's.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        inputs: SegmenterInput,
        conventions: Sequence[str],
        batch_size: int,
        augmentation: MaskAugmentation | None = None,
        seed: int = 0,
        workers: int = 2,
        progress: bool = True,
    ):
        self.pairs, self.inputs, self.conventions = list(pairs), inputs, tuple(conventions)
        self.batch_size, self.augmentation, self.seed, self.workers = batch_size, augmentation, seed, workers
        with ThreadPoolExecutor(workers) as pool:
            read = pool.map(lambda pair: _read(pair, 2 * inputs.size), self.pairs)
            self._arrays = list(ProgressBar(read, "reading pairs", len(self.pairs), unit="pair", disable=not progress))

    def __len__(self) -> int:
        """Batches in an epoch; the last may be smaller, unless augmented (then what is left over waits)."""
        whole, rest = divmod(len(self.pairs), self.batch_size)
        return whole + (1 if rest and (self.augmentation is None or not whole) else 0)

    def epoch(self, number: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """One pass: squares ``uint8 [B, S, S, 1]`` and targets ``float32 [B, S, S, K]`` of 0 or 1, or -1 where the
        convention is not this pair's.
        """
        order = np.arange(len(self.pairs))
        if self.augmentation is not None:
            np.random.default_rng((self.seed, number)).shuffle(order)
        with ThreadPoolExecutor(self.workers) as pool:
            waiting: deque = deque()
            for start in range(0, len(self) * self.batch_size, self.batch_size):
                chosen = order[start : start + self.batch_size]
                waiting.append([pool.submit(self._sample, int(i), number) for i in chosen])
                # Two batches ahead keep the threads busy; an epoch at once would take hundreds of megabytes.
                if len(waiting) > 2:
                    yield _stacked(waiting.popleft())
            while waiting:
                yield _stacked(waiting.popleft())

    def _sample(self, index: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        image, mask = self._arrays[index]
        frame = self.inputs.frame(image.shape)
        if self.augmentation is None:
            square, target = frame.place(frame.cut(image)), frame.place(frame.cut(mask))
        else:
            # A generator for each pair and epoch: the result depends on neither threads nor an interruption.
            generator = np.random.default_rng((self.seed, epoch, index))
            square, target = augment(image, mask, frame, generator, self.augmentation)
        targets = np.full((*target.shape, len(self.conventions)), -1, np.float32)
        targets[..., self.conventions.index(self.pairs[index].convention)] = target
        return self.inputs.enhance(square)[..., None], targets


def _read(pair: Pair, longest: int) -> tuple[np.ndarray, np.ndarray]:
    image, mask = read_radiograph(pair.image), read_mask(pair.masks)
    if image.shape != mask.shape:
        raise RadiographError(pair.masks[0], f"mask of {mask.shape} pixels for a radiograph of {image.shape}")
    # Twice the network's side is enough for every enlargement of the augmentation.
    scale = longest / max(image.shape)
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        mask = cv2.resize(mask.astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA) > 127
    return image, mask


def _stacked(futures) -> tuple[np.ndarray, np.ndarray]:
    squares, targets = zip(*(future.result() for future in futures), strict=True)
    return np.stack(squares), np.stack(targets)
