"""The images that a report shows with their explanations: picked by a stated rule, then drawn."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd

from covidcxnet.classifier import Classifier
from covidcxnet.evaluation.predictions import Predictions
from covidcxnet.evaluation.provenance import EvaluationSettings
from covidcxnet.evaluation.report import Case
from covidcxnet.explain.grid import enlarge, remark
from covidcxnet.explain.lime import explain_lime
from covidcxnet.explain.overlay import SKY, outline, outline_box, overlay_heatmap, overlay_lime
from covidcxnet.preparation import Store
from covidcxnet.reporting.plots import data_uri, resized
from enhancement import read_radiograph
from enhancement.errors import InputError
from enhancement.progress import ProgressBar

# Sharp on a page and in print, small in a file of some dozens.
SIDE = 560
_QUALITY = 88
MOST_FINDINGS = 8


@dataclass(frozen=True)
class Pick:
    """An image to show: its row in the predictions, why it was picked, and the class that is explained."""

    row: int
    why: str
    correct: bool
    target: int


def choose(predictions: Predictions, wrong: int = 2) -> list[Pick]:
    """Images to show, class by class, correct predictions before wrong ones; the page states the rule."""
    truth, p, called = predictions.truth, predictions.probabilities, predictions.called
    picks: list[Pick] = []
    if predictions.task == "exclusive":
        targets, predicted = predictions.targets, predictions.predicted
        falling = np.argsort(-p[np.arange(len(p)), predicted], kind="stable")
        for c in range(len(predictions.classes)):
            members = falling[targets[falling] == c]
            right = predicted[members] == c
            correct, mistakes = members[right], members[~right]
            wishes = [
                (correct, "most confident correct prediction", True),
                (correct[len(correct) // 2 :], "typical correct prediction", True),
                (mistakes, "most confident wrong prediction", False),
                *[(mistakes, "confident wrong prediction", False)] * (wrong - 1),
            ]
            picks += [Pick(row, why, good, int(predicted[row])) for row, why, good in _fulfil(wishes, predictions)]
        return picks
    frequent = np.argsort(-(truth == 1).sum(axis=0), kind="stable")[:MOST_FINDINGS]
    for k in sorted(frequent.tolist()):
        rising = np.argsort(p[:, k], kind="stable")
        falling, present = rising[::-1], truth[:, k] == 1
        hit, missed, false = present & called[:, k], present & ~called[:, k], (truth[:, k] == 0) & called[:, k]
        wishes = [
            (falling[hit[falling]], "found, with the highest probability", True),
            (falling[false[falling]], "false positive, with the highest probability", False),
            (rising[missed[rising]], "missed, with the lowest probability", False),
        ]
        picks += [Pick(row, why, good, k) for row, why, good in _fulfil(wishes, predictions)]
    return picks


def _fulfil(
    wishes: Iterable[tuple[np.ndarray, str, bool]], predictions: Predictions
) -> Iterator[tuple[int, str, bool]]:
    """The first row of each wish that shows another image and another patient than those before."""
    column = predictions.column("patient")
    patients = [""] * len(predictions) if column is None else column.fillna("").astype(str).tolist()
    rows: set[int] = set()
    shown: set[str] = set()
    for candidates, why, correct in wishes:
        for row in candidates.tolist():
            # an image without a known patient is nobody's second one
            if row not in rows and (not patients[row] or patients[row] not in shown):
                rows.add(row)
                shown.add(patients[row])
                yield row, why, correct
                break


def draw(
    picks: list[Pick],
    predictions: Predictions,
    store: Store,
    rows: np.ndarray,
    classifier: Classifier,
    settings: EvaluationSettings,
) -> tuple[Case, ...]:
    """The picked images with Grad-CAM and, for the first few of exclusive classes, LIME.

    `rows` tells where in the store the stack of each prediction lies. A radiograph that can no longer be read is shown
    as the stack's raw plane.
    """
    if not picks:
        return ()
    stacks = store.read(np.array([rows[p.row] for p in picks]))
    targets = np.array([p.target for p in picks])
    maps = classifier.gradcam(stacks, targets)
    channels = classifier.input.channels
    raw = channels.index("raw") if "raw" in channels else -1
    options: dict[str, Any] = {"samples": settings.lime_samples, "plane": raw, "seed": settings.seed}
    with_lime = set(lime_order(picks, predictions)[: settings.lime])
    labels, cases = predictions.labelled.tolist(), []
    # Most of the time goes into LIME: a bar over cases says how long it will take.
    for k, pick in enumerate(ProgressBar(picks, desc="explaining", unit="case", disable=not settings.progress)):
        table, stack, row = predictions.table.iloc[pick.row], stacks[k], int(rows[pick.row])
        trusted = pd.isna(table.get("lungs_trusted")) or bool(table["lungs_trusted"])
        radiograph, frame = _radiograph(store, row, stack[..., raw])
        lungs = _lungs(store, row, radiograph, frame, table, classifier) if trusted else None
        plain = np.repeat(radiograph[..., None], 3, axis=2)
        warm = _onto(enlarge(maps[k], stack.shape[0], classifier.gradcam.grid), radiograph.shape, frame)
        lime = explain_lime(classifier, stack, pick.target, **options) if k in with_lime else None
        weights = None if lime is None else _onto(lime.weights, radiograph.shape, frame)
        name, exclusive = predictions.classes[pick.target], predictions.task == "exclusive"
        chances = dict(zip(predictions.classes, predictions.probabilities[pick.row].tolist(), strict=True))
        cases.append(
            Case(
                path=str(table["path"]),
                label=str(table["label"]) if exclusive else labels[pick.row],
                labelled=str(table["labelled"]) if "labelled" in table else "",
                predicted=name,
                why=pick.why,
                probabilities=chances if exclusive else {name: chances[name]},
                correct=pick.correct,
                lungs="" if trusted else f"Lung mask not trusted: {table.get('lungs_reasons', '')}",
                outlined=lungs is not None,
                fit="" if lime is None or math.isnan(lime.score) else f"Local fit R² {lime.score:.2f}.",
                radiograph=_jpeg(plain if lungs is None else outline(plain, lungs, SKY)),
                gradcam=_jpeg(outline_box(overlay_heatmap(radiograph, warm, lungs), frame)),
                lime="" if weights is None else _jpeg(outline_box(overlay_lime(radiograph, weights, lungs), frame)),
                heat=remark(maps[k], store.lungs(row) if trusted else None, classifier.gradcam.grid),
            )
        )
    return tuple(cases)


def lime_order(picks: list[Pick], predictions: Predictions) -> list[int]:
    """Picks in the order in which they get LIME: each class's first mistake, last class first, then what it got right.

    None of independent findings: LIME hides patches of one class's evidence, and would take minutes for each finding.
    """
    if predictions.task == "independent":
        return []
    targets, nth = predictions.targets, Counter[tuple[int, bool]]()
    order = []
    for k, pick in enumerate(picks):
        target = int(targets[pick.row])
        order.append((nth[target, pick.correct], pick.correct, -target, k))
        nth[target, pick.correct] += 1
    return [entry[-1] for entry in sorted(order)]


def _radiograph(store: Store, row: int, raw: np.ndarray):
    """The radiograph at `SIDE` pixels and its frame; the raw plane and no frame where the file is gone."""
    try:
        image, frame = read_radiograph(store.root / store.table["path"].iloc[row]), store.frame(row)
    except (InputError, OSError):
        image, frame = raw, None
    # Small ones are enlarged, so that lines are drawn finer than their pixels.
    return np.ascontiguousarray(resized(image, SIDE)), frame


def _lungs(store: Store, row: int, radiograph, frame, table: pd.Series, classifier: Classifier) -> np.ndarray | None:
    """Lungs for the outline; where nobody looked for them, the segmenter does so now if there is one."""
    lungs = store.lungs(row)
    if np.any(lungs):
        # Blurred by a pixel of the stack and cut at one half, the outline is smooth at any size.
        soft = _onto(lungs.astype(np.float32), radiograph.shape, frame)
        return cv2.GaussianBlur(soft, (0, 0), max(0.5, max(soft.shape) / lungs.shape[0])) >= 0.5
    if not pd.isna(table.get("lungs_trusted")) or classifier.segmenter is None:
        return None
    (result,) = classifier.segmenter.predict([radiograph])
    return result.mask if result.verdict is not None and result.verdict.trusted else None


def _onto(values: np.ndarray, shape: tuple[int, ...], frame) -> np.ndarray:
    """A map in the stack's frame, laid over the radiograph of `shape`."""
    full = np.asarray(values, np.float32) if frame is None else frame.to_radiograph(values)
    if full.shape == tuple(shape[:2]):
        return full
    shrinks = full.shape[0] > shape[0]
    return cv2.resize(full, (shape[1], shape[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _jpeg(image: np.ndarray) -> str:
    # Colours at half the resolution, as JPEG has them by default, would turn thin blue lines gray.
    full = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY, *full]
    good, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not good:
        raise InputError(f"an image of shape {image.shape} can't be written as JPEG")
    return data_uri(data.tobytes(), "image/jpeg")
