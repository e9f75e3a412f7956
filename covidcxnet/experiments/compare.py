"""`compare`: several runs in one table, with paired differences and with what forbids or weakens the comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from covidcxnet.evaluation.bootstrap import Bootstrap
from covidcxnet.evaluation.predictions import UNKNOWN
from covidcxnet.evaluation.provenance import TRAINING
from covidcxnet.evaluation.ranking import mean_auroc, paired_auroc
from covidcxnet.evaluation.report import Caution
from covidcxnet.experiments.compared_runs import ComparedRun, Row, citation, load_run, published_rows
from covidcxnet.reporting.table import Estimate, count
from covidcxnet.training.run_folder import Run
from enhancement.errors import InputError

# What seconds per epoch depend on beside the model.
_MACHINE = ("machine", "processor", "devices", "device", "cores", "precision")


@dataclass(frozen=True)
class WithinSource:
    """How well each run ranks the test images of one source; `differences` are to the first run, and lack it."""

    source: str
    images: int
    aurocs: dict[str, Estimate]  # by name of the run, mean over classes
    differences: dict[str, Estimate]


@dataclass(frozen=True)
class Comparison:
    """Several runs set against each other; `covidcxnet.experiments.compare_page.save` writes it."""

    runs: tuple[ComparedRun, ...]
    rows: tuple[Row, ...]  # the runs, then what was published
    cautions: tuple[Caution, ...] = ()  # what forbids or weakens the comparison
    reported: tuple[tuple[str, list[str]], ...] = ()  # warnings of the runs' own reports, and which runs have them
    citations: tuple[str, ...] = ()  # of the published rows
    within: tuple[WithinSource, ...] = ()
    created: str = ""  # local date and time


def compare(
    runs: Sequence[str | Path | Run],
    *,
    names: Sequence[str] = (),
    published: Sequence[str] = (),
    bootstrap: int = 2000,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = True,
) -> Comparison:
    """Compare two or more runs (one is enough beside published rows) on their test images, each with the first.

    `names` stand for the folders' own; `published` are studies of `STUDIES` whose printed rows stand beside. A run's
    own report (``RUN/report``) is used where it is of its best weights and its test split. Otherwise the run is
    evaluated with the other arguments, and its folder records one more opening of its test set. `InputError` if there
    is nothing to compare, or a run has no weights.
    """
    folders = [run if isinstance(run, Run) else Run(run) for run in runs]
    if len(folders) + bool(published) < 2:
        raise InputError(f"runs: {len(folders)} given, two or more expected (or one and --published)")
    paths = [run.path.resolve() for run in folders]
    for run, path in zip(folders, paths, strict=True):
        if paths.count(path) > 1:
            raise InputError(f"{run.path}: given twice")
    names = _names(paths, names)
    extra = published_rows(published)
    if bootstrap < 0:
        raise InputError(f"bootstrap: {bootstrap} given, 0 or more expected")
    options: dict[str, Any] = {"bootstrap": bootstrap, "seed": seed, "batch_size": batch_size, "progress": progress}
    flops: dict[str, int | None] = {}
    compared = [load_run(run, name, flops, **options) for run, name in zip(folders, names, strict=True)]
    rows = [compared[0].row()] if compared else []
    for other in compared[1:]:
        rows.append(other.row(auroc_difference(compared[0], other, resamples=bootstrap, seed=seed)))
    reported: dict[str, list[str]] = {}
    for name, warning in ((c.name, warning) for c in compared for warning in c.report.get("warnings", [])):
        reported.setdefault(str(warning["text"]), []).append(name)
    return Comparison(
        runs=tuple(compared),
        rows=(*rows, *extra),
        cautions=tuple(cautions(compared)),
        reported=tuple(reported.items()),
        citations=tuple(citation(name) for name in dict.fromkeys(published)),
        within=within_sources(compared, resamples=bootstrap, seed=seed) if compared else (),
        created=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )


def _names(paths: Sequence[Path], names: Sequence[str]) -> list[str]:
    """Given names, or folder names with as much of the path as distinguishes them."""
    if names:
        different = len(set(names))
        if not len(names) == different == len(paths):
            raise InputError(f"names: {different} different ones given, one for each of {len(paths)} runs expected")
        return list(names)
    longest = max((len(path.parts) for path in paths), default=1)
    tails = [["/".join(path.parts[-parts:]) for path in paths] for parts in range(1, longest + 1)]
    return next(tail for tail in tails if len(set(tail)) == len(paths))


def auroc_difference(
    first: ComparedRun, other: ComparedRun, *, resamples: int = 2000, seed: int = 0
) -> Estimate | None:
    """AUROC (mean over classes) of `other` minus that of `first`; None where test images or classes differ."""
    if first.classes != other.classes or first.independent != other.independent or not same_test(first, other):
        return None
    bootstrap = Bootstrap(first.predictions.get("patient"), len(first.truth), resamples=resamples, seed=seed)
    return paired_auroc(first.truth, first.scores, other.scores, bootstrap, first.task)


def within_sources(runs: Sequence[ComparedRun], *, resamples: int = 2000, seed: int = 0) -> tuple[WithinSource, ...]:
    """AUROC of every run within each source that has images with and without a class, and the paired differences.

    Of the runs that have the test images and classes of the first. No source can be recognised there instead of a
    disease.
    """
    first = runs[0]
    if "source" not in first.predictions:
        return ()
    alike = [run for run in runs if run.classes == first.classes and run.task == first.task and same_test(first, run)]
    sources = first.predictions["source"].to_numpy(str)
    bootstrap = Bootstrap(first.predictions.get("patient"), len(sources), resamples=resamples, seed=seed)
    parts = []
    for source in sorted(set(sources) - {"", "nan", UNKNOWN}):
        rows = np.flatnonzero(sources == source)
        aurocs = [mean_auroc(first.truth, run.scores, bootstrap, first.task, rows) for run in alike]
        if aurocs[0] is None:
            continue
        pairs = {run.name: auroc for run, auroc in zip(alike, aurocs, strict=True) if auroc is not None}
        estimates = {name: bootstrap.estimate(auroc) for name, auroc in pairs.items()}
        differences = {name: bootstrap.estimate(auroc - aurocs[0]) for name, auroc in pairs.items()}
        differences.pop(first.name)
        parts.append(WithinSource(source, len(rows), estimates, differences))
    return tuple(parts)


def same_test(first: ComparedRun, other: ComparedRun) -> bool:
    """Whether two runs were tested on the same images, with the same truth of the classes that both know."""
    if first.images != other.images:
        return False
    common = [name for name in first.classes if name in other.classes]
    here, there = (e.truth[:, [e.classes.index(name) for name in common]] for e in (first, other))
    return bool(common) and np.array_equal(here, there, equal_nan=True)


def cautions(runs: Sequence[ComparedRun]) -> list[Caution]:
    """What must be known before figures of these runs are set against each other, the gravest first."""
    listed = [*_test_cautions(runs), *_training_cautions(runs)]
    if len(runs) > 2 and not any(caution.key == "test_sets" for caution in listed):
        text = "The best of several runs on one test set is partly the luckiest: expect less of it on new images."
        listed.append(Caution("best_of_many", "The best of many", text))
    return listed


def _test_cautions(runs: Sequence[ComparedRun]) -> Iterator[Caution]:
    """Images, classes and thresholds of the tests."""
    groups: list[list[ComparedRun]] = []
    for run in runs:
        if group := next((group for group in groups if same_test(group[0], run)), None):
            group.append(run)
        else:
            groups.append([run])
    if len(groups) > 1:
        sets = "; ".join(f"{_list(group)}: {count(len(group[0].predictions), 'image')}" for group in groups)
        shared = len(frozenset.intersection(*(group[0].images for group in groups)))
        text = (
            f"{sets}; {count(shared, 'image')} in all of them. A figure changes with the images it is measured on, so "
            "these figures do not say which run is better. Train on one split (train.py --split FILE) to compare."
        )
        yield Caution("test_sets", "The runs were not tested on the same images", text)
    overlap = sorted({run.name for run in runs for other in runs if other is not run and _trained_on(run, other)})
    if overlap:
        text = f"{', '.join(overlap)}: some images of its training or validation are test images of another run here."
        yield Caution("other_split", "Splits differ", text)
    missing = [(run.name, run.row().never_found) for run in runs]
    lines = [f"{name} recognises no image of {', '.join(classes)} (F1 0)" for name, classes in missing if classes]
    if lines:
        text = f"{'; '.join(lines)}. A mean over classes hides that; read the classes one by one."
        yield Caution("collapse", "A class is never found", text)
    classes = list(dict.fromkeys(run.classes for run in runs))
    if len(classes) > 1:
        text = "; ".join(f"{_list([run for run in runs if run.classes == c])}: {', '.join(c)}" for c in classes)
        yield Caution("classes", "The runs distinguish different classes", f"{text}. Means over them differ in kind.")
    values = [run.report.get("threshold", {}).get("value") for run in runs]
    thresholds = [value for value in dict.fromkeys(values) if value is not None]
    if len(thresholds) > 1:
        title = f"Decided at different thresholds ({', '.join(f'{value:g}' for value in thresholds)})"
        text = "F1, accuracy and what is called normal depend on the threshold; AUROC does not."
        yield Caution("thresholds", title, text)


def _trained_on(run: ComparedRun, other: ComparedRun) -> bool:
    # Paths name the same images within one table only.
    if run.record.recipe.data != other.record.recipe.data:
        return False
    split = run.record.split
    return bool(set(split.loc[split["split"].isin(TRAINING), "path"]) & set(other.predictions["path"]))


def _training_cautions(runs: Sequence[ComparedRun]) -> Iterator[Caution]:
    if by_image := [run for run in runs if run.record.recipe.split_by == "image"]:
        text = "images of one patient may be in both training and test sets, which inflates the figures."
        yield Caution("image_split", "Split by image, not by patient", f"{_list(by_image)}: {text}")
    states = [(run.name, run.record.progress) for run in runs]
    if unfinished := ", ".join(f"{name} ({state})" for name, state in states if state != "finished"):
        text = f"{unfinished}: more epochs may change the figures."
        yield Caution("unfinished", "Not all trainings are finished", text)
    machines = set()
    for run in runs:
        known = run.record.environment if (run.record.path / "environment.json").is_file() else {}
        machines.add(tuple(str(known.get(key)) for key in _MACHINE))
    if len(machines) > 1:
        text = "Seconds per epoch were taken on different machines or number formats and cannot be compared."
        yield Caution("machines", "Trained under different conditions", text)
    if bare := [run for run in runs if not run.report["bootstrap"]["resamples"]]:
        yield Caution("no_intervals", "Some figures have no interval", f"{_list(bare)}: evaluated with --bootstrap 0.")


def _list(runs: Sequence[ComparedRun]) -> str:
    return ", ".join(run.name for run in runs)
