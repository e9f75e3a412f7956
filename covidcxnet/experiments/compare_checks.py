"""Whether runs may be compared at all: their test images, classes and thresholds; and AUROC differences, paired."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from covidcxnet.evaluation.bootstrap import Bootstrap, Estimate
from covidcxnet.evaluation.cautions import Caution
from covidcxnet.evaluation.markup import count
from covidcxnet.evaluation.ranking import rank
from covidcxnet.evaluation.seen import TRAINING
from covidcxnet.experiments.compare_entry import Entry


def same_test(first: Entry, other: Entry) -> bool:
    """Whether two runs were tested on the same images, with the same truth of the classes that both know."""
    if first.images != other.images:
        return False
    common = [name for name in first.classes if name in other.classes]
    truths = [_sorted(entry, entry.truth)[:, [entry.classes.index(c) for c in common]] for entry in (first, other)]
    return bool(common) and np.array_equal(truths[0], truths[1], equal_nan=True)


def auroc_difference(first: Entry, other: Entry, *, resamples: int = 2000, seed: int = 0) -> Estimate | None:
    """AUROC of `other` minus that of `first` on the same resamples of patients.

    Both models are asked about the same patients, so what makes a resample easy for both falls out of the difference
    (paired bootstrap; Efron and Tibshirani 1993, ch. 8). With more than two classes: the mean over classes.

    Returns
    -------
    Estimate or None
        None where test images or classes differ.
    """
    if first.classes != other.classes or first.multilabel != other.multilabel or not same_test(first, other):
        return None
    truth = _sorted(first, first.truth)
    patients = first.predictions.sort_values("image").get("patient")
    bootstrap = Bootstrap(patients, len(truth), resamples=resamples, seed=seed)
    chosen = [1] if len(first.classes) == 2 and not first.multilabel else range(len(first.classes))
    parts = []
    for c in chosen:
        known = np.flatnonzero(~np.isnan(truth[:, c]))
        if len(np.unique(truth[known, c])) < 2:
            continue
        ranks = [rank(_sorted(e, e.scores)[known, c], truth[known, c] == 1, bootstrap, known) for e in (first, other)]
        parts.append(ranks[1].auroc - ranks[0].auroc)
    return bootstrap.estimate(np.mean(parts, axis=0)) if parts else None


def _sorted(entry: Entry, values: np.ndarray) -> np.ndarray:
    """Rows in the order of the images' names, which is the same in every run."""
    return values[np.argsort(entry.predictions["image"].to_numpy(str), kind="stable")]


def comparison_cautions(entries: Sequence[Entry]) -> list[Caution]:
    """What must be known before figures of these runs are set against each other, the gravest first."""
    found = [*_test_sets(entries), *_collapses(entries), *_conditions(entries)]
    if len(entries) > 2 and not any(caution.key == "test_sets" for caution in found):
        text = "The best of several runs on one test set is partly the luckiest: expect less of it on new images."
        found.append(Caution("best_of_many", "The best of many", text))
    return found


