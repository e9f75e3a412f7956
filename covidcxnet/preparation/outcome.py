"""What preparation takes and gives: a segmenter to find lungs with, a prepared radiograph, what became of a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from segmentation.regions import Frame

Item = str | os.PathLike | np.ndarray


class Segmenter(Protocol):
    """What is asked of a lung segmenter; `segmentation.LungSegmenter` is one."""

    name: str
    sha256: str

    def predict(self, images: Sequence[np.ndarray], /) -> Sequence[Any]:
        """One result an image, with ``mask`` (bool [H, W]), ``box``, ``verdict`` and ``error``."""
        ...


@dataclass(frozen=True)
class Prepared:
    """One radiograph as a model sees it.

    Parameters
    ----------
    stack : uint8 [S, S, C]
        The planes named by ``settings.channels``.
    lungs : bool [S, S] or None
        Lung mask in the stack's frame; None where nobody looked for lungs.
    frame : segmentation.regions.Frame
        Where the stack lies on the radiograph, in the radiograph's own pixels.
    """

    stack: np.ndarray
    lungs: np.ndarray | None
    frame: Frame


@dataclass(frozen=True)
class Outcome:
    """What became of one item of `prepare_files`.

    Parameters
    ----------
    index : int
        Its place in the input.
    prepared : Prepared or None
        None where it could not be read.
    error : str or None
        Why not.
    verdict : segmentation.verdict.Verdict or None
        The segmenter's own judgement of its mask; None without a segmenter.
    trusted : bool or None
        Whether the lungs were used as found. False: the whole image was taken instead. None: nobody looked.
    reasons : tuple of str
        Why they were not trusted.
    radiograph_shape : (int, int) or None
        Height and width of the radiograph.
    notes : tuple of str
        Why it does not look like an upright frontal chest radiograph; empty where it does, or nobody looked.
    """

    index: int
    prepared: Prepared | None = None
    error: str | None = None
    verdict: Any = None
    trusted: bool | None = None
    reasons: tuple[str, ...] = ()
    radiograph_shape: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
