"""LIME (Ribeiro et al. 2016) on a stack: which superpixels carry the predicted probability, by a local linear fit.

The `lime` package draws the samples and fits the line. What is ours suits it to radiographs: superpixels that exist on
gray images, hiding that leaves the padding alone, and forward passes in batches of one size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from enhancement.errors import InputError
from enhancement.progress import ProgressBar

_BACKGROUND = -1

SAMPLES = 1000
"""Perturbed stacks, each of them a prediction, unless the caller wants another number."""

AUTO = "auto"
"""In place of a number of samples: as many as the ranking of superpixels needs, at most `SAMPLES`."""

# Expected rank correlation with the map of all samples from which "auto" stops; looked at every so many samples.
_STABLE, _INTERVAL = 0.975, 100
_HALVINGS = 5  # ways to halve the samples: the correlation of a single pair of halves varies too much

# Chosen by eye on real radiographs: at 0.1 superpixels are ragged bands along edges, at 0.4 nearly squares.
_COMPACTNESS = 0.2

POOR_FIT = 0.5
"""Local R^2 below which a straight line does not describe how the classifier answers."""

# Probabilities that differ by less than this differ by rounding: nothing that was hidden changed the answer.
_NOISE = 1e-4


@dataclass(frozen=True)
class LimeExplanation:
    """One stack's superpixels and what each is worth.

    A weight is the change of the class's probability when the superpixel is shown instead of hidden: positive ones
    speak for the class. Below a `score` of `POOR_FIT` they say little.
    """

    weights: np.ndarray  # float32 [S, S], of each pixel's superpixel; 0 outside the content
    segments: np.ndarray  # int32 [S, S], superpixel numbers from 0; -1 outside the content
    score: float  # weighted R^2 of the local linear fit, at most 1
    target: int  # the class explained
    probabilities: np.ndarray  # float32 [classes], of the whole stack
    samples: int = SAMPLES  # perturbed stacks that were predicted


def explain_lime(
    classifier: Any,
    stack: np.ndarray,
    target: int | None = None,
    *,
    samples: int | str = SAMPLES,
    segments: int = 64,
    plane: int = -1,
    fill: float | tuple[float, ...] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> LimeExplanation:
    """Explain one prediction, of `target` or the predicted class, by hiding superpixels of ``uint8 [S, S, C]``.

    `classifier` is a callable, or an object with ``predict_stacks``, from ``uint8 [n, S, S, C]`` to ``[n, classes]``.
    Of `samples` perturbed stacks the first is the stack itself; about 15 a superpixel give steady weights. "auto" draws
    the same ones as 1,000, and stops when their ranking of superpixels should agree with that of all. Superpixels
    are made from one `plane`, best the raw one, so that they follow anatomy rather than enhanced noise. `fill` is the
    grey level that hides them, by default `lung_gray`; `progress` shows a bar over the samples. `InputError`
    if the stack, the target or a number does not fit.
    """
    from lime.lime_image import LimeImageExplainer

    stack = np.asarray(stack)
    if stack.ndim != 3 or stack.dtype != np.uint8:
        raise InputError(f"LIME: a stack of {stack.dtype} {stack.shape} given, uint8 [S, S, C] expected")
    most = check_samples(samples)
    for name, value, least in (("segments", segments, 2), ("batch_size", batch_size, 1)):
        if value < least:
            raise InputError(f"LIME: {name}={value} given, {least} or more expected")
    levels = lung_gray(stack) if fill is None else np.broadcast_to(np.asarray(fill, "float64"), stack.shape[-1:])
    if not (np.isfinite(levels).all() and levels.min() >= 0 and levels.max() <= 255):
        raise InputError(f"LIME: fill={fill!r} given, 0 to 255 expected")
    predict: Callable = getattr(classifier, "predict_stacks", classifier)
    numbers = superpixels(stack[..., plane], segments, content_of(stack))
    first: list[np.ndarray] = []
    used: list[int] = []
    extremes: list[np.ndarray] = []

    class Explainer(LimeImageExplainer):
        """lime's sampling and fit; hiding is one look-up a batch instead of one loop a superpixel."""

        def data_labels(self, image, fudged_image, segments, classifier_fn, num_samples, batch_size=batch_size):
            features = int(segments.max()) + 1
            shown = self.random_state.randint(0, 2, num_samples * features).reshape(num_samples, features)
            shown[0] = 1
            answers: list[np.ndarray] = []
            with ProgressBar(
                total=num_samples, desc="LIME", unit="prediction", leave=False, disable=not progress
            ) as bar:
                for start in range(0, num_samples, batch_size):
                    batch = shown[start : start + batch_size]
                    answers.append(classifier_fn(_perturbed(image, fudged_image, segments, batch)))
                    if len(answers) == 1:
                        # The first batch may have compiled the network: the time left is reckoned without it.
                        bar.unpause()
                    bar.update(len(batch))
                    done = start + len(batch)
                    if samples == AUTO and done // _INTERVAL > start // _INTERVAL and done < num_samples:
                        values = np.concatenate(answers)
                        explained = int(values[0].argmax()) if target is None else target
                        if _expected_agreement(shown[:done], values[:, explained], num_samples) >= _STABLE:
                            break
            values = np.concatenate(answers)
            return shown[: len(values)], values

    def probabilities(stacks: np.ndarray) -> np.ndarray:
        values = np.asarray(predict(stacks))
        if values.ndim != 2 or values.shape[1] < 2 or len(values) != len(stacks):
            raise InputError(f"LIME: probabilities of shape {values.shape} given, [n, classes] expected")
        if target is not None and not 0 <= target < values.shape[1]:
            raise InputError(f"LIME: target {target} given, 0 to {values.shape[1] - 1} expected")
        if not first:
            first.append(values[0].astype("float32"))
        used.append(len(values))
        extremes.extend((values.min(axis=0), values.max(axis=0)))
        return values

    explanation = Explainer(feature_selection="none", random_state=seed).explain_instance(
        stack,
        probabilities,
        labels=() if target is None else (target,),
        top_labels=1 if target is None else None,
        hide_color=np.round(levels).astype("uint8"),
        num_samples=most,
        batch_size=batch_size,
        segmentation_fn=lambda image: numbers,
        random_seed=seed,
    )
    chosen = int(next(iter(explanation.local_exp)))
    # One more for the background, whose number -1 reads the last entry: 0.
    worth = np.zeros(int(numbers.max()) + 2, "float32")
    if np.ptp([row[chosen] for row in extremes]) < _NOISE:
        return LimeExplanation(worth[numbers], numbers, 0.0, chosen, first[0], sum(used))
    for number, weight in explanation.local_exp[chosen]:
        worth[number] = weight
    # A model that never changes its answer leaves nothing to fit, which is a perfect fit of nothing: 0.
    score = float(explanation.score) if np.isfinite(explanation.score) else 0.0
    return LimeExplanation(worth[numbers], numbers, score, chosen, first[0], sum(used))


