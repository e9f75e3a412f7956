"""How good masks are: Dice, IoU and Hausdorff distance of pairs, by source, with intervals over patients."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from enhancement.errors import InputError

from .pairs import Pair, read_mask
from .segmenter import LungSegmenter

METRICS = ("dice", "iou", "hd95", "trusted")
"""What is averaged; beside them stands "median_dice", which a few masks with wrong outlines do not move."""

# Bootstrap samples whose medians are found at once: memory stays flat however many pairs there are.
_CHUNK = 100


def dice(found: np.ndarray, true: np.ndarray) -> float:
    """Dice coefficient of two bool masks, 0..1; 1 where both are empty."""
    total = int(np.count_nonzero(found)) + int(np.count_nonzero(true))
    return 2 * int(np.count_nonzero(found & true)) / total if total else 1.0


def iou(found: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union (Jaccard index) of two bool masks, 0..1; 1 where both are empty."""
    union = int(np.count_nonzero(found | true))
    return int(np.count_nonzero(found & true)) / union if union else 1.0


def hausdorff95(found: np.ndarray, true: np.ndarray) -> float:
    """95th percentile of the distances between two outlines, in both directions.

    Returns
    -------
    float
        Percent of the image's longer side (radiographs come without a scale); 0 where both masks are empty, 100 where
        one is.
    """
    if not found.any() or not true.any():
        return 0.0 if found.any() == true.any() else 100.0
    one, two = _outline(found), _outline(true)
    there = _distance_to(two)[one]
    back = _distance_to(one)[two]
    return 100 * float(max(np.percentile(there, 95), np.percentile(back, 95))) / max(found.shape)


def split_by_knowledge(conventions: Sequence[str], pairs: Sequence[Pair]) -> tuple[list[Pair], list[dict[str, Any]]]:
    """Part the pairs that a network's masks can be compared with from those that follow another convention.

    Parameters
    ----------
    conventions : sequence of str
        What the network has learnt.
    pairs : sequence of Pair

    Returns
    -------
    comparable : list of Pair
    others : list of dict
        One for each source and convention: source, convention, pairs (how many), reason.
    """
    comparable = [p for p in pairs if p.convention in conventions]
    counts = Counter((p.source, p.convention) for p in pairs if p.convention not in conventions)
    known = ", ".join(conventions)
    others = [
        {
            "source": source or "(no source)",
            "convention": convention,
            "pairs": count,
            "reason": f"masks are {convention}, the network knows {known}",
        }
        for (source, convention), count in sorted(counts.items())
    ]
    return comparable, others


def score_pairs(
    segmenter: LungSegmenter, pairs: Sequence[Pair], *, stand_in: str | None = None, progress: bool = False
) -> list[dict[str, Any]]:
    """Segment the radiograph of each pair and compare with its mask, at the radiograph's own size.

    Each pair is held against the network's masks of the pair's own convention.

    Parameters
    ----------
    segmenter : LungSegmenter
    pairs : sequence of Pair
    stand_in : str, optional
        The network's convention to hold pairs of an unknown one against. Such scores also measure how the two
        conventions differ, so nothing is taken by default.
    progress : bool

    Returns
    -------
    list of dict
        One a pair, in order: image, source, convention (of the pair), output (convention of the network's masks),
        group, dice, iou, hd95, trusted, reasons.

    Raises
    ------
    InputError
        If the network has not learnt a pair's convention and nothing stands in, or a file cannot be read.
    """
    outputs = [stand_in if stand_in and p.convention not in segmenter.conventions else p.convention for p in pairs]
    rows: dict[int, dict[str, Any]] = {}
    for output in sorted(set(outputs)):
        chosen = [i for i, own in enumerate(outputs) if own == output]
        results = segmenter.following(output).stream([pairs[i].image for i in chosen], progress=progress)
        for i, result in zip(chosen, results, strict=True):
            pair, true = pairs[i], read_mask(pairs[i].masks)
            if result.mask is None or result.verdict is None:
                raise InputError(f"{pair.image}: {result.error}")
            if result.mask.shape != true.shape:
                raise InputError(f"{pair.image}: radiograph of {result.mask.shape}, mask of {true.shape} pixels")
            rows[i] = {
                "image": str(pair.image),
                "source": pair.source,
                "convention": pair.convention,
                "output": output,
                "group": pair.group or str(pair.image),
                "dice": dice(result.mask, true),
                "iou": iou(result.mask, true),
                "hd95": hausdorff95(result.mask, true),
                "trusted": result.verdict.trusted,
                "reasons": "; ".join(result.verdict.reasons),
            }
    return [rows[i] for i in range(len(pairs))]


def summarize(rows: Sequence[dict[str, Any]], *, samples: int = 2000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Means and the median Dice, with 95% intervals from a bootstrap over patients: for each source, and over all.

    Parameters
    ----------
    rows : sequence of dict
        From `score_pairs`.
    samples : int
        Bootstrap samples.
    seed : int

    Returns
    -------
    dict
        Source name (and "all") to pairs, patients, for each of `METRICS` [mean, low, high], and "median_dice"
        [median, low, high]; low and high are None for a single patient, who says nothing about others.
    """
    sources = sorted({r["source"] for r in rows})
    parts = {name or "(no source)": [r for r in rows if r["source"] == name] for name in sources}
    if len(parts) != 1:
        parts["all"] = list(rows)
    return {name: _with_intervals(part, samples, seed) for name, part in parts.items() if part}


def _with_intervals(rows: Sequence[dict[str, Any]], samples: int, seed: int) -> dict[str, Any]:
    groups = {g: n for n, g in enumerate(dict.fromkeys(r["group"] for r in rows))}
    index = np.array([groups[r["group"]] for r in rows])
    pairs = np.bincount(index)
    # How often each patient is drawn, in each sample.
    drawn = np.random.default_rng(seed).multinomial(len(groups), np.full(len(groups), 1 / len(groups)), samples)
    summary: dict[str, Any] = {"pairs": len(rows), "patients": len(groups)}
    for metric in METRICS:
        sums = np.bincount(index, [float(r[metric]) for r in rows])
        summary[metric] = [float(sums.sum() / len(rows)), *_interval(drawn @ sums / (drawn @ pairs), len(groups))]
    values = np.array([r["dice"] for r in rows], float)
    summary["median_dice"] = [float(np.median(values)), *_interval(_medians(values, index, drawn), len(groups))]
    return summary


def _interval(drawn: np.ndarray, patients: int) -> list[float | None]:
    if patients < 2:
        return [None, None]
    return [float(value) for value in np.percentile(drawn, [2.5, 97.5])]


def _medians(values: np.ndarray, index: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Median of each bootstrap sample, in which a pair counts as often as its patient is drawn."""
    order = np.argsort(values)
    ordered, medians = values[order], []
    for start in range(0, len(drawn), _CHUNK):
        reached = np.cumsum(drawn[start : start + _CHUNK, index[order]], axis=1)
        total = reached[:, -1:]
        # Of an even number, the mean of the middle two, as NumPy's median.
        middle = [ordered[(reached > at).argmax(axis=1)] for at in ((total - 1) // 2, total // 2)]
        medians.append((middle[0] + middle[1]) / 2)
    return np.concatenate(medians)


def _outline(mask: np.ndarray) -> np.ndarray:
    inside = cv2.erode(np.pad(mask, 1).astype(np.uint8), np.ones((3, 3), np.uint8))[1:-1, 1:-1]
    return mask & ~inside.astype(bool)


def _distance_to(points: np.ndarray) -> np.ndarray:
    return cv2.distanceTransform((~points).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
