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


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Dice coefficient of two bool masks, 0..1; 1 where both are empty."""
    total = int(np.count_nonzero(mask)) + int(np.count_nonzero(truth))
    return 2 * int(np.count_nonzero(mask & truth)) / total if total else 1.0


def iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union (Jaccard index) of two bool masks, 0..1; 1 where both are empty."""
    union = int(np.count_nonzero(mask | truth))
    return int(np.count_nonzero(mask & truth)) / union if union else 1.0


def hausdorff95(mask: np.ndarray, truth: np.ndarray) -> float:
    """95th percentile of the distances between two outlines, in both directions.

    In percent of the image's longer side (radiographs come without a scale); 0 where both masks are empty, 100 where
    one is.
    """
    if not mask.any() or not truth.any():
        return 0.0 if mask.any() == truth.any() else 100.0
    # Padded, so that mask pixels on the image's border are on the outline too.
    around, square = [np.pad(m, 1).astype(np.uint8) for m in (mask, truth)], np.ones((3, 3), np.uint8)
    outlines = [m & ~cv2.erode(a, square)[1:-1, 1:-1].astype(bool) for m, a in zip((mask, truth), around, strict=True)]
    # Distance of every pixel to the nearest one of an outline, read at the pixels of the other.
    distances = [cv2.distanceTransform((~o).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for o in outlines]
    there, back = distances[1][outlines[0]], distances[0][outlines[1]]
    return 100 * float(max(np.percentile(there, 95), np.percentile(back, 95))) / max(mask.shape)


def split_by_knowledge(conventions: Sequence[str], pairs: Sequence[Pair]) -> tuple[list[Pair], list[dict[str, Any]]]:
    """Pairs whose mask convention is one of the network's; and for each source and convention of the others a dict
    of source, convention, pairs (how many) and reason.
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

    Each pair is compared with the network's masks of the pair's own convention; `stand_in` is the convention to use for
    pairs of an unknown one. Such scores also measure how the two conventions differ, so nothing is taken by default.
    One dict a pair, in order; "convention" is the pair's, "output" that of the network's masks.
    """
    outputs = [stand_in if stand_in and p.convention not in segmenter.conventions else p.convention for p in pairs]
    rows: dict[int, dict[str, Any]] = {}
    for output in sorted(set(outputs)):
        chosen = [i for i, convention in enumerate(outputs) if convention == output]
        results = segmenter.following(output).stream([pairs[i].image for i in chosen], progress=progress)
        for i, result in zip(chosen, results, strict=True):
            pair, truth = pairs[i], read_mask(pairs[i].masks)
            if result.mask is None or result.verdict is None:
                raise InputError(f"{pair.image}: {result.error}")
            if result.mask.shape != truth.shape:
                raise InputError(f"{pair.image}: radiograph of {result.mask.shape}, mask of {truth.shape} pixels")
            rows[i] = {
                "image": str(pair.image),
                "source": pair.source,
                "convention": pair.convention,
                "output": output,
                "group": pair.group or str(pair.image),
                "dice": dice(result.mask, truth),
                "iou": iou(result.mask, truth),
                "hd95": hausdorff95(result.mask, truth),
                "trusted": result.verdict.trusted,
                "reasons": "; ".join(result.verdict.reasons),
            }
    return [rows[i] for i in range(len(pairs))]


def summarize(rows: Sequence[dict[str, Any]], *, samples: int = 2000, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Means and the median Dice, with 95% intervals from a bootstrap over patients: for each source, and over all.

    Each is [value, low, high]; low and high are None for a single patient, who says nothing about others.
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

    def estimate(value: float, of_samples: np.ndarray) -> list[float | None]:
        low, high = map(float, np.percentile(of_samples, [2.5, 97.5]))
        return [float(value), low, high] if len(groups) > 1 else [float(value), None, None]

    summary: dict[str, Any] = {"pairs": len(rows), "patients": len(groups)}
    for metric in METRICS:
        sums = np.bincount(index, [float(r[metric]) for r in rows])
        summary[metric] = estimate(sums.sum() / len(rows), drawn @ sums / (drawn @ pairs))
    values = np.array([r["dice"] for r in rows], float)
    summary["median_dice"] = estimate(np.median(values), _medians(values, index, drawn))
    return summary


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