def check_samples(samples: int | str) -> int:
    """The most samples that a setting allows; `InputError` if it is neither "auto" nor a number from 10 on."""
    if samples == AUTO:
        return SAMPLES
    if isinstance(samples, str) or samples < 10:
        raise InputError(f"LIME: samples={samples} given, {AUTO} or 10 or more expected")
    return samples


def _expected_agreement(shown: np.ndarray, answers: np.ndarray, total: int) -> float:
    """Rank correlation of the superpixels' weights that is expected between these samples and `total`, 0..1.

    The correlation r between weights from two halves of n samples gives the ratio of noise to signal at n samples,
    q = (1 / r - 1) / 2. Noise falls with the number of samples, and these are among the `total`: their correlation
    with all is sqrt((1 + q n / total) / (1 + q)).
    """
    from scipy.stats import spearmanr

    n, random, correlations = len(shown), np.random.default_rng(0), []
    if np.ptp(answers) < _NOISE:
        return 1.0
    for _ in range(_HALVINGS):
        order = random.permutation(n)
        halves = [_weights(shown[half], answers[half]) for half in (order[: n // 2], order[n // 2 :])]
        correlations.append(spearmanr(*halves).statistic)
    r = float(np.mean(correlations))
    if not r > 0:
        return 0.0
    q = (1 / r - 1) / 2
    return float(np.sqrt((1 + q * n / total) / (1 + q)))


def _weights(shown: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Weights of superpixels, float64 [superpixels]: lime's ridge, in closed form as it is fitted dozens of times."""
    x = shown.astype(np.float64)
    distance = 1 - np.sqrt(x.mean(axis=1))  # cosine distance to the whole stack
    near = np.sqrt(np.exp(-(distance**2) / 0.25**2))
    x -= np.average(x, axis=0, weights=near)
    weighted = x * near[:, None]
    return np.linalg.solve(weighted.T @ x + np.eye(x.shape[1]), weighted.T @ answers)


def _perturbed(image: np.ndarray, hidden: np.ndarray, numbers: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The image with superpixels hidden, uint8 [n, S, S, C]; `shown` 0 or 1 [n, superpixels] says which are not."""
    # Background pixels carry number -1: the extra last column, which is always shown.
    keep = np.concatenate([shown, np.ones((len(shown), 1))], axis=1).astype(np.uint8)
    stacks = np.repeat(hidden[None], len(keep), axis=0)
    for stack, row in zip(stacks, keep, strict=True):
        # 13 times as fast as np.where, whose inner loop is the three channels.
        cv2.copyTo(image, row[numbers], stack)
    return stacks


def superpixels(plane: np.ndarray, count: int, content: np.ndarray | None = None) -> np.ndarray:
    """About `count` superpixels of ``uint8 [H, W]`` inside the content: int32 [H, W], -1 outside.

    By SLIC (Achanta et al. 2012). lime's default, quickshift on colour, finds only some 47 on a radiograph of
    320 x 320, of very different sizes; SLIC gives about the wished-for number at even sizes, whose borders follow the
    lungs, heart and opacities.
    """
    from skimage.segmentation import slic

    content = np.ones(plane.shape, bool) if content is None else content
    numbers = np.full(plane.shape, _BACKGROUND, "int32")
    if content.sum() < count:
        raise InputError(f"LIME: {int(content.sum())} pixels of content can't hold {count} superpixels")
    rows, columns = np.flatnonzero(content.any(1)), np.flatnonzero(content.any(0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    inside = content[box]
    labels = slic(
        plane[box] / 255.0,
        n_segments=count,
        compactness=_COMPACTNESS,
        sigma=1.0,
        # A full rectangle needs no mask, and SLIC's seeds then lie on an even grid.
        mask=None if inside.all() else inside,
        channel_axis=None,
        start_label=1,
        enforce_connectivity=True,
    )
    _, ordered = np.unique(labels[inside], return_inverse=True)
    numbers[content] = ordered
    return numbers


def content_of(stack: np.ndarray) -> np.ndarray:
    """Smallest rectangle ``bool [S, S]`` outside which every plane of a stack is 0; everything for an all-0 stack."""
    some = (stack != 0).any(axis=-1)
    content = np.zeros(some.shape, bool)
    rows, columns = np.flatnonzero(some.any(1)), np.flatnonzero(some.any(0))
    if rows.size:
        content[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    else:
        content[:] = True
    return content


def lung_gray(stack: np.ndarray, content: np.ndarray | None = None) -> np.ndarray:
    """Grey level of aerated lung, ``uint8 [C]``: the lower fifth of each plane in the middle of the content.

    What hides a superpixel must not itself look like disease. On phantoms, whose lesions are known, LIME's strongest
    superpixel lay on the lesion in 11 of 16 with this gray, and in 2 of 15 with the mean gray of the image, which
    turns clear lung into an opacity. (lime's own default, the superpixel's mean, leaves an opacity as it was.)
    """
    content = content_of(stack) if content is None else content
    rows, columns = np.flatnonzero(content.any(1)), np.flatnonzero(content.any(0))
    high, wide = (rows[-1] + 1 - rows[0]) // 5, (columns[-1] + 1 - columns[0]) // 5
    middle = stack[rows[0] + high : rows[-1] + 1 - high, columns[0] + wide : columns[-1] + 1 - wide]
    # Where the region of interest is the lungs, all else was set to 0 and is no gray of anything.
    seen = middle[(middle != 0).any(axis=-1)]
    levels = np.quantile(seen, 0.2, axis=0) if len(seen) else np.zeros(stack.shape[-1])
    return np.round(levels).astype("uint8")