def shared_cautions(entries: Sequence[Entry]) -> list[tuple[str, list[str]]]:
    """Warnings of the runs' own reports: text, and the runs that have it."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        for warning in entry.report.get("warnings", []):
            found.setdefault(str(warning["text"]), []).append(entry.name)
    return list(found.items())


def _test_sets(entries: Sequence[Entry]):
    groups: list[list[Entry]] = []
    for entry in entries:
        home = next((group for group in groups if same_test(group[0], entry)), None)
        if home is None:
            groups.append([entry])
        else:
            home.append(entry)
    if len(groups) > 1:
        said = "; ".join(f"{_names(group)}: {count(len(group[0].predictions), 'image')}" for group in groups)
        shared = len(frozenset.intersection(*(group[0].images for group in groups)))
        text = (
            f"{said}; {count(shared, 'image')} in all of them. A figure changes with the images it is measured on, so "
            "these figures do not say which run is better. Train on one split (train.py --split FILE) to compare."
        )
        yield Caution("test_sets", "The runs were not tested on the same images", text)
    overlap = sorted({e.name for e in entries for other in entries if other is not e and _trained_on(e, other)})
    if overlap:
        text = f"{', '.join(overlap)}: some images of its training or validation are test images of another run here."
        yield Caution("other_split", "Splits differ", text)


def _trained_on(entry: Entry, other: Entry) -> bool:
    """Whether the training of `entry` saw test images of `other`; only told where both split the same table."""
    if entry.run.recipe.data != other.run.recipe.data:
        return False
    split = entry.run.split
    return bool(set(split.loc[split["split"].isin(TRAINING), "path"]) & set(other.predictions["path"]))


def _collapses(entries: Sequence[Entry]):
    lost = [(entry.name, entry.row().collapsed) for entry in entries]
    said = [f"{name} called no image of {', '.join(classes)} rightly (F1 0)" for name, classes in lost if classes]
    if said:
        text = f"{'; '.join(said)}. A mean over classes hides that; read the classes one by one."
        yield Caution("collapse", "A class is never found", text)


def _conditions(entries: Sequence[Entry]):
    classes = {entry.classes for entry in entries}
    if len(classes) > 1:
        text = "; ".join(f"{_names([e for e in entries if e.classes == c])}: {', '.join(c)}" for c in classes)
        yield Caution("classes", "The runs tell different classes apart", f"{text}. Means over classes differ in kind.")
    cuts = {e.report.get("threshold", {}).get("value") for e in entries} - {None}
    if len(cuts) > 1:
        text = "F1, accuracy and what is called normal depend on it; AUROC does not."
        yield Caution("thresholds", f"Decided at different thresholds ({', '.join(f'{c:g}' for c in cuts)})", text)
    ways = {str(entry.run.recipe.split_by) for entry in entries}
    if "image" in ways:
        named = _names([e for e in entries if e.run.recipe.split_by == "image"])
        text = f"{named}: images of one patient may stand on both sides; figures are then too high."
        yield Caution("image_split", "Split by image, not by patient", text)
    open_ = [e for e in entries if e.run.status.get("status") != "finished"]
    if open_:
        said = ", ".join(f"{e.name} ({e.run.status.get('status')})" for e in open_)
        yield Caution("unfinished", "Not all trainings are finished", f"{said}: more epochs may change the figures.")
    machines = {_machine(entry) for entry in entries}
    if len(machines) > 1:
        text = "Seconds per epoch were taken on different machines or number formats and cannot be compared."
        yield Caution("machines", "Trained under different conditions", text)
    if any(not entry.report["bootstrap"]["resamples"] for entry in entries):
        named = _names([e for e in entries if not e.report["bootstrap"]["resamples"]])
        text = f"{named}: evaluated with --bootstrap 0."
        yield Caution("no_intervals", "Some figures have no interval", text)


def _machine(entry: Entry) -> tuple[str, ...]:
    path = entry.run.path / "environment.json"
    known = entry.run.environment if path.is_file() else {}
    return tuple(str(known.get(key)) for key in ("machine", "processor", "devices", "device", "cores", "precision"))


def _names(entries: Sequence[Entry]) -> str:
    return ", ".join(entry.name for entry in entries)


def differences(entries: Sequence[Entry], *, resamples: int, seed: int) -> list[Estimate | None]:
    """AUROC difference of each entry to the first; None for the first and where nothing can be paired."""
    found: list[Estimate | None] = [None]
    for entry in entries[1:]:
        found.append(auroc_difference(entries[0], entry, resamples=resamples, seed=seed))
    return found


def targets(entry: Entry, label: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores float [N] and truth bool [N] of a class where it is known; None where the class has not both sides."""
    if label not in entry.classes:
        return None
    c = entry.classes.index(label)
    truth = entry.truth[:, c]
    known = ~np.isnan(truth)
    positive = truth[known] == 1
    return (entry.scores[known, c], positive) if positive.any() and not positive.all() else None
