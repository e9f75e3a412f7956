"""The pictures of a report's cases: the radiograph that the person knows, with lungs, Grad-CAM and LIME drawn on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from covidcxnet.evaluation.cases import Case, Pick
from covidcxnet.evaluation.plots import data_uri
from covidcxnet.evaluation.predictions import Predictions
from enhancement.errors import InputError

if TYPE_CHECKING:
    from covidcxnet.classifier import Classifier
    from covidcxnet.preparation import Store

# Sharp on a page and in print, small in a file of some dozens.
SIDE = 560
_QUALITY = 88


def draw_cases(
    picks: list[Pick],
    predictions: Predictions,
    store: Store,
    rows: np.ndarray,
    classifier: Classifier,
    *,
    lime: int = 0,
    samples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> tuple[Case, ...]:
    """Draw the picked cases.

    Parameters
    ----------
    picks : list of Pick
        From `cases.choose`.
    predictions : Predictions
        What the picks' rows point into.
    store, rows : Store, int [N]
        Where the stack of each prediction lies.
    classifier : Classifier
        What is explained, each time for the class it called.
    lime, samples, seed : int
        For how many cases LIME is computed, from how many perturbed stacks, with which seed.
    progress : bool
        Show a progress bar.

    Returns
    -------
    tuple of Case
        A radiograph that can no longer be read is shown as the stack's raw plane.
    """
    from tqdm import tqdm

    if not picks:
        return ()
    stacks = store.read(np.array([rows[p.row] for p in picks]))
    targets = predictions.predicted[[p.row for p in picks]]
    maps = classifier.gradcam(stacks, targets)
    with_lime = set(_for_lime(picks, predictions, lime))
    made = []
    # Most of the time goes into LIME: a bar over cases says how long it will take.
    for k, pick in enumerate(tqdm(picks, desc="explaining", unit="case", disable=not progress)):
        found = _lime(classifier, stacks[k], int(targets[k]), samples, seed) if k in with_lime else None
        made.append(_draw(pick, predictions, store, int(rows[pick.row]), stacks[k], maps[k], found, classifier))
    return tuple(made)


def _draw(pick: Pick, predictions: Predictions, store, row: int, stack, heat, lime, classifier) -> Case:
    from covidcxnet.explain.grid import enlarge, remark
    from covidcxnet.explain.overlay import SKY, outline, overlay_heatmap, overlay_lime

    table = predictions.table.iloc[pick.row]
    trusted = pd.isna(table.get("lungs_trusted")) or bool(table["lungs_trusted"])
    radiograph, frame = _radiograph(store, row, stack, classifier.input.channels)
    lungs = _lungs(store, row, radiograph, frame, table, classifier) if trusted else None
    plain = np.repeat(radiograph[..., None], 3, axis=2)
    warm = _onto(enlarge(heat, stack.shape[0], classifier.gradcam.grid), radiograph.shape, frame)
    weights = None if lime is None else _onto(lime.weights, radiograph.shape, frame)
    names = predictions.classes
    fit = "" if lime is None or math.isnan(lime.score) else f"Local fit R² {lime.score:.2f}."
    return Case(
        path=str(table["path"]),
        label=str(table["label"]),
        labelled=str(table["labelled"]) if "labelled" in table else "",
        predicted=names[predictions.predicted[pick.row]],
        why=pick.why,
        probabilities=dict(zip(names, predictions.probabilities[pick.row].tolist(), strict=True)),
        correct=pick.correct,
        lungs="" if trusted else f"Lung mask not trusted: {table.get('lungs_reasons', '')}",
        outlined=lungs is not None,
        fit=fit,
        radiograph=_jpeg(plain if lungs is None else outline(plain, lungs, SKY)),
        gradcam=_jpeg(overlay_heatmap(radiograph, warm, lungs)),
        lime="" if weights is None else _jpeg(overlay_lime(radiograph, weights, lungs)),
        heat=remark(heat),
    )


def _radiograph(store, row: int, stack: np.ndarray, channels: tuple[str, ...]):
    """The radiograph at `SIDE` pixels and its frame; the raw plane and no frame where the file is gone."""
    import cv2

    from enhancement import read_radiograph

    try:
        image, frame = read_radiograph(store.root / store.table["path"].iloc[row]), store.frame(row)
    except (InputError, OSError):
        image, frame = stack[..., channels.index("raw") if "raw" in channels else -1], None
    scale = SIDE / max(image.shape)
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        return cv2.resize(image, size, interpolation=cv2.INTER_AREA), frame
    return np.ascontiguousarray(image), frame


def _lungs(store, row: int, radiograph, frame, table, classifier) -> np.ndarray | None:
    """Lungs for the outline; where nobody looked for them, the segmenter does so now if there is one."""
    import cv2

    lungs = store.lungs(row)
    if np.any(lungs):
        # Blurred by a pixel of the stack and cut at one half, the outline is smooth at any size.
        soft = _onto(lungs.astype(np.float32), radiograph.shape, frame)
        return cv2.GaussianBlur(soft, (0, 0), max(0.5, max(soft.shape) / lungs.shape[0])) >= 0.5
    if not pd.isna(table.get("lungs_trusted")) or classifier.segmenter is None:
        return None
    found = classifier.segmenter.predict([radiograph])[0]
    return found.mask if found.mask is not None and found.verdict.trusted else None


def _onto(values: np.ndarray, shape: tuple[int, ...], frame) -> np.ndarray:
    """A map in the stack's frame, laid over the radiograph of `shape`."""
    import cv2

    full = np.asarray(values, np.float32) if frame is None else frame.to_radiograph(values)
    if full.shape == tuple(shape[:2]):
        return full
    shrinks = full.shape[0] > shape[0]
    return cv2.resize(full, (shape[1], shape[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _lime(classifier, stack: np.ndarray, target: int, samples: int, seed: int):
    from covidcxnet.explain.lime import explain_lime

    channels = classifier.input.channels
    plane = channels.index("raw") if "raw" in channels else -1
    return explain_lime(classifier, stack, target, samples=samples, plane=plane, seed=seed)


def _for_lime(picks: list[Pick], predictions: Predictions, number: int) -> list[int]:
    """Which picks get LIME: each class's first wrong call, last class first, then their right calls, and so on."""
    labels = [predictions.classes[t] for t in predictions.targets[[p.row for p in picks]]]
    rank: dict[tuple[str, bool], int] = {}
    order = []
    for k, (pick, label) in enumerate(zip(picks, labels, strict=True)):
        nth = rank[label, pick.correct] = rank.get((label, pick.correct), -1) + 1
        order.append((nth, pick.correct, -predictions.classes.index(label), k))
    return [entry[-1] for entry in sorted(order)[:number]]


def _jpeg(image: np.ndarray) -> str:
    import cv2

    good, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not good:
        raise InputError(f"an image of shape {image.shape} can't be written as JPEG")
    return data_uri(data.tobytes(), "image/jpeg")
